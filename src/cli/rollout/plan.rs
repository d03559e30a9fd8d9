//! `weir rollout new` writes a commented plan file to start from; `weir rollout check` says every problem of plans.
//! Both read files only.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::super::failure::{Failure, WRONG};
use super::super::figures::{elapsed, percent};
use super::super::screen::Paint;
use super::super::{Globals, change, near, place, screen};
use super::programs;
use crate::config::Problems;
use crate::config::rollouts::{Checked, Plans, Read};
use crate::model::Name;

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
    let file = arguments
        .out
        .clone()
        .unwrap_or_else(|| Plans::directory(&place::config_path(globals)).join(format!("{name}.toml")));
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

/// The text of a plan that holds as it is, with what is most often changed.
fn fresh_plan(service: &Name, candidate: &Name) -> String {
    format!(
        "\
# A rollout: the traffic of a service moves to the candidate phase by phase, as far as the evidence allows.
# Check it with `weir rollout check`, start it with `weir rollout start`. What is commented out is the default.

service = \"{service}\"
candidate = \"{candidate}\"             # the pool that gets the traffic
on_failure = \"rollback\"            # or pause: a person decides; or hold: the share stays, watching goes on
on_inconclusive = \"extend\"         # when max_duration is over: extend, pause, advance or rollback
# deadline = \"24h\"                 # for the whole rollout
# auto_advance = true              # false: each phase waits for `weir rollout advance`
# keep_previous = \"1h\"             # time after promotion in which the way back is one word

[evidence]
false_rollback = 0.01              # chance that a healthy candidate is rolled back, over the whole rollout
false_advance = 0.05               # chance to go on although the candidate is as bad as must be excluded

# What holds in every phase. Evidence compares both pools request by request; it needs no minimum of traffic and
# may be looked at at any time.
[[gates]]
kind = \"error_rate\"
# max_ratio = 1.25                 # how many times the errors of stable are bearable
# excludes = 2                     # what must be ruled out before a phase advances

[[gates]]
kind = \"latency\"
quantile = 0.95
# margin = 0.1                     # 10 % and
# margin_ms = 5                    # 5 ms slower are bearable

# A smoke test before the first share:
# [[gates]]
# kind = \"http\"
# url = \"/healthz\"                 # of the candidate

[[phases]]
percent = 1
min_duration = \"5m\"              # at least
max_duration = \"4h\"              # evidence is waited for so long

[[phases]]
percent = 5
min_duration = \"5m\"
max_duration = \"4h\"

[[phases]]
percent = 25
min_duration = \"5m\"
max_duration = \"4h\"

[[phases]]
percent = 100
holdback = 2                       # of this, stable keeps 2 %: without it nothing is left to compare with
min_duration = \"5m\"
max_duration = \"4h\"

# [rollback]
# strategy = \"immediate\"           # gradual, phased, blue_green
# cooldown = \"5m\"                  # after an automatic rollback nothing starts by itself
"
    )
}

/// One plan that was checked.
#[derive(Debug, Serialize)]
struct Looked {
    plan: String,
    file: String,
    #[serde(flatten)]
    checked: Checked,
}

/// Says every problem of the plans that are named, or of all.
pub(super) fn check(arguments: &Check, globals: &Globals) -> Result<(), Failure> {
    let (config, main) = (place::config(globals)?, place::config_path(globals));
    let limits = config.rollouts.constraints();
    let files = if arguments.plans.is_empty() { all(&main) } else { named(&arguments.plans, &main)? };
    if files.is_empty() {
        let none = format!("{} holds no plan; `weir rollout new` writes one", Plans::directory(&main).display());
        return Err(Failure::wrong(none));
    }
    let directory = main.parent().map(Path::to_owned).unwrap_or_default();
    let paint = Paint::stdout();
    let mut looked = Vec::new();
    for file in files {
        let read = Plans::read_file(&file, &config.plan, &limits);
        let checked = Checked::of(&read, arguments.strict);
        if !globals.json() {
            tell(&file, &directory, &read, checked.valid, paint)?;
        }
        let plan = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        looked.push(Looked { plan, file: file.display().to_string(), checked });
    }
    let ok = looked.iter().all(|one| one.checked.valid);
    if globals.json() {
        screen::print_json(&json!({ "ok": ok, "plans": looked }))?;
    }
    if ok { Ok(()) } else { Err(Failure::Said(WRONG)) }
}

/// Every plan beside the main file.
fn all(main: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Plans::directory(main)).into_iter().flatten().flatten().map(|entry| entry.path());
    let hidden = |path: &Path| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let is_plan = |path: &PathBuf| !hidden(path) && path.extension().is_some_and(|end| end == "toml");
    let mut files: Vec<PathBuf> = entries.filter(is_plan).collect();
    files.sort();
    files
}

/// The files that are meant: a path as it is, a name beside the main file.
fn named(names: &[String], main: &Path) -> Result<Vec<PathBuf>, Failure> {
    let known: Vec<String> =
        all(main).iter().filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned())).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let file = |name: &String| {
        let is_path = name.contains('/') || Path::new(name).extension().is_some_and(|end| end == "toml");
        let file = if is_path { PathBuf::from(name) } else { Plans::directory(main).join(format!("{name}.toml")) };
        let unknown = || Failure::wrong(format!("there is no plan \"{name}\"{}", near::advice(name, &known)));
        let missing =
            || Failure::wrong(format!("there is no file {name}; a plan is a file, or the name of one of rollouts/"));
        match (is_path, file.exists()) {
            (true, false) => Err(missing()),
            (true, true) => Ok(file),
            (false, _) => {
                if file.is_file() {
                    Ok(file)
                } else {
                    Err(unknown())
                }
            }
        }
    };
    names.iter().map(file).collect()
}

/// Problems to stderr, recommendations as notes, and what the plan does when it holds.
fn tell(
    file: &Path,
    directory: &Path,
    read: &Result<Read, Problems>,
    valid: bool,
    paint: Paint,
) -> Result<(), Failure> {
    match read {
        Err(problems) => problems.iter().for_each(|problem| screen::complain(&format!("{problem}\n"))),
        Ok(read) => {
            let say: fn(&str) = if valid { screen::note } else { screen::complain };
            read.notes.iter().for_each(|note| say(&note.to_string()));
            programs::missing(&read.plan, directory).iter().for_each(|missing| screen::note(missing));
        }
    }
    let (Ok(Read { plan, .. }), true) = (read, valid) else { return Ok(()) };
    let least: u64 = plan.phases.iter().map(|phase| phase.min_duration.as_millis() as u64).sum();
    let shares: Vec<String> = plan.phases.iter().map(|phase| percent(phase.share.percent())).collect();
    let gates = plan.gates.len() + plan.phases.iter().map(|phase| phase.gates.len()).sum::<usize>();
    let plural = if gates == 1 { "" } else { "s" };
    screen::print(&format!(
        "{} {}: {} to {} by {}; {gates} gate{plural}; at least {}\n",
        paint.green("ok"),
        file.display(),
        plan.service,
        plan.candidate,
        shares.join(", "),
        elapsed(least),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_fresh_plan_holds_as_it_is_and_wants_nothing_better() {
        let pool = |name: &str| format!("[services.engine.pools.{name}]\nendpoints = [\"http://127.0.0.1:1\"]\n");
        let text = pool("stable") + &pool("canary");
        let config = Config::parse(&text, "weir.toml", &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        let name = |name| Name::new(name).expect("a name");
        let plan = fresh_plan(&name("engine"), &name("canary"));
        for plan in
            [plan.clone(), plan.replace("# [[gates]]", "[[gates]]").replace("# kind", "kind").replace("# url", "url")]
        {
            let read = crate::config::rollouts::read_plan(
                &plan,
                Path::new("fresh.toml"),
                &config.plan,
                &crate::config::rollouts::Constraints::default(),
            );
            let read = read.unwrap_or_else(|problems| panic!("{problems}"));
            assert!(read.notes.is_empty(), "{:?}", read.notes);
            assert_eq!(read.plan.phases.len(), 4);
        }
    }
}
