//! A gate over HTTPS: whoever is trusted is asked, whoever is not could not be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::json;

use super::{plan, reaches, start, with};
use crate::harness::temp::TempDir;
use crate::harness::{Setup, Upstream};

/// Made for tests, valid for a hundred years and trusted by nobody else.
const CERTIFICATE: &str = include_str!("localhost.crt");

const KEY: &str = include_str!("localhost.key");

/// Answers every request with 204 over TLS, until the test ends.
fn server() -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    let config = Arc::new(config.expect("they fit"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut tls) =
                (stream.expect("a connection"), ServerConnection::new(config.clone()).expect("TLS"));
            let mut stream = Stream::new(&mut tls, &mut stream);
            // Who does not trust it leaves in the middle.
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_ssl_cert_file_names_it() {
    let (stable, canary, files) = (Upstream::named("stable"), Upstream::named("canary"), TempDir::new());
    let [own, none] = ["own.pem", "none.pem"].map(|name| files.path().join(name).display().to_string());
    std::fs::write(&own, CERTIFICATE).expect("a file");
    std::fs::write(&none, "").expect("a file");
    let gate =
        json!({ "kind": "http", "url": format!("https://{}/ready", server()), "when": "always", "interval": "20ms" });
    for (file, verdict, words) in [(own, "shown_safe", "204 in "), (none, "error", "invalid peer certificate")] {
        let setup = Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\ntick = \"20ms\"");
        let weir = setup.env("SSL_CERT_FILE", &file).start();
        let plan = with(plan(gate.clone()), json!({ "phases": [{ "percent": 50, "min_duration": "300ms" }] }));
        let id = start(&weir, &plan);
        let done = reaches(&weir, &id, "completed");
        let said = &done["gates"][0];
        assert_eq!(said["verdict"], verdict, "{said}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{said}");
    }
}
