//! Changes of the weights file without a running weir. One that runs all the same takes the file over as soon as it
//! sees it, so this is safe either way.

use std::path::Path;

use serde_json::json;

use super::failure::Failure;
use super::{Globals, near, place, screen};
use crate::config::{Config, WeightsFile, edit, edit_lines, fresh, read_weights, write_weights};
use crate::model::{Name, ServiceSpec, Weights};

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
                 write it by hand: [{service}] {weights}; or start weir with --safe-mode, which sends everything to stable"
            ))
        })
    })?;
    let still = WeightsFile::parse(&text, &name, &config.plan).err();
    write_weights(path, &text)?;
    let Some(problems) = still else { return tell(globals, &name, service, &weights) };
    let mut said =
        format!("{name} says {service} {weights} now, and nothing else of it was changed; but it does not hold");
    for problem in problems.iter() {
        said += &format!("\n  {}", problem.headline());
    }
    said +=
        "\n  a weir that runs does not take it over before that is mended; one that is started goes by this rollback";
    Err(Failure::failed(said))
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
    // What is written must hold: other services of the file may have been wrong before.
    WeightsFile::parse(&text, &name, &config.plan).map_err(|problems| Failure::wrong(problems.to_string()))?;
    write_weights(path, &text)?;
    tell(globals, &name, service, weights)
}

fn tell(globals: &Globals, file: &str, service: &Name, weights: &Weights) -> Result<(), Failure> {
    if globals.json() {
        return screen::print_json(&json!({ "service": service, "weights_file": file, "offline": true }));
    }
    screen::print(&format!("{file} says {service} {weights} now; no running weir was asked\n"))
}
