//! What a person types: the arguments of every verb, one file per verb, and the exit codes.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or bad configuration. Text for people goes to stdout, errors to stderr;
//! `--output json` prints data instead. A reader that goes away (`weir status | head -1`) is no failure.
//!
//! Verbs that ask a running weir use its admin API through `client`; they decide nothing about traffic themselves.

mod client;
mod failure;
mod figures;
mod near;
mod needs;
mod place;
mod pools;
mod record;
mod refusal;
mod screen;
mod secrets;

mod run;

mod check;
mod diff;
mod doctor;
mod explain;
mod status;
mod table;
mod trust;

mod certificates;
mod change;
mod offline;
mod rollback;
mod set;
mod undo;

mod audit;
mod events;
mod kill;
mod maintenance;
mod notify;
mod rollout;
mod verify_split;

mod healthcheck;
mod log_level;
mod reload;
mod upgrade;

mod completions;
mod schema;
mod version;

mod demo;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use self::failure::Failure;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  weir demo                                     see it work, without any file or container
  weir check --config /etc/weir/weir.toml       every problem, before it is used
  weir run --config /etc/weir/weir.toml         serve
  weir status --watch                           what is live, second by second
  weir set engine stable=50 canary=50           the next request goes by it
  weir rollback engine --reason \"errors on /pay\"

Without --config it is /etc/weir/weir.toml, config/weir.toml or weir.toml, the first that exists.
Without --admin and --token-file they are as the configuration says.

Exit codes: 0 done, 1 failed, 2 wrong usage or bad configuration.";

/// What every verb takes.
#[derive(Debug, Clone, Args)]
struct Globals {
    #[arg(long, short, global = true, value_name = "FORM", default_value = "human", hide_possible_values = true)]
    #[arg(help = "Print text (human) or data (json)", help_heading = "Everywhere")]
    output: Output,
    /// The configuration file [env: WEIR_CONFIG]
    #[arg(long, short, global = true, value_name = "FILE")]
    #[arg(help_heading = "Everywhere")]
    config: Option<PathBuf>,
    /// Where a running weir takes commands [env: WEIR_ADMIN]
    #[arg(long, global = true, value_name = "URL")]
    #[arg(help_heading = "Everywhere")]
    admin: Option<String>,
    /// The file with the admin token [env: WEIR_ADMIN_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Everywhere")]
    token_file: Option<PathBuf>,
    /// Authorities (PEM) that issued the certificate of an admin API that speaks TLS [env: WEIR_ADMIN_CA]
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Everywhere")]
    admin_ca: Option<PathBuf>,
    /// A certificate and its key (PEM) to show to the admin API [env: WEIR_ADMIN_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Everywhere")]
    admin_cert: Option<PathBuf>,
}

/// Form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve: split traffic as the configuration and the weights file say
    Run(run::Arguments),
    /// Say every problem of the configuration and the weights file
    #[command(visible_alias = "validate")]
    Check,
    /// Say what a changed file would do, before it is saved
    Diff(diff::Arguments),
    /// Say what is wrong, in the order in which it is to be mended
    Doctor(doctor::Arguments),
    /// Show what is live: weights, shares, errors, latencies, endpoints, last changes
    Status(status::Arguments),
    /// Set the weights of a service, in the file and live
    Set(set::Arguments),
    /// Send everything of a service to its stable pool, at once
    Rollback(rollback::Arguments),
    /// Go back to the weights before the last change of a service
    Undo(undo::Arguments),
    /// Move a service's traffic by phases and gates, as far as the evidence allows
    Rollout(rollout::Arguments),
    /// Send everything of a service, or of all, to stable, above everything else
    Kill(kill::Kill),
    /// Let a killed service go
    Unkill(kill::Unkill),
    /// Let a service, or all, answer 503 for a while, by the weights file
    Maintenance(maintenance::Arguments),
    /// Show what happened to rollouts and kill switches, or what happens
    Events(events::Arguments),
    /// Show who is told what happens, test it, or say that you look
    Notify(notify::Arguments),
    /// Show who changed what, and check that nobody changed the record
    Audit(audit::Arguments),
    /// Send requests and test whether they fall on the pools as the weights say
    VerifySplit(verify_split::Arguments),
    /// Say where a described request would go, and why
    Explain(explain::Arguments),
    /// Exit 0 when a running weir is healthy, else 1 (for HEALTHCHECK)
    Healthcheck(healthcheck::Arguments),
    /// Have a running weir read its files again
    Reload,
    /// Have a new process of weir take over, without a gap
    Upgrade(upgrade::Arguments),
    /// Change how much a running weir logs
    LogLevel(log_level::Arguments),
    /// Print the JSON Schema of weir.toml, for editors
    Schema(schema::Arguments),
    /// Print the completions of a shell
    Completions(completions::Arguments),
    /// Print the version
    Version,
    /// Start two small upstreams and weir before them, to play with
    Demo(demo::Arguments),
    /// Answer every request with a name: an upstream for tests
    Upstream(upstream::Arguments),
}

/// Reads the arguments of the process, does what they say, and tells how it went.
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    cli.globals.complete();
    failure::exit_code(cli.verb.execute(&cli.globals))
}

/// The definition of the command line, for completions.
fn command() -> clap::Command {
    Cli::command()
}

// === impl Verb ===

impl Verb {
    fn execute(self, globals: &Globals) -> Result<(), Failure> {
        match self {
            Verb::Run(arguments) => run::execute(&arguments, globals),
            Verb::Check => check::execute(globals),
            Verb::Diff(arguments) => diff::execute(&arguments, globals),
            Verb::Doctor(arguments) => doctor::execute(&arguments, globals),
            Verb::Status(arguments) => status::execute(&arguments, globals),
            Verb::Set(arguments) => set::execute(&arguments, globals),
            Verb::Rollback(arguments) => rollback::execute(&arguments, globals),
            Verb::Undo(arguments) => undo::execute(&arguments, globals),
            Verb::Rollout(arguments) => rollout::execute(&arguments, globals),
            Verb::Maintenance(arguments) => maintenance::execute(&arguments, globals),
            Verb::Kill(arguments) => kill::kill(&arguments, globals),
            Verb::Unkill(arguments) => kill::unkill(&arguments, globals),
            Verb::Events(arguments) => events::execute(&arguments, globals),
            Verb::Notify(arguments) => notify::execute(&arguments, globals),
            Verb::Audit(arguments) => audit::execute(&arguments, globals),
            Verb::VerifySplit(arguments) => verify_split::execute(&arguments, globals),
            Verb::Explain(arguments) => explain::execute(&arguments, globals),
            Verb::Healthcheck(arguments) => healthcheck::execute(&arguments, globals),
            Verb::Reload => reload::execute(globals),
            Verb::Upgrade(arguments) => upgrade::execute(&arguments, globals),
            Verb::LogLevel(arguments) => log_level::execute(&arguments, globals),
            Verb::Schema(arguments) => schema::execute(&arguments),
            Verb::Completions(arguments) => completions::execute(&arguments),
            Verb::Version => version::execute(globals),
            Verb::Demo(arguments) => demo::execute(&arguments),
            Verb::Upstream(arguments) => upstream::execute(&arguments),
        }
    }
}

// === impl Globals ===

impl Globals {
    /// Takes what was not said from the environment; an empty variable says nothing. Not clap's own way, which shows
    /// what a variable says as a part of every usage.
    fn complete(&mut self) {
        let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = |name: &str| value(name).map(PathBuf::from);
        self.config = self.config.take().or_else(|| file("WEIR_CONFIG"));
        self.admin = self.admin.take().or_else(|| value("WEIR_ADMIN").map(|url| url.to_string_lossy().into_owned()));
        self.token_file = self.token_file.take().or_else(|| file("WEIR_ADMIN_TOKEN_FILE"));
        self.admin_ca = self.admin_ca.take().or_else(|| file("WEIR_ADMIN_CA"));
        self.admin_cert = self.admin_cert.take().or_else(|| file("WEIR_ADMIN_CERT"));
    }

    /// The token file that was named; an empty variable names none.
    fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref().filter(|file| !file.as_os_str().is_empty())
    }

    fn json(&self) -> bool {
        self.output == Output::Json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_is_one_line_of_the_help() {
        for verb in command().get_subcommands() {
            let about = verb.get_about().unwrap_or_else(|| panic!("{} says nothing", verb.get_name())).to_string();
            assert!(!about.contains('\n') && about.len() <= 80, "{}: {about}", verb.get_name());
        }
    }
}
