//! `weir rollback SERVICE`: everything to the stable pool. It is never refused because a file cannot be written.

use clap::Args;
use serde_json::json;

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, change, offline};
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
    /// Change the weights file without asking a running weir; one that runs takes it over when it sees the file
    #[arg(long)]
    offline: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.offline {
        return offline::rollback(globals, &arguments.service);
    }
    let body = json!({ "reason": arguments.reason });
    let question = Question::post(change::path(&arguments.service, "rollback"), body);
    let offline = format!("weir rollback {} --offline", arguments.service);
    let client = Client::new(globals)?.instead(offline);
    change::tell(&client.ask(change::signed(question, ""))?, globals)?;
    change::warn(&client, arguments.service.as_str());
    Ok(())
}
