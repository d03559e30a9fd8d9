//! `weir schema`: what editors complete and check `weir.toml`, `weights.toml` and plan files with.

use clap::Args;

use super::failure::Failure;
use super::screen;
use crate::config;

#[derive(Debug, Args)]
#[command(after_help = "\
Example, for an editor with a TOML language server:
  weir schema > weir.schema.json
  and in the first line of weir.toml:  #:schema ./weir.schema.json
  weir schema --rollout > rollouts/plan.schema.json
  and in the first line of a plan:     #:schema ./plan.schema.json")]
pub(super) struct Arguments {
    /// That of weights.toml instead
    #[arg(long, conflicts_with = "rollout")]
    weights: bool,
    /// That of a plan file, rollouts/NAME.toml, instead
    #[arg(long)]
    rollout: bool,
}

pub(super) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let schema = match (arguments.weights, arguments.rollout) {
        (true, _) => config::weights_schema(),
        (false, true) => config::rollout_schema(),
        (false, false) => config::schema(),
    };
    screen::print_json(&schema)
}
