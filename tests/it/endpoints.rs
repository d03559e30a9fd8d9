//! Endpoints: probes, ejection, trial, breaker, failover, names that resolve to many addresses.

use std::time::{Duration, Instant};

use crate::harness::{Behaviour, Client, Door, Health, Setup, Upstream, Weir, eventually, never};

const SOON: Duration = Duration::from_secs(3);

/// Ejection after three failures for 300 ms at first.
const QUICK_BREAKER: &str = "failures = 3\nbase_ejection = \"300ms\"\nmax_ejection = \"2s\"";

fn two(setup: Setup) -> (Upstream, Upstream, Setup) {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let setup = setup.pool("stable", &[&one, &two]).weights("stable = 1\n");
    (one, two, setup)
}

/// Both endpoints have served.
fn warm(weir: &Weir, upstreams: [&Upstream; 2]) -> Client {
    let mut client = weir.client();
    eventually("both serve", SOON, || {
        client.get("/warm");
        upstreams.iter().all(|upstream| upstream.count() > 0)
    });
    client
}

#[test]
fn endpoints_of_a_pool_share_its_requests() {
    let (one, two, setup) = two(Setup::new());
    let weir = setup.start();
    let mut clients: Vec<_> = (0..4).map(|_| weir.client()).collect();
    for _ in 0..50 {
        clients.iter_mut().for_each(|client| drop(client.get("/")));
    }
    assert!(one.count() > 50 && two.count() > 50, "{} and {}", one.count(), two.count());
}

#[test]
fn the_less_loaded_of_two_gets_the_request() {
    let (slow, quick, setup) = two(Setup::new().workers(1));
    let weir = setup.start();
    warm(&weir, [&slow, &quick]);
    slow.behave(Behaviour::Late(Duration::from_secs(2)));
    let mut clients: Vec<_> = (0..20).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is sent");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The slow one holds what it got, so that with two choices at most one more request in flight goes there.
    eventually("all have arrived", SOON, || slow.count_on("/held") + quick.count_on("/held") == 20);
    assert!(slow.count_on("/held") <= 2, "{} of 20 went to the loaded one", slow.count_on("/held"));
}

#[test]
fn an_endpoint_whose_probes_fail_gets_no_request_until_they_pass_again() {
    let (one, two, setup) = two(Setup::new());
    let weir = setup.probed().start();
    let mut client = warm(&weir, [&one, &two]);
    two.health(Health::Fail);
    let probes = two.probes();
    eventually("three probes failed", SOON, || two.probes() >= probes + 4);
    std::thread::sleep(Duration::from_millis(50));
    two.forget();
    (0..50).for_each(|_| assert_eq!(client.get("/").upstream(), "one"));
    assert_eq!(two.count(), 0);
    two.health(Health::Pass);
    eventually("it serves again", SOON, || client.get("/").upstream() == "two");
}

#[test]
fn a_hanging_probe_counts_as_a_failure() {
    let (one, two, setup) = two(Setup::new());
    let weir = setup.probed().start();
    let mut client = warm(&weir, [&one, &two]);
    two.health(Health::Hang);
    eventually("it is left out", SOON, || {
        two.forget();
        (0..20).for_each(|_| drop(client.get("/")));
        two.count() == 0
    });
}

#[test]
fn one_failed_probe_is_not_enough() {
    let (one, two, setup) = two(Setup::new());
    let weir = setup.probed().start();
    let mut client = warm(&weir, [&one, &two]);
    for _ in 0..5 {
        let probes = two.probes();
        two.health(Health::Fail);
        eventually("one probe", SOON, || two.probes() > probes);
        two.health(Health::Pass);
        let probes = two.probes();
        eventually("two more", SOON, || two.probes() > probes + 1);
        two.forget();
        eventually("it still serves", Duration::from_millis(500), || {
            client.get("/");
            two.count() > 0
        });
    }
}

#[test]
fn a_new_endpoint_serves_after_its_first_pass() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    two.health(Health::Fail);
    let setup = Setup::new().weights("stable = 1\n").probed();
    let weir = setup.clone().pool("stable", &[&one]).start();
    let mut client = weir.client();
    weir.save_config(&setup.clone().pool("stable", &[&one, &two]).config_text());
    eventually("it is probed", SOON, || two.probes() >= 2);
    (0..50).for_each(|_| assert_eq!(client.get("/").upstream(), "one"));
    two.health(Health::Pass);
    eventually("it serves", SOON, || client.get("/").upstream() == "two");
}

#[test]
fn consecutive_failures_eject_an_endpoint_and_one_real_request_brings_it_back() {
    let (one, two, setup) = two(Setup::new().workers(1));
    let weir = setup.table("breaker", QUICK_BREAKER).start();
    let mut client = warm(&weir, [&one, &two]);
    two.behave(Behaviour::status(503));
    eventually("it is ejected", SOON, || {
        two.forget();
        (0..10).for_each(|_| drop(client.get("/")));
        two.count() == 0
    });
    two.forget();
    let began = Instant::now();
    eventually("one request tries it", SOON, || {
        client.get("/");
        two.count() == 1
    });
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    let failed = Instant::now();
    never("the ejection did not double", Duration::from_millis(350), || {
        client.get("/");
        two.count() > 1
    });
    two.behave(Behaviour::Answer);
    eventually("it serves again", SOON, || client.get("/").upstream() == "two");
    assert!(failed.elapsed() < Duration::from_millis(1_200), "{:?}", failed.elapsed());
}

#[test]
fn resets_and_timeouts_eject_as_well() {
    for behaviour in
        [Behaviour::ResetAfterHead, Behaviour::StallBeforeHead, Behaviour::raw_and_close("garbage\r\n\r\n")]
    {
        let (one, two, setup) = two(Setup::new().workers(1));
        let breaker = QUICK_BREAKER.replace("300ms", "10s").replace("2s", "20s");
        let weir = setup.table("breaker", &breaker).table("timeouts", "response_header = \"100ms\"").start();
        let mut client = warm(&weir, [&one, &two]);
        two.behave(behaviour.clone());
        eventually(&format!("{behaviour:?} ejects"), SOON, || {
            two.forget();
            (0..8).for_each(|_| drop(client.get("/")));
            two.count() == 0
        });
    }
}

#[test]
fn the_last_live_endpoint_of_a_service_is_never_ejected() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).table("breaker", QUICK_BREAKER).start();
    stable.behave(Behaviour::status(503));
    let mut client = weir.client();
    (0..40).for_each(|_| assert_eq!(client.ask("POST", "/", &[], b"x").upstream(), "stable"));
    stable.behave(Behaviour::Answer);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_canary_with_one_endpoint_is_ejected_and_its_share_goes_to_stable() {
    let (stable, mut canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [50, 50]).table("breaker", QUICK_BREAKER).start();
    let mut client = weir.client();
    eventually("the canary serves", SOON, || client.get("/").upstream() == "canary");
    canary.kill();
    for _ in 0..100 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.upstream()), (200, "stable"), "a dead canary never shows to a client");
    }
    canary.restart();
    eventually("it is found again", SOON, || client.get("/").upstream() == "canary");
}

#[test]
fn a_pool_that_fails_half_its_requests_rests() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [0, 100]).table("breaker", "failures = 1000").workers(1).start();
    let mut client = weir.client();
    canary.behave(Behaviour::status(503));
    eventually("the breaker sends the share to stable", SOON, || {
        client.ask("POST", "/", &[], b"x").upstream() == "stable"
    });
    canary.forget();
    (0..30).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
}

#[test]
fn strict_answers_503_for_the_share_of_a_pool_that_is_down() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::down("canary"));
    let strict = Setup::pair(&stable, &canary, [50, 50]).service("on_pool_down = \"strict\"").workers(1);
    let weir = strict.probed().start();
    let mut client = weir.client();
    eventually("the canary is down", SOON, || client.get("/").status == 503);
    std::thread::sleep(Duration::from_millis(500));
    let down = (0..100).filter(|_| client.get("/").status == 503).count();
    assert!((40..=60).contains(&down), "{down} of 100");
}

#[test]
fn failover_goes_to_live_pools_with_weight_before_it_goes_to_stable() {
    let (stable, blue) = (Upstream::named("stable"), Upstream::named("blue"));
    let green = Upstream::down("green");
    let setup = Setup::new().pool("stable", &[&stable]).pool("blue", &[&blue]).pool("green", &[&green]).probed();
    let weir = setup.weights("stable = 0\nblue = 50\ngreen = 50\n").start();
    let mut client = weir.client();
    (0..100).for_each(|_| assert_eq!(client.get("/").upstream(), "blue"));
    blue.health(Health::Fail);
    blue.door(Door::Reset);
    blue.drop_connections();
    eventually("stable takes over", SOON, || client.get("/").upstream() == "stable");
    (0..50).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
}

#[test]
fn with_nothing_left_the_answer_is_a_quick_503_with_retry_after() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).probed().start();
    stable.health(Health::Fail);
    let mut client = weir.client();
    eventually("it is down", SOON, || client.get("/").status == 503);
    let began = Instant::now();
    let answer = client.get("/");
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    assert_eq!((answer.status, answer.upstream()), (503, ""));
    assert!(answer.field("retry-after").is_some_and(|v| v.parse::<u32>().is_ok()), "{:?}", answer.head);
    stable.health(Health::Pass);
    eventually("it is back", SOON, || client.get("/").status == 200);
}

#[test]
fn a_name_that_does_not_resolve_at_start_is_a_pool_that_is_down() {
    let stable = Upstream::named("stable");
    let setup = Setup::new().pool("stable", &[&stable]).pool_at("canary", &["http://no-such-name.invalid:80"]);
    let weir = setup.split([50, 50]).start();
    let mut client = weir.client();
    (0..50).for_each(|_| assert_eq!(client.get("/").upstream(), "stable"));
    assert!(weir.log().count("no-such-name.invalid") > 0, "{}", weir.log().text());
}

#[test]
fn a_malformed_body_does_not_use_up_a_trial() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [0, 1]).table("breaker", QUICK_BREAKER).workers(1).start();
    let mut client = weir.client();
    canary.behave(Behaviour::ResetAfterHead);
    eventually("the canary is ejected", SOON, || client.get("/").upstream() == "stable" && canary.count() >= 3);
    canary.behave(Behaviour::Answer);
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let bad = b"PUT /bad HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        let mut attacker = weir.client();
        attacker.send(bad).expect("it is sent");
        assert_eq!(attacker.answer().expect("an answer").status, 400);
    }
    assert_eq!(canary.count_on("/bad"), 0);
    eventually("the canary is back", SOON, || client.get("/").upstream() == "canary");
}
