//! `weir maintenance`: puts the word into the weights file that makes a service, or all of them, answer 503, and takes
//! it out. It asks no running weir: one that runs goes by the file as soon as it is saved.

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::screen::Paint;
use super::{Globals, change, near, place, screen};
use crate::config::{Config, WeightsFile, edit, edit_maintenance, fresh, has_table, write_weights};
use crate::model::{Name, Scope};

#[derive(Debug, Args)]
#[command(after_help = "\
Writes the weights file; a weir that runs goes by it at once. For single pools, another body or
Retry-After, write a table there: maintenance = { pools = [\"canary\"], retry_after = \"5m\" }

Examples:
  weir maintenance engine --reason \"new database, back at nine\"
  weir maintenance engine --end
  weir maintenance --all --reason \"moving house\"")]
pub(super) struct Arguments {
    /// The service
    #[arg(value_parser = change::name, required_unless_present = "all")]
    service: Option<Name>,
    /// Every service
    #[arg(long, conflicts_with = "service")]
    all: bool,
    /// What clients are told
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// It is over
    #[arg(long, conflicts_with = "reason")]
    end: bool,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let scope = arguments.service.clone().map_or(Scope::System, Scope::Service);
    let reason = (!arguments.end).then_some(arguments.reason.as_str());
    let text = edited(&config, &scope, reason)?;
    let file = config.weights_path.display().to_string();
    // What is written must hold: another part of the file may have been wrong before.
    WeightsFile::parse(&text, &file, &config.plan).map_err(|problems| Failure::wrong(problems.to_string()))?;
    write_weights(&config.weights_path, &text)?;
    if globals.json() {
        let service = arguments.service.as_ref().map(Name::as_str);
        return screen::print_json(&json!({ "service": service, "maintenance": !arguments.end, "weights_file": file }));
    }
    let paint = Paint::stdout();
    let what = match arguments.end {
        true => paint.green("is served again"),
        false => paint.red("is under maintenance and answers 503"),
    };
    screen::print(&format!("{file} says that {scope} {what}; a running weir goes by it at once\n"))
}

fn edited(config: &Config, scope: &Scope, reason: Option<&str>) -> Result<String, Failure> {
    let path = &config.weights_path;
    let stable = WeightsFile::all_to_stable(&config.plan);
    let mut text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fresh(stable.services.iter().map(|(name, weights)| (name.as_str(), weights)))
        }
        Err(error) => return Err(Failure::wrong(format!("{} cannot be read: {error}", path.display()))),
    };
    let broken = |error: crate::config::NotEditable| Failure::wrong(format!("{}: {error}", path.display()));
    if let Scope::Service(service) = scope {
        let Some(weights) = stable.of(service) else {
            let names: Vec<&str> = stable.services.iter().map(|(name, _)| name.as_str()).collect();
            let advice = near::advice(service.as_str(), &names);
            return Err(Failure::wrong(format!("there is no service \"{service}\"{advice}")));
        };
        if !has_table(&text, service) {
            text = edit(&text, service, weights).map_err(broken)?;
        }
    }
    edit_maintenance(&text, scope, reason).map_err(broken)
}
