//! `weir kill` and `weir unkill`: everything of a service, or of all services, to stable, above whatever else is going
//! on; and what is killed.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::{Paint, printable};
use super::{Globals, change, screen};
use crate::model::Name;

#[derive(Debug, Args)]
#[command(after_help = "\
A killed service sends every request to its stable pool: weights, routes, paths, overrides and
rollouts do not count until `weir unkill`.

Examples:
  weir kill engine --reason \"errors on /pay\"
  weir kill --all --reason \"do not touch anything tonight\"
  weir kill --status")]
pub(super) struct Kill {
    /// The service
    #[arg(value_parser = change::name, required_unless_present_any = ["all", "status"])]
    service: Option<Name>,
    /// Every service
    #[arg(long, conflicts_with = "service")]
    all: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Say what is killed, change nothing
    #[arg(long, conflicts_with_all = ["service", "all"])]
    status: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What was killed by a file stays killed until that file says otherwise. Rollouts that were under
way stay paused.")]
pub(super) struct Unkill {
    /// The service
    #[arg(value_parser = change::name, required_unless_present = "all")]
    service: Option<Name>,
    /// What was killed for every service
    #[arg(long, conflicts_with = "service")]
    all: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

pub(super) fn kill(arguments: &Kill, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    if arguments.status {
        return status(&client, globals);
    }
    send(&client, "/api/v1/kill", arguments.service.as_ref(), &arguments.reason, globals)
}

pub(super) fn unkill(arguments: &Unkill, globals: &Globals) -> Result<(), Failure> {
    send(&Client::new(globals)?, "/api/v1/unkill", arguments.service.as_ref(), &arguments.reason, globals)
}

fn send(client: &Client, path: &str, service: Option<&Name>, reason: &str, globals: &Globals) -> Result<(), Failure> {
    let mut body = match service {
        Some(service) => json!({ "scope": "service", "service": service.as_str() }),
        None => json!({ "scope": "system" }),
    };
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    let answer = client.ask(change::signed(Question::post(path, body), ""))?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    let paint = Paint::stdout();
    let whose = service.map_or_else(|| "every service".to_owned(), |service| format!("service {service}"));
    let told = if path.ends_with("unkill") {
        format!("{whose} {}; its weights count again\n", paint.green("is let go"))
    } else {
        let back = service.map_or_else(|| "--all".to_owned(), Name::to_string);
        format!("{whose} {}: everything goes to stable; `weir unkill {back}` lets it go\n", paint.red("is killed"))
    };
    screen::print(&told)?;
    if let Some(pending) = answer["pending"].as_str() {
        screen::note(&printable(pending));
    }
    Ok(())
}

fn status(client: &Client, globals: &Globals) -> Result<(), Failure> {
    let status = client.ask(Question::get("/api/v1/status"))?;
    let killed = killed(&status);
    if globals.json() {
        let list: Vec<Value> = killed
            .iter()
            .map(|(service, reason)| match service {
                Some(service) => json!({ "scope": "service", "service": service, "reason": reason }),
                None => json!({ "scope": "system", "reason": reason }),
            })
            .collect();
        return screen::print_json(&json!({ "killed": list, "switches": status["killSwitches"] }));
    }
    let paint = Paint::stdout();
    let mut text = String::new();
    for (service, reason) in &killed {
        let whose =
            service.as_deref().map_or_else(|| "every service".into(), |name| format!("service {}", printable(name)));
        let _ = writeln!(text, "{} {whose}: {}", paint.red("killed"), printable(reason));
    }
    if killed.is_empty() {
        text += "nothing is killed\n";
    }
    screen::print(&text)
}

/// What is killed and why: the whole system (none), then services.
pub(super) fn killed(status: &Value) -> Vec<(Option<String>, String)> {
    let reason = |of: &Value| {
        let killed = if of["killed"].is_null() { &of["kill"] } else { &of["killed"] };
        match killed {
            Value::String(reason) => Some(reason.clone()),
            Value::Bool(true) => Some("no reason was given".into()),
            Value::Object(object) => Some(object.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned()),
            _ => None,
        }
    };
    let system = reason(status).map(|reason| (None, reason));
    let services = status["services"].as_array().into_iter().flatten();
    let services = services.filter_map(|it| {
        let whose = if it["killed"]["scope"] == "system" { None } else { Some(it["name"].as_str()?.to_owned()) };
        Some((whose, reason(it)?))
    });
    // A kill of the system is told with every service.
    let mut killed: Vec<(Option<String>, String)> = Vec::new();
    for one in system.into_iter().chain(services) {
        if !killed.contains(&one) {
            killed.push(one);
        }
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_killed_is_told_with_its_reason() {
        let status = json!({ "killed": null, "services": [
            { "name": "engine", "killed": "errors on /pay" }, { "name": "shop", "killed": null },
        ]});
        assert_eq!(killed(&status), [(Some("engine".to_owned()), "errors on /pay".to_owned())]);
        let both = |scope: &str| {
            let killed = json!({ "scope": scope, "reason": "freeze" });
            json!({ "services": [{ "name": "engine", "killed": killed }, { "name": "shop", "killed": killed }] })
        };
        assert_eq!(killed(&both("system")), [(None, "freeze".to_owned())]);
        assert_eq!(killed(&both("service")).len(), 2);
        assert_eq!(killed(&json!({ "killed": "all of it", "services": [] })), [(None, "all of it".to_owned())]);
    }
}
