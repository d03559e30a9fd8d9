//! How a verb may end other than well, and which exit code that is.

use std::error::Error;
use std::process::ExitCode;

use super::screen;

/// Exit code of wrong usage and of a bad configuration; clap uses the same.
pub(super) const WRONG: u8 = 2;

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was tried and failed: exit 1.
    Failed(anyhow::Error),
    /// Wrong usage or a bad configuration: exit 2.
    Wrong(anyhow::Error),
    /// Everything was said already.
    Said(u8),
}

// === impl Failure ===

impl Failure {
    /// A failure in words.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Failure::Failed(anyhow::Error::msg(message.into()))
    }

    /// Wrong usage in words.
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Failure::Wrong(anyhow::Error::msg(message.into()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Failed(error) | Failure::Wrong(error) => write!(f, "{error:#}"),
            Failure::Said(code) => write!(f, "exit code {code}"),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}

/// Says what went wrong, if something did, and gives the exit code.
pub(super) fn exit_code(result: Result<(), Failure>) -> ExitCode {
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Said(code)) => return code.into(),
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::Wrong(error)) => (error, WRONG),
    };
    screen::complain(&format!("{error:#}"));
    code.into()
}
