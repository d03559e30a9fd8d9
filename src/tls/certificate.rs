//! One certificate with its key, as its files hold it: read whole, or refused whole.

use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::{TlsError, der, provider, read};
use crate::model::CertificateFiles;

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Where it was read.
    pub files: CertificateFiles,
    /// The names that it is for, lower case; `*.` in front stands for any one label.
    pub names: Vec<String>,
    /// When it begins to be valid, in Unix seconds.
    pub not_before_unix_s: i64,
    /// When it ends to be valid, in Unix seconds.
    pub not_after_unix_s: i64,
    /// How ACME authorities call it (RFC 9773 §4.1): their key, and its serial number; both may be empty.
    pub identifier: (Vec<u8>, Vec<u8>),
    pub(super) key: Arc<CertifiedKey>,
}

// === impl Certificate ===

impl Certificate {
    /// Reads both files, and checks that they are of one pair.
    pub fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        let cert_pem = read(&files.cert)?;
        let key_pem = if files.key == files.cert { cert_pem.clone() } else { read(&files.key)? };
        let chain = chain(files, &cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(files.key.clone()),
            error => TlsError::Pem { path: files.key.clone(), why: error.to_string() },
        })?;
        let signing = provider().key_provider.load_private_key(key);
        let signing = signing.map_err(|_| TlsError::Key(files.key.clone()))?;
        let malformed = |why: String| TlsError::Certificate { path: files.cert.clone(), why };
        let facts = der::facts(&chain[0]).map_err(|error| malformed(error.to_string()))?;
        let key = CertifiedKey::new(chain, signing);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(TlsError::Mismatch { key: files.key.clone(), cert: files.cert.clone() });
            }
            Err(error) => return Err(malformed(error.to_string())),
        }
        // Where there are no alternative names the common name is one, as it was before RFC 6125.
        let mut names = if facts.dns_names.is_empty() { facts.common_names } else { facts.dns_names };
        names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        Ok(Self {
            files: files.clone(),
            names,
            not_before_unix_s: facts.not_before,
            not_after_unix_s: facts.not_after,
            identifier: (facts.authority_key, facts.serial),
            key: Arc::new(key),
        })
    }

    /// What it is called: its first name, else its file.
    pub fn label(&self) -> String {
        let file = || self.files.cert.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.names.first().cloned().unwrap_or_else(file)
    }
}

fn chain(files: &CertificateFiles, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| TlsError::Pem { path: files.cert.clone(), why: error.to_string() })?;
    if chain.is_empty() { Err(TlsError::NoCertificate(files.cert.clone())) } else { Ok(chain) }
}
