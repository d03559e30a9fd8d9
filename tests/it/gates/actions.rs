//! What is done at the moments of a rollout, and after it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, ROLLOUTS, lines, messages, plan, reaches, script, start, started, with};
use crate::harness::{Behaviour, Client, Reply, Upstream, eventually};

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
    let slow = std::thread::spawn(move || Client::to(address).get("/slow").upstream().to_owned());
    let mut more = Vec::new();
    // A fifth of them goes there.
    while canary.count_on("/slow") == 0 {
        more.push(std::thread::spawn(move || Client::to(address).get("/slow").upstream().to_owned()));
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
    let actions = json!([
        { "type": "drain_connections", "timeout": "200ms" },
        { "name": "note", "command": script("touch done") },
    ]);
    let id = start(
        &weir,
        &with(plan(json!({ "kind": "signoff", "file": "never", "when": "phase" })), json!({ "actions": actions })),
    );
    eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
    let address = weir.address();
    while canary.count_on("/slow") == 0 {
        std::thread::spawn(move || Client::to(address).get("/slow"));
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
    let env = json!({ "TENANT": "{target}" });
    let sweep = json!([{ "name": "verify", "command": job, "env": env, "targets": targets, "per_minute": 240 }]);
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
fn a_rollback_ends_the_sweep_of_what_it_takes_back() {
    let (_stable, _canary, weir) = started();
    let targets: Vec<String> = (1..=200).map(|n| n.to_string()).collect();
    let sweep = json!([{ "name": "verify", "command": script("echo {target} >> swept.txt"), "targets": targets,
                         "per_minute": 600 }]);
    let id = start(&weir, &with(plan(json!({ "kind": "http", "url": "/smoke" })), json!({ "sweeps": sweep })));
    reaches(&weir, &id, "completed");
    let swept = weir.config_directory().join("swept.txt");
    eventually("some are done", PATIENCE, || lines(&swept).len() >= 2);
    assert_eq!(weir.admin("POST", &format!("{ROLLOUTS}/{id}/rollback"), &[], "{}").status, 200);
    let ended = || messages(&weir, "action").iter().any(|told| told.starts_with("verify: ends after "));
    eventually("it ends", PATIENCE, ended);
    assert!(lines(&swept).len() < 200);
    assert_eq!(weir.split(), [100, 0]);
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
