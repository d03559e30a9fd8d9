//! Gates outside, approvals, actions and sweeps, as a plan asks for them: against real servers, commands and files.

mod actions;
mod approvals;
mod https;
mod provider;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Behaviour, Load, Reply, Setup, Upstream, Weir, eventually, never};

const ROLLOUTS: &str = "/api/v1/rollouts";

/// How long something may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time in which something that must not happen would have happened many times.
const A_WHILE: Duration = Duration::from_millis(700);

/// Two phases of a tenth of a second and one gate, beside what is always asked.
fn plan(gate: Value) -> Value {
    json!({
        "service": "engine",
        "candidate": "canary",
        "on_inconclusive": "extend",
        "phases": [{ "percent": 20, "min_duration": "100ms" }, { "percent": 100, "min_duration": "100ms" }],
        "gates": [gate],
        "evidence": { "settle": "50ms", "warm_up": "0s" },
        "rollback": { "verify": { "timeout": "5s", "retries": 0 } },
    })
}

/// The same with more keys.
fn with(mut plan: Value, more: Value) -> Value {
    plan.as_object_mut().expect("a plan").extend(more.as_object().expect("keys").clone());
    plan
}

fn started() -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\ntick = \"20ms\"").start();
    (stable, canary, weir)
}

#[track_caller]
fn start(weir: &Weir, plan: &Value) -> String {
    let answer = weir.admin("POST", ROLLOUTS, &[("x-weir-who", "ann")], &plan.to_string());
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["rolloutId"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn view(weir: &Weir, id: &str) -> Value {
    let answer = weir.admin_get(&format!("{ROLLOUTS}/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn state(weir: &Weir, id: &str) -> String {
    view(weir, id)["state"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn reaches(weir: &Weir, id: &str, wanted: &str) -> Value {
    let (began, mut seen) = (Instant::now(), Value::Null);
    while began.elapsed() < PATIENCE {
        seen = view(weir, id);
        if seen["state"] == wanted {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not {wanted}: {seen:#}");
}

/// What a gate says now: its verdict and its words.
fn gate(weir: &Weir, id: &str, name: &str) -> (String, String) {
    let view = view(weir, id);
    let gates = view["gates"].as_array().cloned().unwrap_or_default();
    let found = gates.iter().find(|gate| gate["name"] == name).cloned().unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("detail"))
}

/// The messages of one kind of event, oldest first.
fn messages(weir: &Weir, kind: &str) -> Vec<String> {
    let text = weir.admin("GET", "/api/v1/events?once=true", &[("last-event-id", "0")], "").text();
    let events = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let of_kind = events.filter(|event| event["kind"] == kind);
    of_kind.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect()
}

/// Processes that have this in their environment.
fn alive(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments.filter(|environment| String::from_utf8_lossy(environment).contains(mark)).count()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn script(text: &str) -> Value {
    json!(["sh", "-c", text])
}

#[test]
fn a_smoke_test_before_the_start_lets_a_good_canary_through() {
    let (_stable, canary, weir) = started();
    canary.behave_on("/smoke", Behaviour::Reply(Reply::status(204)));
    let headers = json!({ "authorization": "Bearer hunter2", "x-kind": "smoke" });
    let id = start(&weir, &plan(json!({ "kind": "http", "url": "/smoke?deep=1", "headers": headers })));
    let done = reaches(&weir, &id, "completed");
    let smoke = canary.seen().into_iter().find(|seen| seen.target == "/smoke?deep=1").expect("it was asked");
    assert_eq!((smoke.field("x-kind"), smoke.field("authorization")), (Some("smoke"), Some("Bearer hunter2")));
    assert_eq!(canary.count_on("/smoke?deep=1"), 1, "once, before the start");
    assert_eq!(done["gates"][0]["verdict"], "shown_safe");
    assert!(done["gates"][0]["detail"].as_str().is_some_and(|detail| detail.contains("204 in ")), "{done}");
    let report = weir.admin_get(&format!("{ROLLOUTS}/{id}/report"));
    assert_eq!(report.json()["smoke_returncode"], 0);
    let shown = done.to_string() + &report.text();
    assert!(!shown.contains("hunter2") && !shown.contains("deep=1"), "secrets are not shown: {shown}");
}

#[test]
fn a_smoke_test_that_fails_keeps_the_rollout_from_starting() {
    let (_stable, canary, weir) = started();
    canary.behave_on("/smoke", Behaviour::Reply(Reply::status(500).body("no database\n")));
    let load = Load::start(weir.address(), 2, Duration::from_millis(1));
    let id = start(&weir, &plan(json!({ "kind": "http", "url": "/smoke" })));
    let done = reaches(&weir, &id, "rolled_back");
    let because = done["because"].as_str().unwrap_or_default();
    assert!(because.contains("preflight failed at http") && because.contains("status 500"), "{because}");
    assert!(because.contains("no database"), "{because}");
    load.stop().assert_flawless();
    assert_eq!(canary.count(), canary.count_on("/smoke"), "no client's request went there");
}

#[test]
fn a_smoke_test_is_the_last_word_of_each_phase_and_rolls_back_when_it_fails() {
    let (_stable, canary, weir) = started();
    let smoke = json!({ "kind": "http", "url": "/smoke", "when": "phase", "contains": "ready", "interval": "20ms" });
    canary.behave_on("/smoke", Behaviour::Reply(Reply::status(200).body("ready\n")));
    let good = start(&weir, &plan(smoke.clone()));
    reaches(&weir, &good, "completed");
    assert_eq!(canary.count_on("/smoke"), 2, "once in each phase");
    weir.put_split([100, 0]);
    canary.behave_on("/other", Behaviour::Reply(Reply::status(200).body("starting\n")));
    let starting = with(smoke, json!({ "url": "/other" }));
    let bad = start(&weir, &plan(starting));
    let done = reaches(&weir, &bad, "rolled_back");
    assert_eq!((done["phase"].as_u64(), done["verdict"].as_str()), (Some(0), Some("fail")));
    assert!(done["because"].as_str().is_some_and(|why| why.contains("does not contain")), "{}", done["because"]);
    assert_eq!(weir.split(), [100, 0]);
}

#[test]
fn a_candidate_that_does_not_answer_its_smoke_test_has_failed_it() {
    let (_stable, canary, weir) = started();
    canary.behave_on("/smoke", Behaviour::StallBeforeHead);
    let began = Instant::now();
    let id = start(
        &weir,
        &plan(json!({ "kind": "http", "url": "/smoke", "timeout": "200ms", "retries": 1, "interval": "10ms" })),
    );
    let done = reaches(&weir, &id, "rolled_back");
    assert!(done["because"].as_str().is_some_and(|why| why.contains("within 0.2 s")), "{}", done["because"]);
    assert_eq!(canary.count_on("/smoke"), 2, "one try and one more");
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[test]
fn a_command_that_ignores_sigterm_and_has_children_is_gone_after_its_deadline() {
    let (_stable, _canary, weir) = started();
    let stubborn = "trap '' TERM; (trap '' TERM; sleep 600 & sleep 600) & head -c 3000000 /dev/zero | tr '\\0' x; \
                    while :; do sleep 600; done";
    let command = json!({ "kind": "command", "name": "smoke", "command": script(stubborn), "timeout": "300ms" });
    let id = start(&weir, &plan(command));
    let mark = format!("WEIR_ROLLOUT_ID={id}");
    eventually("it runs", PATIENCE, || alive(&mark) >= 3);
    let done = reaches(&weir, &id, "rolled_back");
    let because = done["because"].as_str().unwrap_or_default();
    assert!(because.contains("not over within 0.3 s"), "{because}");
    assert!(because.chars().count() < 400, "megabytes of output are an excerpt: {}", because.chars().count());
    eventually("nothing of it is left", Duration::from_secs(5), || alive(&mark) == 0);
}

#[test]
fn a_command_ends_with_its_rollout_which_waits_for_none_and_with_weir() {
    let (_stable, _canary, mut weir) = started();
    let slow = json!({ "kind": "command", "command": script("sleep 600 & sleep 600"), "when": "always" });
    let id = start(&weir, &plan(slow.clone()));
    let mark = format!("WEIR_ROLLOUT_ID={id}");
    eventually("it runs", PATIENCE, || alive(&mark) >= 2);
    assert_eq!(weir.admin("POST", &format!("{ROLLOUTS}/{id}/rollback"), &[], "{}").status, 200);
    eventually("the service is free", PATIENCE, || weir.status()["services"][0]["rollout"].is_null());
    eventually("nothing of it is left", PATIENCE, || alive(&mark) == 0);
    let mark = format!("WEIR_ROLLOUT_ID={}", start(&weir, &plan(slow)));
    eventually("it runs", PATIENCE, || alive(&mark) >= 2);
    weir.signal(15);
    assert!(weir.ended_within(PATIENCE).is_some());
    eventually("nothing of it is left", Duration::from_secs(5), || alive(&mark) == 0);
}

#[test]
fn a_command_knows_the_rollout_and_nothing_of_the_environment_of_weir() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir =
        Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\ntick = \"20ms\"").env("SECRET", "hunter2").start();
    let seen = weir.config_directory().join("seen");
    // A path is one from the directory of the main file on.
    let smoke = json!({ "kind": "command", "command": script("pwd > seen; env >> seen; test \"$STAGE\" = smoke"),
                        "env": { "STAGE": "smoke" }, "when": "phase" });
    let id = start(
        &weir,
        &with(plan(smoke), json!({ "version": "2.1.0", "phases": [{ "percent": 20, "min_duration": "100ms" }] })),
    );
    reaches(&weir, &id, "completed");
    let seen = lines(&seen);
    assert_eq!(seen[0], weir.config_directory().canonicalize().expect("a directory").to_string_lossy());
    for line in [
        format!("WEIR_ROLLOUT_ID={id}"),
        "WEIR_SERVICE=engine".into(),
        "WEIR_CANDIDATE=canary".into(),
        format!("WEIR_CANDIDATE_ADDRESS={}", canary.address()),
        "WEIR_VERSION=2.1.0".into(),
        "WEIR_PHASE=phase-1".into(),
        "WEIR_PERCENT=20".into(),
    ] {
        assert!(seen.contains(&line), "{line} in {seen:?}");
    }
    assert!(!seen.iter().any(|line| line.contains("hunter2")), "{seen:?}");
}

#[test]
fn a_suite_passes_by_its_rate() {
    let (_stable, canary, weir) = started();
    canary.behave_on("/c", Behaviour::Reply(Reply::status(500)));
    let requests = json!([{ "url": "/a" }, { "url": "/b" }, { "url": "/c" }]);
    let suite = |rate: f64| plan(json!({ "kind": "suite", "requests": requests, "min_pass_rate": rate }));
    let id = start(&weir, &suite(1.0));
    let done = reaches(&weir, &id, "rolled_back");
    assert!(done["because"].as_str().is_some_and(|why| why.contains("2 of 3 passed")), "{}", done["because"]);
    let id = start(&weir, &suite(0.6));
    let done = reaches(&weir, &id, "completed");
    let detail = done["gates"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("2 of 3 passed, 60 % must; median ") && detail.contains("slowest"), "{detail}");
    assert!((done["gates"][0]["candidate"].as_f64().expect("a rate") - 2.0 / 3.0).abs() < 1e-9);
}

#[test]
fn a_sign_off_waits_for_its_file() {
    let (_stable, _canary, weir) = started();
    let id = start(&weir, &plan(json!({ "kind": "signoff", "file": "approved.txt" })));
    eventually("it waits", PATIENCE, || gate(&weir, &id, "signoff").1 == "waits for the file approved.txt");
    never("it begins", A_WHILE, || state(&weir, &id) != "pending");
    assert_eq!(messages(&weir, "approval"), ["signoff: waits for the file approved.txt"]);
    std::fs::write(weir.config_directory().join("approved.txt"), "ann\n").expect("the file");
    reaches(&weir, &id, "completed");
}

#[test]
fn a_dry_run_gate_is_shown_and_never_acted_upon() {
    let (_stable, canary, weir) = started();
    canary.behave_on("/smoke", Behaviour::Reply(Reply::status(500)));
    let smoke = json!({ "kind": "http", "url": "/smoke", "when": "always", "interval": "20ms", "dry_run": true });
    let mut plan = plan(smoke);
    plan["phases"][0]["min_duration"] = json!("2s");
    let id = start(&weir, &plan);
    eventually("it fails", PATIENCE, || gate(&weir, &id, "http").0 == "fail");
    assert_eq!(reaches(&weir, &id, "completed")["gates"][0]["dryRun"], true);
}

#[test]
fn keys_that_mean_nothing_for_a_gate_are_refused() {
    let (_stable, _canary, weir) = started();
    let answer = |gate: Value| weir.admin("POST", ROLLOUTS, &[], &plan(gate).to_string());
    let refused = answer(json!({ "kind": "approval", "url": "/smoke" }));
    assert!(refused.status == 422 || refused.status == 400, "{}", refused.status);
    assert!(refused.text().contains("means nothing for a gate of kind approval"), "{}", refused.text());
    let refused = answer(json!({ "kind": "suite", "requests": [{ "url": "/a", "when": "always" }] }));
    assert!(refused.text().contains("means nothing"), "{}", refused.text());
    let refused =
        answer(json!({ "kind": "prometheus", "url": "http://127.0.0.1:1", "query": "up", "max": 1, "min": 0 }));
    assert!(refused.text().contains("both max and min"), "{}", refused.text());
}
