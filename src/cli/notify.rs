//! `weir notify`: who is told what happens, whether it arrives, and that somebody looks.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::{Paint, printable};
use super::{Globals, change, near, rollout, screen};

#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Exit codes: 0 done, 1 failed (a channel did not take the test), 2 wrong usage.

Examples:
  weir notify
  weir notify test ops
  weir notify ack engine --reason \"I look at it\""
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show channels, what waits, and what nobody looked at yet (also without a verb)
    Status,
    /// Send a test to a channel, or to all of them, and say whether it was taken
    Test {
        /// The channel
        channel: Option<String>,
    },
    /// Say that somebody looks, so that it is not escalated
    Ack {
        /// A service or the id of a rollout; everything when none is named
        which: Option<String>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    match &arguments.verb {
        None | Some(Verb::Status) => {
            let answer = client.ask(Question::get("/api/v1/notifications"))?;
            if globals.json() { screen::print_json(&answer) } else { screen::print(&status(&answer, Paint::stdout())) }
        }
        Some(Verb::Test { channel }) => {
            let body = channel.as_ref().map_or_else(|| json!({}), |channel| json!({ "channel": channel }));
            let answer = client.ask(change::signed(Question::post("/api/v1/notifications/test", body), ""))?;
            if globals.json() {
                screen::print_json(&answer)?;
            } else {
                screen::print(&tested(&answer, Paint::stdout()))?;
            }
            if answer["ok"] == true { Ok(()) } else { Err(Failure::Said(1)) }
        }
        Some(Verb::Ack { which, reason }) => {
            // A rollout's id and a service's name are looked for in both.
            let body = json!({ "service": which, "reason": reason });
            let question = Question::post("/api/v1/notifications/acknowledge", body);
            let answer = client.ask(change::signed(question, ""))?;
            if globals.json() {
                return screen::print_json(&answer);
            }
            let count = answer["acknowledged"].as_u64().unwrap_or_default();
            screen::print(&match count {
                0 => {
                    if let Some(name) = which {
                        rollout::find(&client, name)
                            .map(drop)
                            .or_else(|failure| known_service(&client, name, failure))?;
                    }
                    "nothing was open\n".to_owned()
                }
                1 => "1 incident is acknowledged; it is not escalated\n".to_owned(),
                count => format!("{count} incidents are acknowledged; they are not escalated\n"),
            })
        }
    }
}

/// A service that has had no rollout is a name all the same.
fn known_service(client: &Client, name: &str, failure: Failure) -> Result<(), Failure> {
    if near::services(client).iter().any(|service| service == name) { Ok(()) } else { Err(failure) }
}

fn status(answer: &Value, paint: Paint) -> String {
    let list = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let word = |of: &Value, key: &str| of[key].as_str().map(printable).unwrap_or_default();
    let (channels, open) = (list("channels"), list("open"));
    if channels.is_empty() {
        return "nobody is told: weir.toml has no [[notifications.channels]]\n".into();
    }
    let width = channels.iter().map(|channel| word(channel, "name").chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for channel in &channels {
        let count = |key: &str| channel[key].as_u64().unwrap_or_default();
        let _ =
            write!(text, "{:width$}  {:7}  {}  ", word(channel, "name"), word(channel, "kind"), word(channel, "to"));
        let _ = write!(text, "sent {}", count("sent"));
        for (key, what) in [("waiting", "waiting"), ("holding", "held back"), ("failed", "failed"), ("dropped", "lost")]
        {
            if count(key) > 0 {
                let part = format!("{what} {}", count(key));
                let _ = write!(text, ", {}", if matches!(key, "failed" | "dropped") { paint.red(&part) } else { part });
            }
        }
        text.push('\n');
        if channel["failing"] == true {
            let _ = writeln!(text, "{:width$}  {}", "", paint.yellow(&word(channel, "lastError")));
        }
    }
    for incident in &open {
        let event = &incident["event"];
        let whose = Some(word(incident, "rolloutId")).filter(|id| !id.is_empty());
        let whose = whose.unwrap_or_else(|| word(incident, "service"));
        let next: Vec<String> = incident["next"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|next| format!("{} in {} s", word(next, "channel"), next["inMs"].as_u64().unwrap_or(0) / 1000))
            .collect();
        let _ = writeln!(text, "\n{} {whose}: {}", paint.red("open"), word(event, "message"));
        let _ = writeln!(text, "  nobody looked since {}; next: {}", word(incident, "since"), next.join(", "));
        let _ = writeln!(text, "  `weir notify ack {whose}` says that you do");
    }
    text
}

fn tested(answer: &Value, paint: Paint) -> String {
    let results = answer["results"].as_array().cloned().unwrap_or_default();
    if results.is_empty() {
        return "there is no channel to test: weir.toml has no [[notifications.channels]]\n".into();
    }
    let mut text = String::new();
    for result in &results {
        let name = result["channel"].as_str().map(printable).unwrap_or_default();
        let took = result["tookMs"].as_u64().unwrap_or_default();
        let _ = match result["error"].as_str() {
            None => writeln!(text, "{} {name} took it in {took} ms", paint.green("ok    ")),
            Some(error) => writeln!(text, "{} {name}: {}", paint.red("failed"), printable(error)),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_fails_and_what_is_open() {
        let answer = json!({
            "channels": [
                { "name": "ops", "kind": "slack", "to": "https://hooks.slack.com", "sent": 3, "failing": false },
                { "name": "pager", "kind": "webhook", "to": "http://pager", "sent": 0, "waiting": 2, "failed": 1,
                  "failing": true, "lastError": "answered 503\u{1b}[2J" },
            ],
            "open": [{
                "service": "engine", "rolloutId": "engine-2", "since": "2026-11-21T03:00:00.000Z",
                "event": { "message": "it is held" }, "next": [{ "channel": "boss", "inMs": 61_000 }],
            }],
        });
        assert_eq!(
            status(&answer, Paint::plain()),
            "ops    slack    https://hooks.slack.com  sent 3\n\
             pager  webhook  http://pager  sent 0, waiting 2, failed 1\n       answered 503\u{fffd}[2J\n\n\
             open engine-2: it is held\n  nobody looked since 2026-11-21T03:00:00.000Z; next: boss in 61 s\n  \
             `weir notify ack engine-2` says that you do\n"
        );
        assert!(status(&json!({ "channels": [] }), Paint::plain()).starts_with("nobody is told"));
    }
}
