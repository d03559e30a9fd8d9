//! `weir log-level LEVEL`: until the next start; `[log] level` in the file is for ever.

use clap::Args;

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, screen};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir log-level debug
  weir log-level info,weir::upstream=debug")]
pub(super) struct Arguments {
    /// error, warn, info, debug, trace, off, or a filter such as weir=debug
    level: String,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let question = Question::put("/api/v1/log-level", serde_json::json!({ "level": arguments.level }));
    let answer = Client::new(globals)?.ask(question)?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    screen::print(&format!("the log level is {} until weir is started again\n", arguments.level))
}
