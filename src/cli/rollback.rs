//! `weir rollback SERVICE`: everything to the stable pool. It is never refused because a file cannot be written.

use clap::Args;
use serde_json::json;

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, change, offline, rollout};
use crate::model::Name;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  weir rollback engine --reason \"errors on /pay\"")]
pub(super) struct Arguments {
    /// The service
    #[arg(value_parser = change::name)]
    service: Name,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// For scripts of old: a rollback never asks back and is never refused, with or without
    #[arg(long)]
    force: bool,
    /// Only try it: a rollout of the service goes back, is checked, and goes forth again (`weir rollout drill`)
    #[arg(long, conflicts_with = "offline")]
    drill: bool,
    /// Change the weights file without asking a running weir; one that runs takes it over when it sees the file
    #[arg(long)]
    offline: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.drill {
        return rollout::drill(arguments.service.as_str(), &arguments.reason, globals);
    }
    if arguments.offline {
        return offline::rollback(globals, &arguments.service);
    }
    let body = json!({ "reason": arguments.reason });
    let question = Question::post(change::path(&arguments.service, "rollback"), body);
    let offline = format!("weir rollback {} --offline", arguments.service);
    let client = Client::new(globals)?.instead(offline);
    let answer = client.ask(change::signed(question, ""))?;
    change::tell(&answer, globals)?;
    change::warn(&client, &answer, &format!("`weir undo {}`", arguments.service));
    Ok(())
}
