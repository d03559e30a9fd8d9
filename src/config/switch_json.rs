//! Kill switches of other systems: `{name, scope, targetComponent, triggerConditions, autoRecovery, gracePeriodMs, …}`
//! as the text of `[[kill_switches]]`. Nothing is made up: what has no place here is told.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::time::show_duration;

/// The text of `[[kill_switches]]` that says the same as `body`, one switch or a list, and what it does not say.
pub fn switch_text(body: &Value) -> Result<(String, Vec<String>), String> {
    let mut left = Vec::new();
    let bodies = body.as_array().map_or_else(|| vec![body], |list| list.iter().collect());
    let switches: Result<Vec<Value>, String> = bodies.into_iter().map(|body| switch(body, &mut left)).collect();
    let text = toml::to_string(&json!({ "kill_switches": switches? })).map_err(|error| error.to_string())?;
    Ok((text, left))
}

fn switch(body: &Value, left: &mut Vec<String>) -> Result<Value, String> {
    let body = body.as_object().ok_or("a kill switch is an object")?;
    let mut switch = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            switch.insert(key.into(), value);
        }
    };
    for key in ["name", "description", "priority", "enabled"] {
        put(key, body.get(key).cloned());
    }
    put("grace", time(body, "gracePeriodMs")?);
    match body.get("scope").and_then(Value::as_str) {
        Some("system" | "global") => put("scope", Some("system".into())),
        Some("component" | "service") | None => put("service", body.get("targetComponent").cloned()),
        Some(other) => return Err(format!("the scope \"{other}\" is neither \"component\" nor \"system\"")),
    }
    let conditions = body.get("triggerConditions").or(body.get("triggers")).and_then(Value::as_array);
    let triggers: Result<Vec<Value>, String> =
        conditions.into_iter().flatten().filter_map(|it| trigger(it, left)).collect();
    let triggers = triggers?;
    put("triggers", (!triggers.is_empty()).then(|| triggers.into()));
    if let Some(recovery) = body.get("autoRecovery").and_then(Value::as_object) {
        let mut table = Map::new();
        for (key, value) in [
            ("enabled", recovery.get("enabled").cloned()),
            ("delay", time(recovery, "delayMs")?),
            ("attempts", recovery.get("maxAttempts").cloned()),
        ] {
            table.extend(value.map(|value| (key.to_owned(), value)));
        }
        put("recovery", Some(table.into()));
        if recovery.get("recoveryActions").and_then(Value::as_array).is_some_and(|actions| !actions.is_empty()) {
            left.push("recoveryActions: a switch lets go of the kill and looks whether its triggers stay clear".into());
        }
    }
    if body.get("notifications").is_some() {
        left.push("notifications: [notifications] of weir.toml says who hears of its events".into());
    }
    Ok(switch.into())
}

/// One condition; none of those that weir does not look at.
fn trigger(condition: &Value, left: &mut Vec<String>) -> Option<Result<Value, String>> {
    let kind = condition["type"].as_str().unwrap_or_default().to_ascii_lowercase();
    let threshold = condition["threshold"].as_f64();
    let mut trigger = match (kind.as_str(), threshold) {
        ("error_rate" | "error_rate_threshold", Some(percent)) => {
            json!({ "kind": "error_rate", "max_percent": percent })
        }
        ("latency" | "latency_threshold" | "response_time_threshold", Some(ms)) if ms > 0.0 => {
            json!({ "kind": "latency", "max_latency": show_duration(Duration::from_secs_f64(ms.min(1e9) / 1000.0)) })
        }
        ("health_check_failure" | "no_endpoint", _) => json!({ "kind": "no_endpoint" }),
        // Switches can always be pulled by hand.
        ("manual" | "manual_trigger", _) => return None,
        ("error_rate" | "error_rate_threshold" | "latency" | "latency_threshold", None) => {
            return Some(Err(format!("the condition \"{kind}\" has no threshold")));
        }
        _ => {
            left.push(format!("the condition \"{kind}\": weir looks at error_rate, latency and no_endpoint"));
            return None;
        }
    };
    if let Some(component) = condition["component"].as_str() {
        trigger["service"] = component.into();
    }
    match time(condition.as_object()?, "windowMs") {
        Ok(Some(window)) => trigger["window"] = window,
        Ok(None) => {}
        Err(error) => return Some(Err(error)),
    }
    Some(Ok(trigger))
}

fn time(object: &Map<String, Value>, key: &str) -> Result<Option<Value>, String> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let ms = value.as_u64().ok_or_else(|| format!("{key} is not a number of milliseconds"))?;
    Ok(Some(show_duration(Duration::from_millis(ms)).into()))
}
