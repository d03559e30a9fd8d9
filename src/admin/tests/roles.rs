//! Who may do what: every path with every role, and what each leaves in the audit log.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::access::Role;
use super::super::guard::OPEN;
use super::super::routes::routes;
use super::stage::{Reply, Stage, name_of, token_of};

const ROLES: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

/// A switch whose countdown never ends by itself.
const SWITCHES: &str = "[[kill_switches]]\nname = \"errors\"\ngrace = \"1h\"\n\
    [[kill_switches.triggers]]\nkind = \"error_rate\"\nwindow = \"1m\"\nmin_samples = 10\n\
    [[kill_switches]]\nname = \"all\"\nscope = \"system\"\n";

fn ask(stage: &Stage, role: Role, request: &str, body: &str) -> Reply {
    let token = format!("Authorization: Bearer {}", token_of(role));
    stage.ask(request, &["Content-Type: application/json", "X-Weir-Reason: the header", &token], body)
}

/// A path with something in its places.
fn filled(path: &str) -> String {
    path.replace("{service}", "engine").replace("{id}", "nightly").replace("{name}", "errors").replace('{', "%7B")
}

#[test]
fn every_path_asks_for_its_role_and_says_which() {
    let stage = Stage::with_roles(SWITCHES);
    for (path, methods, _) in routes() {
        for (method, needed) in methods {
            let request = format!("{method} {}", filled(path));
            if !OPEN.contains(&path) {
                stage.ask(&request, &[], "").refused(401, "unauthorized");
            }
            for role in ROLES.into_iter().filter(|role| role < needed) {
                let problem = ask(&stage, role, &request, "{}").refused(403, "forbidden");
                assert_eq!(problem["role"], needed.as_str(), "{request}: {problem}");
                assert!(problem["detail"].as_str().unwrap().contains(role.as_str()), "{problem}");
            }
            // A stream does not end; whoever may look may look there.
            if path != "/api/v1/events" {
                let reply = ask(&stage, *needed, &request, "{\"nothing\":1}");
                assert_ne!(reply.status, 403, "{request}: {}", reply.body);
            }
        }
    }
    assert_eq!(stage.live(), (90, 10), "nothing of it changed anything");
}

#[test]
fn what_changes_something_takes_more_than_looking() {
    let questions = ["/api/v1/explain", "/api/v1/rollouts/check"];
    for (path, methods, _) in routes() {
        for (method, role) in methods {
            let looks = *method == "GET" || questions.contains(&path);
            assert_eq!(*role == Role::Viewer, looks, "{method} {path}");
        }
    }
}

#[test]
fn stopping_everything_forcing_a_gate_and_foreign_commands_take_an_admin() {
    let stage = Stage::with_roles(SWITCHES);
    let command = json!({ "service": "engine", "candidate": "canary",
        "gates": [{ "kind": "command", "command": ["true"] }], "phases": [{ "percent": 5 }] });
    for (request, body) in [
        ("POST /api/v1/kill", json!({ "scope": "system" })),
        ("POST /api/v1/unkill", json!({ "scope": "system" })),
        ("POST /api/v1/kill-switches/all/trigger", json!({})),
        ("POST /api/v1/kill-switches/all/recover", json!({})),
        ("POST /api/v1/rollouts/x/advance", json!({ "force": true })),
        ("POST /api/v1/rollouts", command),
    ] {
        let problem = ask(&stage, Role::Operator, request, &body.to_string()).refused(403, "forbidden");
        assert_eq!(problem["role"], "admin");
    }
    assert_eq!(ask(&stage, Role::Admin, "POST /api/v1/kill", r#"{"scope":"system"}"#).status, 200);
    assert_eq!(stage.live(), (100, 0));
}

/// Writes failed attempts of the canary into its counters, until the switch counts down.
fn count_down(stage: &Stage) {
    wait(stage, "grace", || {
        let snapshot = stage.board.snapshot().load_full();
        let lane = &snapshot.services[0].pools[1].state.meter.of(0).lanes[0];
        (0..20).for_each(|_| lane.latency.record_us(1_000));
        lane.errors.add(20);
    });
}

/// Waits for a state of the switch.
fn wait(stage: &Stage, state: &str, meanwhile: impl Fn()) {
    let began = Instant::now();
    loop {
        meanwhile();
        let switch = ask(stage, Role::Viewer, "GET /api/v1/kill-switches/errors", "").value();
        if switch["state"] == state {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{switch}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn entries(stage: &Stage) -> Vec<Value> {
    let log = ask(stage, Role::Viewer, "GET /api/v1/audit?limit=1000", "").value();
    let entries = log["entries"].as_array().unwrap().clone();
    // What the switch does by itself is in the log as well.
    entries.into_iter().filter(|entry| entry["who"] != "kill switch errors").collect()
}

/// A rollout that waits for people, and looks back only shortly.
fn plan() -> Value {
    json!({ "service": "engine", "candidate": "canary", "reason": "why",
        "phases": [{ "percent": 5, "min_duration": "1h" }, { "percent": 50, "min_duration": "1h" }],
        "rollback": { "verify": { "timeout": "100ms", "retries": 0 } },
        "gates": [{ "kind": "error_rate" }, { "kind": "approval", "name": "four-eyes", "count": 2 }] })
}

/// Brings about the state that an action needs.
fn make_ready(stage: &Stage, action: &str) {
    match action {
        // It sees at its next tick that the kill before it is over.
        "kill_switch.killed" => wait(stage, "armed", || {}),
        // A countdown goes on only while the canary gets requests.
        "kill_switch.cancelled" => {
            let both = json!({ "stable": 50, "canary": 50 }).to_string();
            ask(stage, Role::Admin, "PUT /api/v1/services/engine/weights", &both);
            count_down(stage);
        }
        _ => {}
    }
}

#[test]
fn every_change_over_the_api_leaves_one_entry_with_who_why_before_and_after() {
    let stage = Stage::with_roles(SWITCHES);
    let why = json!({ "reason": "why" });
    let kill = json!({ "scope": "service", "service": "engine", "reason": "why" });
    let mut seen = BTreeSet::new();
    let mut id = "nightly".to_owned();
    for (request, body, action) in [
        ("PUT /api/v1/services/{service}/weights", json!({ "stable": 50, "canary": 50 }), "weights"),
        ("POST /api/v1/services/{service}/rollback", why.clone(), "rollback"),
        ("POST /api/v1/services/{service}/undo", why.clone(), "undo"),
        ("POST /api/v1/reload", json!({}), "reload"),
        ("POST /api/v1/upgrade", json!({}), "upgrade"),
        ("PUT /api/v1/log-level", json!({ "level": "info" }), "log_level"),
        ("POST /api/v1/notifications/test", json!({}), "notifications.test"),
        ("PUT /api/v1/rollouts/{id}", plan(), "rollout.start"),
        ("POST /api/v1/rollouts/{id}/approve", why.clone(), "rollout.approve"),
        ("POST /api/v1/rollouts/{id}/pause", why.clone(), "rollout.pause"),
        ("POST /api/v1/rollouts/{id}/resume", why.clone(), "rollout.resume"),
        ("POST /api/v1/rollouts/{id}/advance", json!({ "reason": "why", "force": true }), "rollout.advance"),
        ("POST /api/v1/rollouts/{id}/rollback", why.clone(), "rollout.rollback"),
        ("POST /api/v1/rollouts/{id}/retry", why.clone(), "rollout.start"),
        ("POST /api/v1/rollouts/{id}/rollback", why.clone(), "rollout.rollback"),
        ("POST /api/v1/rollouts", plan(), "rollout.start"),
        ("POST /api/v1/rollouts/{id}/rollback", why.clone(), "rollout.rollback"),
        ("POST /api/v1/kill", kill.clone(), "killed"),
        ("POST /api/v1/unkill", kill.clone(), "unkilled"),
        ("POST /api/v1/maintenance", kill.clone(), "maintenance"),
        ("POST /api/v1/maintenance", json!({ "service": "engine", "reason": "why", "end": true }), "maintenance.end"),
        ("POST /api/v1/kill-switches/{name}/trigger", why.clone(), "kill_switch.killed"),
        ("POST /api/v1/kill-switches/{name}/recover", why.clone(), "kill_switch.let_go"),
        ("POST /api/v1/kill-switches/{name}/cancel", why.clone(), "kill_switch.cancelled"),
    ] {
        make_ready(&stage, action);
        let before = entries(&stage);
        let path = request.replace("{service}", "engine").replace("{id}", &id).replace("{name}", "errors");
        // Four eyes: who started it is not who approves it.
        let role = if action == "rollout.approve" { Role::Operator } else { Role::Admin };
        let began = Instant::now();
        let mut reply = ask(&stage, role, &path, &body.to_string());
        // The one before looks whether its rollback did what it should, and holds the service so long.
        while reply.body.contains("rollout_running") && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
            reply = ask(&stage, role, &path, &body.to_string());
        }
        assert!((200..300).contains(&reply.status), "{path}: {} {}", reply.status, reply.body);
        if action == "rollout.start" {
            id = reply.value()["rolloutId"].as_str().unwrap().to_owned();
        }
        let after = entries(&stage);
        assert_eq!(after.len(), before.len() + 1, "{path}: {:#?}", after.first());
        let entry = &after[0];
        let reason = if body.get("reason").is_some() { "why" } else { "the header" };
        assert_eq!((entry["action"].as_str(), entry["reason"].as_str()), (Some(action), Some(reason)), "{entry}");
        assert!(entry["who"].as_str().unwrap().starts_with(name_of(role)), "{entry}");
        assert!(entry["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
        // An approval moves nothing yet, and what was reloaded was live already.
        let same = matches!(action, "reload" | "rollout.approve");
        assert!(matches!(action, "log_level" | "notifications.test") || !entry["before"].is_null(), "{entry}");
        assert!(!entry["after"].is_null() && entry["before"] != entry["after"] || same, "{entry}");
        seen.insert(request.to_owned());
    }
    // Those that need a state of their own are tried in tests/it and beside what they change.
    for elsewhere in ["rollouts/{id}/drill", "rollouts/{id}/cancel", "notifications/acknowledge"] {
        seen.insert(format!("POST /api/v1/{elsewhere}"));
    }
    let changing = routes().into_iter().flat_map(|(path, methods, _)| {
        let changing = methods.iter().filter(|(_, role)| *role > Role::Viewer);
        changing.map(move |(method, _)| format!("{method} {path}")).collect::<Vec<_>>()
    });
    assert_eq!(seen, changing.collect::<BTreeSet<_>>(), "a path that changes something is audited here");
}

#[test]
fn the_name_of_a_token_is_who_did_it_whatever_a_header_claims() {
    let stage = Stage::with_roles("");
    let token = format!("Authorization: Bearer {}", token_of(Role::Operator));
    let headers = ["Content-Type: application/json", "X-Weir-Who: root", &token];
    assert_eq!(stage.ask("POST /api/v1/services/engine/rollback", &headers, "{}").status, 200);
    assert_eq!(entries(&stage)[0]["who"], "olga (root)");
}

#[test]
fn the_same_rollout_put_twice_is_one_and_another_plan_is_a_conflict() {
    let stage = Stage::open();
    let body = |percent: u32| {
        json!({ "service": "engine", "candidate": "canary", "gates": [{ "kind": "error_rate" }],
            "phases": [{ "percent": percent, "min_duration": "1h" }] })
        .to_string()
    };
    let put = |percent: u32| stage.json("PUT /api/v1/rollouts/nightly", &body(percent));
    let first = put(5);
    assert_eq!(first.status, 201, "{}", first.body);
    let again = put(5);
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(first.value()["startedAt"], again.value()["startedAt"]);
    assert_eq!(put(6).refused(409, "rollout_running")["rolloutId"], "nightly");
    assert_eq!(stage.json("POST /api/v1/rollouts/nightly/rollback", "{}").status, 200);
    assert_eq!(put(5).value()["state"], "rolled_back", "also after its end it is that one");
}
