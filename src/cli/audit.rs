//! `weir audit`: who changed what and why, oldest last; `weir audit verify` checks the chain of hashes that shows
//! whether anybody changed the record afterwards.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::client::{Client, Question};
use super::failure::Failure;
use super::figures::{count, moment};
use super::screen::{Paint, printable};
use super::{Globals, screen};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 the record was changed (or cannot be read), 2 wrong usage.

Examples:
  weir audit --service engine
  weir audit verify")]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Check the chain of hashes instead
    #[arg(long)]
    verify: bool,
    /// Of this service only
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Most entries, newest first
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the chain of hashes
    Verify,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    if arguments.verify || matches!(arguments.verb, Some(Verb::Verify)) {
        return verify(&client, globals);
    }
    let answer = client.ask(Question::get(format!("/api/v1/audit?limit={}", arguments.limit)))?;
    let list = answer.as_array().or_else(|| answer["entries"].as_array()).or_else(|| answer["audit"].as_array());
    let wanted = |entry: &&Value| arguments.service.as_ref().is_none_or(|service| entry["service"] == service.as_str());
    let entries: Vec<&Value> = list.into_iter().flatten().filter(wanted).collect();
    if globals.json() {
        return screen::print_json(&serde_json::json!({ "entries": entries }));
    }
    screen::print(&render(&entries, Paint::stdout()))
}

fn verify(client: &Client, globals: &Globals) -> Result<(), Failure> {
    let answer = client.ask(Question::get("/api/v1/audit/verify"))?;
    let ok = answer["ok"].as_bool().unwrap_or(false);
    if globals.json() {
        screen::print_json(&answer)?;
    } else if ok {
        let entries = answer["entries"].as_u64().unwrap_or_default();
        let ok = Paint::stdout().green("ok");
        screen::print(&format!("{ok} {} entries, every one follows from the one before\n", count(entries)))?;
    } else {
        let why = answer["detail"].as_str().map(printable).unwrap_or_default();
        let at = answer["brokenAt"].as_u64().map(|at| format!(" at entry {at}")).unwrap_or_default();
        screen::complain(&format!("the record was changed{at}{}{why}", if why.is_empty() { "" } else { ": " }));
    }
    if ok { Ok(()) } else { Err(Failure::Said(1)) }
}

fn render(entries: &[&Value], paint: Paint) -> String {
    if entries.is_empty() {
        return "nothing is on record\n".into();
    }
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let mut text = String::new();
    for entry in entries {
        let member =
            |keys: &[&str]| keys.iter().find_map(|key| entry[*key].as_str()).map(printable).unwrap_or_default();
        let at = entry["atMs"].as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|at| at.to_string());
        let at = at.unwrap_or_else(|| member(&["at"]));
        let reason = Some(member(&["reason"])).filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
        let number = entry["id"].as_u64().or_else(|| entry["n"].as_u64()).unwrap_or_default();
        let left = paint.dim(&format!("{number:>5}  {}  {}", moment(&at, &now), member(&["who"])));
        let what = [member(&["action", "what"]), member(&["service"]), member(&["detail"])];
        let what: Vec<String> = what.into_iter().filter(|part| !part.is_empty()).collect();
        let _ = writeln!(text, "{left}  {}{reason}", what.join("  "));
    }
    text
}
