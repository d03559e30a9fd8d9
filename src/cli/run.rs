//! `weir run`: reads the configuration and serves until a signal ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::USAGE;
use crate::app::{App, AppError, Ended, log};
use crate::config::Config;
use crate::switchboard::writer::Mode;

/// What `weir run` may be told.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration.
    #[arg(long, short, env = "WEIR_CONFIG", default_value = "config/weir.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Send everything to stable, whatever the weights file says.
    #[arg(long, env = "WEIR_SAFE_MODE", value_parser = clap::builder::FalseyValueParser::new())]
    pub safe_mode: bool,
    /// What the log shows: error, warn, info, debug, trace, or a filter such as weir=debug; wins over WEIR_LOG.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

// === impl Run ===

impl Run {
    /// Serves to the end.
    pub fn execute(self) -> ExitCode {
        let config = match Config::load(&self.config) {
            Ok(config) => config,
            Err(problems) => {
                eprintln!("{problems}");
                return ExitCode::from(USAGE);
            }
        };
        let log_level = match log::start(config.log, self.log_level.as_deref()) {
            Ok(log_level) => log_level,
            Err(error) => {
                eprintln!("weir: {error}");
                return ExitCode::from(USAGE);
            }
        };
        let mode = if self.safe_mode { Mode::Safe } else { Mode::Normal };
        if mode == Mode::Safe {
            tracing::warn!("safe mode: everything goes to stable, whatever the weights file says");
        }
        match App::build(config, mode, log_level).and_then(App::run) {
            Ok(Ended::Gracefully) => ExitCode::SUCCESS,
            Ok(Ended::ByForce) => ExitCode::FAILURE,
            Err(error) => refuse(error),
        }
    }
}

/// Says why, with everything that led to it.
fn refuse(error: AppError) -> ExitCode {
    let code = if error.blames_config() { USAGE } else { 1 };
    eprintln!("weir: {:#}", anyhow::Error::new(error));
    ExitCode::from(code)
}
