//! Whom HTTPS calls trust: Mozilla's authorities, compiled in, since the image has no files beside weir; and whoever
//! stands in the PEM file that `SSL_CERT_FILE` names, for an authority of one's own. Nothing is verified less for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The variable that names further authorities, as OpenSSL and most others have it.
const FILE: &str = "SSL_CERT_FILE";

/// The configuration of every HTTPS call, made once. A file that cannot be read is told and adds nobody.
pub(super) fn client() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = own_authorities() {
        match add(&mut roots, &path) {
            Ok(added) => tracing::info!(added, path = %path.display(), "authorities of {FILE} are trusted"),
            Err(error) => tracing::warn!(%error, path = %path.display(), "{FILE} cannot be read"),
        }
    }
    trusting(roots)
}

/// The configuration of calls to somebody whose certificate is of the authorities of this file (PEM), and no others.
#[cfg(feature = "acme")]
pub(super) fn client_of(path: &Path) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    if add(&mut roots, path)? == 0 {
        return Err("holds no certificate (PEM: BEGIN CERTIFICATE)".into());
    }
    Ok(trusting(roots)?)
}

/// The file of authorities of one's own.
pub(super) fn own_authorities() -> Option<PathBuf> {
    std::env::var_os(FILE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Adds the certificates of a PEM file; how many.
fn add(roots: &mut RootCertStore, path: &Path) -> Result<usize, rustls::pki_types::pem::Error> {
    let certificates = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    let (added, _ignored) = roots.add_parsable_certificates(certificates);
    Ok(added)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, Stream};

    use super::*;

    /// Made for tests, valid for a hundred years and trusted by nobody else.
    const CERTIFICATE: &str = include_str!("../../tests/it/gates/localhost.crt");

    const KEY: &str = include_str!("../../tests/it/gates/localhost.key");

    /// A TLS server that answers one connection with `hello`; where it listens.
    fn server() -> (u16, JoinHandle<()>) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            // A client that does not trust it ends the connection here.
            let _ = Stream::new(&mut tls, &mut stream).write_all(b"hello");
        });
        (port, serving)
    }

    fn greeting(roots: RootCertStore) -> std::io::Result<String> {
        let (port, serving) = server();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::new(trusting(roots).unwrap()), name).unwrap();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut words = [0; 5];
        let read = Stream::new(&mut tls, &mut stream).read_exact(&mut words);
        drop(stream);
        serving.join().unwrap();
        read.map(|()| String::from_utf8_lossy(&words).into_owned())
    }

    #[test]
    fn an_authority_of_ones_own_is_trusted_when_its_file_is_named_and_only_then() {
        let directory = std::env::temp_dir().join(format!("weir-tls-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("own.pem");
        std::fs::write(&file, CERTIFICATE).unwrap();
        let roots = || RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut own = roots();
        assert_eq!(add(&mut own, &file).unwrap(), 1);
        assert_eq!(greeting(own).unwrap(), "hello");
        let refused = greeting(roots()).unwrap_err().to_string();
        assert!(refused.contains("UnknownIssuer"), "{refused}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
