//! Handshakes: certificates by name, protocols, versions, sessions, and clients that do not mean well.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::{SOON, failures, setup, shown};
use crate::harness::{Client, H2Client, Issued, Setup, Tls, Upstream, Weir, eventually};

#[test]
fn clients_get_the_certificate_for_the_name_that_they_ask_for() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["shop.example", "www.shop.example"]);
    let wild = Issued::for_names(&["*.shop.example"]);
    let other = Issued::for_names(&["other.example"]);
    let both = format!("{}{}", other.key, other.cert);
    let setup = setup(&stable, &site, "certs_dir = \".\"").file("wild.crt", &wild.cert).file("wild.key", &wild.key);
    let weir = setup.file("other.pem", &both).start();
    for (name, expected) in [
        ("shop.example", &site),
        ("www.shop.example", &site),
        ("WWW.Shop.Example", &site),
        ("a.shop.example", &wild),
        ("other.example", &other),
        // A star is one label; what nobody has a certificate for gets the default.
        ("a.b.shop.example", &site),
        ("example", &site),
    ] {
        assert!(shown(&weir, &Tls::of(name)) == expected.der, "{name} gets another certificate");
    }
    assert!(shown(&weir, &Tls::of("other.example").nameless()) == site.der, "without a name: the default");
    let status = weir.status();
    let names = |index: usize| status["tls"][0]["certificates"][index]["name"].as_str().expect("a name").to_owned();
    assert_eq!([names(0), names(1), names(2)], ["shop.example", "other.example", "*.shop.example"]);
    // rcgen's default end, 4096-01-01.
    let expiry = weir.metrics().sum("weir_tls_certificate_expiry_timestamp_seconds", &[("name", "shop.example")]);
    assert_eq!(expiry, 67_090_118_400.0);
}

#[test]
fn both_protocols_are_agreed_on_and_endpoints_and_cookies_know_of_tls() {
    let stable = Upstream::named("stable");
    let setup = setup(&stable, &Issued::for_names(&["test"]), "").table("affinity", "by = \"cookie\"");
    let weir = setup.start();
    let tls = Tls::of("test");
    for (offered, agreed) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"][..], "http/1.1"), (&[][..], "")] {
        let mut client = tls.clone().alpn(offered).connect(weir.address()).expect("weir shakes hands");
        let protocol = client.wire().tls().alpn_protocol().unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(protocol), agreed);
        if agreed != "h2" {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.upstream()), (200, "stable"));
            assert!(answer.field("set-cookie").is_some_and(|cookie| cookie.contains("; Secure")), "{:?}", answer.head);
        }
    }
    let answer = H2Client::over(weir.address(), &tls).get("/");
    assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    assert!(answer.field("set-cookie").is_some_and(|cookie| cookie.contains("; Secure")));
    assert!(stable.seen().iter().all(|seen| seen.field("x-forwarded-proto") == Some("https")));
    assert_eq!(stable.count(), 3);
}

#[test]
fn an_old_version_is_refused_where_the_floor_is_higher() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let (old, new) = (Tls::with("test", None, &[&TLS12]), Tls::with("test", None, &[&TLS13]));
    let weir = setup(&stable, &site, "").start();
    assert_eq!(old.connect(weir.address()).expect("1.2 is the default floor").get("/").status, 200);
    assert_eq!(new.connect(weir.address()).expect("1.3 is spoken").get("/").status, 200);
    let done = |version| weir.metrics().sum("weir_tls_handshakes_total", &[("version", version)]);
    assert_eq!((done("1.2"), done("1.3")), (1.0, 1.0));
    let weir = setup(&stable, &site, "min_version = \"1.3\"").start();
    old.connect(weir.address()).expect_err("1.2 is too old");
    assert_eq!(new.connect(weir.address()).expect("1.3 is spoken").get("/").status, 200);
    assert_eq!(failures(&weir, "unlike"), 1.0);
}

/// How the second of two connections came about.
fn second(weir: &Weir, tls: &Tls) -> Option<HandshakeKind> {
    // Tickets come with the first answer.
    assert_eq!(tls.connect(weir.address()).expect("weir shakes hands").get("/").status, 200);
    let mut client = tls.connect(weir.address()).expect("weir shakes hands");
    assert_eq!(client.get("/").status, 200);
    client.wire().tls().handshake_kind()
}

#[test]
fn sessions_are_resumed_by_tickets_also_after_a_renewal_and_not_where_tickets_are_off() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let weir = setup(&stable, &site, "").start();
    for version in [&TLS12, &TLS13] {
        let tls = Tls::with("test", None, &[version]);
        assert_eq!(second(&weir, &tls), Some(HandshakeKind::Resumed), "{version:?}");
        Issued::for_names(&["test"]).save(&weir.config_directory(), "site");
        let renewed = Tls::of("test");
        let before = shown(&weir, &renewed);
        eventually("the new certificate is shown", SOON, || shown(&weir, &Tls::of("test")) != before);
        assert_eq!(second(&weir, &tls), Some(HandshakeKind::Resumed), "{version:?} after a renewal");
    }
    assert!(weir.metrics().sum("weir_tls_handshakes_total", &[("resumed", "true")]) >= 4.0);
    let weir = setup(&stable, &site, "session_tickets = false").start();
    for version in [&TLS12, &TLS13] {
        let kind = second(&weir, &Tls::with("test", None, &[version]));
        assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
    }
}

#[test]
fn plain_http_on_a_tls_port_is_told_so_and_noise_is_ended() {
    let stable = Upstream::named("stable");
    let weir = setup(&stable, &Issued::for_names(&["test"]), "").start();
    let mut client = Client::to(weir.address());
    let answer = client.get("/");
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    assert!(answer.text().contains("https"), "{}", answer.text());
    assert!(client.closed_within(SOON));
    for noise in [&b"\x16\x03\x01\xff\xffnot a hello"[..], b"\0\0\0\0", b"\x80\x2e\x01\x03\x01", &[0x16; 20_000]] {
        let mut stream = TcpStream::connect(weir.address()).expect("weir accepts");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let _ = stream.write_all(noise);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // At most an alert, and then the end.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "{rest:?}");
    }
    assert_eq!(failures(&weir, "plain_http"), 1.0);
    eventually("the others are counted too", SOON, || failures(&weir, "malformed") + failures(&weir, "gone") == 4.0);
    assert_eq!(stable.count(), 0);
    assert_eq!(Tls::of("test").connect(weir.address()).expect("weir shakes hands").get("/").status, 200);
}

/// The first bytes of a handshake.
fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    Tls::of("test").connection().write_tls(&mut bytes).expect("memory takes it");
    bytes
}

#[test]
fn a_client_that_stalls_in_the_handshake_is_ended_and_holds_up_nobody() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let setup = setup(&stable, &site, "").text("[limits]\nheader_timeout = \"300ms\"\nconnections_max = 24");
    let weir = setup.start();
    let hello = hello();
    let began = Instant::now();
    let stalled: Vec<TcpStream> = [0, 1, 40, hello.len() - 1, hello.len()]
        .into_iter()
        .cycle()
        .take(15)
        .map(|count| {
            let mut stream = TcpStream::connect(weir.address()).expect("weir accepts");
            stream.write_all(&hello[..count]).expect("it is sent");
            stream
        })
        .collect();
    // There is room for others meanwhile.
    assert_eq!(Tls::of("test").connect(weir.address()).expect("weir shakes hands").get("/").status, 200);
    for mut stream in stalled {
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(250) && took < SOON, "{took:?}");
    eventually("they are counted", SOON, || failures(&weir, "timeout") == 15.0);
    eventually("they are let go", SOON, || weir.metrics().sum("weir_connections_open", &[]) == 0.0);
}

#[test]
fn more_handshakes_than_connections_are_allowed_wait_and_are_served_in_the_end() {
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["test"]);
    let setup = setup(&stable, &site, "").workers(1);
    let weir = setup.text("[limits]\nheader_timeout = \"400ms\"\nconnections_max = 4").start();
    let _stalled: Vec<_> = (0..40).map(|_| TcpStream::connect(weir.address()).expect("the system accepts")).collect();
    eventually("the limit is reached", SOON, || weir.metrics().sum("weir_connections_open", &[]) >= 4.0);
    assert!(weir.metrics().sum("weir_connections_open", &[]) <= 5.0, "the limit holds");
    let tls = Tls::of("test");
    assert_eq!(tls.connect(weir.address()).expect("its turn comes").get("/").status, 200);
}

#[test]
fn curl_speaks_both_protocols() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("left out: curl is not installed");
        return;
    }
    let stable = Upstream::named("stable");
    let site = Issued::for_names(&["shop.example"]);
    let weir = setup(&stable, &site, "").start();
    let port = weir.address().port();
    let authority = weir.config_directory().join("site.crt");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = Command::new("curl")
            .args(["-sS", flag, "--max-time", "10", "-w", " %{http_version} %{http_code}", "--noproxy", "*"])
            .args(["--resolve", &format!("shop.example:{port}:127.0.0.1"), "--cacert"])
            .arg(&authority)
            .args(["-d", "hello", &format!("https://shop.example:{port}/")])
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.replace('\n', ""), format!("stable {version} 200"), "{complaint}");
    }
}

#[test]
fn a_configuration_whose_files_are_missing_or_do_not_fit_does_not_start_and_check_says_why() {
    let stable = Upstream::named("stable");
    let (site, other) = (Issued::for_names(&["a.example"]), Issued::for_names(&["b.example"]));
    let lines = "[listeners.public.tls]\ncertificates = [{ cert = \"a.crt\", key = \"a.key\" }, { cert = \"b.crt\", \
                 key = \"b.key\" }, { cert = \"c.crt\", key = \"c.key\" }]\nclient_ca = \"ca.pem\"";
    let setup = Setup::single(&stable).text(lines).file("a.crt", &site.cert).file("a.key", &other.key);
    let failure = setup.file("b.crt", "nonsense").file("b.key", &other.key).try_start().expect_err("nothing fits");
    assert_eq!(failure.code, Some(2), "{failure:?}");
    for said in [
        "a.key: the key does not fit the certificate",
        "b.crt: holds no certificate",
        "c.crt: cannot be read",
        "ca.pem: cannot be read",
        "listeners.public.tls",
    ] {
        assert!(failure.log.contains(said), "{said:?} is not said: {}", failure.log);
    }
    let weir = super::setup(&stable, &site, "").start();
    let (code, out, errors) = weir.verb(&["check"]);
    assert_eq!(code, Some(0), "{out}{errors}");
    std::fs::write(weir.config_directory().join("site.key"), &other.key).expect("it can be written");
    let (code, _, errors) = weir.verb(&["check"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("site.key: the key does not fit the certificate"), "{errors}");
}
