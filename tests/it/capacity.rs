//! Caps on requests in flight: what a full canary cannot take spills to stable and is counted, what has nowhere else to
//! go waits a bounded time in a bounded queue, and no cap is ever exceeded. And slow start: what came back is not given
//! its whole share at once.

use std::thread::{ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use crate::harness::{Answer, Behaviour, Client, Metrics, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_millis(600);

/// Two pools whose answers take a while.
fn late_pair() -> (Upstream, Upstream) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    stable.behave(Behaviour::Late(LATE));
    canary.behave(Behaviour::Late(LATE));
    (stable, canary)
}

/// Pools with caps, by pool; a table may stand only once, so they are written by hand.
fn setup(stable: (&Upstream, &str), canary: (&Upstream, &str), weights: [u32; 2]) -> Setup {
    let pool = |name: &str, (upstream, lines): (&Upstream, &str)| {
        format!("[services.engine.pools.{name}]\nendpoints = [{:?}]\n{lines}\n", upstream.url())
    };
    Setup::new().text(&pool("stable", stable)).text(&pool("canary", canary)).split(weights)
}

fn overflow(metrics: &Metrics, pool: &str, outcome: &str) -> u64 {
    metrics.sum("weir_overflow_total", &[("service", "engine"), ("pool", pool), ("outcome", outcome)]) as u64
}

/// `n` requests at once, each over a connection of its own.
fn at_once(weir: &Weir, n: usize, path: &str) -> Vec<(Answer, Duration)> {
    scope(|scope| {
        let ask = |_| {
            scope.spawn(|| {
                let began = Instant::now();
                (weir.client().get(path), began.elapsed())
            })
        };
        let asked: Vec<ScopedJoinHandle<'_, _>> = (0..n).map(ask).collect();
        asked.into_iter().map(|handle| handle.join().expect("a client does not panic")).collect()
    })
}

fn of(answers: &[(Answer, Duration)], upstream: &str) -> usize {
    answers.iter().filter(|(answer, _)| answer.upstream() == upstream).count()
}

#[test]
fn what_a_full_canary_cannot_take_spills_to_stable_and_is_no_evidence() {
    let (stable, canary) = late_pair();
    let setup = setup((&stable, ""), (&canary, "max_in_flight = 2"), [0, 1]).service("direct_paths = true");
    let weir = setup.start();
    let answers = at_once(&weir, 8, "/");
    assert!(answers.iter().all(|(answer, _)| answer.status == 200));
    assert_eq!((of(&answers, "canary"), of(&answers, "stable")), (2, 6));
    let lane = |pool: &str, lanes: &[&str]| -> u64 {
        let metrics = weir.metrics();
        let one = |lane: &&str| metrics.sum("weir_lane_attempts_total", &[("pool", pool), ("lane", lane)]) as u64;
        lanes.iter().map(one).sum()
    };
    eventually("it is counted", SOON, || lane("stable", &["named"]) == 6 && lane("canary", &["a", "b"]) == 2);
    assert_eq!((lane("stable", &["a", "b"]), lane("canary", &["named"])), (0, 0));
    let metrics = weir.metrics();
    assert_eq!(overflow(&metrics, "canary", "spill"), 6);
    assert_eq!(metrics.sum("weir_decisions_total", &[("pool", "stable"), ("why", "spill")]) as u64, 6);
    assert_eq!(metrics.sum("weir_decisions_total", &[("pool", "canary")]) as u64, 2);
    // Both places are free again.
    let answers = at_once(&weir, 2, "/");
    assert_eq!(of(&answers, "canary"), 2);
    // HTTP/2 has the same places.
    let answers = weir.h2().many(5, "/");
    let at = |name: &str| answers.iter().flatten().filter(|answer| answer.upstream() == name).count();
    assert_eq!((at("canary"), at("stable")), (2, 3));
}

#[test]
fn what_named_the_full_pool_waits_for_it_and_never_spills() {
    let (stable, canary) = late_pair();
    let setup = setup((&stable, ""), (&canary, "max_in_flight = 1"), [1, 0]).service("direct_paths = true");
    let weir = setup.table("queue", "max = 2\nwait = \"5s\"").start();
    let answers = at_once(&weir, 5, "/canary/x");
    let statuses = |status: u16| answers.iter().filter(|(answer, _)| answer.status == status).count();
    assert_eq!((statuses(200), statuses(503), stable.count()), (3, 2, 0));
    assert_eq!(of(&answers, "canary"), 3);
    let metrics = weir.metrics();
    assert_eq!((overflow(&metrics, "canary", "wait"), overflow(&metrics, "canary", "refused")), (2, 2));
    assert_eq!(overflow(&metrics, "canary", "spill"), 0);
    assert_eq!(metrics.sum("weir_queue_length", &[("pool", "canary")]) as u64, 0);
}

#[test]
fn a_full_stable_lets_a_few_wait_for_a_while_and_answers_503_then() {
    let (stable, canary) = late_pair();
    stable.behave(Behaviour::Late(Duration::from_secs(3)));
    let setup = setup((&stable, "max_in_flight = 2"), (&canary, ""), [1, 0]);
    let weir = setup.table("queue", "max = 3\nwait = \"700ms\"").start();
    let answers = at_once(&weir, 7, "/");
    let refused: Vec<_> = answers.iter().filter(|(answer, _)| answer.status == 503).collect();
    assert_eq!((refused.len(), stable.count()), (5, 2));
    for (answer, _) in &refused {
        assert_eq!(answer.field("retry-after"), Some("1"));
        assert!(answer.text().contains("pool stable of service engine is full"), "{}", answer.text());
    }
    // Two found the queue full and went at once, three waited as long as they may.
    let waited = refused.iter().filter(|(_, time)| *time >= Duration::from_millis(700)).count();
    assert_eq!(waited, 3, "{:?}", refused.iter().map(|(_, time)| time).collect::<Vec<_>>());
    assert!(refused.iter().all(|(_, time)| *time < Duration::from_millis(2500)));
    assert_eq!(overflow(&weir.metrics(), "stable", "refused"), 5);
}

#[test]
fn a_service_has_a_cap_of_its_own_and_a_client_that_leaves_leaves_the_queue() {
    let (stable, canary) = late_pair();
    let setup = setup((&stable, ""), (&canary, ""), [1, 1]).service("max_in_flight = 2");
    let weir = setup.table("queue", "max = 1\nwait = \"10s\"").start();
    scope(|scope| {
        let busy = scope.spawn(|| at_once(&weir, 2, "/"));
        eventually("both places are taken", SOON, || stable.count() + canary.count() == 2);
        let mut leaver = weir.client();
        leaver.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
        let queued = || weir.metrics().sum("weir_queue_length", &[("service", "engine"), ("pool", "")]) as u64;
        eventually("it waits", SOON, || queued() == 1);
        drop(leaver);
        eventually("it left", SOON, || queued() == 0);
        assert!(busy.join().expect("no panic").iter().all(|(answer, _)| answer.status == 200));
    });
    assert_eq!(stable.count() + canary.count(), 2, "who left is not served");
}

#[test]
fn no_cap_is_exceeded_under_load_by_many_connections_of_four_workers() {
    let (stable, canary) = late_pair();
    stable.behave(Behaviour::Late(Duration::from_millis(20)));
    let setup = setup((&stable, "max_in_flight = 3"), (&canary, ""), [1, 0]).workers(4);
    let weir = setup.table("queue", "max = 1000\nwait = \"20s\"").start();
    let began = Instant::now();
    scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = weir.client();
                (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
            });
        }
    });
    // Three at a time, 20 ms each: 120 of them take 800 ms.
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}: more than three at once", began.elapsed());
    assert!(overflow(&weir.metrics(), "stable", "wait") > 50);
}

#[test]
fn a_retry_needs_a_place_and_a_reload_moves_the_cap() {
    let (stable, canary) = late_pair();
    stable.behave(Behaviour::Answer);
    let setup = setup((&stable, "max_in_flight = 9"), (&canary, "max_in_flight = 1"), [0, 1]);
    let weir = setup.table("breaker", "failures = 1000000\nmin_requests = 1000000").start();
    canary.behave(Behaviour::raw_and_close("garbage\r\n\r\n"));
    // Each of them moves from the canary's place to one of stable's, and gives both back.
    for _ in 0..20 {
        assert_eq!(weir.client().get("/").upstream(), "stable");
    }
    assert_eq!(overflow(&weir.metrics(), "stable", "refused"), 0);
    canary.behave(Behaviour::Late(LATE));
    let text = std::fs::read_to_string(weir.config_path()).expect("the file that runs");
    weir.save_config(&text.replace("max_in_flight = 1", "max_in_flight = 3"));
    eventually("it is live", SOON, || weir.generation() > 1);
    assert_eq!(of(&at_once(&weir, 5, "/"), "canary"), 3);
    let mut client = Client::to(weir.address());
    scope(|scope| {
        let busy = scope.spawn(|| at_once(&weir, 3, "/"));
        eventually("it is full", SOON, || weir.metrics().sum("weir_requests_in_flight", &[("pool", "canary")]) > 2.5);
        let (_, out, _) = weir.verb(&["explain", "http://example/"]);
        assert!(out.contains("full") && out.contains("stable"), "{out}");
        assert_eq!(client.get("/").upstream(), "stable");
        drop(busy.join());
    });
}

#[test]
fn a_server_that_came_back_gets_its_share_little_by_little() {
    let (steady, mut back) = (Upstream::named("steady"), Upstream::named("back"));
    let setup = Setup::new().pool("stable", &[&steady, &back]).service("slow_start = \"6s\"").probed();
    let weir = setup.weights("stable = 1\n").start();
    let share = |requests: usize| {
        let mut client = weir.client();
        (0..requests).filter(|_| client.get("/").upstream() == "back").count() as f64 / requests as f64
    };
    // Nothing has come back yet: both are warm from the start.
    assert!((0.35..0.65).contains(&share(400)), "a start is no slow start");
    back.kill();
    let up = || weir.metrics().sum("weir_endpoint_up", &[("pool", "stable")]) as u32;
    eventually("it is down", SOON, || up() == 1);
    back.restart();
    eventually("it is back", SOON, || up() == 2);
    let began = Instant::now();
    let (mut client, mut asked, mut got) = (weir.client(), 0, 0);
    // Within the first third of the time it is due a quarter of the requests at most, and a twentieth at first.
    while asked < 2_000 && began.elapsed() < Duration::from_secs(2) {
        got += usize::from(client.get("/").upstream() == "back");
        asked += 1;
    }
    let first = got as f64 / asked as f64;
    assert!((0.01..0.32).contains(&first), "{first} of {asked} requests at once");
    eventually("it has its whole share", Duration::from_secs(20), || share(400) > 0.4);
    assert!(began.elapsed() > Duration::from_secs(3));
}
