//! `weir demo`.
use clap::Args;

use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn execute(_: &Arguments) -> Result<(), Failure> {
    Ok(())
}
