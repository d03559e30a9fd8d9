//! Endpoints that speak TLS: who they must be, which version of HTTP they choose, and their many ways to fail.

use std::time::{Duration, Instant};

use h2::Reason;

use crate::harness::tls::replace;
use crate::harness::{
    Act, Authority, Behaviour, End, H2Upstream, Issued, Load, Manner, Setup, Shape, Then, TlsFront, Upstream, Weir,
    eventually,
};

const SOON: Duration = Duration::from_secs(5);

/// The name in the certificates of these tests; endpoints are named by address.
const NAME: &str = "app.test";

/// One pool at these URLs, which trusts `ca.pem`, with further lines in its `tls`.
fn setup(authority: &Authority, urls: &[&str], lines: &str) -> Setup {
    Setup::new()
        .workers(1)
        .pool_at("stable", urls)
        .table("pools.stable.tls", &format!("roots = \"ca.pem\"\nname = \"{NAME}\"\n{lines}"))
        .table("health", "kind = \"off\"")
        .table("timeouts", "connect = \"500ms\"\nresponse_header = \"2s\"\nidle = \"2s\"")
        .table("breaker", "failures = 1000000\nmin_requests = 1000000")
        .file("ca.pem", &authority.pem())
}

/// An HTTP/1 endpoint over TLS, and weir in front of it.
fn single1(lines: &str) -> (Upstream, TlsFront, Weir) {
    let (authority, stable) = (Authority::new(), Upstream::named("stable"));
    let front = TlsFront::http1(&stable, &authority.issue_for(&[NAME]));
    let weir = setup(&authority, &[&front.url()], lines).start();
    (stable, front, weir)
}

/// The same with HTTP/2.
fn single2(lines: &str) -> (H2Upstream, TlsFront, Weir) {
    let (authority, stable) = (Authority::new(), H2Upstream::named("stable"));
    let front = TlsFront::http2(&stable, &authority.issue_for(&[NAME]));
    let weir = setup(&authority, &[&front.url()], lines).start();
    (stable, front, weir)
}

fn handshakes(weir: &Weir, result: &str) -> f64 {
    weir.metrics().sum("weir_upstream_tls_handshakes_total", &[("result", result)])
}

fn blamed(weir: &Weir) -> f64 {
    weir.metrics().sum("weir_upstream_errors_total", &[])
}

#[test]
fn an_endpoint_over_tls_that_speaks_http_1_is_reached_over_connections_that_are_kept() {
    let (stable, front, weir) = single1("");
    let mut client = weir.client();
    for n in 0..20 {
        let answer = client.get(&format!("/a?n={n}"));
        assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    }
    let mut h2 = weir.h2();
    assert_eq!(h2.get("/b").body, b"stable\n");
    for answer in h2.many(30, "/many") {
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let seen = stable.seen();
    assert!(seen.iter().all(|seen| seen.field("host") == Some("test")), "the client's Host is kept");
    assert_eq!(seen.len(), 51);
    let shaken = front.shaken();
    assert!(shaken.iter().all(|it| it.name.as_deref() == Some(NAME) && it.alpn.as_deref() == Some("http/1.1")));
    assert!(shaken.len() <= 31, "one for the first client, one for each of the streams at most: {}", shaken.len());
    assert!(shaken.iter().any(|it| it.resumed), "sessions are resumed: {shaken:?}");
    assert_eq!(handshakes(&weir, "full") + handshakes(&weir, "resumed"), shaken.len() as f64);
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn an_endpoint_that_chooses_http_2_gets_all_streams_on_one_connection() {
    let (stable, front, weir) = single2("");
    let mut client = weir.client();
    for n in 0..20 {
        assert_eq!(client.get(&format!("/a?n={n}")).text(), "stable\n");
    }
    for answer in weir.h2().many(60, "/many") {
        assert_eq!(answer.expect("an answer").body, b"stable\n");
    }
    assert_eq!((stable.connections(), front.shaken().len(), stable.count()), (1, 1, 80));
    assert_eq!(front.shaken()[0].alpn.as_deref(), Some("h2"));
    assert_eq!(stable.last().authority, "test");
    assert_eq!((handshakes(&weir, "full"), blamed(&weir)), (1.0, 0.0));
}

#[test]
fn the_version_of_http_follows_the_endpoint_and_what_the_pool_allows() {
    let authority = Authority::new();
    let own = authority.issue_for(&[NAME]);
    let (one, two) = (Upstream::named("one"), H2Upstream::named("two"));
    for (lines, alpn, expected) in [
        ("", &["h2", "http/1.1"][..], "two"),
        ("http2 = \"off\"", &["h2", "http/1.1"], "one"),
        ("http2 = \"only\"", &["h2", "http/1.1"], "two"),
        // No ALPN at all: HTTP/1.1 (RFC 9112).
        ("", &[], "one"),
        ("http2 = \"off\"", &[], "one"),
    ] {
        let front = TlsFront::both(&one, &two, &own);
        front.become_(&own, alpn, None);
        let weir = setup(&authority, &[&front.url()], lines).start();
        let mut client = weir.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").upstream(), expected, "{lines} {alpn:?}");
        }
        assert_eq!((front.shaken().len(), blamed(&weir)), (1, 0.0), "{lines} {alpn:?}");
    }
    let front = TlsFront::both(&one, &two, &own);
    front.become_(&own, &[], None);
    let weir = setup(&authority, &[&front.url()], "http2 = \"only\"").start();
    assert_eq!(weir.client().get("/").status, 502);
    assert!(handshakes(&weir, "tls_unlike") > 0.0);
}

#[test]
fn an_endpoint_that_changes_its_mind_is_followed_without_a_failed_request() {
    let authority = Authority::new();
    let own = authority.issue_for(&[NAME]);
    let (one, two) = (Upstream::named("one"), H2Upstream::named("two"));
    let front = TlsFront::both(&one, &two, &own);
    let weir = setup(&authority, &[&front.url()], "").text("[limits]\nupstream_keep_alive = \"50ms\"").start();
    let mut client = weir.client();
    assert_eq!(client.get("/").upstream(), "two");
    front.become_(&own, &["http/1.1"], None);
    two.behave(Act::Farewell);
    assert_eq!(client.get("/").upstream(), "two");
    eventually("the old connection is left", SOON, || {
        two.behave(Act::Farewell);
        client.get("/").upstream() == "one"
    });
    // Back again: what is kept for HTTP/1 runs out, and the next connection is one for HTTP/2.
    front.become_(&own, &["h2", "http/1.1"], None);
    two.behave(Act::Answer);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.get("/").upstream(), "two");
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn an_upgrade_goes_over_http_1_also_where_everything_else_goes_over_http_2() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          x-upstream: stable\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let authority = Authority::new();
    let (one, two) = (Upstream::named("one"), H2Upstream::named("two"));
    one.behave_on("/ws", Behaviour::Raw(SWITCH.as_bytes().to_vec(), Then::Echo));
    let front = TlsFront::both(&one, &two, &authority.issue_for(&[NAME]));
    let weir = setup(&authority, &[&front.url()], "").start();
    assert_eq!(weir.client().get("/").upstream(), "two");
    let mut client = weir.client().lenient();
    client.send(ASK.as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 101);
    for text in ["hello", &"x".repeat(300_000)] {
        client.send(text.as_bytes()).expect("it is sent");
        let mut back = Vec::new();
        client.wire().exactly(text.len() as u64, &mut back).expect("it comes back");
        assert!(back == text.as_bytes());
    }
    assert_eq!(weir.client().get("/").upstream(), "two");
}

#[test]
fn bodies_and_trailers_cross_both_ways_over_both_versions() {
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (one, _front, weir) = single1("");
    let reply = crate::harness::Reply::status(200).body(long.clone());
    one.behave_on("/down", Behaviour::Reply(reply));
    for _ in 0..2 {
        let answer = weir.client().ask("POST", "/up", &[], &long);
        assert_eq!((answer.status, one.last().body == long), (200, true));
        assert!(weir.client().get("/down").body == long);
        let answer = weir.h2().ask("POST", "/up", &[], &long).expect("an answer");
        assert_eq!((answer.status, one.last().body == long), (200, true));
        assert!(weir.h2().get("/down").body == long);
    }
    let (two, _front, weir) = single2("");
    two.behave(Act::Echo);
    assert!(weir.client().ask("POST", "/", &[], &long).body == long);
    let answer = weir.h2().ask_with_trailers("/", &[("te", "trailers")], &long, &[("x-sum", "7")]);
    let answer = answer.expect("an answer");
    assert!(answer.body == long && answer.trailer("x-sum") == Some("7"));
    let text = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
        3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let mut client = weir.client();
    client.send(text.as_bytes()).expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.text().as_str(), answer.trailers), ("abc", vec![("x-sum".to_owned(), "7".to_owned())]));
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn a_body_that_ends_with_its_connection_is_whole_only_if_the_endpoint_said_so() {
    let (stable, front, weir) = single1("");
    let head = "HTTP/1.1 200 OK\r\nx-upstream: stable\r\nConnection: close\r\n\r\nhello";
    stable.behave_on("/whole", Behaviour::Raw(head.into(), Then::Close));
    let answer = weir.client().get("/whole");
    assert_eq!((answer.text().as_str(), answer.end), ("hello", End::Whole));
    assert_eq!(blamed(&weir), 0.0);
    // The socket is closed without a word of TLS, as anybody in between could have done it.
    stable.behave_on("/torn", Behaviour::Raw(head.into(), Then::Reset));
    let answer = weir.client().get("/torn");
    assert_ne!(answer.end, End::Whole);
    assert_eq!((blamed(&weir), front.shaken().len()), (1.0, 2));
}

#[test]
fn grpc_calls_go_over_tls_and_their_status_is_read() {
    const CALL: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];
    const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
    let (stable, front, weir) = single2("http2 = \"only\"");
    stable.behave(Act::Call(0));
    let call = || weir.h2().ask("POST", "/greeter.Greeter/Hello", CALL, MESSAGE).expect("an answer");
    let answer = call();
    assert_eq!((answer.body.as_slice(), answer.trailer("grpc-status")), (MESSAGE, Some("0")));
    assert_eq!((stable.last().field("te"), blamed(&weir)), (Some("trailers"), 0.0));
    stable.behave(Act::Call(14));
    assert_eq!(call().trailer("grpc-status"), Some("14"));
    eventually("a failure of the server's is counted", SOON, || blamed(&weir) == 1.0);
    front.behave(Manner::Close);
    stable.behave(Act::Farewell);
    call();
    eventually("there is no connection", SOON, || call().field("grpc-status") == Some("14"));
}

/// What weir says of an endpoint that cannot be used: the reason in its metrics, its log and `status`.
#[track_caller]
fn refused(weir: &Weir, reason: &str) {
    let began = Instant::now();
    assert_eq!(weir.client().get("/").status, 502, "{reason}");
    assert!(began.elapsed() < Duration::from_secs(3), "{reason}: {:?}", began.elapsed());
    assert!(handshakes(weir, reason) > 0.0, "{reason}: {:?}", weir.metrics().lines_with("weir_upstream_tls"));
    assert!(weir.status()["services"][0]["pools"][0]["endpoints"][0]["last_error"] == reason, "{reason}");
    assert!(weir.metrics().sum("weir_upstream_errors_total", &[("kind", "upstream_connect")]) > 0.0);
}

#[test]
fn an_endpoint_that_is_not_who_it_should_be_gets_no_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    let stable = Upstream::named("stable");
    for (own, reason) in [
        (authority.issue_for(&["other.test"]), "tls_name"),
        (authority.issue_between(&[NAME], (2000, 2001)), "tls_expired"),
        (authority.issue_between(&[NAME], (2090, 2100)), "tls_expired"),
        (other.issue_for(&[NAME]), "tls_untrusted"),
        (Issued::for_names(&[NAME]), "tls_untrusted"),
    ] {
        let front = TlsFront::http1(&stable, &own);
        let weir = setup(&authority, &[&front.url()], "").start();
        refused(&weir, reason);
        let weir = setup(&authority, &[&front.url()], "insecure_skip_verify = true").start();
        assert_eq!(weir.client().get("/").status, 200, "{reason}: nobody looks");
    }
    assert_eq!(stable.count(), 5);
}

#[test]
fn a_handshake_that_stalls_breaks_off_or_is_none_is_a_failure_to_connect() {
    let (_stable, front, weir) = single1("");
    for (manner, reason) in
        [(Manner::Stall, "tls_timeout"), (Manner::Close, "tls_closed"), (Manner::Plain, "tls_malformed")]
    {
        front.behave(manner);
        refused(&weir, reason);
    }
    front.behave(Manner::Serve);
    assert_eq!(weir.client().get("/").status, 200);
}

#[test]
fn a_request_of_any_method_goes_elsewhere_when_the_handshake_fails() {
    let (authority, stable, broken) = (Authority::new(), Upstream::named("stable"), Upstream::named("broken"));
    let own = authority.issue_for(&[NAME]);
    let fronts = [TlsFront::http1(&stable, &own), TlsFront::http1(&broken, &own)];
    fronts[1].behave(Manner::Close);
    let urls = [fronts[0].url(), fronts[1].url()];
    let weir = setup(&authority, &[&urls[0], &urls[1]], "").table("retry", "budget = 1.0\nmin_per_second = 1000");
    let weir = weir.start();
    for _ in 0..20 {
        let answer = weir.client().ask("POST", "/", &[], b"once");
        assert_eq!((answer.status, answer.upstream()), (200, "stable"));
    }
    assert_eq!(broken.count(), 0);
    assert!(blamed(&weir) > 0.0);
}

#[test]
fn an_endpoint_whose_handshakes_fail_is_ejected_and_comes_back() {
    let (authority, stable, flaky) = (Authority::new(), Upstream::named("stable"), Upstream::named("flaky"));
    let own = authority.issue_for(&[NAME]);
    let fronts = [TlsFront::http1(&stable, &own), TlsFront::http1(&flaky, &own)];
    let urls = [fronts[0].url(), fronts[1].url()];
    let text = setup(&authority, &[&urls[0], &urls[1]], "").config_text();
    let text = text.replace("failures = 1000000\n", "failures = 3\nbase_ejection = \"100ms\"\n");
    let weir = setup(&authority, &[&urls[0], &urls[1]], "").start();
    weir.save_config(&text);
    eventually("it is live", SOON, || weir.status()["generation"] == 2);
    fronts[1].behave(Manner::Close);
    let state = || weir.status()["services"][0]["pools"][0]["endpoints"][1]["state"].clone();
    eventually("it is ejected", SOON, || {
        assert_eq!(weir.client().get("/").status, 200);
        state() == "ejected"
    });
    fronts[1].behave(Manner::Serve);
    eventually("it serves", SOON, || weir.client().get("/").upstream() == "flaky");
}

#[test]
fn probes_go_over_the_same_tls() {
    let (authority, stable) = (Authority::new(), Upstream::named("stable"));
    let (good, bad) = (authority.issue_for(&[NAME]), authority.issue_for(&["other.test"]));
    let front = TlsFront::http1(&stable, &good);
    for kind in ["path = \"/healthz\"", "kind = \"tcp\""] {
        front.become_(&good, &["http/1.1"], None);
        let health = format!("{kind}\ninterval = \"50ms\"\ntimeout = \"300ms\"\nfall = 2\nrise = 1");
        let setup = Setup::new()
            .pool_at("stable", &[&front.url()])
            .table("pools.stable.tls", &format!("roots = \"ca.pem\"\nname = \"{NAME}\""))
            .table("health", &health)
            .file("ca.pem", &authority.pem());
        let weir = setup.start();
        let endpoint = || weir.status()["services"][0]["pools"][0]["endpoints"][0].clone();
        eventually("it serves", SOON, || endpoint()["state"] == "serving");
        front.become_(&bad, &["http/1.1"], None);
        eventually("it is down", SOON, || endpoint()["state"] == "down");
        assert!(endpoint()["last_error"].to_string().contains("tls_name"), "{}", endpoint());
    }
    // The same in HTTP/2, with the health service of gRPC.
    let two = H2Upstream::named("two");
    two.behave(Act::Reply(
        Shape::status(200)
            .field("content-type", "application/grpc")
            .body(b"\0\0\0\0\x02\x08\x01")
            .trailer("grpc-status", "0"),
    ));
    let front = TlsFront::http2(&two, &good);
    let weir = Setup::new()
        .pool_at("stable", &[&front.url()])
        .table("pools.stable.tls", &format!("roots = \"ca.pem\"\nname = \"{NAME}\""))
        .table("health", "kind = \"grpc\"\ninterval = \"50ms\"\ntimeout = \"300ms\"\nfall = 2\nrise = 1")
        .file("ca.pem", &authority.pem())
        .start();
    let endpoint = || weir.status()["services"][0]["pools"][0]["endpoints"][0].clone();
    eventually("it was probed", SOON, || two.count() > 2);
    assert_eq!((endpoint()["state"].as_str(), endpoint()["last_error"].as_str()), (Some("serving"), None));
    front.become_(&good, &["http/1.1"], None);
    eventually("it is down", SOON, || endpoint()["state"] == "down");
}

#[test]
fn probes_use_up_no_session_that_a_request_could_resume() {
    let (authority, stable) = (Authority::new(), Upstream::named("stable"));
    let front = TlsFront::http1(&stable, &authority.issue_for(&[NAME]));
    let weir = Setup::new()
        .workers(1)
        .pool_at("stable", &[&front.url()])
        .table("pools.stable.tls", &format!("roots = \"ca.pem\"\nname = \"{NAME}\""))
        .table("health", "kind = \"tcp\"\ninterval = \"20ms\"")
        .file("ca.pem", &authority.pem())
        .text("[limits]\nupstream_keep_alive = \"10ms\"")
        .start();
    assert_eq!(weir.client().get("/").status, 200);
    let probed = front.accepted() + 10;
    eventually("it was probed", SOON, || front.accepted() > probed);
    assert_eq!(weir.client().get("/").status, 200);
    assert_eq!((handshakes(&weir, "full"), handshakes(&weir, "resumed")), (1.0, 1.0));
}

#[test]
fn a_goaway_over_tls_loses_no_request_and_the_session_is_resumed() {
    let (stable, front, weir) = single2("");
    let mut client = weir.client();
    assert_eq!(client.get("/").status, 200);
    for _ in 0..5 {
        stable.next(Act::Farewell);
        assert_eq!(client.get("/").status, 200);
        assert_eq!(client.ask("POST", "/", &[], b"x").status, 200);
    }
    let shaken = front.shaken();
    assert!(shaken.len() > 1 && shaken[1..].iter().all(|it| it.resumed), "{shaken:?}");
    assert_eq!(blamed(&weir), 0.0);
    stable.behave(Act::CutAfter(1_000, Reason::INTERNAL_ERROR));
    let answer = client.get("/");
    assert_eq!((answer.status, answer.end == End::Whole), (200, false));
}

#[test]
fn an_endpoint_gets_the_certificate_that_it_asks_for_and_a_renewed_one_is_shown() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = authority.issue_for(&[NAME]);
    let stable = Upstream::named("stable");
    let front = TlsFront::http1(&stable, &own);
    front.become_(&own, &["http/1.1"], Some(&clients.pem()));
    let (first, second) = (clients.issue("weir"), clients.issue("weir"));
    let weir = setup(&authority, &[&front.url()], "cert = \"own.crt\"\nkey = \"own.key\"")
        .file("own.crt", &first.cert)
        .file("own.key", &first.key)
        .start();
    let mut client = weir.client();
    assert_eq!(client.get("/").status, 200);
    let shown = || front.shaken().last().and_then(|it| it.certificate.clone());
    assert!(shown() == Some(first.der));
    second.save(&weir.config_directory(), "own");
    eventually("the new one is shown", SOON, || {
        assert_eq!(client.get("/").status, 200);
        shown() == Some(second.der.clone())
    });
    // What does not hold is told of, and changes nothing.
    replace(&weir.config_directory().join("own.key"), &first.key);
    let failed = || weir.metrics().sum("weir_upstream_tls_files_failed", &[("pool", "stable")]);
    eventually("it is shown", SOON, || failed() == 1.0);
    let (_, text, _) = weir.verb(&["status"]);
    assert!(text.contains("services.engine.pools.stable.tls: ") && text.contains("does not fit"), "{text}");
    assert_eq!(client.get("/").status, 200);
    // An endpoint that asks in vain says so in its own way.
    let weir = setup(&authority, &[&front.url()], "").start();
    assert_eq!(weir.client().get("/").status, 502);
    assert_eq!(stable.seen().iter().filter(|seen| seen.target == "/").count(), stable.count());
}

#[test]
fn other_authorities_are_trusted_as_soon_as_their_file_says_so() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (one, two) = (Upstream::named("one"), H2Upstream::named("two"));
    let front = TlsFront::both(&one, &two, &authority.issue_for(&[NAME]));
    let weir = setup(&authority, &[&front.url()], "").start();
    let mut client = weir.client();
    assert_eq!(client.get("/").status, 200);
    // The connection that is open was opened with trust that is gone, and is used no more.
    replace(&weir.config_directory().join("ca.pem"), &other.pem());
    eventually("it is trusted no more", SOON, || client.get("/").status == 502);
    assert!(handshakes(&weir, "tls_untrusted") > 0.0);
    replace(&weir.config_directory().join("ca.pem"), &authority.pem());
    eventually("it is trusted again", SOON, || client.get("/").status == 200);
}

#[test]
fn settings_of_tls_are_taken_over_by_a_reload_and_bad_ones_change_nothing() {
    let (authority, stable) = (Authority::new(), Upstream::named("stable"));
    let front = TlsFront::http1(&stable, &authority.issue_for(&["new.test"]));
    let setup = setup(&authority, &[&front.url()], "");
    let weir = setup.start();
    assert_eq!(weir.client().get("/").status, 502);
    let text = setup.config_text();
    weir.save_config(&text.replace(NAME, "new.test"));
    eventually("the name is another one", SOON, || weir.client().get("/").status == 200);
    weir.save_config(&text.replace("ca.pem", "gone.pem"));
    eventually("it is refused", SOON, || weir.status()["last_reload"]["ok"] == false);
    let told = weir.status()["last_reload"]["problems"].to_string();
    assert!(told.contains("services.engine.pools.stable.tls: ") && told.contains("gone.pem"), "{told}");
    assert_eq!(weir.client().get("/").status, 200);
    weir.save_config(&text.replace(NAME, "new.test").replace("roots = \"ca.pem\"", "insecure_skip_verify = true"));
    eventually("it is live, and said", SOON, || weir.status()["upstream_tls"][0]["verified"] == false);
    assert!(weir.log().lines().iter().any(|line| line.contains("WARN") && line.contains("insecure_skip_verify")));
    assert_eq!(weir.metrics().sum("weir_upstream_tls_unverified", &[]), 1.0);
    let (_, text, _) = weir.verb(&["status"]);
    assert!(text.contains("nobody checks who the endpoints are"), "{text}");
}

#[test]
fn weights_move_under_load_over_tls_endpoints_and_no_request_fails() {
    let authority = Authority::new();
    let own = authority.issue_for(&[NAME]);
    let (one, two) = (Upstream::named("one").forgetful(), H2Upstream::named("two"));
    let fronts = [TlsFront::http1(&one, &own), TlsFront::http2(&two, &own)];
    let tls = format!("roots = \"ca.pem\"\nname = \"{NAME}\"");
    let weir = Setup::new()
        .pool_at("stable", &[&fronts[0].url()])
        .pool_at("canary", &[&fronts[1].url()])
        .split([100, 0])
        .table("pools.stable.tls", &tls)
        .table("pools.canary.tls", &tls)
        .file("ca.pem", &authority.pem())
        .start();
    let load = Load::start(weir.address(), 8, Duration::from_millis(1));
    for canary in [10, 50, 100, 0, 30, 0] {
        weir.save_split([100 - canary, canary]);
        eventually("it is live", SOON, || weir.split() == [100 - u64::from(canary), u64::from(canary)]);
        std::thread::sleep(Duration::from_millis(150));
    }
    let report = load.stop();
    report.assert_flawless();
    assert!(report.by_upstream.len() == 2, "{:?}", report.by_upstream);
    let shaken = fronts.iter().map(|front| front.shaken().len()).sum::<usize>();
    assert!(shaken < 60, "{shaken} handshakes for {} requests", report.good);
}
