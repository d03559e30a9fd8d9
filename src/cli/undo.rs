//! `weir undo SERVICE`: back to the weights before the last change.

use clap::Args;
use serde_json::json;

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, change};
use crate::model::Name;

/// What helps while no weir runs: what was before is in its record, which it keeps for itself.
const ELSEWISE: &str = "to change the weights file all the same: weir set SERVICE POOL=WEIGHT… --offline";

#[derive(Debug, Args)]
#[command(after_help = "\
Doing it twice comes back to where you were. `weir status` shows where it would go.")]
pub(super) struct Arguments {
    /// The service
    #[arg(value_parser = change::name)]
    service: Name,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Only if this generation is still live
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let question = Question::post(change::path(&arguments.service, "undo"), json!({ "reason": arguments.reason }));
    let question = match arguments.if_match {
        Some(generation) => question.header("if-match", &format!("\"{generation}\"")),
        None => question,
    };
    let client = Client::new(globals)?.elsewise(ELSEWISE);
    let answer = client.ask(change::signed(question, ""))?;
    change::tell(&answer, globals)?;
    change::warn(&client, &answer, &format!("`weir undo {}`", arguments.service));
    Ok(())
}
