//! `weir healthcheck`: for `HEALTHCHECK` in an image and for probes. Exit 0 when the process answers, else 1.

use std::time::Duration;

use clap::Args;

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, screen};

/// Below the three seconds that images usually give a health check.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "\
Whoever starts containers in order should not wait for --strict: weir may be what they wait for.

Example, in an image:
  HEALTHCHECK --interval=10s CMD [\"/weir\", \"healthcheck\"]")]
pub(super) struct Arguments {
    /// Ask whether a request would be served: fails also while it starts or stops, or nothing serves
    #[arg(long)]
    strict: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let path = if arguments.strict { "/readyz" } else { "/healthz" };
    let answer = Client::new(globals)?.within(TIMEOUT).send(Question::get(path))?;
    let text = screen::printable(String::from_utf8_lossy(&answer.body).trim());
    if globals.json() {
        screen::print_json(&serde_json::json!({ "healthy": answer.status.is_success(), "answer": text }))?;
    }
    match answer.status.is_success() {
        true if globals.json() => Ok(()),
        true => screen::print(&format!("{text}\n")),
        false if globals.json() => Err(Failure::Said(1)),
        false => Err(Failure::failed(format!("{path} answered {}: {text}", answer.status))),
    }
}
