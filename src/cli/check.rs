//! `weir check`: every problem of the configuration, of the weights file and of what they name, all at once and each
//! with its place: what `weir run` would refuse. What is wrong with a plan beside them is noted; whether plans are
//! good is for `weir rollout check` to judge.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use toml::de::DeTable;

use super::failure::{Failure, WRONG};
use super::screen::Paint;
use super::{Globals, needs, place, screen, secrets};
use crate::app::{acme, tls};
use crate::config::rollouts::{Plans, Read};
use crate::config::{Config, Problem, Problems, WeightsFile, read_weights};

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Problem>,
}

pub(super) fn execute(globals: &Globals) -> Result<(), Failure> {
    let (report, line) = examine(&place::config_path(globals), globals.token_file());
    if globals.json() {
        screen::print_json(&report)?;
    } else {
        report.tell(&line)?;
    }
    if report.ok { Ok(()) } else { Err(Failure::Said(WRONG)) }
}

/// Reads everything; a line on what would be served comes with it.
pub(super) fn examine(path: &Path, token_file: Option<&Path>) -> (Report, String) {
    let mut report = Report { ok: true, problems: Vec::new(), notes: Vec::new() };
    let mut line = String::new();
    match Config::load_with(path, token_file) {
        Ok(config) => {
            report.notes.extend(config.notes.iter().cloned());
            report.notes.extend(secrets::notes(&config));
            match read_weights(&config.weights_path, &config.plan) {
                Ok(weights) => {
                    report.notes.extend(weights.notes.iter().cloned());
                    line = summary(&config, &weights);
                }
                Err(problems) => report.add(&problems),
            }
            let plans = Plans::load(&config.path, &config.plan, &config.rollouts.constraints()).by_name;
            report.notes.extend(unfit(&plans, &Plans::directory(&config.path)));
            let fit = plans.values().filter(|read| read.is_ok()).count();
            if fit > 0 && !line.is_empty() {
                let plural = if fit == 1 { "" } else { "s" };
                line = format!("{line}; {fit} plan{plural}");
            }
            match (tls::open(&config), tls::open_pools(&config)) {
                (Ok((sites, admin)), Ok(pools)) => {
                    let (sites, now) = (sites.iter().flatten().chain(&admin), jiff::Timestamp::now());
                    report.notes.extend(acme::notes(&config));
                    report.notes.extend(tls::notes(&config, sites, pools.identities(), now));
                }
                (sites, pools) => sites.err().iter().chain(&pools.err()).for_each(|problems| report.add(problems)),
            }
            let needs = needs::look(&config);
            report.ok &= needs.problems.is_empty();
            report.problems.extend(needs.problems);
            report.notes.extend(needs.notes);
        }
        Err(problems) => {
            report.add(&problems);
            if let Some(Err(problems)) = weights_beside(path) {
                report.add(&problems);
            }
        }
    }
    (report, line)
}

/// What is wrong with plans. weir runs without them, so that it is no problem here; one for a service that this
/// configuration does not have may be for another beside it, and is named, no more.
fn unfit(plans: &BTreeMap<String, Result<Read, Problems>>, directory: &Path) -> Vec<Problem> {
    let broken = || plans.iter().filter_map(|(name, read)| Some((name.as_str(), read.as_ref().err()?)));
    let is_strange = |problems: &Problems| problems.iter().any(|problem| problem.path == "service");
    let mut notes: Vec<Problem> = broken()
        .filter(|(_, problems)| !is_strange(problems))
        .flat_map(|(_, problems)| problems.iter().cloned())
        .collect();
    let strange: Vec<&str> = broken().filter(|(_, problems)| is_strange(problems)).map(|(name, _)| name).collect();
    if !strange.is_empty() {
        let found = format!("for services that are not here: {}", strange.join(", "));
        notes.push(Problem::without_place(&directory.display().to_string(), found, "weir rollout check says more"));
    }
    notes
}

/// One line on what would be served.
fn summary(config: &Config, weights: &WeightsFile) -> String {
    let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    let services: Vec<String> = weights.services.iter().map(|(name, weights)| format!("{name} {weights}")).collect();
    let routes = config.plan.routes.len();
    let plural = if routes == 1 { "" } else { "s" };
    format!("{}: {}; {routes} route{plural}; on {}", config.path.display(), services.join("; "), listeners.join(", "))
}

/// The weights file of a configuration that does not hold: checked all the same, against the services and pools that it
/// names, so that one run of `check` shows the problems of both. None when not even those can be made out.
fn weights_beside(path: &Path) -> Option<Result<WeightsFile, Problems>> {
    let text = std::fs::read_to_string(path).ok()?;
    let (tree, _) = DeTable::parse_recoverable(&text);
    let services = tree.get_ref().get("services")?.get_ref().as_table()?;
    let mut bare = toml::Table::new();
    let mut routes = Vec::new();
    for (service, members) in services {
        let (service, members) = (service.get_ref().to_string(), members.get_ref().as_table()?);
        let pools = members.get("pools")?.get_ref().as_table()?;
        let endpoints = toml::Value::Array(vec!["http://127.0.0.1:1".into()]);
        let pool = toml::Table::from_iter([("endpoints".to_owned(), endpoints)]);
        let pools: toml::Table = pools.keys().map(|name| (name.get_ref().to_string(), pool.clone().into())).collect();
        let mut table = toml::Table::from_iter([("pools".to_owned(), pools.into())]);
        if let Some(stable) = members.get("stable").and_then(|value| value.get_ref().as_str()) {
            table.insert("stable".into(), stable.into());
        }
        let place = toml::Table::from_iter([("path_prefix".to_owned(), format!("/{}", routes.len()).into())]);
        let route = [("service".to_owned(), service.clone().into()), ("match".to_owned(), place.into())];
        routes.push(toml::Value::Table(toml::Table::from_iter(route)));
        bare.insert(service, table.into());
    }
    let bare = toml::Table::from_iter([("services".to_owned(), bare.into()), ("routes".to_owned(), routes.into())]);
    let plan = Config::parse(&bare.to_string(), path, &|_| None).ok()?.plan;
    let file = tree.get_ref().get("weights").and_then(|value| value.get_ref().as_str()).unwrap_or("weights.toml");
    Some(read_weights(path.parent().unwrap_or(Path::new("")).join(file), &plan))
}

// === impl Report ===

impl Report {
    fn add(&mut self, problems: &Problems) {
        self.ok = false;
        self.problems.extend(problems.iter().cloned());
    }

    /// For people: problems to stderr, notes and the summary to stdout.
    fn tell(&self, summary: &str) -> Result<(), Failure> {
        for note in &self.notes {
            screen::note(&note.to_string());
        }
        for problem in &self.problems {
            screen::complain(&format!("{problem}\n"));
        }
        if self.ok {
            return screen::print(&format!("{} {summary}\n", Paint::stdout().green("ok")));
        }
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        screen::complain(&format!("{count} problem{plural}; weir takes a file over as a whole or not at all"));
        Ok(())
    }
}
