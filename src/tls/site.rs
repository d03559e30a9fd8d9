//! What one listener serves from: a `ServerConfig` of rustls that workers load for each handshake, and the files behind
//! it, which are looked at again and again.
//!
//! A file that does not hold changes nothing: what was served is served, and what is wrong is shown. Files are renewed
//! one after the other, so a pair that does not fit is told of only when it still does not at the next look.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, crypto, version};

use super::certificate::Certificate;
use super::failing::Failing;
use super::stamp::Stamp;
use super::table::Table;
use super::{TlsError, authorities, directory, provider};
use crate::model::{CertificateFiles, ClientAuth, Name, TlsSpec, TlsVersion};

/// Protocols over TLS (RFC 7301), the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS side of one listener.
#[derive(Debug)]
pub struct Site {
    /// The listener.
    pub name: Name,
    spec: TlsSpec,
    live: ArcSwap<ServerConfig>,
    view: ArcSwap<View>,
    shelf: Mutex<Shelf>,
}

/// What an operator may know of it.
#[derive(Debug, Clone)]
pub struct View {
    /// Every certificate, in the order of the configuration.
    pub certificates: Vec<Shown>,
    /// What is wrong beside single certificates: with the directory, or with the authorities of clients.
    pub problems: Vec<TlsError>,
}

/// What a listener serves from one pair of files.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Where it comes from.
    pub files: CertificateFiles,
    /// What is served of it; none while its files have never held.
    pub certificate: Option<Certificate>,
    /// Why the files as they are now are not served.
    pub failed: Option<TlsError>,
}

/// Everything that was read.
#[derive(Debug)]
struct Shelf {
    entries: Vec<Entry>,
    /// Why the directory cannot be looked through.
    directory: Failing,
    authorities: Option<Authorities>,
    tickets: Option<Arc<dyn ProducesTickets>>,
}

/// One pair of files.
#[derive(Debug)]
struct Entry {
    files: CertificateFiles,
    origin: Origin,
    seen: [Option<Stamp>; 2],
    live: Option<Certificate>,
    failing: Failing,
}

/// How a pair came to be among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It is named.
    Named,
    /// It was found in the directory.
    Found,
    /// It is ordered, and may not be there yet.
    Ordered,
}

/// The authorities of clients.
struct Authorities {
    seen: Option<Stamp>,
    verifier: Arc<dyn ClientCertVerifier>,
    failing: Failing,
}

// === impl Site ===

impl Site {
    /// Reads everything that a listener needs; every problem at once.
    pub fn open(name: &Name, spec: &TlsSpec) -> Result<Self, Vec<TlsError>> {
        let mut problems = Vec::new();
        let mut pairs: Vec<_> = spec.certificates.iter().map(|files| (files.clone(), Origin::Named)).collect();
        let ordered = spec.acme.iter().map(|kept| CertificateFiles { cert: kept.file.clone(), key: kept.file.clone() });
        pairs.extend(ordered.map(|files| (files, Origin::Ordered)));
        if let Some(dir) = &spec.certs_dir {
            match directory::pairs(dir) {
                Ok(found) if found.is_empty() && pairs.is_empty() => problems.push(TlsError::Empty(dir.clone())),
                Ok(found) => {
                    let new = found.into_iter().filter(|files| !spec.certificates.contains(files));
                    pairs.extend(new.map(|files| (files, Origin::Found)));
                }
                Err(error) => problems.push(TlsError::Read { path: dir.clone(), why: error.to_string() }),
            }
        }
        let mut entries: Vec<Entry> = pairs.into_iter().map(|(files, origin)| Entry::new(files, origin)).collect();
        for entry in &mut entries {
            entry.look();
            problems.extend(entry.failing.error.clone());
        }
        let authorities = spec.client_auth.as_ref().map(Authorities::read).transpose();
        let authorities = authorities.map_err(|error| problems.push(error)).unwrap_or_default();
        let tickets = if spec.session_tickets { new_tickets() } else { None };
        let shelf = Shelf { entries, directory: Failing::default(), authorities, tickets };
        if !problems.is_empty() {
            return Err(problems);
        }
        let (live, view) = (ArcSwap::from_pointee(shelf.config(spec)), ArcSwap::from_pointee(shelf.view()));
        Ok(Self { name: name.clone(), spec: spec.clone(), live, view, shelf: Mutex::new(shelf) })
    }

    /// What the next handshake goes by.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.live.load_full()
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_clients(&self) -> bool {
        self.spec.client_auth.is_some()
    }

    /// Looks at the files and takes over what changed and holds. Blocks on the disk; not for a worker.
    pub fn look(&self) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.look(&self.spec, &self.name) {
            self.live.store(Arc::new(shelf.config(&self.spec)));
        }
        self.view.store(Arc::new(shelf.view()));
    }

    /// What was found at the last look.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }
}

// === impl Shelf ===

impl Shelf {
    /// True when something else is to be served from now on.
    fn look(&mut self, spec: &TlsSpec, listener: &Name) -> bool {
        let mut changed = spec.certs_dir.as_ref().is_some_and(|dir| self.look_through(dir, listener));
        for entry in &mut self.entries {
            if entry.look() {
                changed = true;
                let names = entry.live.as_ref().map(|it| it.names.join(", ")).unwrap_or_default();
                tracing::info!(%listener, cert = %entry.files.cert.display(), names, "a certificate is served anew");
            }
            tell(&entry.failing, listener);
        }
        if let (Some(authorities), Some(auth)) = (&mut self.authorities, &spec.client_auth) {
            if authorities.look(auth) {
                changed = true;
                // A session of a client whose authority has gone must not be resumed.
                self.tickets = if spec.session_tickets { new_tickets() } else { None };
                tracing::info!(%listener, "other authorities of clients are in use");
            }
            tell(&authorities.failing, listener);
        }
        changed
    }

    /// Adds what is new in the directory, and takes out what has left it.
    fn look_through(&mut self, dir: &std::path::Path, listener: &Name) -> bool {
        let pairs = match directory::pairs(dir) {
            Ok(pairs) => pairs,
            Err(error) => {
                self.directory.note(TlsError::Read { path: dir.to_owned(), why: error.to_string() });
                tell(&self.directory, listener);
                return false;
            }
        };
        let named = self.entries.iter().any(|entry| entry.origin != Origin::Found);
        if pairs.is_empty() && !named {
            // Somebody is about to put others there; what was served is served.
            self.directory.note(TlsError::Empty(dir.to_owned()));
            tell(&self.directory, listener);
            return false;
        }
        self.directory = Failing::default();
        let gone = |entry: &Entry| entry.origin == Origin::Found && !pairs.contains(&entry.files) && entry.is_gone();
        let served = self.entries.iter().any(|entry| entry.live.is_some() && gone(entry));
        let left = self.entries.iter().any(|entry| entry.live.is_some() && !gone(entry));
        if left {
            self.entries.retain(|entry| !gone(entry));
        }
        for files in pairs {
            if !self.entries.iter().any(|entry| entry.files == files) {
                self.entries.push(Entry::new(files, Origin::Found));
            }
        }
        served && left
    }

    fn view(&self) -> View {
        let show = |entry: &Entry| Shown {
            files: entry.files.clone(),
            certificate: entry.live.clone(),
            failed: entry.failing.shown(),
        };
        let authorities = self.authorities.as_ref().and_then(|authorities| authorities.failing.shown());
        View {
            certificates: self.entries.iter().map(show).collect(),
            problems: self.directory.shown().into_iter().chain(authorities).collect(),
        }
    }

    fn config(&self, spec: &TlsSpec) -> ServerConfig {
        let versions: &[_] = match spec.min_version {
            TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let builder = builder.expect("the provider has suites for both versions");
        let builder = match &self.authorities {
            Some(authorities) => builder.with_client_cert_verifier(authorities.verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let table = Table::new(self.entries.iter().filter_map(|entry| entry.live.as_ref()));
        let mut config = builder.with_cert_resolver(Arc::new(table));
        config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
        // Sessions live in tickets alone: a shared store would be a lock that all workers take.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match &self.tickets {
            Some(tickets) => config.ticketer = tickets.clone(),
            None => config.send_tls13_tickets = 0,
        }
        config
    }
}

/// Tickets under a key that is changed every six hours, and accepted for twelve; none without randomness.
fn new_tickets() -> Option<Arc<dyn ProducesTickets>> {
    let tickets = crypto::aws_lc_rs::Ticketer::new();
    tickets.inspect_err(|error| tracing::warn!(%error, "no session tickets")).ok()
}

// === impl Entry ===

impl Entry {
    fn new(files: CertificateFiles, origin: Origin) -> Self {
        Self { files, origin, seen: [None; 2], live: None, failing: Failing::default() }
    }

    /// Reads the files if they changed; true when they hold.
    fn look(&mut self) -> bool {
        let stamps = [Stamp::of(&self.files.cert), Stamp::of(&self.files.key)];
        if self.origin == Origin::Ordered && self.live.is_none() && stamps == [None; 2] {
            return false;
        }
        // What does not hold is read again in any case: a file may change within the grain of its time.
        if self.live.is_some() && self.failing.error.is_none() && stamps == self.seen {
            return false;
        }
        self.seen = stamps;
        match Certificate::read(&self.files) {
            Ok(certificate) => {
                self.live = Some(certificate);
                self.failing = Failing::default();
                true
            }
            Err(error) => {
                self.failing.note(error);
                false
            }
        }
    }

    fn is_gone(&self) -> bool {
        Stamp::of(&self.files.cert).is_none() && Stamp::of(&self.files.key).is_none()
    }
}

// === impl Authorities ===

impl Authorities {
    fn read(auth: &ClientAuth) -> Result<Self, TlsError> {
        let seen = Stamp::of(&auth.ca);
        Ok(Self { seen, verifier: verifier(auth)?, failing: Failing::default() })
    }

    /// True when others are in use from now on.
    fn look(&mut self, auth: &ClientAuth) -> bool {
        let seen = Stamp::of(&auth.ca);
        if seen == self.seen && self.failing.error.is_none() {
            return false;
        }
        self.seen = seen;
        match verifier(auth) {
            Ok(verifier) => {
                self.verifier = verifier;
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

fn verifier(auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let malformed = |why: String| TlsError::Certificate { path: auth.ca.clone(), why };
    let roots = authorities(&auth.ca)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if auth.optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| malformed(error.to_string()))
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").field("failing", &self.failing).finish_non_exhaustive()
    }
}

fn tell(failing: &Failing, listener: &Name) {
    if let Some(error) = failing.due() {
        tracing::error!(%listener, "{error}; what was served before is served still");
    }
}
