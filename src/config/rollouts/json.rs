//! Plans as JSON: the keys of a plan file, or the bodies of other systems (a phased canary deployment with success
//! criteria and rollback thresholds; a build and a channel). All of them become the keys of a plan file.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// The text of a plan file that says the same as `body`. `service` is used when the body names none.
pub(super) fn to_text(body: &Value) -> Result<String, String> {
    let object = body.as_object().ok_or("a plan is an object")?;
    let plan = if object.contains_key("channel") || object.contains_key("buildId") {
        of_build(object)?
    } else if object.contains_key("serviceName") || object.contains_key("trafficShiftStrategy") {
        of_deployment(object)
    } else {
        body.clone()
    };
    let plan = without_nulls(plan);
    toml::to_string(&plan).map_err(|error| error.to_string())
}

/// `{buildId, channel}`: the phases of the channel.
fn of_build(object: &Map<String, Value>) -> Result<Value, String> {
    let channel = object.get("channel").and_then(Value::as_str).unwrap_or("stable");
    let profile = match channel {
        "stable" => "stable-channel",
        "beta" => "moderate",
        other => return Err(format!("there is no channel \"{other}\"; it is \"stable\" or \"beta\"")),
    };
    let mut plan = json!({ "profile": profile, "version": object.get("buildId") });
    for key in ["service", "candidate"] {
        if let Some(value) = object.get(key) {
            plan[key] = value.clone();
        }
    }
    Ok(plan)
}

/// A phased deployment.
fn of_deployment(object: &Map<String, Value>) -> Value {
    let phases = object.get("phases").and_then(Value::as_array).cloned().unwrap_or_default();
    let phases: Vec<Value> = phases.iter().map(phase).collect();
    let mut plan = json!({
        "service": object.get("serviceName"),
        "version": object.get("canaryVersion"),
        "phases": phases,
        "auto_advance": object.get("autoPromote"),
        "auto_rollback": object.get("autoRollback"),
        "deadline": milliseconds(object.get("maxDeploymentTimeMs")),
        // The least times are the times of that system: it knows no waiting for evidence.
        "on_inconclusive": "pause",
    });
    if phases.is_empty()
        && let Some(percent) = object.get("initialTrafficPercentage")
    {
        plan["phases"] = json!([{ "percent": percent }, { "percent": 100 }]);
    }
    plan
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
    let kind = match metric {
        "latency" | "latency_p95" | "latencyP95" => "latency",
        other => other,
    };
    let operator = criterion["operator"].as_str().unwrap_or("less_than");
    Some(json!({
        "kind": kind,
        "mode": "plain",
        "name": format!("{metric}-criterion"),
        "must": operator,
        "threshold": criterion["threshold"],
        "hold": milliseconds(criterion.get("durationMs")),
    }))
}

fn milliseconds(value: Option<&Value>) -> Value {
    let ms = value.and_then(Value::as_f64).filter(|ms| *ms >= 0.0);
    ms.map_or(Value::Null, |ms| json!(format!("{}ms", Duration::from_millis(ms as u64).as_millis())))
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

/// TOML has no null: what is null was not said.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let said = object.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
