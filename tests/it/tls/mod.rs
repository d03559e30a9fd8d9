//! TLS towards clients: which certificate they get, how it is renewed, who may come in, and that everything else holds
//! over it as it does without.

mod acme;
mod admin;
mod carried;
mod clients;
mod handshakes;
mod pebble;
mod redirect;
mod renewal;

use std::time::Duration;

use crate::harness::{Issued, Setup, Tls, Upstream, Weir};

const SOON: Duration = Duration::from_secs(5);

/// A listener `public` that speaks TLS from `site.crt` with these further lines.
fn setup(stable: &Upstream, site: &Issued, lines: &str) -> Setup {
    let certificates = "certificates = [{ cert = \"site.crt\", key = \"site.key\" }]";
    Setup::single(stable)
        .text(&format!("[listeners.public.tls]\n{certificates}\n{lines}"))
        .file("site.crt", &site.cert)
        .file("site.key", &site.key)
}

/// The certificate that a client of that kind gets.
fn shown(weir: &Weir, tls: &Tls) -> Vec<u8> {
    let mut client = tls.connect(weir.address()).expect("weir shakes hands");
    let certificates = client.wire().tls().peer_certificates().expect("weir shows one");
    certificates[0].to_vec()
}

/// Failed handshakes of that kind so far.
fn failures(weir: &Weir, kind: &str) -> f64 {
    weir.metrics().sum("weir_tls_handshake_failures_total", &[("kind", kind)])
}
