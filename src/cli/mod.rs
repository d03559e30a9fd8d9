//! The verbs of the command line, one file each. Every verb ends in an exit code: 0 done, 1 failed, 2 wrong usage or
//! bad configuration.

pub mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of wrong usage and of a bad configuration.
pub const USAGE: u8 = 2;

/// A traffic splitter: save the weights file and live traffic moves at once.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What weir can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve.
    Run(run::Run),
}

// === impl Cli ===

impl Cli {
    /// Does what was asked.
    pub fn execute(self) -> ExitCode {
        match self.verb {
            Verb::Run(run) => run.execute(),
        }
    }
}
