//! Gates outside, approvals, actions and sweeps, as a plan asks for them: against real servers, commands and files.

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

// === gates ===

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
    let shown = done.to_string();
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
    let id = start(&weir, &plan(smoke));
    let done = reaches(&weir, &id, "completed");
    assert_eq!(
        (done["gates"][0]["verdict"].as_str(), done["gates"][0]["dryRun"].as_bool()),
        (Some("fail"), Some(true))
    );
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

// === approvals ===

fn approve(weir: &Weir, id: &str, by: &str) -> (u16, String) {
    let answer = weir.admin("POST", &format!("{ROLLOUTS}/{id}/approve"), &[], &json!({ "by": by }).to_string());
    (answer.status, answer.text())
}

#[test]
fn two_of_three_have_to_approve_each_counts_once_and_nobody_approves_their_own() {
    let (_stable, _canary, weir) = started();
    let who = json!({ "kind": "approval", "approvers": ["ann", "bob", "cy"], "count": 2 });
    let id = start(&weir, &plan(who));
    eventually("it waits", PATIENCE, || gate(&weir, &id, "approval").1 == "waits for 2 approval(s) of ann, bob, cy");
    let told = messages(&weir, "approval");
    assert_eq!(told, ["approval: waits for 2 approval(s) of ann, bob, cy"]);
    let refused = |by: &str, why: &str| {
        let (status, text) = approve(&weir, &id, by);
        assert!(status == 409 && text.contains(why), "{by}: {status} {text}");
    };
    refused("ann", "ann started it; somebody else has to approve");
    refused("mallory", "mallory is not among those who may approve");
    let (code, out, err) = weir.verb(&["rollout", "approve", &id, "--by", "bob", "--reason", "looks good"]);
    assert_eq!(code, Some(0), "{out}{err}");
    refused("bob", "bob approved already");
    never("one is enough", A_WHILE, || state(&weir, &id) != "pending");
    let waits = "waits for 2 approval(s) of ann, bob, cy; so far bob";
    assert_eq!(gate(&weir, &id, "approval"), ("inconclusive".into(), waits.into()));
    // What people said outlives the process.
    let weir = weir.restart().expect("it starts again");
    assert_eq!(approve(&weir, &id, "cy").0, 200);
    let done = reaches(&weir, &id, "completed");
    assert_eq!(done["gates"][0]["detail"], "approved by bob, cy");
    let audit = weir.admin_get("/api/v1/audit").text();
    assert!(audit.contains("rollout.approve") && audit.contains("looks good"), "{audit}");
}

#[test]
fn an_approval_of_each_phase_is_asked_for_anew() {
    let (_stable, _canary, weir) = started();
    let id = start(&weir, &plan(json!({ "kind": "approval", "when": "phase" })));
    eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
    never("it goes on", A_WHILE, || weir.split() != [80, 20]);
    assert_eq!(approve(&weir, &id, "bob").0, 200);
    eventually("the next share is live", PATIENCE, || weir.split() == [0, 100]);
    never("it goes on", A_WHILE, || state(&weir, &id) != "rolling_out");
    assert_eq!(approve(&weir, &id, "bob").0, 200);
    reaches(&weir, &id, "completed");
    assert_eq!(messages(&weir, "approval").len(), 4, "asked for twice, given twice");
}

#[test]
fn a_person_with_a_token_approves_by_its_name_whatever_they_say() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let token = |name: &str| format!("{name}-0123456789abcdef0123456789abcdef");
    let mut text = "[rollouts]\ntick = \"20ms\"\n".to_owned();
    let mut setup = Setup::pair(&stable, &canary, [100, 0]);
    for name in ["ann", "bob"] {
        text += &format!("[[tokens]]\nname = \"{name}\"\nrole = \"operator\"\nfile = \"{name}\"\n");
        setup = setup.file(name, &token(name));
    }
    let weir = setup.text(&text).start();
    let ask = |name: &str, who: &str, path: &str, body: Value| {
        let bearer = format!("Bearer {}", token(name));
        let answer = weir.admin("POST", path, &[("authorization", &bearer), ("x-weir-who", who)], &body.to_string());
        (answer.status, answer.text())
    };
    let (status, text) = ask("ann", "carl", ROLLOUTS, plan(json!({ "kind": "approval", "count": 2 })));
    assert_eq!(status, 201, "{text}");
    let id = serde_json::from_str::<Value>(&text).expect("JSON")["rolloutId"].as_str().expect("an id").to_owned();
    let path = format!("{ROLLOUTS}/{id}/approve");
    let (status, text) = ask("ann", "dora", &path, json!({ "by": "dora" }));
    assert!(status == 409 && text.contains("ann started it"), "{status} {text}");
    let (status, text) = ask("bob", "eve", &path, json!({ "by": "eve" }));
    assert_eq!(status, 200, "{text}");
    let (status, text) = ask("bob", "fay", &path, json!({ "by": "fay" }));
    assert!(status == 409 && text.contains("bob approved already"), "{status} {text}");
    let view = serde_json::from_str::<Value>(&ask("ann", "", &path, json!({})).1).expect("JSON");
    assert!(view["detail"].as_str().is_some_and(|why| why.contains("ann started it")), "{view}");
}

// === actions and sweeps ===

#[test]
fn the_actions_of_a_rollback_run_in_order_after_the_traffic_moved() {
    let (_stable, canary, weir) = started();
    let hook = Upstream::named("hook");
    hook.behave_on("/broken", Behaviour::Reply(Reply::status(500).body("no\n")));
    canary.behave_on("/slow", Behaviour::Late(Duration::from_millis(900)));
    let note = |text: &str| script(&format!("echo {text} $WEIR_STATE $WEIR_REASON >> done.txt"));
    let id = start(
        &weir,
        &with(
            plan(json!({ "kind": "signoff", "file": "never", "when": "phase" })),
            json!({
                "actions": [
                    { "type": "stop_new_traffic" },
                    { "type": "drain_connections", "timeout": "10s" },
                    { "name": "ticket", "type": "webhook", "url": format!("{}/broken", hook.url()) },
                    { "name": "note", "type": "command", "command": note("first") },
                    { "name": "page", "url": format!("{}/page", hook.url()), "headers": { "x-key": "hunter2" } },
                    { "name": "last", "command": script("exit 3"), "on_error": "stop" },
                    { "name": "never", "command": note("second") },
                ],
            }),
        ),
    );
    eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
    let address = weir.address();
    let slow = std::thread::spawn(move || crate::harness::Client::to(address).get("/slow").upstream().to_owned());
    let mut more = Vec::new();
    // A fifth of them goes there.
    while canary.count_on("/slow") == 0 {
        more.push(std::thread::spawn(move || crate::harness::Client::to(address).get("/slow").upstream().to_owned()));
        std::thread::sleep(Duration::from_millis(10));
    }
    let began = Instant::now();
    let answer = weir.admin("POST", &format!("{ROLLOUTS}/{id}/rollback"), &[], r#"{"reason":"errors on /pay"}"#);
    assert_eq!((answer.status, weir.split()), (200, [100, 0]));
    assert!(began.elapsed() < Duration::from_millis(500), "the traffic waits for no action");
    eventually("the rollback is over", PATIENCE, || !messages(&weir, "rollback_completed").is_empty());
    assert!(slow.join().is_ok() && more.into_iter().all(|one| one.join().is_ok()), "what was in flight ended");
    let told = messages(&weir, "action");
    assert_eq!(told.len(), 6, "{told:#?}");
    assert_eq!(told[0], "stop_new_traffic: no new request goes to the candidate");
    assert!(told[1].starts_with("drain_connections: nothing is in flight to the candidate, after "), "{}", told[1]);
    assert_eq!(told[2], "ticket: status 500, expected 200 to 299: no");
    assert!(told[3].starts_with("note: exit 0"), "{}", told[3]);
    assert!(told[4].starts_with("page: 200"), "{}", told[4]);
    assert_eq!(told[5], "last: exit 3");
    assert_eq!(lines(&weir.config_directory().join("done.txt")), ["first rolled_back errors on /pay"]);
    let page = hook.last();
    assert_eq!((&*page.method, &*page.target), ("POST", "/page"));
    let body: Value = serde_json::from_slice(&page.body).expect("JSON");
    assert_eq!((&body["rolloutId"], &body["state"]), (&json!(id), &json!("rolled_back")));
    assert_eq!((&body["reason"], &body["what"]), (&json!("errors on /pay"), &json!("action page")));
    let alarms = messages(&weir, "alarm");
    assert!(
        alarms
            .iter()
            .any(|alarm| alarm.contains("an action of the rollback failed") && alarm.contains("left out: never")),
        "{alarms:#?}"
    );
}

#[test]
fn a_drain_that_takes_too_long_is_told_and_the_rest_goes_on() {
    let (_stable, canary, weir) = started();
    canary.behave_on("/slow", Behaviour::Late(Duration::from_secs(3)));
    let actions = json!([{ "type": "drain_connections", "timeout": "200ms" }, { "name": "note", "command": script("touch done") }]);
    let id = start(
        &weir,
        &with(plan(json!({ "kind": "signoff", "file": "never", "when": "phase" })), json!({ "actions": actions })),
    );
    eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
    let address = weir.address();
    while canary.count_on("/slow") == 0 {
        std::thread::spawn(move || crate::harness::Client::to(address).get("/slow"));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(weir.admin("POST", &format!("{ROLLOUTS}/{id}/rollback"), &[], "{}").status, 200);
    eventually("the rest goes on", PATIENCE, || weir.config_directory().join("done").exists());
    let told = messages(&weir, "action");
    assert!(told[0].contains("still in flight to the candidate after 0.2 s"), "{told:?}");
}

#[test]
fn an_action_before_the_start_that_fails_keeps_it_from_starting() {
    let (_stable, canary, weir) = started();
    let failing = json!([{ "name": "migrate", "at": "start", "command": script("echo no lock >&2; exit 1") }]);
    let id = start(&weir, &with(plan(json!({ "kind": "error_rate" })), json!({ "actions": failing })));
    let done = reaches(&weir, &id, "rolled_back");
    assert_eq!(done["because"], "preflight failed: migrate: exit 1: no lock");
    assert_eq!((canary.count(), weir.split()), (0, [100, 0]));
}

#[test]
fn a_dry_run_asks_and_does_nothing() {
    let (_stable, canary, weir) = started();
    let actions = json!([
        { "name": "deploy", "at": "start", "command": script("touch done") },
        { "name": "tell", "at": "promoted", "command": script("touch done") },
    ]);
    let sweeps = json!([{ "name": "verify", "command": script("touch done"), "targets": ["acme"] }]);
    let dry = json!({ "dry_run": true, "actions": actions, "sweeps": sweeps });
    let id = start(&weir, &with(plan(json!({ "kind": "http", "url": "/smoke" })), dry));
    reaches(&weir, &id, "completed");
    assert_eq!(canary.count_on("/smoke"), 1, "what decides is asked");
    eventually("everything is told", PATIENCE, || messages(&weir, "action").len() == 3);
    let told = messages(&weir, "action");
    assert!(told.iter().all(|told| told.contains("dry run")), "{told:?}");
    assert!(!weir.config_directory().join("done").exists());
    assert_eq!(weir.split(), [100, 0]);
}

#[test]
fn a_sweep_runs_one_job_for_each_target_and_a_restart_goes_on_with_it() {
    let (_stable, _canary, weir) = started();
    let job = script("test {target} != globex && echo $TENANT >> swept.txt");
    let targets: Vec<String> = (1..=8).map(|n| if n == 2 { "globex".to_owned() } else { format!("t{n}") }).collect();
    let sweep = json!([{ "name": "verify", "command": job, "env": { "TENANT": "{target}" }, "targets": targets, "per_minute": 240 }]);
    let plan = with(plan(json!({ "kind": "http", "url": "/smoke" })), json!({ "sweeps": sweep }));
    let id = start(&weir, &plan);
    reaches(&weir, &id, "completed");
    let swept = weir.config_directory().join("swept.txt");
    eventually("some are done", PATIENCE, || lines(&swept).len() >= 2);
    let status = weir.admin_get("/api/v1/rollouts/status").json();
    assert_eq!(status["activeSweeps"], 1, "{status}");
    let weir = weir.restart().expect("it starts again");
    eventually("all are done", PATIENCE, || messages(&weir, "action").iter().any(|told| told.contains("of 8 targets")));
    let mut done = lines(&swept);
    done.dedup();
    assert_eq!(done, ["t1", "t3", "t4", "t5", "t6", "t7", "t8"]);
    let told = messages(&weir, "action");
    assert!(told.iter().any(|told| told == "verify: globex: exit 1"), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("verify: 1 of 8 targets failed: globex"));
    eventually("it is over", PATIENCE, || weir.admin_get("/api/v1/rollouts/status").json()["activeSweeps"] == 0);
}

#[test]
fn a_rollback_asks_stable_what_the_plan_wants_to_know() {
    let (stable, _canary, weir) = started();
    stable.behave_on("/version", Behaviour::Reply(Reply::status(200).body("1.9.0")));
    let verify = |contains: &str| {
        json!({ "rollback": { "verify": {
        "http": { "url": "/version", "contains": contains }, "timeout": "1s", "retries": 0 } } })
    };
    for (contains, word) in [("1.9", "verified: "), ("2.0", "not verified: ")] {
        let id =
            start(&weir, &with(plan(json!({ "kind": "signoff", "file": "never", "when": "phase" })), verify(contains)));
        eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
        weir.admin("POST", &format!("{ROLLOUTS}/{id}/rollback"), &[], "{}");
        let told = || messages(&weir, "rollback_completed").last().is_some_and(|told| told.starts_with(word));
        eventually("it is asked", PATIENCE, told);
        eventually("the service is free", PATIENCE, || weir.status()["services"][0]["rollout"].is_null());
    }
    assert!(stable.count_on("/version") >= 2);
}

// === a provider ===

/// An answer of Prometheus with one sample.
fn sample(value: &str) -> Behaviour {
    let body = format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\
         \"value\":[1,\"{value}\"]}}]}}}}"
    );
    Behaviour::Reply(Reply::status(200).body(body))
}

fn query(url: &str) -> Value {
    json!({ "kind": "prometheus", "url": url, "query": "sum(errors{job=\"engine\"})", "max": 5, "interval": "30ms",
            "timeout": "500ms", "consecutive_failures": 2 })
}

#[test]
fn a_provider_that_is_down_holds_the_phase_and_never_rolls_back() {
    let (_stable, _canary, weir) = started();
    let mut provider = Upstream::down("prometheus");
    let id = start(&weir, &with(plan(query(&provider.url())), json!({ "on_provider_error": "hold" })));
    eventually("it cannot be asked", PATIENCE, || gate(&weir, &id, "prometheus").0 == "error");
    never("it goes on or back", A_WHILE, || weir.split() != [80, 20] || state(&weir, &id) != "rolling_out");
    assert!(gate(&weir, &id, "prometheus").1.starts_with(&format!("no connection to {}", provider.url())));
    provider.restart();
    provider.behave(sample("4.5"));
    reaches(&weir, &id, "completed");
    let asked = provider.last();
    assert_eq!((&*asked.method, &*asked.target), ("POST", "/api/v1/query"));
    assert!(String::from_utf8_lossy(&asked.body).starts_with("query=sum%28errors%7Bjob%3D%22engine%22%7D%29&"));
}

#[test]
fn a_provider_that_is_down_warns_and_does_not_stand_in_the_way_when_the_plan_says_so() {
    let (_stable, _canary, weir) = started();
    let provider = Upstream::down("prometheus");
    let id = start(&weir, &with(plan(query(&provider.url())), json!({ "on_provider_error": "warn" })));
    let done = reaches(&weir, &id, "completed");
    assert_eq!(done["gates"][0]["verdict"], "error");
    assert!(messages(&weir, "gate_changed").iter().any(|told| told.starts_with("prometheus: no connection")));
}

#[test]
fn a_number_that_is_missing_advances_nothing_and_one_that_is_too_high_twice_rolls_back() {
    let (_stable, _canary, weir) = started();
    let provider = Upstream::named("prometheus");
    provider.behave(sample("NaN"));
    let id = start(&weir, &plan(query(&provider.url())));
    eventually("it is asked", PATIENCE, || gate(&weir, &id, "prometheus").1.contains("NaN"));
    never("it goes on or back", A_WHILE, || weir.split() != [80, 20] || state(&weir, &id) != "rolling_out");
    provider.behave(sample("6"));
    let done = reaches(&weir, &id, "rolled_back");
    let because = done["because"].as_str().unwrap_or_default();
    assert_eq!(because, "prometheus: 6, must be at most 5 (2 looks in a row)");
    assert_eq!(weir.split(), [100, 0]);
}
