//! Endpoints that are told whom a connection is opened for (PROXY protocol): the right client, and nobody else on it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::{Authority, H2Upstream, NamedFront, Setup, TlsFront, Upstream, eventually};

const SOON: Duration = Duration::from_secs(5);

fn setup(url: &str, version: &str) -> Setup {
    Setup::new()
        .workers(1)
        .pool_at("stable", &[url])
        .pool_lines(&format!("proxy_protocol = \"{version}\""))
        .table("health", "kind = \"off\"")
}

#[test]
fn each_client_has_connections_of_its_own_that_begin_with_its_address() {
    for (version, number) in [("v1", 1), ("v2", 2)] {
        let stable = Upstream::named("stable");
        let front = NamedFront::before(stable.address());
        let weir = setup(&front.url(), version).start();
        let mut clients: Vec<_> = (0..4).map(|_| weir.client()).collect();
        let addresses: Vec<SocketAddr> =
            clients.iter_mut().map(|it| it.wire().stream().local_addr().unwrap()).collect();
        for round in 0..5 {
            for client in &mut clients {
                let answer = client.ask("POST", &format!("/{round}"), &[], b"hello");
                assert_eq!((answer.status, answer.upstream()), (200, "stable"));
            }
        }
        let named = front.clients();
        assert_eq!(named.len(), 4, "a connection for each client, kept for its next requests");
        for (named, client) in named.iter().zip(&addresses) {
            assert_eq!((named.version, named.ends), (number, Some((*client, weir.address()))), "{version}");
        }
        assert_eq!((stable.count(), front.all().len()), (20, 4));
        assert_eq!(stable.last().body, b"hello");
        assert_eq!(weir.metrics().sum("weir_upstream_connections_total", &[]), 4.0);
    }
}

#[test]
fn streams_of_one_client_share_its_connections_and_no_others() {
    let stable = Upstream::named("stable");
    let front = NamedFront::before(stable.address());
    let weir = setup(&front.url(), "v2").start();
    let (mut one, mut two) = (weir.h2(), weir.h2());
    for _ in 0..3 {
        for answer in one.many(20, "/one").into_iter().chain(two.many(20, "/two")) {
            assert_eq!(answer.expect("an answer").status, 200);
        }
    }
    let sources: HashSet<_> = front.clients().into_iter().filter_map(|named| named.ends).map(|ends| ends.0).collect();
    assert_eq!(sources.len(), 2);
    let mut paths_by_connection = std::collections::HashMap::<u64, HashSet<String>>::new();
    for seen in stable.seen() {
        paths_by_connection.entry(seen.connection).or_default().insert(seen.target);
    }
    assert!(paths_by_connection.values().all(|paths| paths.len() == 1), "{paths_by_connection:?}");
}

#[test]
fn the_client_that_a_trusted_proxy_speaks_for_is_named() {
    let stable = Upstream::named("stable");
    let front = NamedFront::before(stable.address());
    let weir = setup(&front.url(), "v1").top("trusted_proxies = [\"127.0.0.1\"]").start();
    let mut proxy = weir.client();
    for _ in 0..3 {
        for client in ["203.0.113.7", "203.0.113.8", "2001:db8::1"] {
            assert_eq!(proxy.get_with("/", &[("x-forwarded-for", client)]).status, 200);
        }
    }
    let named: Vec<_> = front.clients().iter().filter_map(|named| named.ends).collect();
    assert_eq!(named.len(), 3, "one for each client: {named:?}");
    let sources: Vec<_> = named.iter().map(|(source, _)| source.to_string()).collect();
    assert_eq!(sources, ["203.0.113.7:0", "203.0.113.8:0", "[2001:db8::1]:0"]);
    assert_eq!(named[2].1.to_string(), format!("[::ffff:127.0.0.1]:{}", weir.address().port()), "in one family");
}

#[test]
fn the_header_stands_before_tls_and_clients_do_not_share_http_2() {
    let authority = Authority::new();
    let own = authority.issue_for(&["app.test"]);
    let (one, two) = (Upstream::named("one"), H2Upstream::named("two"));
    let tls = TlsFront::both(&one, &two, &own);
    let front = NamedFront::before(tls.address());
    let weir = setup(&front.url().replace("http:", "https:"), "v2")
        .pool_lines("tls = { roots = \"ca.pem\", name = \"app.test\" }")
        .file("ca.pem", &authority.pem())
        .start();
    let (mut first, mut second) = (weir.client(), weir.client());
    for _ in 0..3 {
        assert_eq!((first.get("/").upstream(), second.get("/").upstream()), ("one", "one"));
    }
    assert_eq!((front.clients().len(), tls.shaken().len()), (2, 2));
    assert!(tls.shaken().iter().all(|it| it.alpn.as_deref() == Some("http/1.1")));
}

#[test]
fn probes_say_that_they_speak_for_nobody() {
    for (version, number) in [("v1", 1), ("v2", 2)] {
        let stable = Upstream::named("stable");
        let front = NamedFront::before(stable.address());
        let weir = Setup::new()
            .pool_at("stable", &[&front.url()])
            .pool_lines(&format!("proxy_protocol = \"{version}\""))
            .table("health", "path = \"/healthz\"\ninterval = \"50ms\"\ntimeout = \"300ms\"")
            .start();
        eventually("it was probed", SOON, || stable.probes() > 2);
        assert!(front.all().iter().all(|named| named.version == number && named.ends.is_none()));
        assert_eq!(weir.status()["services"][0]["pools"][0]["endpoints"][0]["last_error"], serde_json::Value::Null);
        assert_eq!(weir.client().get("/").status, 200);
        assert_eq!(front.clients().len(), 1);
    }
}

#[test]
fn a_reload_that_begins_to_name_clients_uses_no_connection_from_before() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).workers(1).table("health", "kind = \"off\"").start();
    let mut client = weir.client();
    assert_eq!(client.get("/").status, 200);
    let text = std::fs::read_to_string(weir.config_path()).expect("it is there");
    let front = NamedFront::before(stable.address());
    let named = format!("{:?}]\nproxy_protocol = \"v2\"", front.url());
    weir.save_config(&text.replace(&format!("{:?}]", stable.url()), &named));
    eventually("it is live", SOON, || weir.status()["generation"] == 2);
    assert_eq!((client.get("/").status, weir.client().get("/").status), (200, 200));
    assert_eq!(front.clients().len(), 2);
}

#[test]
fn what_shares_connections_between_clients_is_refused() {
    for (setup, found) in [
        (setup("h2c://127.0.0.1:1", "v1"), "shares its connections between clients"),
        (
            setup("https://127.0.0.1:1", "v1").pool_lines("tls = { http2 = \"only\" }"),
            "HTTP/2 shares connections between clients",
        ),
        (setup("http://127.0.0.1:1", "v3"), "use one of \\\"v1\\\", \\\"v2\\\""),
    ] {
        let failure = setup.try_start().expect_err("it is refused");
        assert!(format!("{failure:?}").contains(found), "{found}: {failure:?}");
    }
}
