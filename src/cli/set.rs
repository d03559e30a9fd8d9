//! `weir set SERVICE POOL=WEIGHT…`: written to the weights file and live when it returns.

use clap::Args;
use serde_json::{Map, Value};

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, change, near, offline};
use crate::model::{Name, Weight, Weights};

#[derive(Debug, Args)]
#[command(after_help = "\
Every pool that has traffic must be named, so that no typing error moves it all.

Examples:
  weir set engine stable=90 canary=10
  weir set engine stable=99.5% canary=0.5% --reason \"first users\"
  weir set engine stable=50 canary=50 --if-match 12   only if 12 is still the generation")]
pub(super) struct Arguments {
    /// The service
    #[arg(value_parser = change::name)]
    service: Name,
    /// A pool and its weight: a whole number, or a percentage such as 10%
    #[arg(required = true, value_name = "POOL=WEIGHT", value_parser = entry)]
    weights: Vec<(Name, Weight)>,
    /// Only if this generation is still live
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Change the weights file without asking a running weir; one that runs takes it over when it sees the file
    #[arg(long, conflicts_with = "if_match")]
    offline: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let weights = Weights::new(arguments.weights.clone()).map_err(|error| Failure::Wrong(error.into()))?;
    if arguments.offline {
        return offline::set(globals, &arguments.service, &weights);
    }
    let words: Vec<String> = arguments.weights.iter().map(|(pool, weight)| format!("{pool}={weight}")).collect();
    let offline = format!("weir set {} {} --offline", arguments.service, words.join(" "));
    let client = Client::new(globals)?.instead(offline);
    let path = change::path(&arguments.service, "weights");
    let live = client.ask(Question::get(&path))?;
    // A name that is mistyped explains why the right one seems to be forgotten, so it is told first.
    mistyped(&client, &arguments.service, &live["weights"], &weights)?;
    unnamed(&live["weights"], &weights).map_or(Ok(()), |pool| Err(forgotten(&pool, &arguments.service)))?;
    let question = Question::put(&path, body(&weights));
    let question = match arguments.if_match {
        Some(generation) => question.header("if-match", &format!("\"{generation}\"")),
        None => question,
    };
    let answer = client.ask(change::signed(question, &arguments.reason))?;
    change::tell(&answer, globals)?;
    change::warn(&client, &answer, &format!("`weir undo {}`", arguments.service));
    Ok(())
}

/// Refuses a pool that the service does not have, with the one that was meant.
fn mistyped(client: &Client, service: &Name, live: &Value, weights: &Weights) -> Result<(), Failure> {
    let unknown =
        |known: &[String]| weights.iter().map(|(pool, _)| pool.to_string()).find(|pool| !known.contains(pool));
    let known: Vec<String> = live.as_object().into_iter().flatten().map(|(pool, _)| pool.clone()).collect();
    if unknown(&known).is_none() {
        return Ok(());
    }
    // The weights file need not name every pool.
    let status = client.ask(Question::get("/api/v1/status")).unwrap_or_default();
    let services = status["services"].as_array().into_iter().flatten();
    let pools = services.filter(|it| it["name"] == service.as_str()).flat_map(|it| near::names(&it["pools"]));
    let known: Vec<String> = known.into_iter().chain(pools).collect();
    let Some(pool) = unknown(&known) else { return Ok(()) };
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Err(Failure::wrong(format!("service \"{service}\" has no pool \"{pool}\"{}", near::advice(&pool, &names))))
}

/// Reads `stable=90`.
fn entry(text: &str) -> Result<(Name, Weight), String> {
    let (pool, weight) = text.split_once('=').ok_or("write POOL=WEIGHT, such as canary=10")?;
    Ok((change::name(pool)?, Weight::parse(weight).map_err(|error| error.to_string())?))
}

/// A pool that has traffic and that the new weights do not name.
fn unnamed(live: &Value, weights: &Weights) -> Option<String> {
    let named = |pool: &str| weights.iter().any(|(name, _)| name.as_str() == pool);
    let has_traffic = |weight: &Value| weight.as_u64() != Some(0) && weight.as_str() != Some("0%");
    let mut pools = live.as_object()?.iter();
    pools.find(|(pool, weight)| has_traffic(weight) && !named(pool)).map(|(pool, _)| pool.clone())
}

fn forgotten(pool: &str, service: &Name) -> Failure {
    Failure::wrong(format!(
        "pool \"{pool}\" of {service} has traffic and is not named; say {pool}=0 if it should get nothing"
    ))
}

fn body(weights: &Weights) -> Value {
    let value = |weight: Weight| match weight {
        Weight::Relative(number) => Value::from(number),
        Weight::Percent(_) => Value::from(weight.to_string()),
    };
    Value::Object(weights.iter().map(|(pool, weight)| (pool.to_string(), value(weight))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_with_traffic_cannot_be_forgotten() {
        let weights = Weights::new(vec![entry("canary=10").expect("an entry")]).expect("weights");
        assert_eq!(unnamed(&json!({ "stable": 90, "canary": 10 }), &weights).as_deref(), Some("stable"));
        assert_eq!(unnamed(&json!({ "stable": 0, "canary": 10 }), &weights), None);
        assert_eq!(unnamed(&json!({ "stable": "0%", "canary": "100%" }), &weights), None);
    }

    #[test]
    fn percents_are_sent_as_they_were_typed() {
        let entries = vec![entry("stable=99.5%").expect("an entry"), entry("canary=0.5%").expect("an entry")];
        let weights = Weights::new(entries).expect("weights");
        assert_eq!(body(&weights), json!({ "stable": "99.5%", "canary": "0.5%" }));
    }
}
