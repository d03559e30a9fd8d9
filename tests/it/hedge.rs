//! Hedging: a slow answer to a GET is fetched from another endpoint of the pool, within the budget of the retries, and
//! whoever is cancelled is not blamed.

use std::time::{Duration, Instant};

use crate::harness::{Authority, Behaviour, Setup, TlsFront, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);
const SLOW: Duration = Duration::from_millis(1_500);

/// One pool with a slow and a quick endpoint.
fn uneven(retry: &str) -> (Upstream, Upstream, Weir) {
    let (slow, quick) = (Upstream::named("slow"), Upstream::named("quick"));
    let setup = Setup::new().pool("stable", &[&slow, &quick]).weights("stable = 1\n").table("retry", retry);
    let weir = setup.table("breaker", "failures = 1\nmin_requests = 1\nerror_ratio = 0.01").workers(1).start();
    (slow, quick, weir)
}

fn both(one: &Upstream, other: &Upstream, behaviour: Behaviour) {
    one.behave(behaviour.clone());
    other.behave(behaviour);
}

fn hedges(weir: &Weir, outcome: &str) -> u64 {
    weir.metrics().sum("weir_hedges_total", &[("pool", "stable"), ("outcome", outcome)]) as u64
}

#[test]
fn a_slow_get_is_answered_by_another_endpoint_and_the_slow_one_is_let_go_and_not_blamed() {
    let (slow, quick, weir) = uneven("hedge = \"100ms\"");
    slow.behave(Behaviour::Late(SLOW));
    let mut client = weir.client();
    let (mut asked, began) = (0, Instant::now());
    while slow.count() < 5 {
        let id = format!("n{asked}");
        let method = if asked % 2 == 0 { "GET" } else { "HEAD" };
        let answer = client.ask(method, "/", &[("x-id", &id)], b"");
        assert_eq!((answer.status, answer.upstream()), (200, "quick"));
        asked += 1;
        assert!(began.elapsed() < Duration::from_secs(10), "{asked} requests, {} of them slow", slow.count());
    }
    eventually("they are counted", SOON, || hedges(&weir, "won") == 5);
    assert_eq!((hedges(&weir, "lost"), quick.count()), (0, asked));
    let open = |upstream: &Upstream| upstream.open();
    eventually("its connections are closed", SOON, || open(&slow) == 0);
    let metrics = weir.metrics();
    for family in ["weir_upstream_errors_total", "weir_pool_faults_total", "weir_retries_total"] {
        assert_eq!(metrics.sum(family, &[]), 0.0, "{family}");
    }
    assert_eq!(metrics.sum("weir_endpoint_up", &[]), 2.0);
    assert_eq!(metrics.sum("weir_decisions_total", &[]) as usize, asked, "one request is one request");
    assert_eq!(metrics.sum("weir_requests_in_flight", &[]), 0.0);
}

#[test]
fn what_has_a_body_or_changes_something_is_never_sent_twice_and_neither_is_anything_unless_told() {
    for (retry, method, body) in
        [("hedge = \"20ms\"", "POST", &b"x"[..]), ("hedge = \"20ms\"", "PUT", b""), ("hedge = \"20ms\"", "GET", b"x")]
    {
        let (slow, quick, weir) = uneven(retry);
        both(&slow, &quick, Behaviour::Late(Duration::from_millis(200)));
        (0..4).for_each(|_| assert_eq!(weir.client().ask(method, "/", &[], body).status, 200));
        assert_eq!(slow.count() + quick.count(), 4, "{method}");
    }
    let (slow, quick, weir) = uneven("attempts = 1");
    both(&slow, &quick, Behaviour::Late(Duration::from_millis(200)));
    (0..4).for_each(|_| assert_eq!(weir.client().get("/").status, 200));
    assert_eq!(slow.count() + quick.count(), 4);
}

#[test]
fn the_first_answer_wins_also_when_it_is_the_first_request_and_one_failure_does_no_harm() {
    let (slow, quick, weir) = uneven("hedge = \"100ms\"");
    // Both take longer than the delay; the hedge begins later and takes as long.
    both(&slow, &quick, Behaviour::Late(Duration::from_millis(400)));
    let began = Instant::now();
    assert_eq!(weir.client().get("/").status, 200);
    assert!(began.elapsed() < Duration::from_millis(490), "{:?}", began.elapsed());
    eventually("it is counted", SOON, || (hedges(&weir, "lost"), hedges(&weir, "won")) == (1, 0));
    assert_eq!(slow.count() + quick.count(), 2);
}

#[test]
fn a_first_request_that_fails_while_its_hedge_is_under_way_is_answered_by_that() {
    let (slow, quick, weir) = uneven("hedge = \"50ms\"\nattempts = 0");
    let dying = Behaviour::chosen(|_, _| {
        std::thread::sleep(Duration::from_millis(150));
        Behaviour::ResetAfterHead
    });
    slow.behave(dying);
    quick.behave(Behaviour::Late(Duration::from_millis(300)));
    let began = Instant::now();
    while slow.count() == 0 {
        let answer = weir.client().get("/");
        assert_eq!((answer.status, answer.upstream()), (200, "quick"));
        assert!(began.elapsed() < Duration::from_secs(10), "the slow one is asked at some time");
    }
    let blamed = weir.metrics().sum("weir_upstream_errors_total", &[("endpoint", &slow.address().to_string())]);
    assert_eq!(blamed, 1.0, "what failed by itself is blamed");
}

#[test]
fn a_first_request_that_fails_does_not_wait_for_a_hedge_that_stalls_where_there_is_a_third() {
    let [dying, stalled, well] = ["dying", "stalled", "well"].map(Upstream::named);
    dying.behave(Behaviour::chosen(|_, _| {
        std::thread::sleep(Duration::from_millis(150));
        Behaviour::ResetAfterHead
    }));
    stalled.behave(Behaviour::Late(SLOW));
    let setup = Setup::new().pool("stable", &[&dying, &stalled, &well]).weights("stable = 1\n");
    let breaker = "failures = 1000000\nmin_requests = 1000000";
    let weir = setup.table("retry", "hedge = \"50ms\"").table("breaker", breaker).workers(1).start();
    let began = Instant::now();
    // Whoever is first and whoever is the hedge: only a request that leaves a stalled hedge is tried once more.
    while weir.metrics().sum("weir_retries_total", &[]) == 0.0 {
        assert_eq!(weir.client().get("/").status, 200);
        assert!(began.elapsed() < Duration::from_secs(40), "no request was tried once more");
    }
}

#[test]
fn there_is_no_hedge_where_the_pool_has_no_place_for_it() {
    let (slow, quick) = (Upstream::named("slow"), Upstream::named("quick"));
    both(&slow, &quick, Behaviour::Late(Duration::from_millis(200)));
    let setup = Setup::new().pool("stable", &[&slow, &quick]).pool_lines("max_in_flight = 1").weights("stable = 1\n");
    let weir = setup.table("retry", "hedge = \"20ms\"").workers(1).start();
    (0..4).for_each(|_| assert_eq!(weir.client().get("/").status, 200));
    assert_eq!(slow.count() + quick.count(), 4);
}

#[test]
fn hedges_are_paid_for_from_the_budget_of_the_retries() {
    // What is saved up at a start is a hundred.
    let (slow, quick, weir) = uneven("hedge = \"5ms\"\nbudget = 0.0\nmin_per_second = 0");
    both(&slow, &quick, Behaviour::Late(Duration::from_millis(25)));
    let asked = 16 * 15;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = weir.client();
                (0..15).for_each(|_| assert_eq!(client.get("/").status, 200));
            });
        }
    });
    assert_eq!(slow.count() + quick.count(), asked + 100);
}

#[test]
fn a_quantile_is_learnt_from_the_answers() {
    let (slow, quick, weir) = uneven("hedge = \"p90\"");
    let mut client = weir.client();
    (0..150).for_each(|_| assert_eq!(client.get("/").status, 200));
    slow.behave(Behaviour::Late(SLOW));
    quick.forget();
    let began = Instant::now();
    let before = slow.count();
    while slow.count() == before {
        assert_eq!(client.get("/").upstream(), "quick");
        assert!(began.elapsed() < SOON, "the slow one is asked at some time");
    }
    assert!(hedges(&weir, "won") >= 1);
}

#[test]
fn a_slow_endpoint_over_tls_is_hedged_as_well() {
    let (authority, slow, quick) = (Authority::new(), Upstream::named("slow"), Upstream::named("quick"));
    let issued = authority.issue_for(&["app.test"]);
    let (slow_front, quick_front) = (TlsFront::http1(&slow, &issued), TlsFront::http1(&quick, &issued));
    slow.behave(Behaviour::Late(SLOW));
    let weir = Setup::new()
        .workers(1)
        .pool_at("stable", &[&slow_front.url(), &quick_front.url()])
        .pool_lines("tls = { roots = \"ca.pem\", name = \"app.test\", http2 = \"off\" }")
        .table("health", "kind = \"off\"")
        .table("retry", "hedge = \"100ms\"")
        .file("ca.pem", &authority.pem())
        .start();
    let mut client = weir.client();
    while slow.count() < 3 {
        assert_eq!(client.get("/").upstream(), "quick");
    }
    eventually("they are counted", SOON, || hedges(&weir, "won") == 3);
}
