//! The program's own log: to stderr, text on a terminal and JSON elsewhere, with a level that can be changed while it
//! runs. The access log is another thing ([`crate::telemetry::access_log`]).

use std::io::IsTerminal;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{AppLogFormat, LogLevel, LogSpec};

/// The variable that names a filter such as `info` or `weir=debug`.
pub const ENV: &str = "WEIR_LOG";

/// Changes the level of the running log.
#[derive(Debug, Clone)]
pub struct LogLevelSwitch(reload::Handle<EnvFilter, Registry>);

/// Why a filter was refused.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a log filter: write error, warn, info, debug, trace, or one such as weir=debug")]
pub struct InvalidFilter(String);

/// Starts the log of the process. `asked` is what was asked for on the command line; it wins over `WEIR_LOG`, and that
/// over the file. When another log is there already (tests), that one stays.
pub fn start(spec: LogSpec, asked: Option<&str>) -> Result<LogLevelSwitch, InvalidFilter> {
    let variable = std::env::var(ENV).ok().filter(|text| !text.is_empty());
    let text = asked.map(str::to_owned).or(variable).unwrap_or_else(|| word(spec.level).to_owned());
    let (filter, handle) = reload::Layer::new(filter(&text)?);
    let json = match spec.format {
        AppLogFormat::Json => true,
        AppLogFormat::Text => false,
        AppLogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    } else {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        registry.with(fmt::layer().with_ansi(colours).with_target(false).with_writer(std::io::stderr)).try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "another log is there already");
    }
    Ok(LogLevelSwitch(handle))
}

// === impl LogLevelSwitch ===

impl LogLevelSwitch {
    /// Takes another filter over from now on.
    pub fn set(&self, text: &str) -> Result<(), InvalidFilter> {
        let filter = filter(text)?;
        self.0.reload(filter).map_err(|_| InvalidFilter(text.into()))?;
        tracing::info!(filter = text, "the log level changed");
        Ok(())
    }
}

fn filter(text: &str) -> Result<EnvFilter, InvalidFilter> {
    let invalid = || InvalidFilter(text.chars().take(80).collect());
    if text.trim().is_empty() {
        return Err(invalid());
    }
    // A bare word that is no level would be read as the name of a target and silence everything.
    let known = |part: &str| part.contains('=') || part.parse::<tracing::Level>().is_ok() || part == "off";
    if !text.split(',').map(str::trim).all(known) {
        return Err(invalid());
    }
    EnvFilter::builder().parse(text).map_err(|_| invalid())
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_silence_the_log_by_mistake_is_refused() {
        for good in ["info", "DEBUG", "weir=debug", "warn,weir::upstream=trace", "off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "inof", "weir", "weir=loud", "info,,"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
