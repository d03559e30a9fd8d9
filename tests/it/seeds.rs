//! What other systems send and read: the bodies of an update pipeline and of a canary validator, the fields of a canary
//! runner's report; over the API of a running weir.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::upstream::own_address;
use crate::harness::{Behaviour, Load, Reply, Setup, Upstream, Weir, eventually};

fn started(more: &str) -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let admin = format!("address = \"{}:9901\"", own_address());
    let weir = Setup::pair(&stable, &canary, [100, 0]).text(more).admin(&admin).start();
    (stable, canary, weir)
}

#[track_caller]
fn asked(weir: &Weir, method: &str, path: &str, body: &Value, status: u16) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = weir.admin(method, path, &[], &body);
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    answer.json()
}

#[track_caller]
fn has(value: &Value, keys: &[&str]) {
    let missing: Vec<_> = keys.iter().filter(|key| value.get(**key).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} of {value:#}");
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture is there")).expect("it is JSON")
}

#[test]
fn a_pipeline_starts_a_build_moves_it_by_hand_and_reads_its_fields() {
    let (_stable, _canary, weir) = started("[rollouts]\ntick = \"50ms\"");
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    let body = json!({ "buildId": "build-7", "channel": "stable" });
    let begun = asked(&weir, "POST", "/api/v1/rollouts", &body, 201);
    has(&begun, &["rolloutId", "state", "currentPercentage", "startedAt"]);
    assert_eq!((&begun["state"], &begun["currentPercentage"]), (&json!("rolling_out"), &json!(1.0)));
    let id = begun["rolloutId"].as_str().expect("an id");
    let verb = |verb: &str, body: Value| asked(&weir, "POST", &format!("/api/v1/rollouts/{id}/{verb}"), &body, 200);
    assert_eq!(verb("pause", Value::Null)["state"], "paused");
    assert_eq!(verb("resume", json!({}))["state"], "rolling_out");
    assert_eq!(verb("advance", json!({ "force": true }))["currentPercentage"], 10.0);
    eventually("the canary was counted", Duration::from_secs(20), || {
        let path = format!("/api/v1/rollouts/{id}");
        asked(&weir, "GET", &path, &Value::Null, 200)["arms"][0]["requests"].as_u64() > Some(20)
    });
    let status = asked(&weir, "GET", "/api/v1/rollouts/status", &Value::Null, 200);
    let keys = ["running", "versionWatcherActive", "activeCanaryTests", "activeRollouts", "activeSweeps"];
    has(&status, &[&keys[..], &["knownVersions", "recommendedBuilds"]].concat());
    assert_eq!((&status["activeRollouts"], &status["knownVersions"]["engine"]), (&json!(1), &json!("build-7")));
    has(&status["recommendedBuilds"], &["stable", "beta"]);
    assert_eq!(verb("rollback", json!({ "reason": "a bad bug" }))["state"], "rolled_back");
    load.stop();
    let versions = asked(&weir, "GET", "/api/v1/versions", &Value::Null, 200);
    let keys = ["providerId", "version", "releasedAt", "sourceUrl", "canaryPassed", "canaryPassedAt"];
    has(&versions["items"][0], &keys);
    assert_eq!(versions["items"][0]["canaryPassed"], false);
    let canary = asked(&weir, "GET", "/api/v1/canary/build-7/metrics", &Value::Null, 200);
    has(&canary, &["buildId", "status", "startedAt", "completedAt", "metrics"]);
    let keys = ["totalTests", "passed", "failed", "errored", "skipped", "passRate", "avgSessionStartMs"];
    has(&canary["metrics"], &[&keys[..], &["avgTimeToFirstOutputMs", "disconnectRate"]].concat());
    assert!(canary["metrics"]["totalTests"].as_u64() > Some(20) && canary["metrics"]["passRate"] == 1.0, "{canary:#}");
    let health = asked(&weir, "GET", "/api/v1/rollouts/health", &Value::Null, 200);
    has(&health, &["enabled", "running", "timestamp"]);
}

#[test]
fn a_report_has_every_field_of_a_canary_runner_and_hides_what_may_be_secret() {
    let (_stable, _canary, weir) = started("");
    let plan = json!({
        "service": "engine", "candidate": "canary", "phases": [{ "percent": 5 }],
        "gates": [
            { "kind": "error_rate" },
            { "kind": "http", "when": "phase", "url": "/", "headers": { "authorization": "Bearer hush-hush" } },
        ],
    });
    let id = asked(&weir, "POST", "/api/v1/rollouts", &plan, 201)["rolloutId"].as_str().expect("an id").to_owned();
    asked(&weir, "POST", &format!("/api/v1/rollouts/{id}/rollback"), &json!({ "reason": "mismatch 0 -> 1" }), 200);
    let report = asked(&weir, "GET", &format!("/api/v1/rollouts/{id}/report"), &Value::Null, 200);
    let runner = ["success", "rollback_triggered", "rollback_reason", "smoke_returncode", "metrics_delta", "dry_run"];
    has(&report, &runner);
    has(&report["metrics_delta"], &["error_rate", "latency_p95_ms"]);
    has(&report, &["generated_at", "status", "summary", "plan", "ticks", "events", "arithmetic", "latency", "counts"]);
    has(&report["summary"], &["total", "passed", "failed", "skipped", "warning"]);
    assert_eq!((&report["success"], &report["rollback_triggered"]), (&json!(false), &json!(true)));
    assert!(report["rollback_reason"].as_str().is_some_and(|why| why.contains("mismatch 0 -> 1")), "{report:#}");
    assert_eq!(report["plan"]["phases"][0]["min_duration"], "5m");
    assert!(!report.to_string().contains("hush-hush"), "a secret is in the report");
}

#[test]
fn a_validator_gets_valid_errors_with_fields_and_recommendations() {
    let (_stable, _canary, weir) = started("[rollouts]\nmax_percent = 60");
    let check = |body: &Value| asked(&weir, "POST", "/api/v1/rollouts/check", body, 200);
    let fields = |checked: &Value| -> Vec<String> {
        let errors = checked["errors"].as_array().expect("a list").iter();
        errors.map(|error| error["field"].as_str().expect("a field").to_owned()).collect()
    };
    let mut simple = fixture("simple-deployment.json");
    let body = |config: &Value, strict: bool| {
        let context = json!({
            "environment": "production",
            "resourceConstraints": { "maxTrafficPercentage": 50, "maxRollbackTime": 600_000 },
        });
        json!({ "type": "canary_deployment", "config": config, "context": context, "strictMode": strict })
    };
    let checked = check(&body(&simple, false));
    assert_eq!((&checked["valid"], &checked["errors"]), (&json!(true), &json!([])), "{checked:#}");
    assert!(checked["recommendations"].is_array() && checked.as_object().is_some_and(|it| it.len() == 3));
    simple["phases"][0]["trafficPercentage"] = 55.into();
    assert_eq!(fields(&check(&body(&simple, false))), ["phases[1].percent"], "above the limit of the context");
    assert_eq!(check(&simple)["valid"], true, "below that of weir.toml");
    simple["phases"][0]["trafficPercentage"] = 65.into();
    assert_eq!(fields(&check(&simple)), ["phases[1].percent"], "above that of weir.toml");
    let gateless = json!({ "service": "engine", "phases": [{ "percent": 5 }], "strictMode": true });
    assert_eq!(fields(&check(&gateless)), ["phases[1]"], "strict: a recommendation is an error");
    let full = check(&fixture("phased-deployment.json"));
    assert!(fields(&full).iter().any(|field| field.starts_with("phases[1].gates[")), "{full:#}");
    // What the API refuses, the verb refuses: both go by the limits of weir.toml.
    let plans = weir.config_directory().join("rollouts");
    std::fs::create_dir_all(&plans).expect("a directory");
    let text = "profile = \"default\"\nservice = \"engine\"\n";
    std::fs::write(plans.join("all.toml"), text).expect("a plan");
    let (code, _, err) = weir.verb(&["rollout", "check"]);
    assert!(code == Some(2) && err.contains("100% is more than max_percent = 60"), "{err}");
}

#[test]
fn the_record_is_found_where_the_configuration_says_also_without_a_running_weir() {
    let (_stable, _canary, weir) = started("[rollouts]\nstate_dir = \"elsewhere\"");
    let body = json!({ "service": "engine", "profile": "default" });
    let id = asked(&weir, "POST", "/api/v1/rollouts", &body, 201)["rolloutId"].as_str().expect("an id").to_owned();
    asked(&weir, "POST", &format!("/api/v1/rollouts/{id}/rollback"), &json!({ "reason": "over" }), 200);
    eventually("it is written down", Duration::from_secs(10), || {
        weir.verb(&["events", "--offline"]).1.contains("over") && weir.verb(&["audit", "--offline"]).1.contains("over")
    });
    let (code, out, err) = weir.verb(&["audit", "verify", "--offline"]);
    assert!(code == Some(0) && out.starts_with("ok "), "{out}{err}");
    assert!(weir.config_directory().join("elsewhere/weir.db").exists());
}

#[test]
fn the_phases_of_a_deployment_that_can_be_passed_are_run_to_the_end() {
    let (_stable, _canary, weir) = started("[rollouts]\ntick = \"50ms\"");
    let mut body = fixture("phased-deployment.json");
    let phases = body["phases"].as_array_mut().expect("phases");
    // As it is written the first can never be passed; a thousand a second is more than this test sends.
    phases.remove(0);
    phases[1]["successCriteria"][2]["threshold"] = 5.into();
    for phase in phases {
        let shorter = |value: &mut Value| *value = (value.as_u64().expect("ms") / 2_000).into();
        shorter(&mut phase["durationMs"]);
        phase["successCriteria"]
            .as_array_mut()
            .expect("criteria")
            .iter_mut()
            .for_each(|it| shorter(&mut it["durationMs"]));
    }
    body["evidence"] = json!({ "settle": "100ms", "warm_up": "0s" });
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    let begun = asked(&weir, "POST", "/api/v1/rollouts", &body, 201);
    assert_eq!((&begun["plan"], &begun["version"]), (&json!("checkout-step-by-step"), &json!("4.2.0")));
    let path = format!("/api/v1/rollouts/{}", begun["rolloutId"].as_str().expect("an id"));
    eventually("every phase is passed", Duration::from_secs(90), || {
        let view = asked(&weir, "GET", &path, &Value::Null, 200);
        assert!(view["state"] == "rolling_out" || view["state"] == "completed", "{view:#}");
        view["state"] == "completed"
    });
    let phases = asked(&weir, "GET", &path, &Value::Null, 200)["phases"].clone();
    let passed: Vec<String> =
        phases.as_array().expect("phases").iter().map(|it| format!("{} {}", it["percent"], it["status"])).collect();
    assert_eq!(passed, ["5.0 \"passed\"", "25.0 \"passed\"", "100.0 \"passed\""]);
    load.stop().assert_flawless();
}

#[test]
fn a_monitor_is_asked_for_its_history_issues_trends_alerts_and_statistics() {
    let (_stable, canary, weir) = started("[rollouts]\ntick = \"50ms\"");
    canary.behave(Behaviour::Reply(Reply::status(500)));
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    let plan = json!({
        "service": "engine", "candidate": "canary", "phases": [{ "percent": 20, "min_duration": "1h" }],
        "gates": [{ "kind": "error_rate" }], "evidence": { "settle": "100ms" },
    });
    let id = asked(&weir, "POST", "/api/v1/rollouts", &plan, 201)["rolloutId"].as_str().expect("an id").to_owned();
    let of = |what: &str| asked(&weir, "GET", &format!("/api/v1/rollouts/{id}/{what}"), &Value::Null, 200);
    eventually("it is rolled back", Duration::from_secs(30), || {
        asked(&weir, "GET", &format!("/api/v1/rollouts/{id}"), &Value::Null, 200)["state"] == "rolled_back"
    });
    load.stop();
    let history = of("metrics")["metrics"].clone();
    let points = history.as_array().expect("a list");
    assert!(points.iter().any(|point| point["candidate"]["errorRate"] == 1.0), "{history:#}");
    assert!(points.iter().any(|point| point["control"]["availability"] == 1.0), "{history:#}");
    assert_eq!(of("metrics?limit=1")["metrics"].as_array().map(Vec::len), Some(1));
    let issues = of("issues")["issues"].clone();
    let bad = |issue: &Value| issue["verdict"] == "fail" && issue["severity"] == "critical";
    assert!(issues.as_array().is_some_and(|issues| issues.iter().any(bad)), "{issues:#}");
    let trends = of("trends")["trends"].clone();
    let names: Vec<&Value> = trends.as_array().expect("a list").iter().map(|trend| &trend["metric"]).collect();
    assert_eq!(names, ["error_rate", "control_error_rate", "latency_p95_ms"]);
    assert!(trends.as_array().is_some_and(|all| all.iter().all(|it| it["direction"].is_string())), "{trends:#}");
    let alerts = asked(&weir, "GET", "/api/v1/alerts?service=engine", &Value::Null, 200)["alerts"].clone();
    assert!(alerts.as_array().is_some_and(|all| all.iter().any(|it| it["severity"] == "critical")), "{alerts:#}");
    let none = asked(&weir, "GET", "/api/v1/alerts?service=other", &Value::Null, 200);
    assert_eq!(none["alerts"], json!([]));
    let statistics = asked(&weir, "GET", "/api/v1/rollouts/statistics", &Value::Null, 200);
    assert_eq!((&statistics["total"], &statistics["rolledBack"]), (&json!(1), &json!(1)), "{statistics:#}");
}
