//! `weir status`: what is live, once or again and again. The table is put together in `table`.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::Paint;
use super::table::Extras;
use super::{Globals, kill, rollout, screen, table};
use crate::switchboard::status::Status;

/// Pause between two looks of `--watch`.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir status
  weir status --watch
  weir status --output json | jq '.services[].weights'")]
pub(super) struct Arguments {
    /// Look again every second
    #[arg(long, short)]
    watch: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    if !arguments.watch {
        return screen::print(&shown(&client, globals)?);
    }
    let in_place = screen::is_terminal() && !globals.json();
    loop {
        let text = match shown(&client, globals) {
            Ok(text) => text,
            // It may be starting anew; whoever watches wants to see it come back.
            Err(Failure::Failed(error)) => format!("{error:#}\n"),
            Err(other) => return Err(other),
        };
        if in_place {
            screen::print(&screen::frame(&text, screen::size().map_or(usize::MAX, |(_, rows)| rows)))?;
        } else {
            screen::print(&format!("{text}{}", if globals.json() { "" } else { "\n" }))?;
        }
        std::thread::sleep(PAUSE);
    }
}

fn shown(client: &Client, globals: &Globals) -> Result<String, Failure> {
    let answer = client.ask(Question::get("/api/v1/status"))?;
    if globals.json() {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&answer)?));
    }
    let (killed, switches) = (kill::killed(&answer), kill::busy(&answer, Paint::stdout()));
    let countdown = kill::countdown(&answer);
    let status: Status = serde_json::from_value(answer).map_err(|error| {
        Failure::failed(format!(
            "the running weir tells its status in another way ({error}); see it with --output json"
        ))
    })?;
    let extras = Extras { rollouts: rollout::running(client), killed, switches, countdown };
    let now = Timestamp::now();
    let now = now.to_zoned(TimeZone::system());
    Ok(screen::wrapped(&table::render(&status, &extras, &now, screen::columns(), Paint::stdout()), screen::columns()))
}
