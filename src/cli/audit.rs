//! `weir audit`: who changed what and why, oldest first; `weir audit verify` checks the chain of hashes that shows
//! whether anybody changed the record afterwards. Where no weir runs, or with `--offline`, both read the state
//! directory.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use http::StatusCode;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;

use super::client::{Client, ClientError, Question};
use super::failure::Failure;
use super::figures::{count, moment};
use super::record::Offline;
use super::screen::{Paint, printable};
use super::{Globals, screen};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 the record was changed (or cannot be read), 2 wrong usage.

Examples:
  weir audit --service engine
  weir audit verify
  weir audit --offline --state-dir /var/lib/weir")]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Check the chain of hashes instead
    #[arg(long)]
    verify: bool,
    /// Of this service only
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Most entries, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    offline: Offline,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the chain of hashes
    Verify(Offline),
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    match &arguments.verb {
        Some(Verb::Verify(offline)) => verify(offline, globals),
        None if arguments.verify => verify(&arguments.offline, globals),
        None => show(arguments, globals),
    }
}

fn show(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let limit = u64::from(arguments.limit);
    let answer = match asked(&format!("/api/v1/audit?limit={limit}"), &arguments.offline, globals)? {
        Some(answer) => answer,
        None => serde_json::to_value(arguments.offline.open(globals)?.audit(limit)?)?,
    };
    let wanted = |entry: &&Value| arguments.service.as_ref().is_none_or(|service| entry["service"] == service.as_str());
    let list = answer.as_array().or_else(|| answer["entries"].as_array()).or_else(|| answer["audit"].as_array());
    let mut entries: Vec<&Value> = list.into_iter().flatten().filter(wanted).collect();
    entries.sort_by_key(|entry| entry["seq"].as_u64());
    if globals.json() {
        return screen::print_json(&serde_json::json!({ "entries": entries }));
    }
    let text = render(&entries, &Timestamp::now().to_zoned(TimeZone::system()), Paint::stdout());
    screen::print(&screen::wrapped(&text, screen::columns()))
}

fn verify(offline: &Offline, globals: &Globals) -> Result<(), Failure> {
    let answer = match asked("/api/v1/audit/verify", offline, globals)? {
        Some(answer) => answer,
        None => serde_json::to_value(offline.open(globals)?.verify_audit()?)?,
    };
    let ok = answer["ok"].as_bool().unwrap_or(false);
    if globals.json() {
        screen::print_json(&answer)?;
    } else if ok {
        let entries = answer["entries"].as_u64().unwrap_or_default();
        let word = Paint::stdout().green("ok");
        let head = answer["head"].as_str().map(|head| format!("; the newest is {}", printable(head)));
        let head = head.unwrap_or_default();
        screen::print(&format!("{word} {} entries, each follows from the one before{head}\n", count(entries)))?;
    } else {
        let broken = answer["broken"].as_str().map(|broken| format!(": {}", printable(broken))).unwrap_or_default();
        screen::complain(&format!("the record was changed{broken}"));
    }
    if ok { Ok(()) } else { Err(Failure::Said(1)) }
}

/// What the running weir says; none when the state directory is to be read instead.
fn asked(path: &str, offline: &Offline, globals: &Globals) -> Result<Option<Value>, Failure> {
    if offline.is_meant() {
        return Ok(None);
    }
    let client = Client::new(globals)?;
    match client.send(Question::get(path)) {
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => Ok(None),
        Ok(answer) => client.document(&answer).map(Some),
        Err(error @ ClientError::NotRunning { .. }) => {
            screen::note(&format!("{error}; this is what the state directory says"));
            Ok(None)
        }
        Err(error) => Err(client.unanswered(error)),
    }
}

fn render(entries: &[&Value], now: &Zoned, paint: Paint) -> String {
    if entries.is_empty() {
        return "nothing is on record\n".into();
    }
    let rows: Vec<[String; 4]> = entries.iter().map(|entry| row(entry, now)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (number, at, who) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [seq, when, by, what] in &rows {
        let left = paint.dim(&format!("{seq:>number$}  {when:at$}  {by:who$}"));
        let _ = writeln!(text, "{left}  {what}");
    }
    text
}

fn row(entry: &Value, now: &Zoned) -> [String; 4] {
    let member = |key: &str| entry[key].as_str().map(printable).unwrap_or_default();
    let at = entry["atMs"].as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| member("at"), |at| at.to_string());
    let who = [member("who"), member("from")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let mut what = [member("action"), member("service"), member("rolloutId")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ");
    let change = [short(&entry["before"]), short(&entry["after"])];
    if change[0] != change[1] {
        let _ = write!(what, "  {} → {}", change[0], change[1]);
    } else if entry["before"].is_object() {
        what += "  (nothing changed)";
    }
    if !member("reason").is_empty() {
        let _ = write!(what, "  \"{}\"", member("reason"));
    }
    let seq = entry["seq"].as_u64().map(|seq| seq.to_string()).unwrap_or_default();
    [seq, moment(&at, now), who.join(" from "), what]
}

/// `stable=90 canary=10` of an object, anything else as it is.
fn short(value: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = match value {
        Value::Null => "-".into(),
        Value::Object(members) if members.contains_key("killed") => killed(value),
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => plain(other),
    };
    printable(&text)
}

/// What is killed, in words: `engine killed (leaks)`.
fn killed(value: &Value) -> String {
    let why = |it: &Value| match it["reason"].as_str().unwrap_or_default() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    if value["system"].is_object() {
        return format!("everything killed{}", why(&value["system"]));
    }
    let one = |it: &Value| format!("{} killed{}", it["service"].as_str().unwrap_or("?"), why(it));
    let list: Vec<String> = value["killed"].as_array().into_iter().flatten().map(one).collect();
    if list.is_empty() { "nothing killed".into() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_says_when_who_what_and_why() {
        let now = "2026-11-21T03:02:10Z".parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC);
        let entry = json!({
            "seq": 7, "atMs": 1_795_230_010_000_u64, "who": "ada", "from": "127.0.0.1:4711", "action": "rollout.pause",
            "service": "engine", "rolloutId": "engine-2-01", "reason": "lunch\u{1b}[2J",
            "before": { "state": "rolling_out", "percent": 5.0 }, "after": { "state": "paused", "percent": 5.0 },
        });
        let other = json!({ "seq": 12, "who": "weir", "action": "kill", "before": null, "after": null });
        assert_eq!(
            render(&[&entry, &other], &now, Paint::plain()),
            " 7  03:00:10 (2 min ago)  ada from 127.0.0.1:4711  rollout.pause  engine  engine-2-01  \
             state=rolling_out percent=5.0 → state=paused percent=5.0  \"lunch\u{fffd}[2J\"\n\
             12                        weir                     kill\n"
        );
        let kill = json!({ "seq": 13, "who": "ada", "action": "killed", "service": "engine",
            "before": { "system": null, "killed": [], "switches": [{}] },
            "after": { "system": null, "killed": [{ "service": "engine", "reason": "leaks" }], "switches": [{}] } });
        let noop = json!({ "seq": 14, "who": "ada", "action": "weights", "service": "engine",
            "before": { "stable": 1 }, "after": { "stable": 1 } });
        assert_eq!(
            render(&[&kill, &noop], &now, Paint::plain()),
            "13    ada  killed  engine  nothing killed → engine killed (leaks)\n\
             14    ada  weights  engine  (nothing changed)\n"
        );
    }
}
