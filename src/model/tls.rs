//! How a listener speaks TLS to clients, and weir to endpoints, as the file says it.

use std::path::PathBuf;

use super::acme::Kept;

/// `[listeners.NAME.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSpec {
    /// Certificates by file; the first is what clients get that ask for no name that is known.
    pub certificates: Vec<CertificateFiles>,
    /// A directory of further ones, looked through again whenever it changes.
    pub certs_dir: Option<PathBuf>,
    /// Names whose certificates are ordered and kept; those may not be there yet.
    pub acme: Vec<Kept>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether clients may resume sessions by tickets.
    pub session_tickets: bool,
    /// Which clients must show a certificate.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate with its chain, and its key. Both may be one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateFiles {
    /// PEM: the certificate first, then those that it was issued by.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246).
    V12,
    /// 1.3 (RFC 8446).
    V13,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// PEM: the authorities that clients' certificates are issued by.
    pub ca: PathBuf,
    /// Whether a client without one is served. One that shows a certificate which does not hold never is.
    pub optional: bool,
}

/// `[services.NAME.pools.NAME.tls]`: how TLS is spoken to the `https` endpoints of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolTlsSpec {
    /// PEM: the authorities that endpoints' certificates must be issued by; none: the public ones, and those of
    /// `SSL_CERT_FILE`.
    pub roots: Option<PathBuf>,
    /// The name that is asked for (SNI) and that certificates must be for; none: the endpoint's host.
    pub name: Option<String>,
    /// What is shown to an endpoint that asks for a certificate.
    pub identity: Option<CertificateFiles>,
    /// Any certificate is taken from anybody: who can get in between reads and changes everything.
    pub insecure_skip_verify: bool,
    /// Which version of HTTP is spoken.
    pub http2: Http2Use,
}

/// Whether HTTP/2 is spoken where an endpoint can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Http2Use {
    /// Where the endpoint chooses it (ALPN); HTTP/1.1 elsewhere, and for upgrades.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always; an endpoint that does not choose it cannot be used.
    Only,
}
