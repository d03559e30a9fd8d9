//! Client certificates: who may come in, and what endpoints are told.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{SOON, failures, setup};
use crate::harness::tls::replace;
use crate::harness::{Authority, Client, H2Client, Issued, Setup, Tls, Upstream, Weir, eventually};

/// What an impostor would send.
const SPOOFED: [(&str, &str); 5] = [
    ("client-cert", ":c3Bvb2ZlZA==:"),
    ("Client-Cert-Chain", ":c3Bvb2ZlZA==:"),
    ("X-Forwarded-Client-Cert", "Subject=\"CN=root\""),
    ("client_cert", ":c3Bvb2ZlZA==:"),
    ("x_forwarded_client_cert", "Subject=\"CN=root\""),
];

fn partners(stable: &Upstream, authority: &Authority, lines: &str) -> Weir {
    let site = Issued::for_names(&["test"]);
    setup(stable, &site, &format!("client_ca = \"ca.pem\"\n{lines}")).file("ca.pem", &authority.pem()).start()
}

/// Whether a client is served; TLS 1.3 tells a client of its certificate after its own side of the handshake is done.
fn served(weir: &Weir, tls: &Tls) -> bool {
    let asked = tls.connect(weir.address()).and_then(|mut client| client.try_ask("GET", "/", &SPOOFED, b""));
    asked.is_ok_and(|answer| answer.status == 200)
}

#[track_caller]
fn nothing_is_told(stable: &Upstream) {
    let seen = stable.last();
    let fields = seen.head.fields.iter().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"));
    let told: Vec<_> = fields.filter(|name| name.contains("client-cert")).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_client_without_a_good_certificate_is_refused_where_one_is_required() {
    let (stable, authority, other) = (Upstream::named("stable"), Authority::new(), Authority::new());
    let weir = partners(&stable, &authority, "");
    let (ann, eve) = (authority.issue("ann"), other.issue("ann"));
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    for version in versions {
        assert!(!served(&weir, &Tls::with("test", None, &[version])), "without one");
        assert!(!served(&weir, &Tls::with("test", Some(&eve), &[version])), "one of another authority");
        assert!(!served(&weir, &Tls::with("test", Some(&Issued::for_names(&["ann"])), &[version])), "one of its own");
    }
    assert_eq!(stable.count(), 0);
    eventually("they are counted", SOON, || failures(&weir, "client_certificate") == 6.0);
    for version in versions {
        assert!(served(&weir, &Tls::with("test", Some(&ann), &[version])));
    }
}

#[test]
fn endpoints_are_told_who_the_client_is_and_nothing_that_it_says_itself() {
    let (stable, authority) = (Upstream::named("stable"), Authority::new());
    let weir = partners(&stable, &authority, "client_auth = \"optional\"");
    let ann = authority.issue("ann");
    let tls = Tls::showing("test", &ann);
    // The second connection resumes the session of the first, and the third is HTTP/2.
    for round in 0..3 {
        match round {
            2 => {
                let lower: Vec<_> = SPOOFED.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
                let fields: Vec<_> = lower.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                let answer = H2Client::over(weir.address(), &tls).ask("GET", "/", &fields, b"");
                assert_eq!(answer.expect("it is answered").status, 200);
            }
            _ => assert!(served(&weir, &tls)),
        }
        let seen = stable.last();
        let told = |name| {
            let all = seen.head.all(name);
            assert_eq!(all.len(), 1, "{name}: {all:?}");
            all[0].to_owned()
        };
        assert_eq!(told("client-cert"), format!(":{}:", BASE64_STANDARD.encode(&ann.der)));
        let words = told("x-forwarded-client-cert");
        let subject = r#";Subject="O=Partners\\, \\\"Ltd\\\",CN=ann""#;
        assert!(words.starts_with("Hash=") && words.contains(subject), "{words}");
        assert!(seen.field("client-cert-chain").is_none() && seen.field("client_cert").is_none());
    }
    // One that shows none is served and nobody; one that shows a bad one is not.
    assert!(served(&weir, &Tls::of("test")));
    nothing_is_told(&stable);
    assert!(!served(&weir, &Tls::showing("test", &Authority::new().issue("ann"))));
}

#[test]
fn who_a_client_is_cannot_be_claimed_with_tls_or_without() {
    let stable = Upstream::named("stable");
    let weir = setup(&stable, &Issued::for_names(&["test"]), "").listener("plain", "").start();
    assert!(served(&weir, &Tls::of("test")));
    nothing_is_told(&stable);
    assert_eq!(Client::to(weir.listener("plain")).get_with("/", &SPOOFED).status, 200);
    nothing_is_told(&stable);
    let mut h2 = H2Client::to(weir.listener("plain"));
    assert_eq!(h2.ask("GET", "/", &[("client-cert", "x"), ("x-forwarded-client-cert", "y")], b"").unwrap().status, 200);
    nothing_is_told(&stable);
}

#[test]
fn a_trusted_proxy_is_believed_except_where_clients_are_asked_themselves() {
    let (stable, authority) = (Upstream::named("stable"), Authority::new());
    let weir = Setup::single(&stable).top("trusted_proxies = [\"127.0.0.1\"]").start();
    assert_eq!(weir.client().get_with("/", &SPOOFED[..3]).status, 200);
    assert_eq!(stable.last().field("client-cert"), Some(SPOOFED[0].1));
    assert_eq!(stable.last().field("x-forwarded-client-cert"), Some(SPOOFED[2].1));
    let site = Issued::for_names(&["test"]);
    let asking = setup(&stable, &site, "client_ca = \"ca.pem\"\nclient_auth = \"optional\"");
    let weir = asking.file("ca.pem", &authority.pem()).top("trusted_proxies = [\"127.0.0.1\"]").start();
    assert!(served(&weir, &Tls::of("test")));
    nothing_is_told(&stable);
}

#[test]
fn another_authority_counts_from_the_next_handshake_on_and_ends_old_sessions() {
    let (stable, old, new) = (Upstream::named("stable"), Authority::new(), Authority::new());
    let weir = partners(&stable, &old, "");
    let (ann, bob) = (Tls::showing("test", &old.issue("ann")), Tls::showing("test", &new.issue("bob")));
    assert!(served(&weir, &ann) && !served(&weir, &bob));
    replace(&weir.config_directory().join("ca.pem"), "nothing");
    eventually("it is shown", SOON, || weir.metrics().sum("weir_tls_files_failed", &[]) == 1.0);
    assert!(served(&weir, &ann), "what was in use is in use");
    replace(&weir.config_directory().join("ca.pem"), &new.pem());
    eventually("the new one is in use", SOON, || served(&weir, &bob));
    assert!(!served(&weir, &ann), "her session is not resumed");
    assert_eq!(weir.metrics().sum("weir_tls_files_failed", &[]), 0.0);
}
