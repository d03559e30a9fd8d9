//! The `weir` program: arguments to verb to exit code. What the verbs do is in [`weir::cli`].

use std::process::ExitCode;

/// The allocator of the release binary; the system's serves where the feature is off.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

#[cfg(feature = "mimalloc")]
mod allocator;

fn main() -> ExitCode {
    weir::cli::main()
}
