//! Endpoints that speak HTTP/2: what they get, what becomes of their answers, and of their many ways to refuse one.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use h2::Reason;

use crate::harness::{Act, End, H2Upstream, Setup, Shape, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

fn setup(urls: &[&str]) -> Setup {
    Setup::new()
        .workers(1)
        .pool_at("stable", urls)
        .table("health", "kind = \"off\"")
        .table("timeouts", "response_header = \"1s\"\nidle = \"2s\"")
        .table("breaker", "failures = 1000000\nmin_requests = 1000000")
}

fn single() -> (H2Upstream, Weir) {
    let stable = H2Upstream::named("stable");
    let weir = setup(&[&stable.url()]).start();
    (stable, weir)
}

fn blamed(weir: &Weir) -> f64 {
    weir.metrics().sum("weir_upstream_errors_total", &[])
}

#[test]
fn requests_of_both_protocols_reach_an_http_2_endpoint_and_its_answers_come_back() {
    let (stable, weir) = single();
    let mut client = weir.client();
    for n in 0..5 {
        let answer = client.get_with(&format!("/a?n={n}"), &[("x-a", "1"), ("connection", "x-b"), ("x-b", "1")]);
        assert_eq!((answer.status, answer.text().as_str(), answer.upstream()), (200, "stable\n", "stable"));
        let seen = stable.last();
        assert_eq!(
            (seen.method.as_str(), seen.target.clone(), seen.authority.as_str()),
            ("GET", format!("/a?n={n}"), "test")
        );
        assert_eq!((seen.field("x-a"), seen.field("x-b"), seen.field("connection")), (Some("1"), None, None));
        assert_eq!((seen.field("host"), seen.field("x-forwarded-for")), (None, Some("127.0.0.1")));
        assert!(seen.field("via").is_some_and(|via| via.contains("weir-")));
    }
    let answer = client.ask("HEAD", "/", &[], b"");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = client.ask("POST", "/up", &[], b"hello");
    assert_eq!((answer.status, stable.last().body, stable.last().whole), (200, b"hello".to_vec(), true));
    let mut h2 = weir.h2();
    assert_eq!(h2.get("/b").body, b"stable\n");
    let answer = h2.ask("PUT", "/up", &[("cookie", "a=1"), ("cookie", "b=2")], b"hello").expect("an answer");
    assert_eq!((answer.status, stable.last().body.as_slice()), (200, &b"hello"[..]));
    assert_eq!(stable.last().field("cookie"), Some("a=1; b=2"));
    for answer in h2.many(60, "/many") {
        assert_eq!(answer.expect("an answer").body, b"stable\n");
    }
    assert_eq!(stable.connections(), 1, "one connection carries them all");
}

#[test]
fn answers_of_any_shape_reach_a_client_of_either_protocol() {
    let (stable, weir) = single();
    let mut client = weir.client().lenient();
    for status in [200, 204, 304, 404, 500] {
        stable.behave(Act::Reply(Shape::status(status).field("location", "/x").field("x-test-a", "b")));
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.len(), answer.end), (status, 0, End::Whole), "{status}");
        assert_eq!(answer.field("x-test-a"), Some("b"));
        assert_eq!(weir.h2().get("/").status, status);
    }
    let long = vec![b'x'; 300_000];
    for length in [None, Some("300000")] {
        let mut shape = Shape::status(200).body(&long);
        if let Some(length) = length {
            shape = shape.field("content-length", length);
        }
        stable.behave(Act::Reply(shape));
        let answer = client.get("/");
        assert_eq!((answer.body.len(), answer.end, answer.field("content-length")), (300_000, End::Whole, length));
        let answer = weir.h2().get("/");
        assert_eq!((answer.body.len(), answer.cut.as_deref(), answer.field("content-length")), (300_000, None, length));
    }
    let mut old = weir.client();
    old.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is sent");
    assert_eq!(old.answer().expect("an answer").body.len(), 300_000);
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn bodies_trailers_and_interim_answers_cross_in_every_combination() {
    let (stable, weir) = single();
    stable.behave(Act::Echo);
    let long = vec![b'u'; 500_000];
    assert_eq!(weir.client().ask("POST", "/", &[], &long).body, long);
    let text = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
        3\r\nabc\r\n0\r\nx-sum: 7\r\nhost: evil\r\n\r\n";
    for step in [1, 9, 1_000] {
        // Echo begins to answer before all has come, so that the connection is not used again.
        let mut client = weir.client();
        for part in text.as_bytes().chunks(step) {
            client.send(part).expect("it is sent");
        }
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.text().as_str(), answer.trailers), ("abc", vec![("x-sum".to_owned(), "7".to_owned())]));
        assert_eq!((stable.last().trailers.len(), stable.last().field("te")), (1, Some("trailers")));
    }
    let answer = weir.h2().ask("POST", "/", &[], &long).expect("an answer");
    assert_eq!((answer.body.len(), answer.cut), (long.len(), None));
    let answer = weir.h2().ask_with_trailers("/", &[("te", "trailers")], b"abc", &[("x-sum", "7")]);
    let answer = answer.expect("an answer");
    assert_eq!((answer.body.as_slice(), answer.trailer("x-sum")), (&b"abc"[..], Some("7")));
    stable.behave(Act::Hint);
    assert_eq!(weir.client().get("/").interim, [103]);
    assert_eq!(weir.h2().get("/").interim[0].0, 103);
    stable.behave(Act::Continue);
    let answer = weir.h2().ask("POST", "/", &[("expect", "100-continue")], b"hello").expect("an answer");
    assert_eq!((answer.interim[0].0, answer.body.as_slice()), (100, &b"hello"[..]));
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").expect("sent");
    assert_eq!(client.head().start, "HTTP/1.1 100 Continue");
    client.send(b"hello").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").text(), "hello");
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn as_many_connections_are_open_as_the_streams_need() {
    let stable = H2Upstream::with_streams("stable", 4);
    let weir = setup(&[&stable.url()]).start();
    assert_eq!(weir.client().get("/warm").status, 200);
    stable.behave(Act::Stall);
    let mut clients: Vec<_> = (0..10).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send(b"POST /held HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").expect("it is sent");
    }
    eventually("all are there", SOON, || stable.count() == 11);
    assert_eq!(stable.connections(), 3, "three of four streams each");
    // They are let go when their clients leave, and the connections serve on.
    for client in clients {
        client.reset();
    }
    eventually("every stream is reset", SOON, || {
        stable.seen().iter().filter(|seen| seen.reset == Some(Reason::CANCEL)).count() == 10
    });
    stable.behave(Act::Answer);
    assert_eq!(weir.client().get("/on").status, 200);
    assert_eq!(stable.connections(), 3);
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn a_refused_stream_is_tried_again_whatever_its_method() {
    let (one, two) = (H2Upstream::named("one"), H2Upstream::named("two"));
    let weir = setup(&[&one.url(), &two.url()]).start();
    for method in ["GET", "POST"] {
        for _ in 0..4 {
            one.behave(Act::Refuse(Reason::REFUSED_STREAM));
            let answer = weir.client().ask(method, "/", &[], b"once");
            assert_eq!((answer.status, answer.upstream()), (200, "two"), "{method}");
        }
    }
    // An only endpoint is asked a second time.
    let (alone, lone) = single();
    alone.next(Act::Refuse(Reason::REFUSED_STREAM));
    assert_eq!(lone.client().ask("POST", "/", &[], b"once").status, 200);
    assert_eq!((alone.count(), blamed(&lone)), (2, 1.0));
    alone.behave(Act::Refuse(Reason::REFUSED_STREAM));
    assert_eq!(lone.client().ask("POST", "/", &[], b"once").status, 502);
}

#[test]
fn a_reset_before_the_answer_is_a_502_and_only_what_is_idempotent_is_tried_again() {
    let (stable, weir) = single();
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        stable.behave(Act::Refuse(reason));
        stable.next(Act::Refuse(reason));
        let before = stable.count();
        assert_eq!(weir.client().ask("POST", "/", &[], b"once").status, 502, "{reason}");
        assert_eq!(stable.count(), before + 1, "{reason}");
        let answer = weir.h2().ask("POST", "/", &[], b"once").expect("an answer");
        assert_eq!(answer.status, 502, "{reason}");
    }
    assert_eq!(blamed(&weir), 6.0);
    let (one, two) = (H2Upstream::named("one"), H2Upstream::named("two"));
    let weir = setup(&[&one.url(), &two.url()]).start();
    one.behave(Act::Refuse(Reason::INTERNAL_ERROR));
    for _ in 0..4 {
        assert_eq!(weir.client().get("/").upstream(), "two");
    }
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    let (stable, weir) = single();
    for reason in [Reason::INTERNAL_ERROR, Reason::NO_ERROR, Reason::CANCEL] {
        stable.behave(Act::CutAfter(100, reason));
        let answer = weir.client().get("/");
        assert_eq!((answer.status, answer.end), (200, End::Cut), "{reason}");
        if let Ok(answer) = weir.h2().ask("GET", "/", &[], b"") {
            assert!(answer.cut.is_some(), "{reason}: {answer:?}");
        }
    }
    assert_eq!(blamed(&weir), 6.0);
}

#[test]
fn an_answer_before_the_upload_has_ended_is_heard_and_no_failure() {
    let (stable, weir) = single();
    stable.behave(Act::Early);
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nsome").expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str(), answer.end), (403, "no", End::Whole));
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn a_client_that_does_not_read_stops_nobody_else() {
    let (stable, weir) = single();
    stable.behave_on("/large", Act::Large(64 << 20));
    assert_eq!(weir.client().get("/warm").status, 200);
    let before = weir.resident_bytes();
    let mut stopped: Vec<_> = (0..20).map(|_| weir.client()).collect();
    for client in &mut stopped {
        client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
        client.head();
    }
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    for n in 0..50 {
        assert_eq!(weir.client().get(&format!("/small/{n}")).text(), "stable\n");
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(stable.connections(), 1, "they share a connection");
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more for clients that do not read");
    for client in stopped {
        client.reset();
    }
    eventually("the endpoint's streams are let go", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) == 0.0);
}

#[test]
fn answers_that_end_with_an_empty_frame_may_come_by_the_hundred_on_one_connection() {
    let (stable, weir) = single();
    // Its pieces, and then a frame with nothing but the end. Clients made with h2 leave after 100 empty frames that end
    // nothing, and this is one of them.
    stable.behave(Act::Large(20_000));
    let mut client = weir.h2();
    for number in 0..150 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.len(), answer.cut), (200, 20_000, None), "answer {number}");
    }
}

#[test]
fn an_endpoint_that_sends_empty_frames_now_and_then_keeps_its_connection() {
    let (stable, weir) = single();
    // Others end a connection at its 101st, with all of its streams.
    stable.behave_on("/hollow", Act::Hollow);
    let mut client = weir.client();
    let mut long = weir.client();
    stable.behave_on("/long", Act::Hold(Shape::status(200).body(b"begun")));
    long.send(b"GET /long HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("it is under way", SOON, || stable.count() == 1);
    for number in 0..90 {
        let answer = client.get("/hollow");
        assert_eq!((answer.status, &*answer.text()), (200, "before"), "answer {number}");
    }
    for number in 0..60 {
        assert_eq!(client.get("/hollow").status, 200, "answer {number}");
    }
    assert_eq!(stable.connections(), 1, "what is under way goes on, and nothing else was opened");
    assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[]), 0.0);
}

#[test]
fn a_silent_endpoint_is_a_504_and_its_connection_is_left() {
    let listener = TcpListener::bind((crate::harness::upstream::own_address(), 0)).expect("an address of its own");
    let weir = setup(&[&format!("h2c://{}", listener.local_addr().expect("bound"))]).start();
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    let (mut first, _) = listener.accept().expect("weir connects");
    first.write_all(&SETTINGS).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 504);
    // The second request does not go to the connection that is in doubt, and that one is ended for its silence.
    let mut again = weir.client();
    again.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    let (_second, _) = listener.accept().expect("weir connects anew");
    let mut all = Vec::new();
    first.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout is accepted");
    first.read_to_end(&mut all).expect("weir closes");
    let mut pings = frames(&all[PREFACE]).into_iter().filter(|frame| frame.kind == 6 && frame.flags == 0);
    assert!(pings.next().is_some() && pings.next().is_none(), "asked once");
}

/// Length of the client preface.
const PREFACE: std::ops::RangeFrom<usize> = 24..;

/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A GOAWAY after which no stream was looked at, for no error.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
}

fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        frames.push(Frame { kind: bytes[3], flags: bytes[4] });
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    frames
}

/// Reads until a HEADERS frame has come.
fn wait_for_a_request(stream: &mut TcpStream) {
    let (mut all, mut block) = (Vec::new(), [0; 4096]);
    stream.write_all(&SETTINGS).expect("it is sent");
    while all.len() < 24 || !frames(&all[PREFACE]).iter().any(|frame| frame.kind == 1) {
        let count = stream.read(&mut block).expect("weir sends");
        assert!(count > 0, "weir closed before it sent a request");
        all.extend_from_slice(&block[..count]);
    }
}

#[test]
fn what_a_goaway_leaves_unprocessed_is_sent_again_and_is_nobodys_failure() {
    let listener = TcpListener::bind((crate::harness::upstream::own_address(), 0)).expect("an address of its own");
    let weir = setup(&[&format!("h2c://{}", listener.local_addr().expect("bound"))]).start();
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nonce").expect("it is sent");
    let (mut first, _) = listener.accept().expect("weir connects");
    wait_for_a_request(&mut first);
    first.write_all(&GOAWAY).expect("it is sent");
    let (mut second, _) = listener.accept().expect("weir connects anew");
    wait_for_a_request(&mut second);
    assert_eq!(blamed(&weir), 0.0);
    // A second time it is a failure like any other, and there is nobody else.
    second.write_all(&GOAWAY).expect("it is sent");
    let (mut third, _) = listener.accept().expect("the one retry");
    wait_for_a_request(&mut third);
    third.write_all(&GOAWAY).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 502);
    assert_eq!(blamed(&weir), 2.0);
}

#[test]
fn a_connection_that_says_farewell_loses_nothing() {
    let (stable, weir) = single();
    stable.behave(Act::Farewell);
    let mut h2 = weir.h2();
    for round in 0..20 {
        for answer in h2.many(5, &format!("/{round}")) {
            assert_eq!(answer.expect("an answer").status, 200, "round {round}");
        }
    }
    assert!(stable.connections() > 5, "{}", stable.connections());
    assert_eq!(blamed(&weir), 0.0);
    eventually("what said farewell is closed", SOON, || stable.open() <= 2);
}

#[test]
fn a_connection_that_vanishes_fails_its_streams_and_the_next_request_opens_another() {
    let (one, two) = (H2Upstream::named("one"), H2Upstream::named("two"));
    let weir = setup(&[&one.url(), &two.url()]).start();
    for _ in 0..3 {
        one.behave(Act::Vanish);
        for _ in 0..4 {
            assert_eq!(weir.client().get("/").upstream(), "two", "what is idempotent is tried elsewhere");
        }
        one.behave(Act::Answer);
        for _ in 0..4 {
            assert_eq!(weir.client().ask("POST", "/", &[], b"x").status, 200);
        }
    }
    assert!(one.connections() > 2 && two.connections() == 1);
}

#[test]
fn an_endpoint_that_refuses_connections_or_speaks_another_protocol_is_a_502() {
    let down = crate::harness::Upstream::down("down");
    let weir = setup(&[&format!("h2c://{}", down.address())]).start();
    assert_eq!(weir.client().get("/").status, 502);
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[("kind", "upstream_connect")]), 1.0);
    let listener = TcpListener::bind((crate::harness::upstream::own_address(), 0)).expect("an address of its own");
    let weir = setup(&[&format!("h2c://{}", listener.local_addr().expect("bound"))]).start();
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").expect("it is sent");
    let (mut stream, _) = listener.accept().expect("weir connects");
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 502);
}

#[test]
fn endpoints_of_both_protocols_serve_side_by_side_and_fail_over_to_each_other() {
    let (stable, canary) = (crate::harness::Upstream::named("stable"), H2Upstream::named("canary"));
    let setup = Setup::new().workers(1).pool("stable", &[&stable]).pool_at("canary", &[&canary.url()]).split([50, 50]);
    let weir = setup.table("health", "kind = \"off\"").table("breaker", "failures = 1000000").start();
    let mut client = weir.client();
    let answers: Vec<_> = (0..100).map(|_| client.ask("POST", "/", &[], b"x").upstream().to_owned()).collect();
    let to_canary = answers.iter().filter(|upstream| *upstream == "canary").count();
    assert!((40..=60).contains(&to_canary), "{to_canary}");
    canary.behave(Act::Refuse(Reason::REFUSED_STREAM));
    for _ in 0..40 {
        assert_eq!(client.ask("POST", "/", &[], b"x").upstream(), "stable");
    }
    let metrics = weir.metrics();
    let faults = |pool| metrics.sum("weir_pool_faults_total", &[("pool", pool), ("kind", "upstream_answer")]);
    assert!(faults("canary") >= 10.0 && faults("stable") == 0.0, "{:?}", metrics.lines_with("faults"));
}

#[test]
fn probes_speak_the_protocol_of_the_endpoint() {
    let stable = H2Upstream::named("stable");
    stable.behave_on("/healthz", Act::Reply(Shape::status(503)));
    let weir = Setup::new().pool_at("stable", &[&stable.url()]).probed().start();
    let up = || weir.metrics().sum("weir_endpoint_up", &[]);
    eventually("it is down", SOON, || up() == 0.0);
    assert!(
        weir.admin_get("/api/v1/status").text().contains("status 503"),
        "{}",
        weir.admin_get("/api/v1/status").text()
    );
    stable.forget_rules();
    eventually("it is up", SOON, || up() == 1.0);
    assert_eq!(weir.client().get("/").upstream(), "stable");
    let probe = stable.seen().into_iter().find(|seen| seen.target == "/healthz").expect("a probe");
    assert_eq!(probe.authority, stable.url().trim_start_matches("h2c://"));
}

#[test]
fn streams_finish_where_they_began_when_an_endpoint_leaves_or_weir_drains() {
    let (old, new) = (H2Upstream::named("old"), H2Upstream::named("new"));
    let setup = |url: &str| setup(&[url]).table("retry", "attempts = 0");
    let mut weir = setup(&old.url()).start();
    let mut held: Vec<_> = (0..3).map(|_| weir.client()).collect();
    old.behave(Act::Echo);
    let begin = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nfir";
    for client in &mut held {
        client.send(begin).expect("it is sent");
    }
    eventually("they are there", SOON, || old.count() == 3);
    weir.save_config(&setup(&new.url()).config_text());
    eventually("the new one serves", SOON, || weir.client().get("/").upstream() == "new");
    for client in &mut held {
        client.send(b"st.").expect("it is sent");
        assert_eq!(client.answer().expect("an answer").text(), "first.");
    }
    eventually("the connection to the old one is closed", SOON, || old.open() == 0);
    new.behave(Act::Echo);
    let mut last = weir.client();
    last.send(begin).expect("it is sent");
    eventually("it is there", SOON, || new.seen().iter().any(|seen| seen.method == "POST"));
    weir.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(100));
    last.send(b"st.").expect("it is sent");
    assert_eq!(last.answer().expect("an answer").text(), "first.");
    assert!(weir.ended_within(SOON).is_some_and(|status| status.success()));
}

#[test]
fn a_client_that_resets_its_stream_resets_the_endpoints_and_is_nobodys_failure() {
    let (stable, weir) = single();
    for (number, act) in [Act::Stall, Act::Echo].into_iter().enumerate() {
        stable.behave(act);
        let path = format!("/{number}");
        let echoes = number == 1;
        let here = || stable.seen().iter().any(|seen| seen.target == path && (!echoes || seen.body == b"only a part"));
        weir.h2().abandon("POST", &path, b"only a part", Reason::CANCEL, here);
        eventually(&format!("the endpoint's stream is reset: {number}"), SOON, || {
            stable.seen().iter().any(|seen| seen.target == path && seen.reset == Some(Reason::CANCEL) && !seen.whole)
        });
    }
    assert_eq!((blamed(&weir), stable.connections()), (0.0, 1));
    eventually("nothing is in flight", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) == 0.0);
}

#[test]
fn an_endpoint_that_allows_no_streams_yet_is_waited_for() {
    let listener = TcpListener::bind((crate::harness::upstream::own_address(), 0)).expect("an address of its own");
    let weir = setup(&[&format!("h2c://{}", listener.local_addr().expect("bound"))]).start();
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    // SETTINGS_MAX_CONCURRENT_STREAMS is 0 on every connection, and 1 on the first a moment later.
    let allow = |streams: u8| [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 3, 0, 0, 0, streams]].concat();
    let mut all = Vec::new();
    listener.set_nonblocking(true).expect("a socket can be told not to block");
    let mut open: Vec<TcpStream> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(150) {
        if let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(&allow(0)).expect("it is sent");
            open.push(stream);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!((1..=16).contains(&open.len()), "{} connections", open.len());
    for stream in &mut open {
        stream.set_nonblocking(false).expect("a socket can be told to block");
        stream.set_read_timeout(Some(Duration::from_millis(40))).expect("a timeout is accepted");
        stream.write_all(&allow(1)).expect("it is sent");
    }
    let asked = open.iter_mut().position(|stream| {
        all.clear();
        let mut block = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut block) {
            all.extend_from_slice(&block[..count]);
        }
        frames(&all[PREFACE]).iter().any(|frame| frame.kind == 1)
    });
    let stream = &mut open[asked.expect("the request is sent where it waits")];
    // `:status: 204` from the static table, with END_HEADERS and END_STREAM.
    stream.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89]).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 204);
}
