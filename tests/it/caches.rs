//! What answers say of the caches that they came through: counted where the service asks for it, and a gate of
//! rollouts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Act, Behaviour, H2Upstream, Load, Reply, Setup, Shape, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

/// How long something may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(40);

fn says(fields: &[(&str, &str)]) -> Behaviour {
    Behaviour::Reply(fields.iter().fold(Reply::status(200), |reply, (name, value)| reply.field(name, value)))
}

/// Answers of which a cache had all but so many of a hundred, in no order.
fn misses(percent: u64) -> Behaviour {
    Behaviour::chosen(move |_, number| {
        let missed = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100 < percent;
        says(&[("cache-status", if missed { "engine; fwd=uri-miss; stored" } else { "engine; hit; ttl=30" })])
    })
}

fn counted(weir: &Weir, pool: &str, result: &str) -> u64 {
    weir.metrics().sum("weir_cache_answers_total", &[("pool", pool), ("result", result)]) as u64
}

#[test]
fn what_answers_say_of_their_caches_is_counted_by_pool_and_shown() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).service("count_cache = true").start();
    let (mut client, mut h2) = (weir.client(), weir.h2());
    for (fields, hits, misses) in [
        (&[("Cache-Status", "\"a, b\"; hit, c; fwd=miss")][..], 1, 0),
        (&[("X-Cache", "TCP_MISS from squid")][..], 0, 1),
        (&[("age", "17")][..], 1, 0),
        (&[("age", "17"), ("x-cache", "MISS")][..], 0, 1),
        (&[("content-type", "text/plain")][..], 0, 0),
    ] {
        let before = (counted(&weir, "stable", "hit"), counted(&weir, "stable", "miss"));
        stable.behave(says(fields));
        assert_eq!((client.get("/").status, h2.get("/").status), (200, 200));
        let expected = (before.0 + 2 * hits, before.1 + 2 * misses);
        eventually("both are counted", SOON, || {
            (counted(&weir, "stable", "hit"), counted(&weir, "stable", "miss")) == expected
        });
    }
    // What failed is counted as that.
    stable.behave(Behaviour::Reply(Reply::status(500).field("x-cache", "MISS")));
    assert_eq!(client.get("/").status, 500);
    eventually("it is counted", SOON, || weir.metrics().sum("weir_lane_errors_total", &[]) == 1.0);
    assert_eq!((counted(&weir, "stable", "hit"), counted(&weir, "stable", "miss")), (4, 4));
    eventually("the last minute says so", SOON, || {
        weir.admin_get("/api/v1/status").json()["services"][0]["pools"][0]["last_minute"]["cache_hit_ratio"] == 0.5
    });
}

#[test]
fn answers_of_an_http_2_endpoint_are_counted_alike() {
    let stable = H2Upstream::named("stable");
    let weir = Setup::new().pool_at("stable", &[&stable.url()]).service("count_cache = true").start();
    stable.behave(Act::Reply(Shape::status(200).field("cache-status", "a; fwd=miss, b; hit")));
    assert_eq!((weir.client().get("/").status, weir.h2().get("/").status), (200, 200));
    stable.behave(Act::Reply(Shape::status(200).field("x-cache", "Miss from cloudfront")));
    assert_eq!((weir.client().get("/").status, weir.h2().get("/").status), (200, 200));
    eventually("they are counted", SOON, || {
        (counted(&weir, "stable", "hit"), counted(&weir, "stable", "miss")) == (2, 2)
    });
}

#[test]
fn without_the_word_nothing_is_counted_and_a_plan_that_needs_it_says_so() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    stable.behave(misses(50));
    let weir = Setup::pair(&stable, &canary, [100, 0]).start();
    (0..10).for_each(|_| assert_eq!(weir.client().get("/").status, 200));
    assert!(!weir.admin_get("/metrics").text().contains("weir_cache_answers_total"));
    let minute = &weir.admin_get("/api/v1/status").json()["services"][0]["pools"][0]["last_minute"];
    assert!(minute["cache_hit_ratio"].is_null(), "{minute}");
    let refused = weir.admin("POST", "/api/v1/rollouts", &[], &plan(json!({})).to_string());
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("set count_cache = true under [services.engine]"), "{}", refused.text());
}

/// Two phases at accelerated time with the gate about caches alone; `more` is added to the gate.
fn plan(more: Value) -> Value {
    let mut gate = json!({ "kind": "cache_hit", "warm_up": "0s" });
    gate.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    json!({
        "service": "engine",
        "candidate": "canary",
        "phases": [
            { "percent": 50, "min_duration": "300ms", "max_duration": "5m" },
            { "percent": 100, "min_duration": "300ms" },
        ],
        "gates": [gate],
        "evidence": { "settle": "100ms", "warm_up": "0s" },
    })
}

/// Stable misses 10 of 100, the canary so many.
fn begun(canary_misses: u64, plan: &Value) -> (Upstream, Upstream, Weir, Load, String) {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    stable.behave(misses(10));
    canary.behave(misses(canary_misses));
    let setup = Setup::pair(&stable, &canary, [100, 0]).service("count_cache = true");
    let weir = setup.text("[rollouts]\ntick = \"50ms\"").start();
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    let id = weir.start_rollout(plan);
    (stable, canary, weir, load, id)
}

fn gate(view: &Value) -> Value {
    let gates = view["gates"].as_array().cloned().unwrap_or_default();
    gates.into_iter().find(|gate| gate["kind"] == "cache_hit").unwrap_or_default()
}

#[test]
fn a_canary_whose_cache_is_as_good_is_promoted() {
    let (_stable, _canary, weir, load, id) = begun(10, &plan(json!({})));
    let done = weir.rollout_reaches(&id, "completed", PATIENCE);
    load.stop().assert_flawless();
    assert_eq!(weir.split(), [0, 100]);
    let ratio = |side: usize| done["arms"][side]["cacheHitRatioSinceStart"].as_f64().expect("a ratio");
    assert!((0.8..1.0).contains(&ratio(0)) && (0.8..1.0).contains(&ratio(1)), "{done:#}");
}

#[test]
fn a_canary_whose_cache_is_worse_waits_at_its_share_and_goes_on_once_it_has_warmed_up() {
    let (_stable, canary, weir, load, id) = begun(60, &plan(json!({})));
    let (failed, view) = weir.watch_rollout(&id, PATIENCE, |view| gate(view)["verdict"] == "fail");
    assert!(failed, "{view:#}");
    assert_eq!((view["state"].as_str(), weir.split()), (Some("rolling_out"), [50, 50]), "{view:#}");
    assert_eq!(
        (view["waitingFor"].as_str(), gate(&view)["waits"].as_bool()),
        (Some("cache_hit to hold again"), Some(true))
    );
    let issues = weir.admin_get(&format!("/api/v1/rollouts/{id}/issues")).json();
    assert_eq!(issues["issues"][0]["severity"], "warning", "{issues:#}");
    canary.behave(misses(10));
    weir.rollout_reaches(&id, "completed", PATIENCE);
    load.stop().assert_flawless();
}

#[test]
fn a_canary_whose_cache_stays_worse_is_paused_when_its_phase_had_its_time() {
    let mut plan = plan(json!({}));
    plan["phases"][0]["max_duration"] = json!("4s");
    let (_stable, _canary, weir, load, id) = begun(60, &plan);
    let view = weir.rollout_reaches(&id, "paused", PATIENCE);
    load.stop().assert_flawless();
    assert_eq!(weir.split(), [50, 50], "nobody takes the traffic away");
    let because = view["because"].as_str().unwrap_or_default();
    assert!(because.contains("the phase had its time and a gate fails: cache_hit: "), "{because}");
}

#[test]
fn a_plan_that_says_so_goes_back_by_a_cache_that_is_lost() {
    let (_stable, _canary, weir, load, id) = begun(100, &plan(json!({ "on_failure": "plan" })));
    let view = weir.rollout_reaches(&id, "rolled_back", PATIENCE);
    load.stop().assert_flawless();
    assert_eq!((weir.split(), view["verdict"].as_str()), ([100, 0], Some("fail")));
    assert!(view["because"].as_str().is_some_and(|why| why.contains("hits 0 % against")), "{view:#}");
}
