//! What the `https` endpoints of one pool are spoken to with: a `ClientConfig` of rustls that workers load for each
//! handshake, and the files behind it, which are looked at again and again.
//!
//! A file that does not hold changes nothing: what was in use is in use, and what is wrong is shown. Whatever is taken
//! over has another number ([`Terms::number`]), so that connections opened on other terms serve no further request.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificate::Certificate;
use super::failing::Failing;
use super::stamp::Stamp;
use super::{TlsError, provider, read};
use crate::model::{Http2Use, Name, PoolTlsSpec};

/// The variable that names further authorities, as for the calls that leave the house.
const FILE: &str = "SSL_CERT_FILE";

/// The TLS side of one pool.
#[derive(Debug)]
pub struct PoolTls {
    /// The service.
    pub service: Name,
    /// The pool.
    pub pool: Name,
    /// As the file says it.
    pub spec: PoolTlsSpec,
    live: ArcSwap<Terms>,
    shelf: Mutex<Shelf>,
    failed: ArcSwap<Vec<TlsError>>,
}

/// On what terms a handshake is made.
#[derive(Debug)]
pub struct Terms {
    /// Which terms these are; no others of the process have this number.
    pub number: u64,
    /// For requests.
    pub requests: Offer,
    /// For probes, which resume no session: they show that a new one can be had, and leave the tickets to requests.
    pub probes: Offer,
}

/// What a handshake may offer (ALPN).
#[derive(Debug)]
pub struct Offer {
    /// Every version of HTTP that the pool allows.
    pub any: Arc<ClientConfig>,
    /// HTTP/1.1 alone.
    pub http1: Arc<ClientConfig>,
}

/// Everything that was read.
#[derive(Debug)]
struct Shelf {
    roots: File<Arc<RootCertStore>>,
    identity: File<Option<Certificate>>,
}

/// What was read from files.
#[derive(Debug)]
struct File<T> {
    seen: [Option<Stamp>; 2],
    live: T,
    failing: Failing,
}

// === impl PoolTls ===

impl PoolTls {
    /// Reads everything that is named; every problem at once.
    pub fn open(service: &Name, pool: &Name, spec: &PoolTlsSpec) -> Result<Self, Vec<TlsError>> {
        let (roots, identity) = (read_roots(spec), read_identity(spec));
        let shelf = match (roots, identity) {
            (Ok(roots), Ok(identity)) => Shelf {
                roots: File { seen: roots_stamps(spec), live: roots, failing: Failing::default() },
                identity: File { seen: identity_stamps(spec), live: identity, failing: Failing::default() },
            },
            (roots, identity) => return Err(roots.err().into_iter().chain(identity.err()).collect()),
        };
        let live = ArcSwap::from_pointee(shelf.terms(spec).map_err(|error| vec![error])?);
        let (service, pool, spec) = (service.clone(), pool.clone(), spec.clone());
        Ok(Self { service, pool, spec, live, shelf: Mutex::new(shelf), failed: ArcSwap::default() })
    }

    /// What the next handshake goes by.
    pub fn terms(&self) -> Arc<Terms> {
        self.live.load_full()
    }

    /// The name that an endpoint at `host` must prove, and is asked for where it is no address.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        server_name(self.spec.name.as_deref().unwrap_or(host))
    }

    /// Looks at the files and takes over what changed and holds. Blocks on the disk; not for a worker.
    pub fn look(&self) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = &mut *shelf;
        let roots = shelf.roots.look(roots_stamps(&self.spec), || read_roots(&self.spec));
        let identity = shelf.identity.look(identity_stamps(&self.spec), || read_identity(&self.spec));
        let (service, pool) = (&*self.service, &*self.pool);
        if roots || identity {
            match shelf.terms(&self.spec) {
                Ok(terms) => {
                    self.live.store(Arc::new(terms));
                    tracing::info!(service, pool, roots, identity, "other files are in use for TLS to endpoints");
                }
                // Each part of it held when it was read.
                Err(error) => tracing::error!(service, pool, "{error}; what was in use before is in use still"),
            }
        }
        for error in [shelf.roots.failing.due(), shelf.identity.failing.due()].into_iter().flatten() {
            tracing::error!(service, pool, "{error}; what was in use before is in use still");
        }
        let failed = [shelf.roots.failing.shown(), shelf.identity.failing.shown()];
        self.failed.store(Arc::new(failed.into_iter().flatten().collect()));
    }

    /// What is wrong with the files as they are now.
    pub fn failed(&self) -> Arc<Vec<TlsError>> {
        self.failed.load_full()
    }

    /// What weir shows to endpoints that ask for a certificate.
    pub fn identity(&self) -> Option<Certificate> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).identity.live.clone()
    }
}

/// The name or address in `text`, as TLS takes it.
pub fn server_name(text: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    // A dot at the end names the root, and stands in no certificate (RFC 6066 §3).
    ServerName::try_from(text.strip_suffix('.').unwrap_or(text).to_owned())
}

// === impl Shelf ===

impl Shelf {
    fn terms(&self, spec: &PoolTlsSpec) -> Result<Terms, TlsError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let unusable = |error: String| TlsError::Unusable(error);
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(error.to_string()))?;
        let verifier: Arc<dyn ServerCertVerifier> = match spec.insecure_skip_verify {
            true => Arc::new(Anybody(provider())),
            false => WebPkiServerVerifier::builder_with_provider(self.roots.live.clone(), provider())
                .build()
                .map_err(|error| unusable(error.to_string()))?,
        };
        // The verifier is one of the two above: rustls' own, or the one that an operator asked for by its unsafe name.
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &self.identity.live {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let own = SingleCertAndKey::from(rustls::sign::CertifiedKey::clone(&own.key));
                builder.with_client_cert_resolver(Arc::new(own))
            }
        };
        let mut probing = config.clone();
        probing.resumption = Resumption::disabled();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Terms { number, requests: Offer::of(config, spec.http2), probes: Offer::of(probing, spec.http2) })
    }
}

// === impl Offer ===

impl Offer {
    fn of(config: ClientConfig, http2: Http2Use) -> Self {
        let (mut any, mut http1) = (config.clone(), config);
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        any.alpn_protocols = match http2 {
            Http2Use::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Http2Use::Off => http1.alpn_protocols.clone(),
            Http2Use::Only => vec![b"h2".to_vec()],
        };
        Self { any: Arc::new(any), http1: Arc::new(http1) }
    }
}

// === impl File ===

impl<T> File<T> {
    /// True when something else is in use from now on.
    fn look(&mut self, seen: [Option<Stamp>; 2], read: impl FnOnce() -> Result<T, TlsError>) -> bool {
        // What does not hold is read again in any case: a file may change within the grain of its time.
        if self.failing.error.is_none() && seen == self.seen {
            return false;
        }
        self.seen = seen;
        match read() {
            Ok(live) => {
                self.live = live;
                self.failing = Failing::default();
                true
            }
            Err(error) => {
                self.failing.note(error);
                false
            }
        }
    }
}

fn roots_stamps(spec: &PoolTlsSpec) -> [Option<Stamp>; 2] {
    [spec.roots.as_deref().and_then(Stamp::of), None]
}

fn identity_stamps(spec: &PoolTlsSpec) -> [Option<Stamp>; 2] {
    let stamp = |path: &Path| Stamp::of(path);
    match &spec.identity {
        Some(files) => [stamp(&files.cert), stamp(&files.key)],
        None => [None, None],
    }
}

fn read_identity(spec: &PoolTlsSpec) -> Result<Option<Certificate>, TlsError> {
    spec.identity.as_ref().map(Certificate::read).transpose()
}

/// The authorities of the file; without one Mozilla's, compiled in, and those of the variable.
fn read_roots(spec: &PoolTlsSpec) -> Result<Arc<RootCertStore>, TlsError> {
    if let Some(path) = &spec.roots {
        return bundle(path).map(Arc::new);
    }
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = std::env::var_os(FILE).filter(|path| !path.is_empty()) {
        roots.roots.extend(bundle(Path::new(&path))?.roots);
    }
    Ok(Arc::new(roots))
}

/// The authorities of a file. It may be a system's bundle, in which some are too odd to be used: those are left out.
fn bundle(path: &Path) -> Result<RootCertStore, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| TlsError::Pem { path: path.to_owned(), why: error.to_string() })?;
    let mut roots = RootCertStore::empty();
    let (added, left_out) = roots.add_parsable_certificates(certificates);
    if left_out > 0 {
        tracing::debug!(path = %path.display(), added, left_out, "some authorities cannot be used");
    }
    if roots.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(roots) }
}

/// Takes any certificate from anybody, but checks that its holder signed.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

// === impl Anybody ===

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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
