//! `weir upgrade`: has a running weir start a new process that takes its place, and waits until that one answers.
//!
//! It asks by the admin API rather than by a signal: that works from wherever the other verbs do, needs a token and is
//! noted in the audit log, and the reason of a failure comes back. `SIGUSR2` is the same without an answer.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, change, screen};

/// Longest wait: all the time that the running weir gives a new process, and some more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Time for an answer to one look: while one process takes over from the other, questions wait.
const ANSWER: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(after_help = "\
The new process has the arguments of the running one, takes its listening sockets over and serves; then the
old one finishes what is in flight and ends. If the new one does not come to serve, nothing changes: exit 1.

Examples:
  weir upgrade                                  the program at the path that weir was started from
  weir upgrade --binary /usr/local/bin/weir-2   another one; root's or weir's own, written by nobody else
  kill -USR2 $(cat /run/weir.pid)               the same as the first, without an answer")]
pub(super) struct Arguments {
    /// The program to start; default: the path that weir was started from
    #[arg(long, value_name = "PATH")]
    binary: Option<String>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let before = client.ask(Question::get("/api/v1/upgrade"))?;
    let body = arguments.binary.as_ref().map_or(serde_json::json!({}), |path| serde_json::json!({ "binary": path }));
    client.ask(change::signed(Question::post("/api/v1/upgrade", body), ""))?;
    let after = wait(&Client::new(globals)?.within(ANSWER), &before["pid"])?;
    if globals.json() {
        return screen::print_json(&serde_json::json!({ "before": before, "after": after }));
    }
    let version = |document: &Value| screen::printable(document["version"].as_str().unwrap_or("?"));
    screen::print(&format!(
        "process {} (weir {}) serves; process {} (weir {}) finishes what is in flight\n",
        after["pid"],
        version(&after),
        before["pid"],
        version(&before),
    ))
}

/// What may be several lines, one below the other.
fn lines(text: &str) -> String {
    text.lines().map(screen::printable).collect::<Vec<_>>().join("\n  ")
}

/// Looks until another process answers, or the old one says why not.
fn wait(client: &Client, old: &Value) -> Result<Value, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Between the two processes a question may go unanswered.
        let unanswered = match client.ask(Question::get("/api/v1/upgrade")) {
            Ok(document) if document["pid"] != *old => return Ok(document),
            Ok(document) if document["upgrade"] == "failed" => {
                let why = document["why"].as_str().unwrap_or("it does not say why");
                return Err(Failure::failed(format!("the upgrade failed, process {old} goes on: {}", lines(why))));
            }
            Ok(_) => None,
            Err(failure) => Some(failure),
        };
        if Instant::now() > deadline {
            let late = || Failure::failed(format!("no new process took over within {} s", PATIENCE.as_secs()));
            return Err(unanswered.unwrap_or_else(late));
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_several_lines_stays_readable() {
        let why = "weir.toml:46:1: unknown key \"nonsense\"\n  46 | nonsense = 1\n     | ^^^\u{1b}[31m";
        assert_eq!(
            lines(why),
            "weir.toml:46:1: unknown key \"nonsense\"\n    46 | nonsense = 1\n       | ^^^\u{fffd}[31m"
        );
    }
}
