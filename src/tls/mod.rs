//! TLS towards clients and endpoints: certificates are read, checked, chosen by name and kept fresh.
//!
//! - [`certificate`]: one certificate with its key, from its files; what it says of itself is read by [`der`]
//! - [`directory`]: which pairs of files a directory holds
//! - [`table`]: which certificate a client gets, by the name that it asks for
//! - [`site`]: what one listener serves from, and the look at its files that keeps it fresh
//! - [`pool`]: what `https` endpoints of one pool are spoken to with, kept fresh too; [`pools`]: all of them
//! - [`challenges`]: what ACME authorities are answered; [`issuance`]: how it stands with automatic certificates
//! - [`identity`]: what endpoints are told of a client that showed a certificate
//!
//! It opens no socket: that is [`crate::proxy`]. The one provider of cryptography is aws-lc-rs.

pub mod certificate;
pub mod challenges;
mod der;
mod directory;
mod failing;
pub mod identity;
pub mod issuance;
pub mod pool;
pub mod pools;
pub mod site;
mod stamp;
mod table;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why files cannot be served from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file or directory cannot be read.
    #[error("{}: cannot be read: {why}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The file is larger than any certificate.
    #[error("{}: is larger than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The file is no PEM text.
    #[error("{}: is broken: {why}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no certificate in the file.
    #[error("{}: holds no certificate (PEM: BEGIN CERTIFICATE)", .0.display())]
    NoCertificate(PathBuf),
    /// There is no private key in the file.
    #[error("{}: holds no private key (PEM: BEGIN PRIVATE KEY)", .0.display())]
    NoKey(PathBuf),
    /// The certificate is malformed.
    #[error("{}: the certificate is malformed: {why}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key is of a kind that cannot be used.
    #[error("{}: this private key cannot be used; use an RSA, ECDSA or Ed25519 key without a passphrase", .0.display())]
    Key(PathBuf),
    /// Key and certificate are not of one pair.
    #[error("{}: the key does not fit the certificate {}", key.display(), cert.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The library of TLS refuses what holds by itself.
    #[error("TLS cannot be spoken: {0}")]
    Unusable(String),
    /// The directory holds no certificate with its key.
    #[error("{}: holds no certificate with its key, such as NAME.crt and NAME.key", .0.display())]
    Empty(PathBuf),
}

/// Largest file that is read: a chain takes a few KiB, a bundle of all public authorities 250 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// Reads a whole file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let failed = |error: std::io::Error| TlsError::Read { path: path.to_owned(), why: error.to_string() };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(TlsError::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

/// The authorities of a PEM file, at least one.
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&read(path)?) {
        let root = root.map_err(|error| TlsError::Pem { path: path.to_owned(), why: error.to_string() })?;
        let malformed = |why: String| TlsError::Certificate { path: path.to_owned(), why };
        roots.add(root).map_err(|error| malformed(error.to_string()))?;
    }
    if roots.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(roots) }
}
