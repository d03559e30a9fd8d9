//! Windows that stay shut: an answer that its client does not take costs little, is given up in time, and opening the
//! window byte by byte buys no more of it.

use std::time::{Duration, Instant};

use super::SOON;
use crate::harness::frames::{END_HEADERS, END_STREAM, HEADERS, Raw, SETTINGS, WINDOW_UPDATE, frame, get, setting};
use crate::harness::{Act, Behaviour, H2Upstream, Load, Setup, Upstream, Weir, eventually};

/// CANCEL (RFC 9113 §7).
const CANCEL: u32 = 8;

/// What an answer of an HTTP/1 endpoint may take while it waits, with the connection that is its own.
const WAITING_HTTP1_MAX: u64 = 80 << 10;

/// The same of an HTTP/2 endpoint: its window of 128 KiB, and the piece before it.
const WAITING_HTTP2_MAX: u64 = 256 << 10;

const IDLE: Duration = Duration::from_secs(2);

fn weir(url: &str, idle: &str) -> Weir {
    let setup = Setup::new().workers(1).pool_at("stable", &[url]).table("health", "kind = \"off\"");
    setup.table("timeouts", &format!("idle = \"{idle}\"")).start()
}

/// A client that takes nothing until it says so.
fn shut(weir: &Weir) -> Raw {
    Raw::stranger(weir.address()).greet(&setting(4, 0))
}

/// An endpoint of each kind with an answer of many megabytes, and what it is called.
fn with_each(test: impl Fn(&str, &str)) {
    let one = Upstream::named("stable");
    one.behave_on("/large", Behaviour::Large(64 << 20));
    one.behave_on("/small", Behaviour::Large(10_000));
    test("HTTP/1", &one.url());
    let two = H2Upstream::named("stable");
    two.behave_on("/large", Act::Large(8 << 20));
    two.behave_on("/small", Act::Large(10_000));
    test("HTTP/2", &two.url());
}

#[test]
fn an_answer_that_is_not_taken_is_given_up_in_time_however_the_window_drips() {
    with_each(|kind, url| {
        let weir = weir(url, "2s");
        for drip in [0, 1, 7] {
            let began = Instant::now();
            let mut client = shut(&weir);
            client.send(&get(1, "/large")).expect("weir reads");
            while client.reaction.resets.is_empty() && !client.reaction.closed && began.elapsed() < IDLE * 4 {
                if drip > 0 {
                    let _ = client.send(&frame(WINDOW_UPDATE, 0, 1, &u32::to_be_bytes(drip)));
                }
                client.listen(Duration::from_millis(50), |reaction| !reaction.resets.is_empty());
            }
            let what = format!("{kind}, {drip} bytes at a time: {:?} after {:?}", client.reaction, began.elapsed());
            assert_eq!(client.reaction.resets, [(1, CANCEL)], "{what}");
            assert!(began.elapsed() >= IDLE && began.elapsed() < IDLE * 3, "{what}");
            assert!(client.is_alive(SOON), "the connection stays: {what}");
        }
    });
}

#[test]
fn an_answer_that_weir_has_whole_is_given_up_in_time_too_and_one_that_is_taken_late_is_whole() {
    with_each(|kind, url| {
        let weir = weir(url, "2s");
        let began = Instant::now();
        let mut client = shut(&weir);
        client.send(&[get(1, "/small"), get(3, "/small"), get(5, "/small")].concat()).expect("weir reads");
        client.listen(SOON, |reaction| reaction.answers.len() == 3);
        client.send(&frame(WINDOW_UPDATE, 0, 1, &u32::to_be_bytes(10_000))).expect("weir reads");
        client.send(&frame(WINDOW_UPDATE, 0, 3, &u32::to_be_bytes(9_999))).expect("weir reads");
        client.listen(IDLE * 4, |reaction| reaction.resets.len() == 2);
        let what = format!("{kind}: {:?} after {:?}", client.reaction, began.elapsed());
        let mut resets = client.reaction.resets.clone();
        resets.sort_unstable();
        assert_eq!(resets, [(3, CANCEL), (5, CANCEL)], "{what}");
        assert_eq!(client.reaction.data, 19_999, "{what}");
        assert!(began.elapsed() >= IDLE && began.elapsed() < IDLE * 3, "{what}");
        assert!(client.is_alive(SOON), "the connection stays: {what}");
    });
}

#[test]
fn a_connection_on_which_answers_are_not_taken_is_idle_once_they_are_given_up() {
    let stable = Upstream::named("stable");
    stable.behave_on("/small", Behaviour::Large(10_000));
    let setup = Setup::single(&stable).table("timeouts", "idle = \"1s\"").text("[limits]\nkeep_alive = \"1s\"");
    let weir = setup.start();
    let mut client = shut(&weir);
    client.send(&get(1, "/small")).expect("weir reads");
    // It says that it is there all the time.
    let began = Instant::now();
    while client.is_alive(SOON) && began.elapsed() < SOON * 10 {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(client.listen(SOON, |_| false).closed, "{:?} after {:?}", client.reaction, began.elapsed());
}

#[test]
fn who_reads_nothing_and_breaks_a_rule_is_counted_and_closed_like_any_other() {
    let stable = Upstream::named("stable");
    stable.behave_on("/large", Behaviour::Large(64 << 20));
    let weir = Setup::single(&stable).workers(1).start();
    let ended = || weir.metrics().sum("weir_http2_ended_total", &[("side", "client"), ("kind", "protocol")]);
    let mut client = Raw::stranger(weir.address()).greet(&setting(4, 0x7fff_ffff));
    client.send(&frame(WINDOW_UPDATE, 0, 0, &u32::to_be_bytes(0x7000_0000))).expect("weir reads");
    client.send(&get(1, "/large")).expect("weir reads");
    // Until weir cannot write any more, which nobody outside can see.
    std::thread::sleep(Duration::from_millis(500));
    // A block that names an entry which no table has (RFC 7541 §2.3.3): what weir says of it cannot be said.
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0xff, 0xff, 0x7f])).expect("weir reads");
    eventually("it is counted", SOON, || ended() == 1.0);
    eventually("it is closed", SOON, || weir.metrics().sum("weir_connections_open", &[]) == 0.0);
}

#[test]
fn a_thousand_answers_that_nobody_takes_are_bounded_and_slow_down_nobody() {
    with_each(|kind, url| {
        let weir = weir(url, "60s");
        assert_eq!(weir.h2().get("/").status, 200);
        let before = weir.resident_bytes();
        let mut clients: Vec<Raw> = (0..10).map(|_| shut(&weir)).collect();
        for client in &mut clients {
            let all: Vec<u8> = (0..100).flat_map(|n| get(2 * n + 1, "/large")).collect();
            client.send(&all).expect("weir reads");
            // One client after another: the endpoint's accept queue is short.
            let answered = client.listen(SOON * 4, |reaction| reaction.answers.len() == 100).answers.len();
            assert_eq!(answered, 100, "{kind}: {:?}", client.reaction);
        }
        let load = Load::start(weir.address(), 2, Duration::from_millis(2));
        std::thread::sleep(Duration::from_secs(1));
        load.stop().assert_flawless();
        let growth = weir.resident_bytes().saturating_sub(before);
        println!("{kind}: {growth} bytes for 1000 answers");
        let most = if kind == "HTTP/1" { WAITING_HTTP1_MAX } else { WAITING_HTTP2_MAX };
        assert!(growth < 1_000 * most, "{kind}: {growth} bytes for 1000 answers that wait");
        // Windows that shrink and grow meanwhile change nothing of that.
        for client in &mut clients {
            let _ = client.send(&frame(SETTINGS, 0, 0, &setting(4, 1)));
            let _ = client.send(&frame(SETTINGS, 0, 0, &setting(4, 0)));
            assert!(client.is_alive(SOON), "{kind}: {:?}", client.reaction);
        }
        drop(clients);
        eventually("every connection is gone", SOON, || weir.metrics().sum("weir_connections_open", &[]) < 1.0);
        eventually("nothing is in flight", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) < 1.0);
    });
}

#[test]
fn what_waits_on_all_connections_is_bounded_and_who_takes_what_comes_notices_nothing() {
    let stable = H2Upstream::named("stable");
    stable.behave_on("/large", Act::Large(8 << 20));
    let setup = Setup::new().workers(1).pool_at("stable", &[&stable.url()]).table("health", "kind = \"off\"");
    let setup = setup.table("timeouts", "idle = \"60s\"").text("[limits]\nh2_buffered_max = \"2MiB\"");
    let weir = setup.start();
    assert_eq!(weir.h2().get("/").status, 200);
    let before = weir.resident_bytes();
    let clients: Vec<Raw> = (0..6)
        .map(|_| {
            let mut client = shut(&weir);
            let all: Vec<u8> = (0..100).flat_map(|n| get(2 * n + 1, "/large")).collect();
            client.send(&all).expect("weir reads");
            client.listen(SOON * 4, |reaction| reaction.answers.len() == 100);
            client
        })
        .collect();
    let given_up = || {
        let labels = [("side", "endpoint"), ("kind", "buffered")];
        weir.metrics().sum("weir_http2_ended_total", &labels) as u64
    };
    // While they come, faster than it is seen what lies still, who takes little at a time may be among them.
    eventually("what lies still is given up", SOON, || {
        let _ = weir.h2().get("/large");
        given_up() >= 600
    });
    let load = Load::start(weir.address(), 2, Duration::from_millis(2));
    for _ in 0..3 {
        let answer = weir.h2().get("/large");
        assert_eq!((answer.status, answer.body.len()), (200, 8 << 20), "after {}", given_up());
    }
    load.stop().assert_flawless();
    let growth = weir.resident_bytes().saturating_sub(before);
    println!("{growth} bytes for 600 answers, {} given up", given_up());
    assert!(growth < 600 * WAITING_HTTP1_MAX, "{growth} bytes for 600 answers that wait");
    let ejected = weir.metrics().sum("weir_endpoint_ejections_total", &[]);
    assert!(ejected < 1.0, "the endpoint is not to blame: {ejected}");
    drop(clients);
    eventually("nothing is in flight", SOON, || weir.metrics().sum("weir_requests_in_flight", &[]) < 1.0);
}
