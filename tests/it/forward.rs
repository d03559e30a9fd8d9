//! Forward: what reaches the upstream and what comes back, byte for byte where bytes count.

use std::time::{Duration, Instant};

use crate::harness::{Behaviour, End, Reply, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

fn single() -> (Upstream, Weir) {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    (stable, weir)
}

#[test]
fn path_and_query_arrive_byte_for_byte() {
    let (stable, weir) = single();
    let mut client = weir.client();
    for target in [
        "/",
        "/a//b/./c",
        "/%7Euser/%e4%bd%A0?q=%20+%2B&&=&x",
        "/a;v=1/b,c/d:e@f!$&'()*+=~-._",
        "/?",
        "/a?b?c=/d//e",
        "//evil.example/x",
        "/deep/..hidden/...",
    ] {
        assert_eq!(client.get(target).status, 200, "{target}");
        assert_eq!(stable.last().target, target);
    }
    let mut h2 = weir.h2();
    assert_eq!(h2.get("/%7Euser/a//b?q=%20+").status, 200);
    assert_eq!(stable.last().target, "/%7Euser/a//b?q=%20+");
}

#[test]
fn every_method_and_body_passes_through() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Echo);
    let mut client = weir.client();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE"] {
        let answer = client.ask(method, "/", &[], b"some body");
        assert_eq!((answer.status, answer.text().as_str()), (200, "some body"), "{method}");
        assert_eq!((stable.last().method.as_str(), stable.last().whole), (method, true));
    }
    let head = client.ask("HEAD", "/", &[], b"");
    assert_eq!((head.status, head.body.len(), head.end), (200, 0, End::Whole));
    assert_eq!(client.get("/").status, 200, "the connection is in order after HEAD");
}

#[test]
fn a_chunked_body_arrives_whole_and_trailers_do_not_confuse() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Echo);
    let mut client = weir.client();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
    for byte in format!("{head}{body}").as_bytes() {
        client.send(&[*byte]).expect("it is sent");
    }
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.text(), "hello 0123456789");
    assert_eq!(client.get("/next").status, 200);
}

#[test]
fn a_body_streams_both_ways_before_it_has_ended() {
    let (stable, weir) = single();
    stable.behave(Behaviour::SlowBody { pieces: 2, piece: 10, pause: Duration::from_millis(500) });
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    let began = Instant::now();
    client.head();
    let mut first = Vec::new();
    client.wire().exactly(10, &mut first).expect("the first piece comes");
    assert!(began.elapsed() < Duration::from_millis(400), "the answer is not held back");
    let mut upload = weir.client();
    upload.send(b"POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf ").expect("it is sent");
    eventually("the head is there before the body", SOON, || stable.count_on("/up") == 1);
}

#[test]
fn a_large_answer_to_a_slow_reader_is_not_buffered() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Large(64 << 20));
    let mut client = weir.client();
    assert_eq!(weir.client().ask("HEAD", "/warm", &[], b"").status, 200);
    let before = weir.resident_bytes();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    client.head();
    std::thread::sleep(Duration::from_millis(500));
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more for a reader that does not read");
}

#[test]
fn a_large_upload_to_a_slow_upstream_is_not_buffered() {
    use std::io::Write as _;
    let (stable, slow) = single();
    stable.behave(Behaviour::Early(Vec::new(), Then::Freeze));
    let mut client = slow.client();
    client.send(b"POST /large HTTP/1.1\r\nHost: test\r\nContent-Length: 67108864\r\n\r\n").expect("it is sent");
    let before = slow.resident_bytes();
    client.wire().stream().set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout is accepted");
    let block = vec![b'u'; 1 << 20];
    let mut stream = client.wire().stream();
    let sent = (0..64).take_while(|_| stream.write_all(&block).is_ok()).count();
    let grown = slow.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more after {sent} MB");
}

#[test]
fn hop_by_hop_fields_stop_here_in_both_directions() {
    let (stable, weir) = single();
    let reply = Reply::status(200)
        .field("connection", "x-test-inner, keep-alive")
        .field("x-test-inner", "1")
        .field("keep-alive", "timeout=5")
        .field("proxy-authenticate", "Basic")
        .field("x-test-kept", "1");
    stable.behave(Behaviour::Reply(reply));
    let fields = [
        ("connection", "x-inner, keep-alive, te"),
        ("x-inner", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "gzip"),
        ("trailer", "x-sum"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("x-kept", "1"),
    ];
    let answer = weir.client().get_with("/", &fields);
    let seen = stable.last();
    for (name, _) in &fields[1..9] {
        assert_eq!(seen.field(name), None, "{name} went upstream");
    }
    assert_eq!(seen.field("x-kept"), Some("1"));
    let connection = seen.field("connection").unwrap_or_default().to_ascii_lowercase();
    assert!(!connection.contains("x-inner") && !connection.contains("te"), "{connection}");
    for name in ["x-test-inner", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.field(name), None, "{name} came back");
    }
    assert_eq!(answer.field("x-test-kept"), Some("1"));
}

#[test]
fn forwarded_fields_of_an_untrusted_client_are_replaced() {
    let (stable, weir) = single();
    let spoofed = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-ssl", "evil"),
        ("x-original-url", "/evil"),
        ("x-rewrite-url", "/evil"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("X_Forwarded_For", "6.6.6.6"),
    ];
    weir.client().get_with("/", &spoofed);
    let seen = stable.last();
    assert_eq!(seen.head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("test"));
    let text = String::from_utf8_lossy(&seen.head.raw).into_owned();
    assert!(!text.contains("6.6.6.6") && !text.contains("evil"), "{text}");
}

#[test]
fn a_trusted_proxy_is_believed_and_appended_to() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).top("trusted_proxies = [\"127.0.0.0/8\"]").start();
    let fields = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-ssl", "on"),
    ];
    weir.client().get_with("/", &fields);
    let seen = stable.last();
    assert_eq!(seen.head.all("x-forwarded-for").join(", "), "203.0.113.9, 127.0.0.1");
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.field("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.field("x-forwarded-ssl"), Some("on"));
}

#[test]
fn forwarded_is_written_where_a_service_wants_it_and_appended_to_what_a_trusted_proxy_sent() {
    let stable = Upstream::named("stable");
    let wants = |setup: Setup| setup.service("forwarded = true").start();
    let weir = wants(Setup::single(&stable));
    weir.client().get_with("/", &[("forwarded", "for=6.6.6.6")]);
    assert_eq!(stable.last().head.all("forwarded"), ["for=127.0.0.1;host=\"test\";proto=http"]);
    let weir = wants(Setup::single(&stable).top("trusted_proxies = [\"127.0.0.0/8\"]"));
    let fields =
        [("forwarded", "for=203.0.113.9"), ("forwarded", "for=\"[2001:db8::1]\""), ("x-forwarded-proto", "https")];
    weir.client().get_with("/", &fields);
    let expected = "for=203.0.113.9, for=\"[2001:db8::1]\", for=127.0.0.1;host=\"test\";proto=https";
    assert_eq!(stable.last().head.all("forwarded"), [expected]);
}

#[test]
fn a_request_id_is_made_when_there_is_none_and_unlike_the_last_one() {
    let (stable, weir) = single();
    let mut client = weir.client();
    client.get("/");
    let first = stable.last().field("x-request-id").expect("an id").to_owned();
    client.get("/");
    let second = stable.last().field("x-request-id").expect("an id").to_owned();
    assert!(first.len() >= 16 && first != second, "{first} {second}");
}

#[test]
fn a_request_id_of_a_trusted_proxy_is_kept() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).top("trusted_proxies = [\"127.0.0.0/8\"]").start();
    weir.client().get_with("/", &[("x-request-id", "abc-123")]);
    assert_eq!(stable.last().head.all("x-request-id"), ["abc-123"]);
}

#[test]
fn a_loop_back_to_weir_is_cut() {
    let stable = Upstream::named("stable");
    let setup = Setup::single(&stable);
    let weir = setup.start();
    let through = format!("http://{}", weir.address());
    let looped = Setup::new().pool_at("stable", &[&through]).weights("stable = 1\n");
    weir.save_config(&looped.config_text());
    let mut client = weir.client();
    eventually("the loop is told", SOON, || client.get("/").status == 508);
    assert!(weir.metrics().sum("weir_requests_total", &[]) < 2_000.0, "it goes round only a few times");
}

#[test]
fn the_host_of_the_client_goes_upstream_as_it_is() {
    let (stable, weir) = single();
    weir.client().host("Shop.Example:8080").get("/");
    let host = stable.last().field("host").expect("one").to_ascii_lowercase();
    assert_eq!(host, "shop.example:8080");
    let mut h2 = weir.h2();
    h2.ask("GET", "/", &[(":authority", "api.example")], b"").expect("an answer");
    assert_eq!(stable.last().head.all("host"), ["api.example"]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Echo);
    let mut client = weir.client();
    let mut all = Vec::new();
    for number in 0..50 {
        let body = number.to_string();
        let head = format!("POST /{number} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        all.extend_from_slice(head.as_bytes());
    }
    client.send(&all).expect("it is sent");
    for number in 0..50 {
        assert_eq!(client.answer().expect("an answer").text(), number.to_string());
    }
    client.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\nGET /last HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
    assert_eq!(client.answer_to("HEAD").expect("an answer").status, 200);
    assert_eq!(client.answer().expect("an answer").status, 200);
    assert_eq!(stable.last().target, "/last");
}

#[test]
fn http_1_0_is_served_and_closed() {
    let (_stable, weir) = single();
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "stable\n"));
    assert!(client.closed_within(SOON));
}

#[test]
fn an_answer_without_length_reaches_an_http_1_1_client_with_an_end_it_can_see() {
    let (stable, weir) = single();
    stable.behave(Behaviour::raw_and_close("HTTP/1.1 200 OK\r\nx-upstream: stable\r\n\r\nuntil the close"));
    let answer = weir.client().get("/");
    assert_eq!((answer.text().as_str(), answer.end), ("until the close", End::Whole));
}

#[test]
fn bodies_of_any_framing_cross_between_http_2_and_http_1() {
    let (stable, weir) = single();
    stable.behave(Behaviour::Echo);
    let mut h2 = weir.h2();
    let body = vec![b'x'; 200_000];
    let answer = h2.ask("POST", "/", &[], &body);
    assert!(answer.is_ok_and(|answer| answer.body == body));
    stable.behave(Behaviour::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    let answer = h2.get("/");
    assert_eq!((answer.body.as_slice(), answer.cut), (&b"abc"[..], None));
    for answer in h2.many(50, "/") {
        assert_eq!(answer.expect("an answer").body, b"abc");
    }
}
