//! Changes of the weights file without a running weir. One that runs all the same takes the file over as soon as it
//! sees it, so this is safe either way.

use std::path::Path;

use serde_json::json;

use super::failure::Failure;
use super::screen::Paint;
use super::{Globals, near, place, screen};
use crate::config::{
    Config, NotEditable, WeightsFile, edit, edit_kill, edit_lines, fresh, has_table, read_weights, write_weights,
};
use crate::model::{Name, Scope, ServiceSpec, Weights};

/// Writes new weights of one service.
pub(super) fn set(globals: &Globals, service: &Name, weights: &Weights) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let spec = spec(&config, service)?;
    if let Some((pool, _)) = weights.iter().find(|(pool, _)| !spec.pools.iter().any(|spec| spec.name == **pool)) {
        let names: Vec<&str> = spec.pools.iter().map(|spec| spec.name.as_str()).collect();
        let advice = near::advice(pool.as_str(), &names);
        return Err(Failure::wrong(format!("service \"{service}\" has no pool \"{pool}\"{advice}")));
    }
    let live =
        read_weights(&config.weights_path, &config.plan).map_err(|problems| Failure::wrong(problems.to_string()))?;
    let named = |pool: &Name| weights.iter().any(|(name, _)| name == pool);
    let mut before = live.of(service).into_iter().flat_map(Weights::iter);
    if let Some((pool, _)) = before.find(|(pool, weight)| weight.value() > 0 && !named(pool)) {
        return Err(Failure::wrong(format!(
            "pool \"{pool}\" has traffic and is not named; say {pool}=0 if it should not"
        )));
    }
    write(globals, &config, service, weights)
}

/// Writes everything of one service to its stable pool, also into a file that does not hold: then on its own lines
/// alone. Exit 1 where the file is still one that no running weir takes over.
pub(super) fn rollback(globals: &Globals, service: &Name) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let spec = spec(&config, service)?;
    let weights = Weights::all_to(&spec.stable, spec.pools.iter().map(|pool| pool.name.clone()));
    let path = &config.weights_path;
    let name = path.display().to_string();
    let Some(old) = text_of(path)? else { return write(globals, &config, service, &weights) };
    let text = edit(&old, service, &weights).or_else(|broken| {
        edit_lines(&old, service, &weights).map_err(|why| {
            Failure::wrong(format!(
                "{name}: {broken}\n  nothing was changed: {why}, so its lines cannot be told apart\n  \
                 write it by hand: [{service}] {weights}; or start weir with --safe-mode: everything to stable"
            ))
        })
    })?;
    let still = WeightsFile::parse(&text, &name, &config.plan).err();
    write_weights(path, &text)?;
    let Some(problems) = still else { return tell(globals, &name, service, &weights) };
    let done = "now, and nothing else of it was changed; but it does not hold";
    let mut said = format!("{name} says {service} {weights} {done}");
    for problem in problems.iter() {
        said += &format!("\n  {}", problem.headline());
    }
    said +=
        "\n  a weir that runs does not take it over before that is mended; one that is started goes by this rollback";
    Err(Failure::failed(said))
}

/// Writes the word that kills, with its reason, or takes it out (none).
pub(super) fn kill(globals: &Globals, scope: &Scope, reason: Option<&str>) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let text = with_word(&config, scope, &|text| edit_kill(text, scope, reason))?;
    let file = config.weights_path.display().to_string();
    put(&config, &text)?;
    if globals.json() {
        let service = if let Scope::Service(name) = scope { Some(name.as_str()) } else { None };
        return screen::print_json(&json!({ "service": service, "killed": reason.is_some(), "weights_file": file }));
    }
    let paint = Paint::stdout();
    let what = match reason {
        Some(_) => paint.red("is killed: everything goes to stable"),
        None => paint.green("is no longer killed"),
    };
    screen::print(&format!("{file} says that {scope} {what}; no running weir was asked\n"))
}

/// The text of the file with a word put in or taken out by `edit`. A service that it does not name goes to stable.
pub(super) fn with_word(
    config: &Config,
    scope: &Scope,
    edit_word: &dyn Fn(&str) -> Result<String, NotEditable>,
) -> Result<String, Failure> {
    let path = &config.weights_path;
    let stable = WeightsFile::all_to_stable(&config.plan);
    let mut text = match text_of(path)? {
        Some(text) => text,
        None => fresh(stable.services.iter().map(|(name, weights)| (name.as_str(), weights))),
    };
    let broken = |error: NotEditable| Failure::wrong(format!("{}: {error}", path.display()));
    if let Scope::Service(service) = scope {
        spec(config, service)?;
        if let Some(weights) = stable.of(service).filter(|_| !has_table(&text, service)) {
            text = edit(&text, service, weights).map_err(broken)?;
        }
    }
    edit_word(&text).map_err(broken)
}

/// Writes a text that holds: another part of the file may have been wrong before.
pub(super) fn put(config: &Config, text: &str) -> Result<(), Failure> {
    let file = config.weights_path.display().to_string();
    WeightsFile::parse(text, &file, &config.plan).map_err(|problems| Failure::wrong(problems.to_string()))?;
    write_weights(&config.weights_path, text)?;
    Ok(())
}

/// The text of the file; none when there is no file.
fn text_of(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::wrong(format!("{} cannot be read: {error}", path.display()))),
    }
}

fn spec<'c>(config: &'c Config, service: &Name) -> Result<&'c ServiceSpec, Failure> {
    let found = config.plan.services.iter().find(|spec| spec.name == *service);
    let names: Vec<&str> = config.plan.services.iter().map(|spec| spec.name.as_str()).collect();
    let advice = near::advice(service.as_str(), &names);
    found.ok_or_else(|| Failure::wrong(format!("there is no service \"{service}\"{advice}")))
}

fn write(globals: &Globals, config: &Config, service: &Name, weights: &Weights) -> Result<(), Failure> {
    let path = &config.weights_path;
    let name = path.display().to_string();
    let text = match text_of(path)?.filter(|text| !text.trim().is_empty()) {
        Some(old) => edit(&old, service, weights).map_err(|broken| Failure::wrong(format!("{name}: {broken}")))?,
        None => {
            let mut file = WeightsFile::all_to_stable(&config.plan);
            file.set(service, weights.clone());
            fresh(file.services.iter().map(|(name, weights)| (name.as_str(), weights)))
        }
    };
    put(config, &text)?;
    tell(globals, &name, service, weights)
}

fn tell(globals: &Globals, file: &str, service: &Name, weights: &Weights) -> Result<(), Failure> {
    if globals.json() {
        return screen::print_json(&json!({ "service": service, "weights_file": file, "offline": true }));
    }
    screen::print(&format!("{file} says {service} {weights} now; no running weir was asked\n"))
}
