//! `weir rollout report`: what a rollout did and on what numbers it was decided, as JSON or as one page that needs
//! nothing else. The page is drawn by `rollout::report::html`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::super::client::{Client, Question};
use super::super::failure::Failure;
use super::super::{Globals, screen};
use super::{find, path};
use crate::rollout::report::html;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rollout report engine > report.json
  weir rollout report engine --html --out report.html")]
pub(super) struct Arguments {
    /// The rollout's id, or a service
    #[arg(value_name = "ID|SERVICE", required_unless_present = "from")]
    name: Option<String>,
    /// As a page for a browser: plots, tables and the arithmetic, without anything from elsewhere
    #[arg(long)]
    html: bool,
    /// Into this file rather than to stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw a report that was kept as JSON, without asking a running weir
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    from: Option<PathBuf>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let report = match &arguments.from {
        Some(file) => kept(file)?,
        None => {
            let client = Client::new(globals)?;
            let found = find(&client, arguments.name.as_deref().unwrap_or_default())?;
            fetched(&client, found["rolloutId"].as_str().unwrap_or_default())?
        }
    };
    let text = if arguments.html { html::page(&report) } else { serde_json::to_string_pretty(&report)? + "\n" };
    match &arguments.out {
        None => screen::print(&text),
        Some(file) => write(file, &text),
    }
}

/// Writes the JSON report of a rollout to a file.
pub(super) fn write_json(client: &Client, id: &str, file: &Path) -> Result<(), Failure> {
    write(file, &(serde_json::to_string_pretty(&fetched(client, id)?)? + "\n"))
}

fn fetched(client: &Client, id: &str) -> Result<Value, Failure> {
    client.ask(Question::get(path(id, "report")))
}

fn kept(file: &Path) -> Result<Value, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::wrong(format!("cannot read {}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| cannot(&error))?;
    serde_json::from_str(&text).map_err(|error| cannot(&error))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text)
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context(format!("cannot write {}", file.display()))))
}
