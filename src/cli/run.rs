//! `weir run`: reads the configuration and serves until a signal ends it.

use clap::Args;
use clap::builder::FalseyValueParser;

use super::failure::Failure;
use super::{Globals, place};
use crate::app::inherited::Inherited;
use crate::app::{App, AppError, Ended, log};
use crate::switchboard::writer::Mode;

#[derive(Debug, Args)]
#[command(after_help = "\
Signals:
  SIGTERM, SIGINT   finish what is in flight for up to 10 s, then end; a second one ends at once
  SIGHUP            read the files again
  SIGUSR1           open the access log anew
  SIGUSR2           start a new process that takes over, as weir upgrade does

Examples:
  weir run --config /etc/weir/weir.toml
  WEIR_WORKERS=2 weir run --config weir.toml
  weir run --safe-mode                      everything to stable, whatever the weights file says")]
pub(super) struct Arguments {
    /// Send everything to stable, whatever the weights file says
    #[arg(long, env = "WEIR_SAFE_MODE", hide_env_values = true, value_parser = FalseyValueParser::new())]
    safe_mode: bool,
    /// What the log shows: error, warn, info, debug, trace, or a filter such as weir=debug; wins over WEIR_LOG
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    // First of all: what was handed to this process stands at known descriptors.
    let inherited = Inherited::find().map_err(|error| Failure::Failed(error.into()))?;
    let complaint = inherited.complaint();
    let ended = serve(arguments, globals, inherited);
    if let Err(failure) = &ended {
        // A process that takes over tells the one before it, which goes on.
        complaint.tell(&failure.to_string());
    }
    ended
}

fn serve(arguments: &Arguments, globals: &Globals, inherited: Inherited) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let log_level =
        log::start(config.log, arguments.log_level.as_deref()).map_err(|error| Failure::Wrong(error.into()))?;
    let mode = if arguments.safe_mode { Mode::Safe } else { Mode::Normal };
    if mode == Mode::Safe {
        tracing::warn!("safe mode: everything goes to stable, whatever the weights file says");
    }
    match App::build(config, mode, log_level, inherited).and_then(App::run) {
        Ok(Ended::Gracefully) => Ok(()),
        Ok(Ended::ByForce) => Err(Failure::failed("a second signal ended it before everything in flight was done")),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: AppError) -> Failure {
    if error.blames_config() { Failure::Wrong(error.into()) } else { Failure::Failed(error.into()) }
}
