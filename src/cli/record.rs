//! The record of rollouts where no weir runs: the state directory, as the configuration or the command line names it.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::{Globals, place};
use crate::rollout::journal::FILE;
use crate::rollout::journal::read::Reader;

#[derive(Debug, Clone, Args)]
pub(super) struct Offline {
    /// Read the state directory, ask no running weir
    #[arg(long)]
    offline: bool,
    /// Where the record is; `state_dir` of the configuration's `[rollouts]` by default
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

// === impl Offline ===

impl Offline {
    /// Whether no running weir is to be asked.
    pub(super) fn is_meant(&self) -> bool {
        self.offline || self.state_dir.is_some()
    }

    /// The record, to be read.
    pub(super) fn open(&self, globals: &Globals) -> Result<Reader, Failure> {
        let directory = match &self.state_dir {
            Some(directory) => directory.clone(),
            None => place::config(globals)?.rollouts.state_dir,
        };
        if !directory.join(FILE).exists() {
            let place = directory.display();
            return Err(Failure::failed(format!("there is no record in {place}; name its directory with --state-dir")));
        }
        Ok(Reader::open(&directory)?)
    }
}
