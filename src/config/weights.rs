//! `weights.toml`: one table per service, one weight per pool. The file is taken whole or refused whole.
//!
//! Environment variables are not put in here: the file is the truth about the split, and the proxy writes it too.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::cursor::{At, Sink, as_entries, describe, meant, shorten};
use super::value::as_integer;
use super::{Problem, Problems, Values, is_blank, lines, maintenance, parse_toml, read_text};
use crate::model::{
    InvalidWeights, KILL_WORD, Kills, MAINTENANCE_WORD, Name, Plan, Scope, ServiceSpec, WEIGHT_MAX, Weight, Weights,
    kill_reason,
};

/// The weights of every service of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// Every service of the plan once, in the order of the plan; each names every pool of its service.
    pub services: Vec<(Name, Weights)>,
    /// What is killed, and what is under maintenance.
    pub kills: Kills,
    /// What is legal and perhaps not meant: services and pools that the file does not name.
    pub notes: Vec<Problem>,
}

/// Reads and checks the weights file; a missing file means all to stable, which a note says.
pub fn read_weights(path: impl AsRef<Path>, plan: &Plan) -> Result<WeightsFile, Problems> {
    let path = path.as_ref();
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => WeightsFile::parse(&text, &name, plan),
        Err(super::ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut file = WeightsFile::all_to_stable(plan);
            let help = "save it with a [SERVICE] table of weights, or use `weir set`";
            let message = "there is no weights file: everything goes to stable".to_owned();
            file.notes.push(Problem::without_place(&name, message, help));
            Ok(file)
        }
        Err(error) => Err(Problems::one(error.for_file(&name))),
    }
}

// === impl WeightsFile ===

impl WeightsFile {
    /// Every service of the plan all to its stable pool.
    pub fn all_to_stable(plan: &Plan) -> Self {
        let services = plan.services.iter().map(|service| (service.name.clone(), stable_only(service))).collect();
        Self { services, kills: Kills::default(), notes: Vec::new() }
    }

    /// Checks a text. `file` is how problems name it. A text of blanks and comments gives problems that are
    /// [`Problems::unfinished`]: somebody is still writing, the old weights stay.
    pub fn parse(text: &str, file: &str, plan: &Plan) -> Result<Self, Problems> {
        if is_blank(text) {
            return Err(Problems::not_finished(file, "weights"));
        }
        let parsed = parse_toml(file, text, Values::Weights);
        let sink = Sink::new(file, text, &|_| None);
        let entries = as_entries("", parsed.tree.get_ref());
        let kills = read_words(&sink, &entries, plan);
        let known = |key: &str| is_word(key) || plan.services.iter().any(|service| service.name.as_str() == key);
        for (key, _) in entries.iter().filter(|(key, _)| !known(key.value)) {
            let found = format!("there is no service \"{}\"", shorten(key.value));
            let words = plan.services.iter().map(|service| service.name.as_str());
            let help = meant(key.value, words.chain([KILL_WORD, MAINTENANCE_WORD]));
            sink.local(key.span.clone(), &key.path, found, help);
        }
        let mut services = Vec::new();
        for service in &plan.services {
            let entry = entries.iter().find(|(key, _)| service.name.as_str() == key.value);
            let weights = match entry {
                Some((key, value)) => service_weights(&sink, service, key, value),
                None => {
                    let found =
                        format!("service \"{}\" is not named: everything goes to \"{}\"", service.name, service.stable);
                    sink.note(0..0, &service.name, found, format!("add a [{}] table", service.name));
                    Some(stable_only(service))
                }
            };
            services.extend(weights.map(|weights| (service.name.clone(), weights)));
        }
        drop(entries);
        let (problems, notes) = sink.finish(parsed);
        Problems::new(problems).map_or(Ok(Self { services, kills, notes }), Err)
    }

    /// What may be gone by of a text that does not hold: kills and maintenance as far as they can be read (of the whole
    /// file only what stands above the first error, since a table may have lost its header), and the services whose own
    /// table can be read and sends everything to stable.
    pub(crate) fn salvage(text: &str, plan: &Plan) -> (Kills, Vec<Name>) {
        let parsed = parse_toml("", text, Values::Weights);
        let sink = Sink::new("", text, &|_| None);
        let entries = as_entries("", parsed.tree.get_ref());
        let mut kills = read_words(&sink, &entries, plan);
        let wrong: Vec<usize> = parsed.problems.iter().map(|problem| problem.line as usize).collect();
        let line = |at: usize| text.get(..at).map_or(0, |text| text.matches('\n').count() + 1);
        let lost = |word: &str| {
            let word = entries.iter().find(|(key, _)| key.value == word);
            word.is_some_and(|(key, _)| wrong.iter().any(|&wrong| wrong <= line(key.span.start)))
        };
        if lost(MAINTENANCE_WORD) {
            kills.closed.system = None;
        }
        let to_stable = plan.services.iter().filter(|service| {
            let Ok(section) = lines::section(text, &service.name) else { return false };
            let entry = entries.iter().find(|(key, _)| service.name.as_str() == key.value);
            let weights = entry.and_then(|(key, value)| service_weights(&sink, service, key, value));
            wrong.iter().all(|wrong| !section.contains(&(wrong - 1)))
                && weights.is_some_and(|weights| {
                    weights.iter().all(|(pool, it)| (*pool == service.stable) || it.value() == 0)
                })
        });
        let to_stable = to_stable.map(|service| service.name.clone()).collect();
        (kills, to_stable)
    }

    /// The weights of a service; none for a service that the plan does not have.
    pub fn of(&self, service: &str) -> Option<&Weights> {
        self.services.iter().find(|(name, _)| name.as_str() == service).map(|(_, weights)| weights)
    }

    /// Replaces the weights of a service that is there.
    pub fn set(&mut self, service: &str, weights: Weights) {
        if let Some(entry) = self.services.iter_mut().find(|(name, _)| name.as_str() == service) {
            entry.1 = weights;
        }
    }
}

/// What is killed and what is under maintenance.
fn read_words(sink: &Sink<'_>, entries: &[(At<&str>, At<&DeValue<'_>>)], plan: &Plan) -> Kills {
    let mut kills = Kills::default();
    for (key, value) in entries {
        match key.value {
            KILL_WORD => kills.system = read_kill(sink, key, value),
            MAINTENANCE_WORD => kills.closed.system = maintenance::read(sink, key, value, None),
            _ => {}
        }
    }
    for service in &plan.services {
        let table = entries.iter().find(|(key, _)| service.name.as_str() == key.value);
        let table = table.and_then(|(key, value)| Some((key, value.value.as_table()?)));
        let scope = || Scope::Service(service.name.clone());
        for (key, value) in table.iter().flat_map(|(key, table)| as_entries(&key.path, table)) {
            match key.value {
                KILL_WORD => kills.put(&scope(), read_kill(sink, &key, &value)),
                MAINTENANCE_WORD => kills.closed.put(&scope(), maintenance::read(sink, &key, &value, Some(service))),
                _ => {}
            }
        }
    }
    kills
}

/// How alike a key must be to `kill` or `maintenance` to be taken for it: one letter that is missing or wrong.
const WORD_ALIKE: f64 = 0.85;

/// What a weight is, for who wrote something else.
pub(super) const WEIGHT_HELP: &str = "write an integer from 0 to 1000000, or a percentage such as \"10%\"";

/// Decimals of a percentage: one part of a million is the least.
const WEIGHT_DECIMALS_MAX: usize = 4;

/// Whether a key says something else than a weight.
pub(super) fn is_word(key: &str) -> bool {
    matches!(key, KILL_WORD | MAINTENANCE_WORD)
}

/// Everything to the stable pool of a service.
fn stable_only(service: &ServiceSpec) -> Weights {
    let others = service.pools.iter().map(|pool| pool.name.clone());
    Weights::all_to(&service.stable, others)
}

fn service_weights(
    sink: &Sink<'_>,
    service: &ServiceSpec,
    key: &At<&str>,
    value: &At<&DeValue<'_>>,
) -> Option<Weights> {
    let DeValue::Table(table) = value.value else {
        let found = format!("{} is {}", key.value, describe(value.value));
        sink.local(value.span.clone(), &key.path, found, format!("write a table: [{}]", key.value));
        return None;
    };
    let (mut weights, complete) = pool_weights(sink, service, key.value, table);
    let percent = weights.iter().any(|(_, weight)| matches!(weight, Weight::Percent(_)));
    if !complete {
        return None;
    }
    if weights.is_empty() && table.keys().any(|key| is_word(key.get_ref())) {
        return Some(stable_only(service));
    }
    for pool in &service.pools {
        if !weights.iter().any(|(name, _)| *name == pool.name) {
            let found = format!("service \"{}\": pool \"{}\" is not named and gets nothing", service.name, pool.name);
            sink.note(key.span.clone(), &key.path, found, format!("write {} = 0 to say so", pool.name));
            weights.push((pool.name.clone(), if percent { Weight::Percent(0) } else { Weight::Relative(0) }));
        }
    }
    let empty = table.is_empty();
    Weights::new(weights)
        .map_err(|error| {
            let error = if empty { InvalidWeights::Empty } else { error };
            let text = error.to_string();
            let (found, help) = text.split_once("; ").unwrap_or((&text, ""));
            let place = odd_one(table, &error).unwrap_or(key.span.clone());
            sink.local(place, &key.path, format!("service \"{}\": {found}", service.name), help);
        })
        .ok()
}

/// Where percents and integers first disagree: there the caret is of most use.
fn odd_one(table: &DeTable<'_>, error: &InvalidWeights) -> Option<std::ops::Range<usize>> {
    let percent = |value: &DeValue<'_>| matches!(value, DeValue::String(text) if text.ends_with('%'));
    let InvalidWeights::Mixed = error else { return None };
    let mut weights = table.iter().filter(|(key, _)| !is_word(key.get_ref())).map(|(_, value)| value);
    let first = percent(weights.next()?.get_ref());
    weights.find(|value| percent(value.get_ref()) != first).map(|value| value.span())
}

/// The weights that the table names, and whether every one of them could be read.
fn pool_weights(
    sink: &Sink<'_>,
    service: &ServiceSpec,
    path: &str,
    table: &DeTable<'_>,
) -> (Vec<(Name, Weight)>, bool) {
    let mut weights = Vec::new();
    let mut complete = true;
    for (key, value) in as_entries(path, table).into_iter().filter(|(key, _)| !is_word(key.value)) {
        let weight = read_weight(value.value);
        if let Err(help) = &weight {
            let found = format!("service \"{}\": {} is {}", service.name, shorten(key.value), describe(value.value));
            sink.local(value.span.clone(), &key.path, found, help);
        }
        let pool = service.pools.iter().find(|pool| pool.name.as_str() == key.value);
        if pool.is_none() {
            let found = format!("service \"{}\" has no pool \"{}\"", service.name, shorten(key.value));
            let mut words = [KILL_WORD, MAINTENANCE_WORD].into_iter();
            // The words only where one is meant: a pool is what usually stands here.
            let word = words.find(|word| strsim::jaro_winkler(word, &key.value.to_lowercase()) >= WORD_ALIKE);
            let help = match word {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => meant(key.value, service.pools.iter().map(|pool| pool.name.as_str())),
            };
            sink.local(key.span.clone(), &key.path, found, help);
        }
        complete &= pool.is_some() && weight.is_ok();
        weights.extend(pool.zip(weight.ok()).map(|(pool, weight)| (pool.name.clone(), weight)));
    }
    (weights, complete)
}

/// The reason; none when nothing is killed.
fn read_kill(sink: &Sink<'_>, key: &At<&str>, value: &At<&DeValue<'_>>) -> Option<String> {
    match value.value {
        DeValue::String(reason) => Some(kill_reason(reason)),
        DeValue::Boolean(true) => Some(String::new()),
        DeValue::Boolean(false) => None,
        other => {
            let found = format!("{} is {}", key.path, describe(other));
            let help = "write kill = \"the reason\" to send everything to stable, or take the line out";
            sink.local(value.span.clone(), &key.path, found, help);
            None
        }
    }
}

fn read_weight(value: &DeValue<'_>) -> Result<Weight, String> {
    let help = || WEIGHT_HELP.to_owned();
    match value {
        DeValue::Integer(_) => {
            let number = as_integer(value).and_then(|number| u32::try_from(number).ok());
            number.filter(|&number| number <= WEIGHT_MAX).map(Weight::Relative).ok_or_else(help)
        }
        DeValue::String(text) => Weight::parse(text).map_err(|_| {
            // A finer one than there is: it is a percentage all the same.
            let decimals = text.strip_suffix('%').and_then(|number| number.split_once('.')).map(|(_, it)| it.len());
            let finer = decimals.is_some_and(|count| count > WEIGHT_DECIMALS_MAX);
            if finer { "write a percentage with at most four decimals, such as \"0.0001%\"".to_owned() } else { help() }
        }),
        DeValue::Float(number) => {
            let scaled = number.as_str().parse::<f64>().ok().filter(|n| (0.0..=1.0).contains(n));
            Err(scaled.map_or_else(help, |ratio| {
                format!("weights are whole numbers; for this share write \"{}%\"", ratio * 100.0)
            }))
        }
        _ => Err(help()),
    }
}
