//! Uploads that come too slowly, and answers that are taken too slowly: each ends in bounded time, whatever trickles,
//! and what is slow for a reason of its own does not.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, block, frame, literal, post};
use crate::harness::{Behaviour, Client, H2Upstream, Setup, Upstream, Weir};

const SOON: Duration = Duration::from_secs(8);

/// 200 bytes a second after half a second.
const PACED: &str = "upload_min_rate = 200\nupload_grace = \"500ms\"";

fn paced(setup: Setup) -> Weir {
    setup.workers(1).table("health", "kind = \"off\"").table("timeouts", PACED).start()
}

/// Sends a byte every 50 ms, 20 a second, until weir answers; what it answers and when.
fn trickle(weir: &Weir, head: &[u8], byte: &[u8]) -> (u16, Duration) {
    let mut client = weir.client().patience(Duration::from_millis(50));
    client.send(head).expect("weir reads");
    let began = Instant::now();
    while began.elapsed() < SOON {
        let _ = client.send(byte);
        if client.wire().fill().is_ok() {
            let text = String::from_utf8_lossy(client.wire().ahead()).into_owned();
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            return (status.unwrap_or(0), began.elapsed());
        }
    }
    (0, began.elapsed())
}

#[test]
fn a_body_that_trickles_is_answered_408_over_http_1() {
    let (stable, second) = (Upstream::named("stable"), H2Upstream::named("stable"));
    for weir in [paced(Setup::single(&stable)), paced(Setup::new().pool_at("stable", &[&second.url()]))] {
        let length = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n";
        let chunked = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        // There is no gRPC over HTTP/1.1.
        let call = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
            Content-Length: 100000\r\n\r\n";
        for (head, byte) in [(&length[..], &b"x"[..]), (chunked, b"1\r\nx\r\n"), (call, b"x")] {
            // What frames a chunk counts as well: 120 bytes a second come of those.
            let (status, took) = trickle(&weir, head, byte);
            assert_eq!(status, 408, "after {took:?}");
            assert!((400..3_000).contains(&took.as_millis()), "{took:?}");
        }
        assert_eq!(weir.metrics().sum("weir_pool_faults_total", &[("kind", "upstream_timeout")]), 0.0);
        assert_eq!(weir.client().get("/").status, 200);
    }
}

#[test]
fn a_body_that_trickles_is_answered_408_over_http_2_and_the_connection_stays() {
    let (stable, second) = (Upstream::named("stable"), H2Upstream::named("stable"));
    for weir in [paced(Setup::single(&stable)), paced(Setup::new().pool_at("stable", &[&second.url()]))] {
        let mut client = Raw::to(weir.address());
        client.send(&post(1, "/")).expect("weir reads");
        let began = Instant::now();
        while client.reaction.answers.is_empty() && began.elapsed() < SOON {
            client.send(&frame(DATA, 0, 1, b"x")).expect("weir reads");
            client.listen(Duration::from_millis(50), |it| !it.answers.is_empty());
        }
        assert_eq!(client.reaction.answers, [(1, 408)]);
        assert!((400..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert!(client.is_alive(SOON), "other streams go on");
    }
}

#[test]
fn what_comes_at_the_rate_or_is_slow_for_a_reason_is_served() {
    let stable = Upstream::named("stable");
    let weir = paced(Setup::single(&stable));
    // 40 bytes every 100 ms are 400 a second.
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 800\r\n\r\n").expect("weir reads");
    for _ in 0..20 {
        client.send(&[b'x'; 40]).expect("weir reads");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.answer().expect("an answer").status, 200);
    // A gRPC call may say nothing for as long as it likes.
    let mut call = Raw::to(weir.address());
    let kind = [literal("content-type", "application/grpc"), literal("te", "trailers")].concat();
    let head = [block("POST", "/"), kind].concat();
    call.send(&frame(HEADERS, END_HEADERS, 1, &head)).expect("weir reads");
    for _ in 0..20 {
        call.send(&frame(DATA, 0, 1, b"x")).expect("weir reads");
        assert!(!call.listen(Duration::from_millis(100), |it| it.closed).closed);
    }
    assert!(call.reaction.answers.is_empty() && call.reaction.resets.is_empty(), "{:?}", call.reaction);
    call.send(&frame(DATA, END_STREAM, 1, b"x")).expect("weir reads");
    assert_eq!(call.listen(SOON, |it| !it.answers.is_empty()).answers, [(1, 200)]);
    // An endpoint that takes its time to answer makes nobody slow.
    stable.behave_on("/late", Behaviour::Late(Duration::from_secs(2)));
    assert_eq!(weir.client().ask("POST", "/late", &[], b"body").status, 200);
}

#[test]
fn a_service_may_let_bodies_come_as_they_like() {
    let stable = Upstream::named("stable");
    let lines = "upload_min_rate = 0\nupload_grace = \"100ms\"";
    let weir = Setup::single(&stable).table("timeouts", lines).start();
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n").expect("weir reads");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        client.send(b"x").expect("weir reads");
    }
    assert_eq!(client.answer().expect("an answer").status, 200);
}

#[test]
fn an_answer_that_is_taken_byte_by_byte_ends() {
    let stable = Upstream::named("stable");
    stable.behave_on("/large", Behaviour::SlowBody { pieces: 64, piece: 1 << 20, pause: Duration::ZERO });
    let weir = Setup::single(&stable).workers(1).table("timeouts", "idle = \"1s\"").start();
    let mut client = Client::to(weir.address());
    client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").expect("weir reads");
    let mut stream: TcpStream = client.wire().stream().try_clone().expect("a second hand");
    stream.set_read_timeout(Some(SOON)).expect("a time above 0");
    let began = Instant::now();
    let ended = || weir.metrics().sum("weir_requests_in_flight", &[]) == 0.0;
    // What the system holds of it does not count; weir has got rid of nothing for a second.
    let mut byte = [0];
    while !(began.elapsed() > Duration::from_millis(300) && ended()) {
        let _ = stream.read(&mut byte);
        std::thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() < SOON, "it lasts");
    }
}
