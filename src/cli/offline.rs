//! Changes of the weights file without a running weir. One that runs all the same takes the file over as soon as it
//! sees it, so this is safe either way.

use serde_json::json;

use super::failure::Failure;
use super::{Globals, near, place, screen};
use crate::config::{Config, WeightsFile, edit, fresh, read_weights, write_weights};
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

/// Writes everything of one service to its stable pool, also over a file that does not hold.
pub(super) fn rollback(globals: &Globals, service: &Name) -> Result<(), Failure> {
    let config = place::config(globals)?;
    let spec = spec(&config, service)?;
    let weights = Weights::all_to(&spec.stable, spec.pools.iter().map(|pool| pool.name.clone()));
    write(globals, &config, service, &weights)
}

fn spec<'c>(config: &'c Config, service: &Name) -> Result<&'c ServiceSpec, Failure> {
    let found = config.plan.services.iter().find(|spec| spec.name == *service);
    let names: Vec<&str> = config.plan.services.iter().map(|spec| spec.name.as_str()).collect();
    let advice = near::advice(service.as_str(), &names);
    found.ok_or_else(|| Failure::wrong(format!("there is no service \"{service}\"{advice}")))
}

fn write(globals: &Globals, config: &Config, service: &Name, weights: &Weights) -> Result<(), Failure> {
    let path = &config.weights_path;
    let whole = || {
        let mut file = WeightsFile::all_to_stable(&config.plan);
        file.set(service, weights.clone());
        fresh(file.services.iter().map(|(name, weights)| (name.as_str(), weights)))
    };
    let text = match std::fs::read_to_string(path) {
        Ok(old) => edit(&old, service, weights).unwrap_or_else(|_| whole()),
        Err(_) => whole(),
    };
    // What is written must hold: other services of the file may have been wrong before.
    let name = path.display().to_string();
    WeightsFile::parse(&text, &name, &config.plan).map_err(|problems| Failure::wrong(problems.to_string()))?;
    write_weights(path, &text)?;
    if globals.json() {
        return screen::print_json(&json!({ "service": service, "weights_file": name, "offline": true }));
    }
    screen::print(&format!("{name} says {service} {weights} now; no running weir was asked\n"))
}
