//! `weir maintenance`: has a running weir answer 503 for a service, or for all of them, and ends that. It stands in the
//! weights file; with `--offline` the file is edited without asking anybody.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::{Paint, printable};
use super::{Globals, change, offline, place, screen};
use crate::config::edit_maintenance;
use crate::model::{Name, Scope};

#[derive(Debug, Args)]
#[command(after_help = "\
It is written to the weights file, so it outlives a restart. For single pools, another body or
Retry-After, write a table there: maintenance = { pools = [\"canary\"], retry_after = \"5m\" }

Examples:
  weir maintenance engine --reason \"new database, back at nine\"
  weir maintenance engine --end
  weir maintenance --all --reason \"moving house\"")]
pub(super) struct Arguments {
    /// The service
    #[arg(value_parser = change::name, required_unless_present = "all")]
    service: Option<Name>,
    /// Every service
    #[arg(long, conflicts_with = "service")]
    all: bool,
    /// What clients are told, and why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// It is over
    #[arg(long, conflicts_with = "reason")]
    end: bool,
    /// Change the weights file without asking a running weir; one that runs takes it over when it sees the file
    #[arg(long)]
    offline: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.offline {
        return by_file(arguments, globals);
    }
    let whose = arguments.service.as_ref().map_or("--all", Name::as_str);
    let mut body = match &arguments.service {
        Some(service) => json!({ "scope": "service", "service": service.as_str() }),
        None => json!({ "scope": "system" }),
    };
    body["end"] = arguments.end.into();
    if !arguments.reason.is_empty() {
        body["reason"] = arguments.reason.as_str().into();
    }
    let end = if arguments.end { " --end" } else { "" };
    let client = Client::new(globals)?.instead(format!("weir maintenance {whose}{end} --offline"));
    let answer = client.ask(change::signed(Question::post("/api/v1/maintenance", body), ""))?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    screen::print(&told(&answer, whose, Paint::stdout()))
}

/// One line: what answers 503 now.
fn told(answer: &Value, whose: &str, paint: Paint) -> String {
    let scope = match answer["service"].as_str() {
        Some(name) => format!("service {}", printable(name)),
        None => "every service".into(),
    };
    let closed = answer["closed"].as_array().and_then(|list| list.first());
    let generation = paint.dim(&format!("(generation {})", answer["generation"]));
    let (ends, changed) = (answer["maintenance"] == false, answer["changed"] == true);
    match closed {
        Some(closed) if ends && closed["scope"] == "system" => {
            format!("{scope} is still under maintenance, as every service is: `weir maintenance --all --end`\n")
        }
        Some(closed) if ends => {
            let name = closed["service"].as_str().map(printable).unwrap_or_default();
            format!("service {name} is still under maintenance of its own: `weir maintenance {name} --end`\n")
        }
        _ if ends && !changed => format!("{scope} was not under maintenance\n"),
        _ if ends => format!("{scope} {} {generation}\n", paint.green("is served again")),
        _ => {
            let what = paint.red("is under maintenance and answers 503");
            format!("{scope} {what}; `weir maintenance {whose} --end` ends it {generation}\n")
        }
    }
}

/// Edits the weights file alone.
fn by_file(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let scope = arguments.service.clone().map_or(Scope::System, Scope::Service);
    let reason = (!arguments.end).then_some(arguments.reason.as_str());
    let text = offline::with_word(&config, &scope, &|text| edit_maintenance(text, &scope, reason))?;
    let file = config.weights_path.display().to_string();
    offline::put(&config, &text)?;
    if globals.json() {
        let service = arguments.service.as_ref().map(Name::as_str);
        return screen::print_json(&json!({ "service": service, "maintenance": !arguments.end, "weights_file": file }));
    }
    let paint = Paint::stdout();
    let what = match arguments.end {
        true => paint.green("is served again"),
        false => paint.red("is under maintenance and answers 503"),
    };
    screen::print(&format!("{file} says that {scope} {what}; no running weir was asked\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_is_what_is_so_and_not_what_was_asked_for() {
        let said = |end: bool, changed: bool, closed: Value| {
            let answer = json!({ "service": "engine", "maintenance": !end, "changed": changed, "closed": closed,
                "generation": 7 });
            told(&answer, "engine", Paint::plain())
        };
        let by = |scope: &str| json!([{ "service": "engine", "scope": scope, "reason": "" }]);
        assert_eq!(
            said(false, true, by("service")),
            "service engine is under maintenance and answers 503; `weir maintenance engine --end` ends it \
             (generation 7)\n"
        );
        assert_eq!(said(true, true, json!([])), "service engine is served again (generation 7)\n");
        assert_eq!(said(true, false, json!([])), "service engine was not under maintenance\n");
        assert!(said(true, true, by("system")).contains("still under maintenance, as every service is"));
    }
}
