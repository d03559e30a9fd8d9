//! The `weir` program: arguments to verb to exit code.

use std::process::ExitCode;

use clap::Parser;
use weir::cli::Cli;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().execute()
}
