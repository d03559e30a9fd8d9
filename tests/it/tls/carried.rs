//! Everything that holds over a plain connection holds over TLS.

use std::io;
use std::time::Duration;

use super::{SOON, setup};
use crate::harness::{Behaviour, Client, End, H2Client, Issued, Reply, Setup, Then, Tls, Upstream, Weir, eventually};

fn house() -> (Upstream, Setup) {
    house_where("idle = \"1s\"")
}

fn house_where(timeouts: &str) -> (Upstream, Setup) {
    let stable = Upstream::named("stable");
    let setup = setup(&stable, &Issued::for_names(&["test"]), "").table("health", "kind = \"off\"");
    (stable, setup.table("timeouts", timeouts).table("breaker", "failures = 1000000\nmin_requests = 1000000"))
}

fn client(weir: &Weir) -> Client {
    Tls::of("test").connect(weir.address()).expect("weir shakes hands")
}

/// Bytes of which no piece looks like another.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = count as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn bodies_of_every_size_arrive_byte_for_byte_both_ways_on_one_connection() {
    let (stable, setup) = house();
    let weir = setup.workers(1).start();
    stable.behave(Behaviour::Echo);
    let mut client = client(&weir);
    let marks = [1, 15, 16, 17, 48, 64, 80, 256, 300].map(|kib: usize| kib * 1024);
    for size in marks.iter().flat_map(|&mark| [mark - 1, mark, mark + 1]).chain([10, 3_000_000, 7]) {
        let sent = bytes(size);
        let answer = client.ask("POST", "/", &[], &sent);
        assert_eq!((answer.status, answer.end, answer.body.len()), (200, End::Whole, size));
        assert!(answer.body == sent, "{size} bytes came back as others");
    }
    assert_eq!(weir.metrics().sum("weir_connections_total", &[]), 1.0);
}

#[test]
fn long_bodies_go_both_ways_over_http2_and_many_streams_share_a_connection() {
    // A client of this speed may take more than a second for five megabytes, on a busy machine.
    let (stable, setup) = house_where("idle = \"20s\"");
    let weir = setup.start();
    stable.behave(Behaviour::Echo);
    let mut client = H2Client::over(weir.address(), &Tls::of("test"));
    let sent = bytes(2_000_000);
    let answer = client.ask("POST", "/", &[], &sent).expect("an answer");
    assert!(answer.body == sent);
    stable.behave(Behaviour::Reply(Reply::status(200).body(bytes(100_000))));
    for answer in client.many(50, "/") {
        assert_eq!(answer.expect("an answer").body.len(), 100_000);
    }
}

#[test]
fn a_slow_reader_gets_everything_and_weir_holds_little_of_it() {
    let (stable, setup) = house();
    let weir = setup.workers(1).start();
    stable.behave(Behaviour::Large(64 << 20));
    let mut client = client(&weir);
    let before = weir.resident_bytes();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    std::thread::sleep(Duration::from_millis(300));
    let held = weir.resident_bytes().saturating_sub(before);
    assert!(held < 24 << 20, "{held} bytes are held for a client that does not read");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.end, answer.body.len()), (End::Whole, 64 << 20));
}

#[test]
fn requests_behind_each_other_in_one_record_are_answered_in_turn() {
    let (stable, setup) = house();
    let weir = setup.start();
    let mut client = client(&weir);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let all: String = (0..40).map(|n| one(&format!("/{n}"))).collect();
    client.send(all.as_bytes()).expect("it is sent");
    for n in 0..40 {
        assert_eq!(client.answer().expect("an answer").status, 200, "{n}");
    }
    let targets: Vec<_> = stable.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, (0..40).map(|n| format!("/{n}")).collect::<Vec<_>>());
    // A head in many records.
    for byte in one("/slowly").bytes() {
        client.send(&[byte]).expect("it is sent");
    }
    assert_eq!(client.answer().expect("an answer").status, 200);
}

#[test]
fn more_than_one_read_of_pipelined_requests_is_not_forgotten_inside_tls() {
    let (stable, setup) = house();
    let weir = setup.start();
    let mut client = client(&weir);
    let filler = "x".repeat(900);
    let one = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Filler: {filler}\r\n\r\n");
    client.send(one.repeat(64).as_bytes()).expect("it is sent");
    for n in 0..64 {
        assert_eq!(client.answer().expect("an answer").status, 200, "{n}");
    }
    assert_eq!(stable.count(), 64);
}

#[test]
fn an_answer_that_is_cut_never_looks_whole_and_a_whole_one_is_ended_in_order() {
    let (stable, setup) = house();
    let weir = setup.start();
    stable.behave_on("/cut", Behaviour::ResetMidBody { sent: 1000, of: 5000 });
    stable.behave_on("/chunk", Behaviour::CutChunk);
    stable
        .behave_on("/until-close", Behaviour::raw_and_close("HTTP/1.1 200 OK\r\nx-upstream: stable\r\n\r\nall of it"));
    for path in ["/cut", "/chunk"] {
        let mut client = client(&weir);
        assert_eq!(client.get(path).end, End::Cut, "{path}");
        let error = client.wire().fill().expect_err("there is no close_notify");
        assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error}");
    }
    let mut client = client(&weir);
    client.send(b"GET /until-close HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.end, answer.text().as_str()), (End::Whole, "all of it"));
    assert_eq!(client.wire().fill().expect("close_notify came"), 0);
}

#[test]
fn refusals_limits_and_continue_are_as_without_tls() {
    let (stable, setup) = house();
    let weir = setup.text("[limits]\nheader_timeout = \"500ms\"").start();
    let mut asking = client(&weir);
    asking.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").expect("sent");
    let head = asking.head();
    assert!(head.start.contains("100"), "{head:?}");
    asking.send(b"ok").expect("it is sent");
    assert_eq!(asking.answer().expect("an answer").status, 200);
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
        (b"GET / HTTP/1.1\nHost: test\n\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: te", 408),
    ] {
        let mut client = client(&weir);
        client.send(request).expect("it is sent");
        assert_eq!(client.answer().expect("an answer").status, status);
        assert!(client.closed_within(SOON), "{status}");
    }
    assert_eq!(stable.count(), 1);
}

#[test]
fn a_websocket_is_carried_and_a_client_that_leaves_is_noticed() {
    let (stable, setup) = house();
    let weir = setup.start();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  x-upstream: stable\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stable.behave_on("/ws", Behaviour::Raw(switch.as_bytes().to_vec(), Then::Echo));
    let mut client = client(&weir).lenient();
    let ask = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";
    client.send(ask.as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 101);
    let mut back = Vec::new();
    client.wire().exactly(5, &mut back).expect("it comes back");
    assert_eq!(back, b"early");
    let sent = bytes(200_000);
    client.send(&sent).expect("it is sent");
    back.clear();
    client.wire().exactly(sent.len() as u64, &mut back).expect("it comes back");
    assert!(back == sent);
    drop(client);
    eventually("the upstream is let go", SOON, || stable.open() == 0 || stable.left(1).is_some());
    // A client that leaves while its endpoint takes its time.
    stable.behave(Behaviour::StallBeforeHead);
    let mut client = self::client(&weir);
    client.send(b"GET /stall HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("it is in flight", SOON, || stable.count_on("/stall") == 1);
    let connection = stable.last().connection;
    drop(client);
    eventually("the endpoint is let go", SOON, || stable.left(connection).is_some());
}

#[test]
fn sigterm_finishes_what_is_in_flight_over_tls() {
    let (stable, setup) = house();
    let mut weir = setup.start();
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(300)));
    let (mut idle, mut late) = (client(&weir), client(&weir));
    assert_eq!(idle.get("/").status, 200);
    late.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    eventually("it is in flight", SOON, || stable.count() == 2);
    weir.signal(libc::SIGTERM);
    assert_eq!(idle.wire().fill().expect("close_notify came"), 0);
    let answer = late.answer().expect("it is answered");
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    assert_eq!(late.wire().fill().expect("close_notify came"), 0);
    assert_eq!(weir.ended_within(SOON).and_then(|status| status.code()), Some(0));
}
