//! Commands of a person to a rollout: pause, resume, advance, rollback, approve, retry, cancel, drill.

use clap::Args;
use serde_json::{Value, json};

use super::super::client::{Client, Question};
use super::super::failure::Failure;
use super::super::figures::{elapsed, percent};
use super::super::screen::{Paint, printable};
use super::super::{Globals, change, screen};
use super::view::{View, word};
use super::{Which, find, path};

#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    which: Which,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct Advance {
    #[command(flatten)]
    plain: Plain,
    /// Also past a gate that has not been passed yet
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Approve {
    #[command(flatten)]
    plain: Plain,
    /// Who approves; where tokens have names it is the token's, whatever is said here
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Plain {
    pub(super) fn new(name: &str, reason: &str) -> Self {
        Self { which: Which { name: name.to_owned() }, reason: reason.to_owned() }
    }
}

/// Sends a command that takes nothing but a reason.
pub(super) fn send(verb: &str, arguments: &Plain, globals: &Globals) -> Result<(), Failure> {
    ask(verb, arguments, json!({ "reason": arguments.reason }), globals)
}

/// Tries the way back; a drill that found something wrong is a failure.
pub(super) fn drill(arguments: &Plain, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let found = find(&client, &arguments.which.name)?;
    let id = found["rolloutId"].as_str().unwrap_or_default();
    let body = json!({ "reason": arguments.reason });
    let answer = client.ask(change::signed(Question::post(path(id, "drill"), body), ""))?;
    let message = answer["message"].as_str().map(printable).unwrap_or_default();
    let ok = answer["ok"].as_bool();
    if globals.json() {
        screen::print_json(&answer)?;
    } else if ok == Some(false) {
        screen::complain(&message);
    } else {
        let paint = Paint::stdout();
        let word = if ok.is_some() { paint.green("drill passed") } else { paint.yellow("drill under way") };
        let took = |key: &str| answer[key].as_u64().map(elapsed);
        // The message is also an event, which has to say what it is about.
        let message = message.strip_prefix("drill: ").unwrap_or(&message).to_owned();
        let times = took("movedMs").zip(took("verifiedMs"));
        let times = times.map(|(moved, verified)| format!(" (moved within {moved}, verified within {verified})"));
        screen::print(&format!("{word}: {message}{}\n", times.unwrap_or_default()))?;
    }
    if ok == Some(false) { Err(Failure::Said(1)) } else { Ok(()) }
}

/// Sends `advance`.
pub(super) fn advance(arguments: &Advance, globals: &Globals) -> Result<(), Failure> {
    let body = json!({ "reason": arguments.plain.reason, "force": arguments.force });
    ask("advance", &arguments.plain, body, globals)
}

/// Sends `approve`.
pub(super) fn approve(arguments: &Approve, globals: &Globals) -> Result<(), Failure> {
    let mut body = json!({ "reason": arguments.plain.reason });
    if let Some(by) = &arguments.by {
        body["by"] = by.as_str().into();
    }
    ask("approve", &arguments.plain, body, globals)
}

fn ask(verb: &str, arguments: &Plain, body: Value, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let found = find(&client, &arguments.which.name)?;
    let id = found["rolloutId"].as_str().unwrap_or_default();
    let answer = client.ask(change::signed(Question::post(path(id, verb), body), ""))?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    screen::print(&told(&answer, &found, Paint::stdout()))?;
    if let (true, Some(service)) = (verb == "rollback", found["service"].as_str()) {
        change::warn(&client, &found, &format!("`weir undo {}`", printable(service)));
    }
    Ok(())
}

/// One line: where it is now. What the answer does not say is as it was before the command.
fn told(answer: &Value, before: &Value, paint: Paint) -> String {
    let (Some(view), Some(before)) = (View::read(answer).or_else(|| View::read(before)), View::read(before)) else {
        return "done\n".into();
    };
    let service = printable(if view.service.is_empty() { &before.service } else { &view.service });
    let state = paint.bold(&format!("{} at {}", word(&view.state), percent(view.current_percentage)));
    let note = answer["message"].as_str().map(|note| format!("; {}", printable(note))).unwrap_or_default();
    format!("{service} is {state}  {}{note}\n", paint.dim(&printable(&view.rollout_id)))
}
