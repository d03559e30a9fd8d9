//! Rollout plans: text or JSON in, and out comes a [`RolloutPlan`] that can be carried out, or every problem.
//!
//! Plan files stand in `rollouts/` beside the main file; a plan's name is its file's without `.toml`. They are read
//! anew whenever they are asked for, so that an edit is in force at the next start; a broken one harms nothing else.

mod checks;
mod foreign;
mod gates;
mod json;
pub(crate) mod keys;
mod policies;
mod profiles;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

pub use self::checks::Constraints;
use super::cursor::{Fields, Sink};
use super::problem::{Problem, Problems};
use super::{Env, Values, is_blank, parse_toml};
use crate::model::rollout::RolloutPlan;
use crate::model::{NAME_BYTES_MAX, Name, Plan};

/// The directory of plans, beside the main file.
pub const DIRECTORY: &str = "rollouts";

/// Most plan files that are looked at.
const FILES_MAX: usize = 1000;

/// A plan that can be carried out, and what would be better.
#[derive(Debug, Clone)]
pub struct Read {
    /// The plan.
    pub plan: RolloutPlan,
    /// Recommendations.
    pub notes: Vec<Problem>,
}

/// What a check of a plan says, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Whether it could be started.
    pub valid: bool,
    /// What is wrong.
    pub errors: Vec<CheckError>,
    /// What would be better.
    pub recommendations: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckError {
    /// In words.
    pub message: String,
    /// The field in dotted form.
    pub field: String,
}

/// Reads the plan file `path` with this text.
pub fn read_plan(text: &str, path: &Path, routes: &Plan, limits: &Constraints) -> Result<Read, Problems> {
    let file = path.display().to_string();
    if is_blank(text) {
        return Err(Problems::not_finished(&file, "plan"));
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = Name::new(&stem).map_err(|error| {
        Problems::one(Problem::without_place(&file, error.to_string(), "rename the file: NAME.toml"))
    })?;
    read(text, &file, name, routes, limits)
}

/// Reads a plan from JSON: the keys of a plan file, or the body of another system. Fields take the place of lines; what
/// a plan cannot say is among the notes.
pub fn plan_from_json(body: &Value, name: &Name, routes: &Plan, limits: &Constraints) -> Result<Read, Problems> {
    let said = json::to_text(body).map_err(|why| Problems::one(Problem::without_place("plan", why, "send a plan")))?;
    let text = if said.text.trim().is_empty() { "profile = \"default\"\n".to_owned() } else { said.text };
    // Whoever may post a plan may not read the environment of this process by it.
    let read = read_with(&text, "plan", name.clone(), routes, limits, &|_| None);
    let mut read = read.map_err(Problems::without_places)?;
    let note = |(field, why): (String, String)| {
        let mut note = Problem::without_place("plan", format!("{field} is left out"), &why);
        note.path = field;
        note
    };
    read.notes.extend(said.left_out.into_iter().map(note));
    Ok(read)
}

/// Takes the name of the plan out of a body. Other systems write sentences there, of which letters and digits are used;
/// the sentence stays.
pub fn take_name(body: &mut Value) -> Option<String> {
    if !body.as_object().is_some_and(foreign::is_deployment) {
        let name = body.as_object_mut().and_then(|body| body.swap_remove("name"))?;
        return Some(name.as_str().map_or_else(|| name.to_string(), str::to_owned));
    }
    let words = body["name"].as_str()?.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    Some(name.chars().take(NAME_BYTES_MAX).collect()).filter(|name: &String| !name.is_empty())
}

/// The plan that a built-in profile makes of a service.
pub fn plan_from_profile(profile: &str, service: &Name, routes: &Plan, limits: &Constraints) -> Result<Read, Problems> {
    let text = format!("profile = {profile:?}\nservice = {:?}\n", service.as_str());
    let name = Name::new(profile).unwrap_or_else(|_| service.clone());
    read(&text, "profile", name, routes, limits).map_err(Problems::without_places)
}

/// The names of the built-in profiles.
pub fn profiles() -> &'static [&'static str] {
    profiles::NAMES
}

fn read(text: &str, file: &str, name: Name, routes: &Plan, limits: &Constraints) -> Result<Read, Problems> {
    read_with(text, file, name, routes, limits, &|name| std::env::var(name).ok())
}

fn read_with(
    text: &str,
    file: &str,
    name: Name,
    routes: &Plan,
    limits: &Constraints,
    env: Env<'_>,
) -> Result<Read, Problems> {
    let parsed = parse_toml(file, text, Values::Any);
    let sink = Sink::new(file, text, env);
    let plan = {
        let root = Fields::root_of(&sink, parsed.tree.get_ref(), "plan");
        read::plan(&root, name, routes)
    };
    if let Some(plan) = plan.as_ref().filter(|_| !sink.has_local()) {
        for finding in checks::check(plan, routes, limits) {
            let span = place(parsed.tree.get_ref(), &finding.field);
            let field = &finding.field;
            if finding.wrong {
                sink.whole(span, field, format!("{field}: {}", finding.message), finding.help);
            } else {
                sink.note(span, field, format!("{field}: {}", finding.message), finding.help);
            }
        }
    }
    let (problems, notes) = sink.finish(parsed);
    match (Problems::new(problems), plan) {
        (Some(problems), _) => Err(problems),
        (None, Some(plan)) => Ok(Read { plan, notes }),
        (None, None) => Err(Problems::one(Problem::without_place(file, "no plan".into(), "see config/rollouts/"))),
    }
}

/// Where a field such as `phases[2].percent` stands, or the nearest thing around it.
fn place(tree: &toml::de::DeTable<'_>, field: &str) -> std::ops::Range<usize> {
    use toml::de::DeValue;
    let mut span = 0..0;
    let mut table = Some(tree);
    for part in field.split('.') {
        let (key, index) = match part.split_once('[') {
            Some((key, rest)) => (key, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((name, value)) = table.and_then(|table| table.get_key_value(key)) else { return span };
        span = name.span();
        table = match (value.get_ref(), index) {
            (DeValue::Table(inner), _) => Some(inner),
            (DeValue::Array(items), Some(index)) => {
                let item = index.checked_sub(1).and_then(|index| items.get(index));
                item.and_then(|item| {
                    span = item.span();
                    match item.get_ref() {
                        DeValue::Table(inner) => Some(inner),
                        _ => None,
                    }
                })
            }
            _ => None,
        };
    }
    span
}

/// Every plan that can be started by name.
#[derive(Debug, Default)]
pub struct Plans {
    /// By name; a broken file with its problems.
    pub by_name: BTreeMap<String, Result<Read, Problems>>,
}

// === impl Plans ===

impl Plans {
    /// The directory of plans of a main file.
    pub fn directory(main: &Path) -> PathBuf {
        main.parent().unwrap_or(Path::new("")).join(DIRECTORY)
    }

    /// Reads every plan file of the main file's directory. A directory that is not there holds none.
    pub fn load(main: &Path, routes: &Plan, limits: &Constraints) -> Self {
        let mut by_name = BTreeMap::new();
        let entries = std::fs::read_dir(Self::directory(main)).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_plan(path)).collect();
        files.sort();
        for path in files.into_iter().take(FILES_MAX) {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            by_name.insert(stem, Self::read_file(&path, routes, limits));
        }
        Self { by_name }
    }

    /// Reads one plan by its name; none when there is no such file.
    pub fn one(main: &Path, name: &str, routes: &Plan, limits: &Constraints) -> Option<Result<Read, Problems>> {
        Name::new(name).ok()?;
        let path = Self::directory(main).join(format!("{name}.toml"));
        path.is_file().then(|| Self::read_file(&path, routes, limits))
    }

    /// Reads a plan file.
    pub fn read_file(path: &Path, routes: &Plan, limits: &Constraints) -> Result<Read, Problems> {
        let text = super::read_text(path);
        let text = text.map_err(|problem| Problems::one(problem.for_file(&path.display().to_string())))?;
        read_plan(&text, path, routes, limits)
    }
}

fn is_plan(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file()
}

// === impl Checked ===

impl Checked {
    /// Of a plan that was read; with `strict`, recommendations are errors.
    pub fn of(read: &Result<Read, Problems>, strict: bool) -> Self {
        let error = |problem: &Problem| CheckError { message: problem.headline(), field: problem.path.clone() };
        match read {
            Err(problems) => {
                Self { valid: false, errors: problems.iter().map(error).collect(), recommendations: Vec::new() }
            }
            Ok(read) if strict && !read.notes.is_empty() => {
                Self { valid: false, errors: read.notes.iter().map(error).collect(), recommendations: Vec::new() }
            }
            Ok(read) => {
                let recommendations = read.notes.iter().map(Problem::headline).collect();
                Self { valid: true, errors: Vec::new(), recommendations }
            }
        }
    }
}

#[cfg(test)]
mod tests;
