//! Bad releases and bad surroundings: what becomes of each, how fast, and how many requests it cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::{Asks, Crowd, Met, hits, mixed};
use crate::harness::wire::Head;
use crate::harness::{Behaviour, Setup, Upstream, Weir, eventually};
use crate::rows;

/// How long a verdict may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two phases with comparison, one without; nothing but time is accelerated.
fn plan(min: &str) -> Value {
    json!({
        "service": "engine",
        "candidate": "canary",
        "on_failure": "rollback",
        "on_inconclusive": "extend",
        "phases": [
            { "percent": 20, "min_duration": min },
            { "percent": 50, "min_duration": min },
            { "percent": 100, "min_duration": min },
        ],
        "gates": [{ "kind": "error_rate" }, { "kind": "latency", "quantile": 0.95 }],
        "evidence": { "settle": "100ms", "warm_up": "0s", "no_traffic": "1s" },
    })
}

/// A server of which this part of the answers are 500, at random.
fn failing(seed: u64, ratio: f64) -> Behaviour {
    Behaviour::chosen(
        move |_, number| if hits(seed, number, ratio) { Behaviour::status(500) } else { usual(seed, number) },
    )
}

/// What a healthy server does: most answers at once, one in ten a few milliseconds late.
fn usual(seed: u64, number: u64) -> Behaviour {
    let late = mixed(seed ^ number) % 100;
    if late < 10 { Behaviour::Late(Duration::from_millis(1 + late)) } else { Behaviour::Answer }
}

fn pair() -> (Upstream, Upstream) {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    stable.behave(Behaviour::chosen(|_, number| usual(1, number)));
    canary.behave(Behaviour::chosen(|_, number| usual(2, number)));
    (stable, canary)
}

fn quick(setup: Setup) -> Setup {
    setup.text(QUICK)
}

/// Time accelerated.
const QUICK: &str = "[rollouts]\ntick = \"50ms\"";

/// A rollout under way, with its load.
struct Run {
    weir: Weir,
    crowd: Crowd,
    id: String,
    began: Instant,
}

/// How it ended.
struct Ended {
    view: Value,
    met: Met,
    took: Duration,
    at: Instant,
    weir: Weir,
    id: String,
}

impl Run {
    fn begin(setup: Setup, plan: &Value, asks: &Asks) -> Self {
        Self::begin_at_its_pace(quick(setup), plan, asks)
    }

    fn begin_at_its_pace(setup: Setup, plan: &Value, asks: &Asks) -> Self {
        let weir = setup.start();
        let crowd = Crowd::at(weir.address(), asks);
        // Thresholds of latency are frozen on what stable showed before.
        eventually("stable has been seen", PATIENCE, || weir.metrics().sum("weir_requests_total", &[]) > 300.0);
        let began = Instant::now();
        let id = weir.start_rollout(plan);
        Self { weir, crowd, id, began }
    }

    fn until(self, fact: impl Fn(&Value) -> bool) -> Ended {
        let (held, view) = self.weir.watch_rollout(&self.id, PATIENCE, fact);
        let (took, at) = (self.began.elapsed(), Instant::now());
        let met = self.crowd.stop();
        assert_eq!((met.unread, met.refused), (0, 0), "every connection is taken");
        assert!(held, "not within {PATIENCE:?}, {} answered: {view:#}", met.answered());
        Ended { view, met, took, at, weir: self.weir, id: self.id }
    }

    fn until_rolled_back(self) -> Ended {
        let ended = self.until(|view| view["state"] == "rolled_back" || view["state"] == "completed");
        assert_eq!(ended.view["state"], "rolled_back", "{:#}", ended.view);
        assert_eq!((ended.view["verdict"].as_str(), ended.weir.split()), (Some("fail"), [100, 0]), "{:#}", ended.view);
        ended
    }
}

/// The gates that failed, in their words.
fn failed_gates(view: &Value) -> String {
    let gates = view["gates"].as_array().cloned().unwrap_or_default();
    let failed = gates.iter().filter(|gate| gate["verdict"] == "fail").map(|gate| gate["name"].as_str().unwrap_or(""));
    failed.collect::<Vec<_>>().join(", ")
}

/// One row of the table: fault, outcome, by what, time, requests of the candidate, failed requests of clients.
fn row(fault: &str, ended: &Ended) {
    let requests = ended.view["arms"][0]["requests"].as_u64().unwrap_or(0);
    let state = ended.view["state"].as_str().unwrap_or("").replace('_', " ");
    let line = format!(
        "| {fault} | {state} | {} | {:.1} s | {requests} | {} |",
        failed_gates(&ended.view),
        ended.took.as_secs_f64(),
        ended.met.failed_between(ended.at - ended.took, ended.at),
    );
    let name: String = fault.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    rows::keep(&format!("fault-{name}"), &[line]);
}

#[test]
fn a_candidate_that_fails_every_request_goes_back() {
    let (stable, canary) = pair();
    canary.behave(Behaviour::status(500));
    let ended = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("5s"), &Asks::default()).until_rolled_back();
    row("every answer is an error", &ended);
    assert!(ended.met.failed.len() < 100, "{} failed", ended.met.failed.len());
}

#[test]
fn a_candidate_that_fails_a_fifth_of_its_requests_goes_back() {
    let (stable, canary) = pair();
    canary.behave(failing(2, 0.2));
    let ended = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("10s"), &Asks::default()).until_rolled_back();
    row("20 % errors", &ended);
    assert!(ended.met.failed.len() < 100, "{} failed", ended.met.failed.len());
}

#[test]
fn a_candidate_that_fails_one_request_in_twenty_goes_back() {
    let (stable, canary) = pair();
    canary.behave(failing(2, 0.05));
    let ended = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("20s"), &Asks::default()).until_rolled_back();
    row("5 % errors", &ended);
    assert!(ended.met.failed.len() < 100, "{} failed", ended.met.failed.len());
}

/// A look a second and five seconds to settle, as nobody changed it: what a bad release really costs.
#[test]
fn as_it_is_installed_bad_releases_go_back_within_seconds() {
    std::thread::scope(|scope| {
        for (what, ratio) in [("every answer is an error", 1.0), ("20 % errors", 0.2), ("5 % errors", 0.05)] {
            scope.spawn(move || {
                let (stable, canary) = pair();
                canary.behave(failing(2, ratio));
                let mut plan = plan("1m");
                plan["evidence"] = json!({});
                let asks = Asks { clients: 3, pause: Duration::from_millis(20), ..Asks::default() };
                let run = Run::begin_at_its_pace(Setup::pair(&stable, &canary, [100, 0]), &plan, &asks);
                row(&format!("{what}, as installed"), &run.until_rolled_back());
            });
        }
    });
}

#[test]
fn a_candidate_whose_tail_is_slow_goes_back_and_nobody_met_an_error() {
    let (stable, canary) = pair();
    let slow = |_: &Head, number| {
        if hits(7, number, 0.15) { Behaviour::Late(Duration::from_millis(80)) } else { usual(2, number) }
    };
    canary.behave(Behaviour::chosen(slow));
    let ended = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("20s"), &Asks::default()).until_rolled_back();
    row("15 % of the answers 80 ms late", &ended);
    assert!(failed_gates(&ended.view).contains("latency"), "{:#}", ended.view);
    assert!(ended.met.failed.is_empty(), "{:?}", ended.met.failed.first());
}

#[test]
fn a_candidate_that_crashes_again_and_again_goes_back() {
    let (stable, mut canary) = pair();
    let run = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("20s"), &Asks::default());
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let looping = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            canary.kill();
            std::thread::sleep(Duration::from_millis(400));
            canary.restart();
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    let ended = run.until_rolled_back();
    stop.store(true, Ordering::Relaxed);
    looping.join().expect("it comes and goes");
    row("it crashes and comes back every 0.8 s", &ended);
    assert!(ended.met.failed.len() < 60, "{} failed", ended.met.failed.len());
}

/// Well for 8 s, then slower and failing more each second.
fn leaking() -> Behaviour {
    let began = Instant::now();
    Behaviour::chosen(move |_, number| {
        let leak = (began.elapsed().as_secs_f64() - 8.0).max(0.0);
        match () {
            () if hits(3, number, leak * 0.02) => Behaviour::status(500),
            () if leak > 0.0 => Behaviour::Late(Duration::from_millis((leak * 5.0) as u64)),
            () => usual(2, number),
        }
    })
}

/// Where everything is the candidate's there is nothing to compare, so a little is kept back.
#[test]
fn a_leak_after_nearly_everything_moved_is_found_by_what_was_held_back() {
    let (stable, canary) = pair();
    canary.behave(leaking());
    let mut plan = plan("2s");
    plan["phases"] = json!([
        { "percent": 50, "min_duration": "2s" },
        { "percent": 100, "holdback": 10, "min_duration": "40s" },
    ]);
    let run = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan, &Asks::default());
    let ended = run.until(|view| view["state"] == "rolled_back");
    row("the same leak when all but a holdback of 10 % has moved", &ended);
    assert_eq!((ended.view["phase"].as_u64(), ended.weir.split()), (Some(1), [100, 0]), "{:#}", ended.view);
}

#[test]
fn a_leak_that_shows_late_is_found_in_whatever_phase() {
    let (stable, canary) = pair();
    canary.behave(leaking());
    let mut plan = plan("4s");
    plan["phases"][1]["min_duration"] = json!("30s");
    let ended = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan, &Asks::default());
    let ended = ended.until(|view| view["state"] == "rolled_back");
    row("a leak: well for 8 s, then slower and failing more each second", &ended);
    assert_eq!(ended.weir.split(), [100, 0]);
    assert!(ended.met.failed.len() < 200, "{} failed", ended.met.failed.len());
}

#[test]
fn one_bad_endpoint_of_four_fails_the_candidate_and_is_named() {
    let (stable, _canary) = pair();
    let four: Vec<Upstream> = (0..4).map(|n| Upstream::named(&format!("canary-{n}")).forgetful()).collect();
    four[2].behave(failing(5, 0.6));
    let setup = Setup::new().pool("stable", &[&stable]).pool("canary", &four.iter().collect::<Vec<_>>());
    let setup = setup.split([100, 0]);
    let ended = Run::begin(setup, &plan("20s"), &Asks::default()).until_rolled_back();
    row("one of four endpoints fails 60 %", &ended);
    let report = ended.weir.admin_get(&format!("/api/v1/rollouts/{}/report", ended.id)).text();
    let address = four[2].address().to_string();
    assert!(report.contains(&address), "the report does not name {address}");
    assert!(ended.met.failed.len() < 100, "{} failed", ended.met.failed.len());
}

#[test]
fn an_outage_of_stable_pauses_never_rolls_back_and_when_it_is_over_the_rollout_goes_on() {
    let (stable, canary) = pair();
    let run = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("60s"), &Asks::default());
    stable.behave(failing(1, 0.6));
    let (paused, view) = run.weir.watch_rollout(&run.id, PATIENCE, |view| view["state"] != "rolling_out");
    assert!(paused && view["state"] == "paused" && view["verdict"] == "environment_degraded", "{view:#}");
    assert_eq!(run.weir.split(), [80, 20], "the share stays");
    let took = run.began.elapsed();
    stable.behave(Behaviour::Answer);
    let (resumed, view) = run.weir.watch_rollout(&run.id, 2 * PATIENCE, |view| view["state"] != "paused");
    assert!(resumed && view["state"] == "rolling_out", "{view:#}");
    let all = run.began.elapsed();
    run.crowd.stop();
    let names: Vec<String> = run.weir.events_after(0).into_iter().map(|(_, name)| name).collect();
    assert!(names.iter().all(|name| !name.contains("rollback")), "{names:?}");
    rows::keep(
        "fault-stable-outage",
        &[format!(
            "| 60 % errors of stable | paused after {:.1} s, goes on after {:.0} s | environment degraded | | | |",
            took.as_secs_f64(),
            all.as_secs_f64()
        )],
    );
}

#[test]
fn when_both_are_bad_nobody_is_blamed() {
    let (stable, canary) = pair();
    stable.behave(failing(1, 0.4));
    canary.behave(failing(2, 0.4));
    let run = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("60s"), &Asks::default());
    let ended = run.until(|view| view["state"] != "rolling_out");
    assert_eq!((&ended.view["state"], &ended.view["verdict"]), (&json!("paused"), &json!("environment_degraded")));
    row("both pools fail 40 %", &ended);
    let (changed, view) = ended.weir.watch_rollout(&ended.id, Duration::from_secs(2), |view| view["state"] != "paused");
    assert!(!changed && ended.weir.split() == [80, 20], "{view:#}");
}

#[test]
fn without_traffic_nothing_is_advanced_and_nothing_rolled_back() {
    let (stable, canary) = pair();
    let weir = quick(Setup::pair(&stable, &canary, [100, 0])).start();
    let mut plan = plan("200ms");
    plan["phases"][0]["max_duration"] = json!("1s");
    for policy in ["extend", "advance", "rollback", "pause"] {
        plan["on_inconclusive"] = json!(policy);
        plan["on_failure"] = json!("rollback");
        let id = weir.start_rollout(&plan);
        let over = |view: &Value| view["state"] == "completed" || view["phase"] != 0;
        let (moved, view) = weir.watch_rollout(&id, Duration::from_secs(3), over);
        assert!(!moved, "{policy}: {view:#}");
        assert_eq!(view["verdict"], "no_traffic", "{policy}: {view:#}");
        assert!(view["because"].as_str().is_none_or(|why| !why.contains("fail")), "{view:#}");
        // Rolling back what was never tried is a policy that somebody chose in so many words.
        let expected: &[&str] = match policy {
            "extend" => &["rolling_out"],
            "rollback" => &["rolled_back"],
            _ => &["paused"],
        };
        assert!(expected.contains(&view["state"].as_str().unwrap_or("")), "{policy}: {view:#}");
        if view["state"] != "rolled_back" {
            assert_eq!(weir.command_rollout(&id, "rollback", "the next one").0, 200);
        }
        eventually("the service is free", PATIENCE, || {
            weir.watch_rollout(&id, Duration::ZERO, |view| view["waitingFor"].is_null()).0
        });
    }
    rows::keep("fault-no-traffic", &["| no traffic at all | rolling out, phase 1 | no traffic | | 0 | 0 |".to_owned()]);
}

#[test]
fn sticky_clients_whose_errors_come_in_clusters_roll_nothing_back() {
    let (stable, canary) = pair();
    // One unit in twenty is broken, wherever it is: nearly all that it asks fails, and it asks again.
    let clustered = |seed: u64| {
        Behaviour::chosen(move |head: &Head, number| {
            let unit = head.field("x-unit").and_then(|unit| unit[1..].parse::<u64>().ok()).unwrap_or(0);
            if hits(99, unit, 0.05) && hits(seed, number, 0.9) { Behaviour::status(500) } else { usual(seed, number) }
        })
    };
    stable.behave(clustered(1));
    canary.behave(clustered(2));
    let setup = Setup::pair(&stable, &canary, [100, 0]).table("affinity", "by = \"header\"\nname = \"x-unit\"");
    let asks = Asks { units: 400, ..Asks::default() };
    let mut plan = plan("60s");
    plan["gates"] = json!([{ "kind": "error_rate" }]);
    let run = Run::begin(setup, &plan, &asks);
    let (ended, view) = run.weir.watch_rollout(&run.id, Duration::from_secs(15), |view| view["state"] != "rolling_out");
    assert!(!ended, "{view:#}");
    let met = run.crowd.stop();
    let requests = view["arms"][0]["requests"].as_u64().unwrap_or(0);
    assert!(requests > 500 && met.failed.len() > 100, "{requests} {}", met.failed.len());
    rows::keep(
        "fault-sticky",
        &[format!(
            "| sticky clients of which 5 % fail nearly always | rolling out | | 15 s | {requests} | as without |"
        )],
    );
}

#[test]
fn a_candidate_without_endpoints_goes_back_and_costs_nobody_anything() {
    let (stable, _) = pair();
    let canary = Upstream::down("canary");
    let run = Run::begin(Setup::pair(&stable, &canary, [100, 0]), &plan("20s"), &Asks::default());
    let ended = run.until_rolled_back();
    row("no endpoint that answers", &ended);
    assert!(ended.met.failed.is_empty(), "{:?}", ended.met.failed.first());
}
