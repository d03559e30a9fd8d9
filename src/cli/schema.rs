//! `weir schema`: what editors complete and check `weir.toml` and `weights.toml` with.

use clap::Args;

use super::failure::Failure;
use super::screen;
use crate::config;

#[derive(Debug, Args)]
#[command(after_help = "\
Example, for an editor with a TOML language server:
  weir schema > weir.schema.json
  and in the first line of weir.toml:  #:schema ./weir.schema.json")]
pub(super) struct Arguments {
    /// That of weights.toml instead
    #[arg(long)]
    weights: bool,
}

pub(super) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let schema = if arguments.weights { config::weights_schema() } else { config::schema() };
    screen::print_json(&schema)
}
