//! Certificates made on the spot, and clients that speak TLS and look closely.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};

use super::believing::Believing;
use super::client::Client;

/// A certificate with its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub cert: String,
    /// Its key, PEM.
    pub key: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

impl Issued {
    /// A certificate for these names, signed by itself.
    pub fn for_names(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let cert = params(names).self_signed(&key).expect("a certificate");
        Self { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
    }

    /// Writes both as `NAME.crt` and `NAME.key`, each at once.
    pub fn save(&self, directory: &Path, name: &str) {
        replace(&directory.join(format!("{name}.crt")), &self.cert);
        replace(&directory.join(format!("{name}.key")), &self.key);
    }
}

/// Puts a file in the place of another as programs that renew certificates do.
pub fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text).expect("it can be written");
    std::fs::rename(&draft, path).expect("a rename inside one directory works");
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).expect("legal names")
}

/// An authority that issues certificates to clients.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a client of that name.
    pub fn issue(&self, name: &str) -> Issued {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Partners, \"Ltd\"");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Self::issued(&cert, &key)
    }

    /// A certificate for a server of these names.
    pub fn issue_for(&self, names: &[&str]) -> Issued {
        self.issue_between(names, (2000, 2100))
    }

    /// The same, valid from the first year to the second.
    pub fn issue_between(&self, names: &[&str], (from, to): (i32, i32)) -> Issued {
        let mut params = params(names);
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Self::issued(&cert, &key)
    }

    fn issued(cert: &rcgen::Certificate, key: &KeyPair) -> Issued {
        Issued { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
    }
}

/// How a client speaks TLS. It takes any certificate: what weir shows is for the test to look at.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What it is configured with; clones share the sessions that can be resumed.
    pub config: Arc<ClientConfig>,
    /// The name that it asks for; none: no SNI.
    pub name: String,
}

impl Tls {
    /// A client that asks for a name.
    pub fn of(name: &str) -> Self {
        Self::with(name, None, rustls::DEFAULT_VERSIONS)
    }

    /// The same, with a certificate of its own.
    pub fn showing(name: &str, own: &Issued) -> Self {
        Self::with(name, Some(own), rustls::DEFAULT_VERSIONS)
    }

    /// The same, with the versions that it speaks.
    pub fn with(name: &str, own: Option<&Issued>, versions: &[&'static SupportedProtocolVersion]) -> Self {
        use rustls::pki_types::pem::PemObject;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions).expect("versions of the provider");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from(own.der.clone())];
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Self { config: Arc::new(config), name: name.to_owned() }
    }

    /// The same with these protocols (ALPN).
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    /// An authority that looks at a name (RFC 8737): it takes what no library can read, a certificate with an extension
    /// that is critical.
    pub fn challenging(name: &str) -> Self {
        let mut own = Self::of(name).alpn(&["acme-tls/1"]);
        let schemes = aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
        Arc::make_mut(&mut own.config).dangerous().set_certificate_verifier(Arc::new(Believing(schemes)));
        own
    }

    /// Without a name (SNI).
    pub fn nameless(mut self) -> Self {
        Arc::make_mut(&mut self.config).enable_sni = false;
        self
    }

    /// A connection that has yet to shake hands.
    pub fn connection(&self) -> ClientConnection {
        let name = ServerName::try_from(self.name.clone()).expect("a legal name");
        ClientConnection::new(self.config.clone(), name).expect("a client can be configured")
    }

    /// Connects and shakes hands.
    pub fn connect(&self, address: SocketAddr) -> std::io::Result<Client> {
        Client::try_over(address, self)
    }
}

/// Takes any certificate, but checks that its holder signed. The program has one like it (`insecure_skip_verify`),
/// which is not used here: nothing of the library is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
