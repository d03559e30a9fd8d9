//! `weir rollout …`: plans, and the rollouts that go by them. Every verb asks the running weir but `new` and `check`.
//!
//! A rollout may be named by its id or by its service: then it is the one that runs, else the newest of that service.

pub(super) mod banner;
mod command;
mod explain;
mod gates;
mod list;
pub(super) mod picture;
mod plan;
mod programs;
mod report;
#[cfg(test)]
mod screens;
mod start;
pub(super) mod view;
mod wait;
pub(super) mod watch;

use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::Value;

use self::view::View;
use super::Globals;
use super::client::{Client, Question};
use super::failure::Failure;
use super::near;

/// Exit codes that only these verbs have.
const CODES: &str = "\
A rollout is named by its id or by its service: the one that runs, else the newest.

Exit codes of wait, and of start with --watch or --once: 0 promoted or, so far, shown safe,
1 rolled back or failing, 2 inconclusive. Of everything else: 0 done, 1 failed, 2 wrong usage
or a plan that does not hold.";

const EXAMPLES: &str = "\
Examples:
  weir rollout start engine --profile stable-channel
  weir rollout watch engine
  weir rollout wait engine --timeout 2h && echo promoted
  weir rollout rollback engine --reason \"errors on /pay\"
  weir rollout report engine --html --out report.html";

#[derive(Debug, Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a commented plan file to start from
    New(plan::New),
    /// Say every problem of plans, without a running weir
    Check(plan::Check),
    /// Start a rollout by a plan or a profile
    Start(start::Arguments),
    /// Show where a rollout stands, once
    Status(watch::Status),
    /// Show a rollout as it moves, until it ends
    Watch(watch::Arguments),
    /// Say why it has not advanced and why it was not rolled back: numbers, limits, time left
    Explain(explain::Arguments),
    /// Keep the share; evidence and alarms go on
    Pause(command::Plain),
    /// Go on after a pause
    Resume(command::Plain),
    /// Go to the next phase now
    Advance(command::Advance),
    /// Send everything to stable, at once
    Rollback(command::Plain),
    /// Approve what waits for an approval
    Approve(command::Approve),
    /// Begin again after a rollback, by the same plan
    Retry(command::Plain),
    /// Call off a rollback that is announced and waits for its delay
    Cancel(command::Plain),
    /// Wait for the end: exit 0 promoted, 1 rolled back, 2 inconclusive
    Wait(wait::Arguments),
    /// The report of a rollout, as JSON or as a page
    Report(report::Arguments),
    /// Try the way back without a fault: everything to stable, checked, and forth again
    Drill(command::Plain),
    /// What became of the rollouts of a service
    History(list::History),
    /// Every rollout that runs
    List,
}

/// Which rollout.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The rollout's id, or a service
    #[arg(value_name = "ID|SERVICE")]
    name: String,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::New(arguments) => plan::new(arguments, globals),
        Verb::Check(arguments) => plan::check(arguments, globals),
        Verb::Start(arguments) => start::execute(arguments, globals),
        Verb::Status(arguments) => watch::status(arguments, globals),
        Verb::Watch(arguments) => watch::execute(arguments, globals),
        Verb::Explain(arguments) => explain::execute(arguments, globals),
        Verb::Pause(arguments) => command::send("pause", arguments, globals),
        Verb::Resume(arguments) => command::send("resume", arguments, globals),
        Verb::Advance(arguments) => command::advance(arguments, globals),
        Verb::Rollback(arguments) => command::send("rollback", arguments, globals),
        Verb::Approve(arguments) => command::approve(arguments, globals),
        Verb::Retry(arguments) => command::send("retry", arguments, globals),
        Verb::Cancel(arguments) => command::send("cancel", arguments, globals),
        Verb::Wait(arguments) => wait::execute(arguments, globals),
        Verb::Report(arguments) => report::execute(arguments, globals),
        Verb::Drill(arguments) => command::drill(arguments, globals),
        Verb::History(arguments) => list::history(arguments, globals),
        Verb::List => list::live(globals),
    }
}

/// Tries the way back of a service's rollout.
pub(super) fn drill(service: &str, reason: &str, globals: &Globals) -> Result<(), Failure> {
    command::drill(&command::Plain::new(service, reason), globals)
}

/// The path of a rollout, or of something of it.
fn path(id: &str, what: &str) -> String {
    // Ids and names are letters, digits, dots, dashes and underscores; anything else cannot be one.
    let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if what.is_empty() { format!("/api/v1/rollouts/{id}") } else { format!("/api/v1/rollouts/{id}/{what}") }
}

/// The rollout of that name, as the API tells it.
pub(super) fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    if let Some(found) = by_id(client, name)? {
        return Ok(found);
    }
    let listed = client.ask(Question::get("/api/v1/rollouts"))?;
    let rollouts = rollouts(&listed);
    let id = newest_of(&rollouts, name).ok_or_else(|| unknown(client, name, &rollouts))?;
    by_id(client, &id)?.ok_or_else(|| Failure::failed(format!("rollout {id} is gone")))
}

fn by_id(client: &Client, id: &str) -> Result<Option<Value>, Failure> {
    client.ask_unless(Question::get(path(id, "")), StatusCode::NOT_FOUND)
}

/// The rollouts that run; none when weir cannot be asked or does not know rollouts.
pub(super) fn running(client: &Client) -> Vec<View> {
    let answer = client.ask_unless(Question::get("/api/v1/rollouts"), StatusCode::NOT_FOUND);
    let mut all = answer.ok().flatten().map(|answer| rollouts(&answer)).unwrap_or_default();
    all.retain(View::is_live);
    all
}

/// The list of an answer, whether it stands alone or in an object.
fn rollouts(answer: &Value) -> Vec<View> {
    let list = answer.as_array().or_else(|| answer["rollouts"].as_array());
    list.into_iter().flatten().filter_map(View::read).collect()
}

/// The id of the rollout that runs for this service (or by this plan), else of its newest.
fn newest_of(rollouts: &[View], name: &str) -> Option<String> {
    let mut own: Vec<&View> = rollouts.iter().filter(|view| view.service == name).collect();
    if own.is_empty() {
        own = rollouts.iter().filter(|view| view.plan() == name).collect();
    }
    own.sort_by_key(|view| (view.is_live(), view.started_ms()));
    own.last().map(|view| view.rollout_id.clone())
}

/// Nothing is called that: what is.
fn unknown(client: &Client, name: &str, rollouts: &[View]) -> Failure {
    let services = near::services(client);
    if services.iter().any(|service| service == name) {
        return Failure::failed(format!(
            "service \"{name}\" has had no rollout; `weir rollout start {name} --profile stable-channel` starts one"
        ));
    }
    let known = services.into_iter().chain(rollouts.iter().map(|view| view.rollout_id.clone())).collect::<Vec<_>>();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Failure::wrong(format!("there is no rollout or service \"{name}\"{}", near::advice(name, &known)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_stands_for_the_rollout_that_runs_else_for_the_newest() {
        let one = |id: &str, service: &str, state: &str, at: &str| {
            let head = json!({ "rolloutId": id, "service": service, "state": state, "startedAt": at });
            let mut one = head;
            one["plan"] = "nightly".into();
            one
        };
        let mut list = vec![
            one("e-1", "engine", "completed", "2026-11-20T01:00:00Z"),
            one("e-2", "engine", "rolled_back", "2026-11-21T01:00:00Z"),
            one("s-1", "shop", "completed", "2026-11-22T01:00:00Z"),
        ];
        let newest = |list: &[Value], name: &str| newest_of(&rollouts(&json!({ "rollouts": list })), name);
        assert_eq!(newest(&list, "engine").as_deref(), Some("e-2"));
        assert_eq!(newest(&list, "nightly").as_deref(), Some("s-1"));
        assert_eq!(newest(&list, "gone"), None);
        list.push(one("e-0", "engine", "paused", "2026-11-19T01:00:00Z"));
        assert_eq!(newest(&list, "engine").as_deref(), Some("e-0"));
    }

    #[test]
    fn a_name_cannot_leave_its_path() {
        assert_eq!(path("../../kill?x#", ""), "/api/v1/rollouts/....killx");
        assert_eq!(path("engine-2", "report"), "/api/v1/rollouts/engine-2/report");
    }
}
