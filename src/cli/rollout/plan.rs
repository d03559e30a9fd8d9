//! `weir rollout new` writes a commented plan file to start from; `weir rollout check` says every problem of plans.
//! Both read files only.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::super::failure::{Failure, WRONG};
use super::super::screen::Paint;
use super::super::{Globals, change, near, place, screen};
use crate::model::Name;

/// The directory of plans, beside the main file.
const PLANS: &str = "rollouts";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rollout new engine-2 --service engine
  weir rollout new --service engine --stable stable --canary canary --out -")]
pub(super) struct New {
    /// What the plan is called; the service with -rollout by default
    #[arg(value_parser = change::name)]
    name: Option<Name>,
    /// The service; the only one by default
    #[arg(long, value_parser = change::name)]
    service: Option<Name>,
    /// The pool that gets the traffic; the only one beside stable by default
    #[arg(long, alias = "candidate", value_name = "POOL", value_parser = change::name)]
    canary: Option<Name>,
    /// The pool that it is compared with; must be the service's stable pool
    #[arg(long, value_name = "POOL", value_parser = change::name)]
    stable: Option<Name>,
    /// Where it is written, - is stdout; rollouts/NAME.toml beside the main file by default
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without a name every plan beside the main file is checked. Exit codes: 0 they hold, 2 one does not.")]
pub(super) struct Check {
    /// Plan files, or names of plans beside the main file
    #[arg(value_name = "FILE|NAME")]
    plans: Vec<String>,
    /// Take recommendations for problems
    #[arg(long)]
    strict: bool,
}

/// Writes a plan that holds as it is.
pub(super) fn new(arguments: &New, globals: &Globals) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let services: Vec<&str> = config.plan.services.iter().map(|spec| spec.name.as_str()).collect();
    let spec = match (&arguments.service, config.plan.services.as_slice()) {
        (None, [only]) => only,
        (None, _) => {
            return Err(Failure::wrong(format!("name the service with --service{}", near::advice("", &services))));
        }
        (Some(name), specs) => specs.iter().find(|spec| spec.name == *name).ok_or_else(|| {
            Failure::wrong(format!("there is no service \"{name}\"{}", near::advice(name.as_str(), &services)))
        })?,
    };
    let pools: Vec<&str> = spec.pools.iter().map(|pool| pool.name.as_str()).collect();
    let known = |pool: &Name| {
        let advice = near::advice(pool.as_str(), &pools);
        let unknown = || Failure::wrong(format!("service \"{}\" has no pool \"{pool}\"{advice}", spec.name));
        pools.contains(&pool.as_str()).then_some(()).ok_or_else(unknown)
    };
    if let Some(stable) = &arguments.stable {
        known(stable)?;
        if *stable != spec.stable {
            let is = &spec.stable;
            return Err(Failure::wrong(format!(
                "the stable pool of \"{}\" is {is}; set `stable` in the main file",
                spec.name
            )));
        }
    }
    let others: Vec<&Name> = spec.pools.iter().map(|pool| &pool.name).filter(|name| **name != spec.stable).collect();
    let candidate = match (&arguments.canary, others.as_slice()) {
        (Some(name), _) => known(name).map(|()| name)?,
        (None, [only]) => only,
        (None, _) => return Err(Failure::wrong("name the pool that gets the traffic with --canary")),
    };
    let name = arguments.name.as_ref().map_or_else(|| format!("{}-rollout", spec.name), Name::to_string);
    let text = fresh_plan(&spec.name, candidate);
    if arguments.out.as_deref() == Some(Path::new("-")) {
        return screen::print(&text);
    }
    let file = arguments.out.clone().unwrap_or_else(|| directory(globals).join(format!("{name}.toml")));
    write_new(&file, &text)?;
    if globals.json() {
        return screen::print_json(&json!({ "plan": name, "file": file }));
    }
    let start = format!("edit it, `weir rollout check {name}`, `weir rollout start {name}`");
    screen::print(&format!("{} holds a plan for {}; {start}\n", file.display(), spec.name))
}

/// Writes a file that was not there.
fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    let mut made = made.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::wrong(format!("{} is there already; choose another name or --out FILE", file.display()))
        }
        _ => Failure::Failed(anyhow::Error::new(error).context(format!("cannot write {}", file.display()))),
    })?;
    Ok(made.write_all(text.as_bytes())?)
}

/// Where plans are: `rollouts` beside the main file.
fn directory(globals: &Globals) -> PathBuf {
    place::config_path(globals).parent().unwrap_or(Path::new("")).join(PLANS)
}

fn fresh_plan(service: &Name, candidate: &Name) -> String {
    format!("service = \"{service}\"\ncandidate = \"{candidate}\"\n")
}

/// Says every problem of the plans that are named, or of all.
pub(super) fn check(_arguments: &Check, _globals: &Globals) -> Result<(), Failure> {
    let _ = Paint::stdout();
    Err(Failure::Said(WRONG))
}
