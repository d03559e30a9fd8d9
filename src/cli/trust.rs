//! Whom a verb trusts that asks an admin API over TLS, and what it shows there.
//!
//! The certificate of the configuration at hand is trusted as it stands, whatever names it has and whoever issued it:
//! who reads that file may read the running weir's too. Any other must be issued by a known authority for the name that
//! was asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The variable that names further authorities, as OpenSSL and most others have it.
const FILE: &str = "SSL_CERT_FILE";

/// Files that say whom to trust and who one is.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// Certificates that are trusted as they stand; those that cannot be read are not.
    pub(super) pinned: Vec<PathBuf>,
    /// Authorities.
    pub(super) authorities: Option<PathBuf>,
    /// A certificate with its key.
    pub(super) own: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    /// A file does not hold what it should.
    #[error("{} does not hold {what}: {why}", path.display())]
    File { path: PathBuf, what: &'static str, why: String },
    /// What the files hold does not fit.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

// === impl Trust ===

impl Trust {
    /// How to speak TLS.
    pub(super) fn config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let system = std::env::var_os(FILE).filter(|path| !path.is_empty()).map(PathBuf::from);
        for path in self.authorities.iter().chain(&system) {
            roots.add_parsable_certificates(certificates(path)?);
        }
        let known = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let known = known.map_err(|error| TrustError::Tls(error.to_string()))?;
        let first = |path: &PathBuf| certificates(path).ok()?.into_iter().next();
        let verifier = Verifier { pinned: self.pinned.iter().filter_map(first).collect(), known };
        let tls = |error: Error| TrustError::Tls(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(tls)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let Some(path) = &self.own else { return Ok(builder.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_file(path).map_err(|error| TrustError::File {
            path: path.clone(),
            what: "a private key",
            why: error.to_string(),
        })?;
        builder.with_client_auth_cert(certificates(path)?, key).map_err(tls)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let wrong = |why: String| TrustError::File { path: path.to_owned(), what: "certificates", why };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| wrong(error.to_string()))?;
    if read.is_empty() { Err(wrong("there is none in it".into())) } else { Ok(read) }
}

/// Knows some certificates by sight, and the others by their authority.
#[derive(Debug)]
struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    known: Arc<WebPkiServerVerifier>,
}

// === impl Verifier ===

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|pinned| pinned == own) {
            return Ok(ServerCertVerified::assertion());
        }
        self.known.verify_server_cert(own, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}
