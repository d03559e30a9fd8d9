//! What counts as evidence: the attempts that the weights placed, each once, where it failed; everything else aside.

use std::time::Duration;

use crate::harness::{Behaviour, Door, Metrics, Setup, Then, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

const NO_BREAKER: &str = "failures = 1000000\nmin_requests = 1000000";

/// Attempts and errors of a pool: placed by the weights, and named by something else.
fn counted(metrics: &Metrics, pool: &str) -> [(u64, u64); 2] {
    let of = |metric: &str, lane: &str| metrics.sum(metric, &[("pool", pool), ("lane", lane)]) as u64;
    let both = |lane| (of("weir_lane_attempts_total", lane), of("weir_lane_errors_total", lane));
    let (a, b) = (both("a"), both("b"));
    [(a.0 + b.0, a.1 + b.1), both("named")]
}

#[track_caller]
fn counts(weir: &Weir, pool: &str, expected: [(u64, u64); 2]) {
    let mut last = String::new();
    let mut holds = || {
        let metrics = weir.metrics();
        last = format!("{:#?}", metrics.lines_with("weir_lane"));
        counted(&metrics, pool) == expected
    };
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "{pool} should count {expected:?}: {last}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn what_the_weights_placed_is_told_from_what_something_else_named() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [100, 0]).service("direct_paths = true");
    let setup = setup.table("override", "networks = [\"127.0.0.0/8\"]");
    let weir = setup.listener("only", "service = \"engine\"\npool = \"canary\"").start();
    let mut client = weir.client();
    (0..10).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
    assert_eq!(client.get("/canary/x").upstream(), "canary");
    assert_eq!(client.get_with("/", &[("x-weir-pool", "canary")]).upstream(), "canary");
    let mut pinned = crate::harness::Client::to(weir.listener("only"));
    assert_eq!(pinned.get("/").upstream(), "canary");
    counts(&weir, "stable", [(10, 0), (0, 0)]);
    counts(&weir, "canary", [(0, 0), (3, 0)]);
}

#[test]
fn a_failed_canary_attempt_counts_there_and_its_retry_is_no_evidence_for_stable() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [0, 1]).table("breaker", NO_BREAKER).start();
    let mut client = weir.client();
    assert_eq!(client.get("/").upstream(), "canary");
    canary.door(Door::Reset);
    canary.drop_connections();
    // The connection that was kept may have been seen to be closed or not: either way one attempt each.
    for _ in 0..5 {
        assert_eq!(client.get("/").upstream(), "stable");
    }
    counts(&weir, "canary", [(6, 5), (0, 0)]);
    counts(&weir, "stable", [(0, 0), (5, 0)]);
}

#[test]
fn five_hundreds_and_timeouts_are_errors_and_four_hundreds_and_leaving_clients_are_not() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [0, 1]).table("breaker", NO_BREAKER);
    let weir = setup.table("timeouts", "response_header = \"300ms\"\nidle = \"400ms\"").start();
    let mut client = weir.client();
    for status in [500, 404, 501, 429, 200] {
        canary.next(Behaviour::status(status));
        assert_eq!(client.get("/").status, status);
    }
    counts(&weir, "canary", [(5, 2), (0, 0)]);
    canary.next(Behaviour::StallBeforeHead);
    assert_eq!(client.get("/").status, 504);
    counts(&weir, "canary", [(6, 3), (0, 0)]);
    canary.next(Behaviour::ResetMidBody { sent: 10, of: 100 });
    let _cut = weir.client().try_ask("GET", "/", &[], b"");
    counts(&weir, "canary", [(7, 4), (0, 0)]);
    // A client that leaves says nothing of the canary.
    canary.next(Behaviour::Late(Duration::from_millis(200)));
    let mut leaver = weir.client();
    leaver.send(b"GET /leaves HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
    eventually("the canary has it", SOON, || canary.count_on("/leaves") == 1);
    leaver.reset();
    eventually("it is told", SOON, || {
        weir.metrics().sum("weir_pool_faults_total", &[("pool", "canary"), ("kind", "client")]) >= 1.0
    });
    counts(&weir, "canary", [(7, 4), (0, 0)]);
}

#[test]
fn http2_counts_as_http1_does() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [0, 1]).table("breaker", NO_BREAKER).start();
    let mut client = weir.h2();
    assert_eq!(client.get("/").status, 200);
    canary.next(Behaviour::status(500));
    assert_eq!(client.get("/").status, 500);
    counts(&weir, "canary", [(2, 1), (0, 0)]);
}

#[test]
fn a_tunnel_is_an_attempt_and_no_latency_of_its_lane() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [0, 1]).start();
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    canary.next(Behaviour::Raw(answer.as_bytes().to_vec(), Then::Close));
    let mut client = weir.client();
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.send(upgrade.as_bytes()).expect("it is sent");
    assert!(client.head().start.contains("101"));
    drop(client);
    counts(&weir, "canary", [(1, 0), (0, 0)]);
    let requests = weir.metrics().sum("weir_request_duration_seconds_count", &[("pool", "canary")]);
    assert!((requests - 1.0).abs() < 0.1, "it is shown as before");
}

#[test]
fn halves_are_about_equal_and_a_unit_stays_in_its_half() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [1, 0]).table("affinity", "by = \"header\"\nname = \"x-user\"").start();
    let mut client = weir.client();
    let of = |weir: &Weir| {
        let metrics = weir.metrics();
        ["a", "b"].map(|lane| metrics.sum("weir_lane_attempts_total", &[("pool", "stable"), ("lane", lane)]) as u64)
    };
    for user in 0..400 {
        client.get_with("/", &[("x-user", &user.to_string())]);
    }
    eventually("all are counted", SOON, || of(&weir).iter().sum::<u64>() == 400);
    let first = of(&weir);
    // Which user is in which half is fixed by the hash, so this cannot change from run to run.
    assert!(first.iter().all(|half| (150..=250).contains(half)), "{first:?}");
    for user in 0..400 {
        client.get_with("/", &[("x-user", &user.to_string())]);
    }
    eventually("all are counted again", SOON, || of(&weir).iter().sum::<u64>() == 800);
    assert_eq!(of(&weir), first.map(|half| 2 * half));
    // Without a unit each request draws: 2000 fair coins are within 5 standard deviations of a half.
    for _ in 0..2000 {
        client.get("/");
    }
    eventually("the rest is counted", SOON, || of(&weir).iter().sum::<u64>() == 2800);
    let drawn = of(&weir)[0] - 2 * first[0];
    assert!((888..=1112).contains(&drawn), "{drawn} of 2000");
}
