//! Which certificate a client gets: the one for exactly the name that it asks for (SNI, RFC 6066 §3), else a wildcard
//! for it, else the default.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Certificates by name. Several for one name may differ by the kind of their key.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the `*.`; the star stands for one label (RFC 6125 §6.4.3).
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

// === impl Table ===

impl Table {
    /// The first certificate is the default, and so are others for the same names. Of two for one name with keys of one
    /// kind the first counts.
    pub(super) fn new<'c>(certificates: impl Iterator<Item = &'c Certificate> + Clone) -> Self {
        let mut table = Self::default();
        for certificate in certificates.clone() {
            for name in &certificate.names {
                let of = match name.strip_prefix("*.") {
                    Some(suffix) => table.wildcards.entry(suffix.to_owned()),
                    None => table.exact.entry(name.clone()),
                };
                of.or_default().push(certificate.key.clone());
            }
        }
        if let Some(first) = certificates.clone().next() {
            let same = certificates.filter(|other| other.names == first.names);
            table.default = same.map(|certificate| certificate.key.clone()).collect();
        }
        table
    }

    /// The certificates for a name in lower case.
    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let found = name.and_then(|name| {
            let wildcard = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(wildcard)
        });
        found.unwrap_or(&self.default)
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let all = self.of(name);
        let usable = all.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        // None usable: rustls says what is missing.
        usable.or(all.first()).cloned()
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        self.choose(name.as_deref(), hello.signature_schemes())
    }
}
