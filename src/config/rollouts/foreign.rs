//! Deployments as another canary system writes them: phases with success criteria and rollback thresholds, a health
//! monitor, a rollback with ordered actions. They become the keys of a plan file; what a plan cannot say is told.
//!
//! Times there are milliseconds where the name ends in `Ms`; a window of `n` is n minutes, a duration of `n` n seconds.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::time::show_duration;

/// What of a body was left out, with its field.
type LeftOut = Vec<(String, String)>;

/// The settings of a deployment that may come beside it, under any of these names, or alone.
const MONITOR: [&str; 3] = ["healthMonitor", "monitoring", "healthConfig"];
const ROLLBACK: [&str; 2] = ["rollback", "rollbackConfig"];

/// Keys of a plan that may stand in such a deployment as they are.
const OWN: [&str; 6] = ["candidate", "baseline", "evidence", "on_failure", "on_inconclusive", "on_provider_error"];

/// Whether a body is such a deployment.
pub(super) fn is_deployment(object: &Map<String, Value>) -> bool {
    ["serviceName", "trafficShiftStrategy", "stableVersion", "canaryVersion", "triggerThresholds", "checkIntervalMs"]
        .iter()
        .any(|key| object.contains_key(*key))
}

/// Its plan.
pub(super) fn plan(object: &Map<String, Value>, left_out: &mut LeftOut) -> Value {
    let part = |names: &[&'static str], mark: &str| {
        let named =
            names.iter().find_map(|name| object.get(*name).filter(|value| value.is_object()).map(|it| (it, *name)));
        let itself = object.contains_key(mark).then(|| (Value::Object(object.clone()), ""));
        named.map(|(value, name)| (value.clone(), name)).or(itself)
    };
    let phases: Vec<Value> = object.get("phases").and_then(Value::as_array).into_iter().flatten().map(phase).collect();
    let mut plan = json!({
        "service": object.get("serviceName"),
        "version": object.get("canaryVersion"),
        "labels": { "name": object.get("name"), "stable_version": object.get("stableVersion") },
        "auto_advance": object.get("autoPromote").filter(|flag| flag.is_boolean()),
        "auto_rollback": object.get("autoRollback").filter(|flag| flag.is_boolean()),
        "deadline": milliseconds(object.get("maxDeploymentTimeMs")),
        // The least times are the times of that system: it knows no waiting for evidence.
        "on_inconclusive": "pause",
    });
    match strategy(object) {
        _ if !phases.is_empty() => plan["phases"] = phases.into(),
        Some(strategy) => plan["strategy"] = strategy.into(),
        None => match object.get("initialTrafficPercentage") {
            Some(percent) => plan["phases"] = json!([{ "percent": percent }, { "percent": 100 }]),
            None => plan["profile"] = "default".into(),
        },
    }
    // What that system has no word for may stand beside it in the words of a plan.
    for key in OWN {
        if let Some(value) = object.get(key) {
            plan[key] = value.clone();
        }
    }
    let mut gates = Vec::new();
    if let Some((settings, _)) = part(&MONITOR, "checkIntervalMs") {
        monitor(&settings, &mut plan, &mut gates);
    }
    if let Some((settings, name)) = part(&ROLLBACK, "triggerThresholds") {
        rollback(&settings, name, &mut plan, &mut gates, left_out);
    }
    if !gates.is_empty() {
        plan["gates"] = gates.into();
    }
    for key in ["notifications", "alerting"] {
        if object.get(key).is_some_and(|settings| settings["channels"].is_array()) {
            let why = "who is told what is set in [notifications] of weir.toml";
            left_out.push((key.into(), why.into()));
        }
    }
    plan
}

/// The strategy that makes the phases.
fn strategy(object: &Map<String, Value>) -> Option<&'static str> {
    let word = object.get("trafficShiftStrategy")?.as_str()?.to_ascii_lowercase().replace('-', "_");
    ["linear", "immediate", "blue_green"].into_iter().find(|known| *known == word)
}

fn phase(phase: &Value) -> Value {
    let criteria = phase["successCriteria"].as_array().cloned().unwrap_or_default();
    let mut gates: Vec<Value> = criteria.iter().filter_map(criterion).collect();
    let limits = &phase["rollbackThresholds"];
    let limit = |kind: &str, key: &str, number: &Value, more: Value| {
        let mut gate = json!({ "kind": kind, "mode": "plain", "name": format!("{kind}-limit"), key: number });
        merge(&mut gate, more);
        number.is_number().then_some(gate)
    };
    gates.extend(limit("error_rate", "max", &limits["errorRate"], json!({})));
    gates.extend(limit("latency", "max", &limits["latencyP95"], json!({ "quantile": 0.95 })));
    gates.extend(limit("availability", "min", &limits["availability"], json!({})));
    json!({
        "name": phase["name"].as_str().or(phase["id"].as_str()),
        "percent": phase["trafficPercentage"],
        "min_duration": milliseconds(phase.get("durationMs")),
        "gates": gates,
    })
}

/// A success criterion: what must hold for a time.
fn criterion(criterion: &Value) -> Option<Value> {
    let metric = criterion["metric"].as_str()?;
    Some(json!({
        "kind": kind(metric),
        "mode": "plain",
        "name": format!("{metric}-criterion"),
        "must": criterion["operator"].as_str().unwrap_or("less_than"),
        "threshold": criterion["threshold"],
        "hold": milliseconds(criterion.get("durationMs")),
    }))
}

/// A health monitor: what warns and what is critical, the comparison with stable, and when it rolls back by itself.
fn monitor(settings: &Value, plan: &mut Value, gates: &mut Vec<Value>) {
    let window = milliseconds(settings.get("evaluationWindowMs"));
    for threshold in settings["thresholds"].as_array().into_iter().flatten() {
        let own =
            threshold["windowSize"].as_u64().map(|minutes| json!(show_duration(Duration::from_secs(60 * minutes))));
        let metric = threshold["metric"].as_str().unwrap_or_default();
        for (level, warn_only) in [("warning", true), ("critical", false)] {
            let more = json!({
                "name": format!("{}-{level}", metric.to_ascii_lowercase()),
                "window": if window.is_null() { own.clone().unwrap_or_default() } else { window.clone() },
                "consecutive_failures": threshold["consecutiveFailures"],
                "warn_only": warn_only,
            });
            gates.extend(limit(threshold, &threshold[level], more));
        }
    }
    if settings["comparisonEnabled"] == true {
        let part = settings["comparisonTolerance"].as_f64().unwrap_or(10.0) / 100.0;
        gates.push(json!({ "kind": "error_rate", "name": "errors-compared", "max_ratio": 1.0 + part }));
        gates.push(json!({ "kind": "latency", "name": "latency-compared", "margin": part }));
    }
    let automatic = &settings["autoRollback"];
    if automatic.is_object() {
        plan["auto_rollback"] = automatic["enabled"].clone();
        triggers(&automatic["thresholds"], gates);
        merge(
            &mut plan["rollback"],
            json!({
                "delay": milliseconds(automatic.get("delayMs")),
                "max_automatic": automatic["maxRollbacks"],
            }),
        );
    }
}

/// What starts a rollback.
fn triggers(thresholds: &Value, gates: &mut Vec<Value>) {
    for threshold in thresholds.as_array().into_iter().flatten() {
        let in_a_row = threshold.get("consecutiveViolations").or(threshold.get("consecutiveFailures"));
        let hold = threshold["duration"].as_u64().map(|seconds| show_duration(Duration::from_secs(seconds)));
        let metric = threshold["metric"].as_str().unwrap_or_default().to_ascii_lowercase();
        let more = json!({ "name": format!("{metric}-trigger"), "hold": hold, "consecutive_failures": in_a_row });
        gates.extend(limit(threshold, &threshold["threshold"], more));
    }
}

/// A rule that fails beyond `bound`.
fn limit(threshold: &Value, bound: &Value, more: Value) -> Option<Value> {
    let below = threshold["operator"].as_str().is_some_and(|word| word.starts_with("less"));
    let key = if below { "min" } else { "max" };
    let mut gate = json!({ "kind": kind(threshold["metric"].as_str()?), "mode": "plain", key: bound });
    merge(&mut gate, more);
    bound.is_number().then_some(gate)
}

/// How traffic goes back, and what is done around it.
fn rollback(settings: &Value, name: &str, plan: &mut Value, gates: &mut Vec<Value>, left_out: &mut LeftOut) {
    let field = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    if settings["autoTriggerEnabled"] != false {
        triggers(&settings["triggerThresholds"], gates);
    }
    let (safety, check) = (&settings["safety"], &settings["validation"]);
    let strategy = settings["strategy"].as_str().map(|word| word.to_ascii_lowercase().replace('-', "_"));
    let path = check["healthCheckPath"].as_str().filter(|_| check["enabled"] != false);
    merge(
        &mut plan["rollback"],
        json!({
            "strategy": strategy,
            "cooldown": milliseconds(safety.get("cooldownPeriodMs")),
            "max_duration": milliseconds(safety.get("maxRollbackTimeMs")),
            "verify": {
                "http": path.map(|path| json!({ "url": path })),
                "timeout": milliseconds(check.get("validationTimeoutMs")),
                "retries": check["retryAttempts"],
                "retry_delay": milliseconds(check.get("retryDelayMs")),
            },
        }),
    );
    if safety["allowConsecutiveRollbacks"] == false {
        plan["rollback"]["max_automatic"] = 1.into();
    }
    if safety["requireApproval"] == true {
        let why = "nobody is asked before traffic goes back to stable";
        left_out.push((field("safety.requireApproval"), why.into()));
    }
    let mut actions: Vec<&Value> = settings["actions"].as_array().into_iter().flatten().collect();
    actions.sort_by_key(|action| action["order"].as_i64().unwrap_or(i64::MAX));
    let mut kept = Vec::new();
    for action in actions {
        let (kind, config) = (action["type"].as_str().unwrap_or_default(), &action["config"]);
        let kind = match kind {
            "stop_new_traffic" | "drain_connections" => Some(kind),
            _ if config["url"].is_string() => Some("webhook"),
            _ if config["command"].is_array() => Some("command"),
            _ => None,
        };
        let Some(kind) = kind else {
            let why = "weir cannot do that itself; give its config a url or a command";
            left_out.push((field(&format!("actions.{}", action["id"].as_str().unwrap_or("?"))), why.into()));
            continue;
        };
        kept.push(json!({
            "at": "rollback", "type": kind, "timeout": milliseconds(action.get("timeoutMs")),
            "name": action["name"].as_str().or(action["id"].as_str()),
            "url": config["url"].as_str(), "method": config["method"].as_str(), "command": config["command"].as_array(),
        }));
    }
    if !kept.is_empty() {
        plan["actions"] = kept.into();
    }
}

/// The kind of a gate over that metric.
fn kind(metric: &str) -> String {
    match metric.to_ascii_lowercase().as_str() {
        "latency" | "latency_p95" | "latencyp95" => "latency".into(),
        other => other.into(),
    }
}

fn milliseconds(value: Option<&Value>) -> Value {
    let ms = value.and_then(Value::as_f64).filter(|ms| *ms >= 0.0);
    ms.map_or(Value::Null, |ms| json!(show_duration(Duration::from_millis(ms as u64))))
}

/// Adds the members of `more`; what is null was not said and takes nothing away.
fn merge(into: &mut Value, more: Value) {
    if into.is_null() {
        *into = json!({});
    }
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
}
