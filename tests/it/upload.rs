//! The way up while an answer is on its way down, or late: who is waited for, who is blamed, and what may be repeated.

use std::time::{Duration, Instant};

use crate::harness::frames::{DATA, Raw, WINDOW_UPDATE, frame, post};
use crate::harness::{Behaviour, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

/// A head and a first chunk before the request's body was read.
const EARLY: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn with_timeouts(timeouts: &str) -> (Upstream, Weir) {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("timeouts", timeouts).start();
    (stable, weir)
}

fn blamed(weir: &Weir) -> f64 {
    weir.metrics().sum("weir_upstream_errors_total", &[])
}

#[test]
fn a_client_that_leaves_within_its_upload_frees_an_endpoint_that_has_begun_to_answer() {
    let (stable, weir) = with_timeouts("idle = \"1s\"");
    stable.behave(Behaviour::Early(EARLY.to_vec(), Then::Hold));
    for rest in ["", "zz\r\n"] {
        let mut client = weir.client();
        let framing = if rest.is_empty() { "Content-Length: 1000" } else { "Transfer-Encoding: chunked" };
        let begun = format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n");
        client.send(begun.as_bytes()).expect("it is sent");
        client.head();
        client.send(rest.as_bytes()).expect("it is sent");
        if rest.is_empty() {
            drop(client);
        }
        let began = Instant::now();
        eventually("the endpoint is let go", SOON, || stable.open() == 0);
        assert!(began.elapsed() < Duration::from_millis(600), "only after {:?}", began.elapsed());
    }
    assert_eq!(weir.metrics().sum("weir_requests_in_flight", &[]), 0.0);
    assert_eq!(blamed(&weir), 0.0, "the client did it");
}

#[test]
fn a_client_that_stops_sending_behind_an_early_answer_is_not_the_endpoints_fault() {
    let (stable, weir) = with_timeouts("idle = \"300ms\"");
    stable.behave(Behaviour::Early(EARLY.to_vec(), Then::Hold));
    let mut client = weir.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nhalf").expect("it is sent");
    client.head();
    eventually("it is given up", SOON, || stable.open() == 0);
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn a_steady_upload_is_not_idle_whatever_the_endpoint_has_said() {
    let (stable, weir) = with_timeouts("idle = \"400ms\"");
    for early in [false, true] {
        stable.behave(if early { Behaviour::Early(EARLY.to_vec(), Then::Hold) } else { Behaviour::Echo });
        let mut client = weir.client();
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n").expect("it is sent");
        for _ in 0..9 {
            client.send(b"0123456789").expect("pieces of one size are still moving bytes");
            std::thread::sleep(Duration::from_millis(150));
        }
        if early {
            client.head();
            assert_eq!(stable.left(stable.last().connection), None, "the exchange goes on");
            continue;
        }
        client.send(b"0123456789").expect("it is sent");
        assert_eq!(client.answer().expect("an answer").body.len(), 100);
    }
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn the_answer_is_awaited_from_the_last_byte_of_the_body() {
    let (stable, weir) = with_timeouts("response_header = \"300ms\"\nidle = \"8s\"");
    stable.behave(Behaviour::StallBeforeHead);
    let began = Instant::now();
    assert_eq!(weir.client().ask("POST", "/", &[], &vec![b'u'; 300_000]).status, 504);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn an_h2_upload_that_is_reset_never_looks_whole() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).start();
    for (number, reason) in
        [h2::Reason::NO_ERROR, h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR].into_iter().enumerate()
    {
        let path = format!("/{number}");
        weir.h2().abandon("POST", &path, b"only a part", reason, || stable.count_on(&path) == 1);
        eventually("the endpoint is let go", SOON, || stable.open() == 0);
        let seen = stable.last();
        assert!(!seen.whole, "{reason:?}: {seen:?}");
    }
    assert_eq!(blamed(&weir), 0.0);
}

#[test]
fn an_idempotent_request_outlives_a_connection_that_dies_before_its_body_has_come() {
    let (stable, weir) = with_timeouts("response_header = \"2s\"");
    let mut client = weir.client();
    for expect in ["", "Expect: 100-continue\r\n"] {
        assert_eq!(client.get("/warm").status, 200);
        stable.forget();
        stable.next(Behaviour::ResetAfterHead);
        stable.next(Behaviour::Echo);
        let head = format!("PUT / HTTP/1.1\r\nHost: test\r\n{expect}Content-Length: 5\r\n\r\n");
        client.send(head.as_bytes()).expect("it is sent");
        eventually("it was tried again", SOON, || stable.count() == 2);
        client.send(b"hello").expect("it is sent");
        assert_eq!(client.answer().expect("an answer").text(), "hello");
    }
}

#[test]
fn a_small_h2_body_is_at_hand_for_a_retry() {
    let (stable, weir) = with_timeouts("response_header = \"2s\"");
    let mut client = weir.h2();
    assert_eq!(client.get("/warm").status, 200);
    stable.next(Behaviour::Raw(Vec::new(), Then::Reset));
    stable.next(Behaviour::Echo);
    let answer = client.ask("PUT", "/", &[], b"hello").expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
}

#[test]
fn an_h2_upload_goes_on_while_its_client_takes_nothing_of_the_answer() {
    const BYTES: usize = 2_000_000;
    let (stable, weir) = with_timeouts("idle = \"8s\"");
    let early = [b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n", &[b'x'; 300_000][..]].concat();
    stable.behave(Behaviour::Early(early, Then::Hold));
    let mut client = Raw::to(weir.address());
    client.send(&post(1, "/")).expect("weir reads");
    // Of the connection, and of the stream once weir's SETTINGS are acknowledged.
    let (mut room, mut sent) = ([65_535, 256 * 1024], 0);
    while sent < BYTES {
        let piece = 16_384.min(room[0]).min(room[1]);
        if piece > 0 {
            client.send(&frame(DATA, 0, 1, &vec![7; piece])).expect("weir reads");
            room = room.map(|bytes| bytes - piece);
            sent += piece;
            continue;
        }
        let came = client.next().unwrap_or_else(|error| panic!("{error} after {sent}")).expect("it goes on");
        if came.kind == WINDOW_UPDATE {
            room[came.stream as usize] += came.payload.iter().fold(0, |all, &byte| all << 8 | usize::from(byte));
        }
    }
}
