//! The schema that editors check plans with: a golden file, every example by a second validator, every key in the
//! reference.

use std::process::Command;

use serde_json::Value;

use super::{examples, root};

/// As `weir schema --rollout` prints it.
fn schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(["schema", "--rollout"]).output().expect("it runs");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// What of `value` the schema does not allow: the part of JSON Schema that our own use.
fn wrong(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(kind) = schema["type"].as_str() {
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("unknown type {other}"),
        };
        if !fits {
            found.push(format!("{place}: {value} is no {kind}"));
            return;
        }
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{place}: {value} is none of {words:?}"));
    }
    if let Some(number) = value.as_f64() {
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            found.push(format!("{place}: {number} is out of bounds"));
        }
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        let fits = |way: &&Value| {
            let mut found = Vec::new();
            wrong(way, value, place, &mut found);
            found.is_empty()
        };
        if ways.iter().filter(fits).count() != 1 {
            found.push(format!("{place}: {value} fits not exactly one way"));
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{place}: {name} is missing"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        wrong(&schema["items"], item, &format!("{place}[{index}]"), found);
    }
    for (key, member) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(property), _) => wrong(property, member, &place, found),
            (None, Value::Bool(false)) => found.push(format!("{place} is unknown")),
            (None, other) => wrong(other, member, &place, found),
        }
    }
}

fn problems(text: &str) -> Vec<String> {
    let plan = serde_json::to_value(text.parse::<toml::Table>().expect("TOML")).expect("it is data");
    let mut found = Vec::new();
    wrong(&schema(), &plan, "plan", &mut found);
    found
}

#[test]
fn the_schema_of_a_plan_is_the_golden_one() {
    let (file, shown) = (root().join("tests/golden/plan.schema.json"), format!("{:#}\n", schema()));
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &shown).expect("it can be written");
    }
    let golden = std::fs::read_to_string(&file).expect("the golden file is there");
    assert!(golden == shown, "tests/golden/plan.schema.json is another; WEIR_UPDATE_GOLDEN=1 refreshes it");
}

#[test]
fn every_example_fits_the_schema_and_mistakes_do_not() {
    for (name, text) in examples() {
        assert_eq!(problems(&text), Vec::<String>::new(), "{name}");
    }
    for (text, part) in [
        ("candidat = \"canary\"", "plan.candidat is unknown"),
        ("strategy = \"slow\"", "none of"),
        ("[[phases]]\npercent = 101", "out of bounds"),
        ("[[gates]]\nname = \"a\"", "kind is missing"),
        ("[[gates]]\nkind = \"suite\"\nrequests = [{ url = 7 }]", "7 is no string"),
        ("[[phases]]\nweights = { canary = 1.5 }", "1.5 is no integer"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
    }
}

/// Every key of the schema with its default as a file writes it.
fn keys(schema: &Value, found: &mut Vec<(String, Option<String>)>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let default = property.get("default").map(|default| match default {
            Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |n| format!("{n}")),
            other => other.to_string(),
        });
        found.push((key.clone(), default));
    }
    match schema {
        Value::Object(members) => members.values().for_each(|inner| keys(inner, found)),
        Value::Array(items) => items.iter().for_each(|inner| keys(inner, found)),
        _ => {}
    }
}

#[test]
fn the_reference_plan_has_every_key_with_its_default() {
    let text = examples().into_iter().find(|(name, _)| name == "reference").expect("the reference").1;
    let written: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once(" = "))
        .map(|(key, value)| (key, value.split(" #").next().unwrap_or_default().trim()))
        .collect();
    let header = |key: &str| text.lines().any(|line| line.starts_with('[') && line.contains(key));
    let mut known = Vec::new();
    keys(&schema(), &mut known);
    assert!(known.len() > 100, "the schema lost its keys");
    let same = |value: &str, default: &str| {
        value == default || value.parse::<f64>().ok().zip(default.parse::<f64>().ok()).is_some_and(|(a, b)| a == b)
    };
    let stands = |(key, default): &&(String, Option<String>)| match default {
        Some(default) => written.iter().any(|(name, value)| name == key && same(value, default)),
        None => header(key) || written.iter().any(|(name, _)| name == key),
    };
    let missing: Vec<_> = known.iter().filter(|key| !stands(key)).collect();
    assert!(missing.is_empty(), "config/rollouts/reference.toml lacks {missing:?}");
}
