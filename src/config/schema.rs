//! JSON Schema (draft 2020-12) of the files, made from the one table of keys, for editors and `weir schema`
//! (`#:schema ./weir.schema.json` in the file). It describes forms and bounds; references between tables are only
//! checked by the parser.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind};
use crate::model::{MAINTENANCE_BODY_BYTES_MAX, WEIGHT_MAX};

/// The schema of `weir.toml`.
pub fn schema() -> Value {
    let mut schema = table("");
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "weir.toml".into();
    schema["required"] = json!(["services"]);
    schema
}

/// The schema of a plan file, `rollouts/NAME.toml`.
pub fn rollout_schema() -> Value {
    let mut schema = table("plan");
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "rollouts/NAME.toml".into();
    schema
}

/// The schema of `weights.toml`.
pub fn weights_schema() -> Value {
    let weight = json!({ "oneOf": [
        { "type": "integer", "minimum": 0, "maximum": WEIGHT_MAX },
        { "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,4})?%?$" },
    ] });
    let kill = json!({
        "description": "the kill switch: everything to stable, whatever else says otherwise; the reason, or true",
        "oneOf": [{ "type": "string" }, { "type": "boolean" }],
    });
    let maintenance = json!({
        "description": "answer 503 with Retry-After; the reason, true, or a table of what to answer",
        "oneOf": [{ "type": "string" }, { "type": "boolean" }, {
            "type": "object",
            "properties": {
                "reason": { "type": "string" },
                "retry_after": { "type": "string", "examples": ["5m"] },
                "body": { "type": "string", "maxLength": MAINTENANCE_BODY_BYTES_MAX },
                "pools": { "type": "array", "items": { "type": "string" } },
            },
            "additionalProperties": false,
        }],
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "weights.toml",
        "description": "one table per service, one weight per pool: relative integers, or percents that sum to 100",
        "type": "object",
        "properties": { "kill": kill, "maintenance": maintenance },
        "additionalProperties": {
            "type": "object",
            "minProperties": 1,
            "properties": { "kill": kill, "maintenance": maintenance },
            "additionalProperties": weight,
        },
    })
}

fn table(path: &str) -> Value {
    let table = keys::table(path);
    let properties: Map<String, Value> = table.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    let required: &[&str] = match path {
        "services.*" => &["pools"],
        "services.*.pools.*" => &["endpoints"],
        "listeners.*" => &["address"],
        "notifications.channels[]" => &["name", "kind"],
        "notifications.escalations[]" => &["after", "channels"],
        "plan.gates" => &["kind"],
        _ => &[],
    };
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(key.kind);
    schema["description"] = key.doc.into();
    if let Some(default) = default(key) {
        schema["default"] = default;
    }
    schema
}

fn kind(kind: Kind) -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "oneOf": [{ "type": "string" }, texts] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Ratio => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Duration(_) => json!({ "type": "string", "examples": ["250ms", "2s", "5m", "1h"] }),
        Kind::Size(min, max) => json!({ "oneOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "examples": ["32KiB", "1MiB"] },
        ] }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Words(words) => {
            json!({ "oneOf": [{ "enum": words }, { "type": "array", "items": { "enum": words } }] })
        }
        Kind::FlagOrTable(path) => json!({ "oneOf": [{ "type": "boolean" }, table(path)] }),
        Kind::Table(path) => table(path),
        Kind::Named(path) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" },
            "additionalProperties": table(path),
        }),
        Kind::List(path) => json!({ "type": "array", "items": table(path) }),
        Kind::Values("plan.text") => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Values("plan.weight") => {
            let weight = json!({ "type": "integer", "minimum": 0, "maximum": WEIGHT_MAX });
            json!({ "type": "object", "additionalProperties": weight })
        }
        Kind::Values(path) => json!({
            "type": "object",
            "additionalProperties": { "oneOf": [{ "type": "string" }, table(path)] },
        }),
        Kind::Statuses => json!({ "oneOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" },
        ] }),
    }
}

/// The default of a key as JSON: it is written in the table of keys as it would be in the file.
fn default(key: &Key) -> Option<Value> {
    // Strings, numbers, booleans and the empty list are written in TOML as they are in JSON.
    (!key.default.is_empty()).then(|| serde_json::from_str(key.default).unwrap_or(Value::Null))
}
