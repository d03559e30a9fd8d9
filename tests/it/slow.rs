//! Clients and endpoints that take their time, in great number: each costs little and comes to an end, and whoever is
//! beside them is served as before.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::frames::{self, Raw};
use crate::harness::{Behaviour, Client, End, Load, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(8);

/// Idle connections of HTTP/1 and of HTTP/2, and what one of each may take: of a build that is not optimized.
const IDLE: usize = 2_000;
const IDLE_HTTP1_MAX: u64 = 8 << 10;
const IDLE_HTTP2_MAX: u64 = 40 << 10;

fn weir(stable: &Upstream, lines: &str) -> Weir {
    Setup::single(stable).workers(1).table("health", "kind = \"off\"").text(lines).start()
}

/// Lets the test and what it starts open as many descriptors as the system grants.
fn many_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: two system calls with a pointer to a live value.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(65_536);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    assert!(limit.rlim_cur >= 4 * IDLE as u64, "{} descriptors are too few for this test", limit.rlim_cur);
}

/// A modest load for a while.
fn beside(weir: &Weir, time: Duration) -> Duration {
    let load = Load::start(weir.address(), 4, Duration::from_millis(2));
    std::thread::sleep(time);
    let report = load.stop();
    report.assert_flawless();
    report.p99()
}

#[test]
fn thousands_of_idle_connections_cost_little_and_slow_down_nobody() {
    many_descriptors();
    let stable = Upstream::named("stable");
    let weir = weir(&stable, "[limits]\nkeep_alive = \"60s\"");
    let quiet = beside(&weir, Duration::from_secs(1));
    let before = weir.resident_bytes();
    let mut idle: Vec<Client> = Vec::new();
    for _ in 0..IDLE {
        let mut client = weir.client();
        assert_eq!(client.get("/").status, 200);
        idle.push(client);
    }
    let each = weir.resident_bytes().saturating_sub(before) / IDLE as u64;
    let before = weir.resident_bytes();
    let idle2: Vec<Raw> = (0..IDLE).map(|_| Raw::to(weir.address())).collect();
    let each2 = weir.resident_bytes().saturating_sub(before) / IDLE as u64;
    println!("{each} bytes for each idle connection of HTTP/1, {each2} of HTTP/2");
    assert!(each < IDLE_HTTP1_MAX && each2 < IDLE_HTTP2_MAX, "F32: {each} and {each2} bytes");
    assert_eq!(weir.metrics().sum("weir_connections_open", &[]) as usize, 2 * IDLE);
    let crowded = beside(&weir, Duration::from_secs(1));
    assert!(crowded < quiet * 2 + Duration::from_millis(50), "F32: p99 {quiet:?} became {crowded:?}");
    assert_eq!(idle[0].get("/").status, 200, "who is idle is still served");
    drop((idle, idle2));
    eventually("all are gone", SOON, || weir.metrics().sum("weir_connections_open", &[]) == 0.0);
}

#[test]
fn an_idle_connection_of_http_2_ends_after_keep_alive_and_a_busy_one_does_not() {
    let stable = Upstream::named("stable");
    stable.behave_on("/late", Behaviour::Late(Duration::from_millis(2_500)));
    let weir = weir(&stable, "[limits]\nkeep_alive = \"1s\"");
    let began = Instant::now();
    let mut busy = Raw::to(weir.address());
    busy.send(&frames::get(1, "/late")).expect("weir reads");
    let mut idle = Raw::to(weir.address());
    // It says that it is there all the time, which is not what counts.
    while idle.is_alive(Duration::from_millis(200)) && began.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = began.elapsed();
    assert!(idle.listen(SOON, |_| false).closed && idle.reaction.goaway.is_none(), "{:?}", idle.reaction);
    assert!(took > Duration::from_millis(900) && took < Duration::from_millis(2_400), "{took:?}");
    busy.listen(SOON, |reaction| reaction.data > 0);
    assert_eq!(busy.reaction.answers, [(1, 200)], "{:?}", busy.reaction);
}

#[test]
fn heads_that_drip_and_connections_that_say_nothing_end_in_time() {
    many_descriptors();
    let stable = Upstream::named("stable");
    let weir = weir(&stable, "[limits]\nheader_timeout = \"2s\"");
    let before = weir.resident_bytes();
    let mut dripping: Vec<Client> = (0..500).map(|_| weir.client()).collect();
    let silent: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(weir.address()).expect("weir accepts")).collect();
    let began = Instant::now();
    let load = Load::start(weir.address(), 4, Duration::from_millis(2));
    let head = b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: 0123456789012345678901234567890123456789\r\n";
    for byte in head {
        if began.elapsed() > Duration::from_millis(1_600) {
            break;
        }
        dripping.iter_mut().for_each(|client| client.send(&[*byte]).expect("it is within its time"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let growth = weir.resident_bytes().saturating_sub(before);
    assert!(growth < 1_000 * (36 << 10), "2.5: {growth} bytes for 500 heads and 500 that say nothing");
    for client in &mut dripping {
        assert_eq!(client.answer().expect("an answer").status, 408, "2.5");
    }
    eventually("they are gone", SOON, || weir.metrics().sum("weir_connections_open", &[]) < 10.0);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    load.stop().assert_flawless();
    drop(silent);
    assert!(weir.metrics().sum("weir_refused_total", &[("kind", "client")]) >= 500.0);
    assert!(stable.seen().iter().all(|seen| seen.field("x-slow").is_none()));
}

#[test]
fn a_body_that_stalls_is_a_408_and_nobodys_failure_but_the_clients() {
    let stable = Upstream::named("stable");
    let weir = weir(&stable, "[services.engine.timeouts]\nidle = \"500ms\"");
    for (framing, part) in [("Content-Length: 100", "half"), ("Transfer-Encoding: chunked", "4\r\nha")] {
        let mut clients: Vec<Client> = (0..100).map(|_| weir.client()).collect();
        for client in &mut clients {
            let head = format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n{part}");
            client.send(head.as_bytes()).expect("it is sent");
        }
        for client in &mut clients {
            assert_eq!(client.answer().expect("an answer").status, 408, "2.5 {framing}");
            assert!(client.closed_within(SOON));
        }
    }
    eventually("their endpoints are let go", SOON, || stable.open() == 0);
    assert!(stable.seen().iter().all(|seen| !seen.whole), "none looked whole");
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0);
    assert_eq!(weir.client().get("/").status, 200);
}

#[test]
fn a_client_that_reads_nothing_is_cut_after_the_idle_time() {
    let stable = Upstream::named("stable");
    stable.behave_on("/large", Behaviour::Large(64 << 20));
    let weir = weir(&stable, "[services.engine.timeouts]\nidle = \"1s\"");
    let before = weir.resident_bytes();
    let mut clients: Vec<Client> = (0..50).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
    }
    let during = beside(&weir, Duration::from_millis(500));
    println!("p99 beside {during:?}");
    let growth = weir.resident_bytes().saturating_sub(before);
    assert!(growth < 50 * (128 << 10), "2.5: {growth} bytes for 50 answers that nobody reads");
    eventually("all are given up", SOON, || stable.open() <= 4);
    eventually("and closed", SOON, || weir.metrics().sum("weir_connections_open", &[]) == 0.0);
    for client in &mut clients {
        assert!(client.answer().is_ok_and(|answer| answer.end == End::Cut), "a cut answer does not look whole");
    }
    assert_eq!(weir.metrics().sum("weir_upstream_errors_total", &[]), 0.0, "the endpoint has not done it");
}

#[test]
fn f09_hundreds_of_bodies_that_trickle_affect_nobody_else() {
    many_descriptors();
    let stable = Upstream::named("stable");
    let trickle = Behaviour::SlowBody { pieces: 30, piece: 1, pause: Duration::from_millis(100) };
    stable.behave_on("/trickle", trickle);
    let weir = weir(&stable, "");
    let quiet = beside(&weir, Duration::from_secs(1));
    let before = weir.resident_bytes();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..300 {
        let mut client = weir.client();
        client.send(b"GET /trickle HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
        clients.push(client);
    }
    let crowded = beside(&weir, Duration::from_secs(1));
    let growth = weir.resident_bytes().saturating_sub(before);
    for client in &mut clients {
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.body.len(), answer.end), (200, 30, End::Whole));
    }
    assert!(growth < 300 * (96 << 10), "F09: {growth} bytes");
    assert!(crowded < quiet * 2 + Duration::from_millis(50), "F09: p99 {quiet:?} became {crowded:?}");
}
