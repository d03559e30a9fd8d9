//! Plans as JSON: the keys of a plan file, or the bodies of other systems (a build and a channel; a phased canary
//! deployment, with the settings of its monitoring and of its rollback, see [`super::foreign`]). All of them become the
//! keys of a plan file.

use serde_json::{Map, Value, json};

use super::foreign;

/// What a body says in the keys of a plan file.
#[derive(Debug)]
pub(super) struct Translated {
    /// The text of a plan file.
    pub(super) text: String,
    /// What it asked for and a plan cannot say, with its field.
    pub(super) left_out: Vec<(String, String)>,
}

/// The plan file that says the same as `body`.
pub(super) fn to_text(body: &Value) -> Result<Translated, String> {
    let object = body.as_object().ok_or("a plan is an object")?;
    let mut left_out = Vec::new();
    let plan = if object.contains_key("channel") || object.contains_key("buildId") {
        of_build(object)?
    } else if foreign::is_deployment(object) {
        foreign::plan(object, &mut left_out)
    } else {
        body.clone()
    };
    let text = toml::to_string(&without_nulls(plan)).map_err(|error| error.to_string())?;
    Ok(Translated { text, left_out })
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
