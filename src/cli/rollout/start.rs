//! `weir rollout start`: a plan by its name or file, or a service with a profile; and, if asked, what comes of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::client::{Client, Question};
use super::super::failure::{Failure, WRONG};
use super::super::figures::percent;
use super::super::screen::{Paint, printable};
use super::super::{Globals, change, near, screen};
use super::view::View;
use super::{banner, path, report, watch};

/// Time within which `--once` has its look: a few ticks.
const LOOK: Duration = Duration::from_secs(15);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 started; with --watch or --once: 0 promoted or, so far, shown safe, 1 rolled back or
failing, 2 inconclusive.

Examples:
  weir rollout start engine-2                               the plan rollouts/engine-2.toml
  weir rollout start engine --profile stable-channel        a service by a built-in profile
  weir rollout start engine-2 --dry-run                     everything decided, no weight touched
  weir rollout start engine-2 --watch 300 --report out.json   look for five minutes, then say how it stands")]
pub(super) struct Arguments {
    /// A plan, a plan file, or (with --profile) a service
    #[arg(value_name = "PLAN|SERVICE")]
    plan: String,
    /// The built-in plan: default, stable-channel, conservative, moderate, permissive
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The pool that gets the traffic, with --profile; canary by default
    #[arg(long, value_name = "POOL", requires = "profile")]
    candidate: Option<String>,
    /// What the rollout is called
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Version of the candidate, for people and reports
    #[arg(long, value_name = "TEXT")]
    version: Option<String>,
    /// Decide and tell everything, touch no weight
    #[arg(long)]
    dry_run: bool,
    /// End the one that runs, rather than be refused
    #[arg(long)]
    supersede: bool,
    /// A pipeline starts it, no person: refused while the service rests after automatic rollbacks
    #[arg(long)]
    automatic: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Watch it for so many seconds, then say how it stands
    #[arg(long, value_name = "SECONDS", conflicts_with = "once")]
    watch: Option<u64>,
    /// Have a single quick look, then say how it stands
    #[arg(long)]
    once: bool,
    /// Write the report here afterwards, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let client = Client::new(globals)?;
    let question = change::signed(Question::post("/api/v1/rollouts", body(arguments)?), "");
    let answer = client.send(question).map_err(|error| client.unanswered(error))?;
    let started = client.document(&answer).map_err(|failure| refused(&client, arguments, &answer.body, failure))?;
    let id = started["rolloutId"].as_str().unwrap_or_default().to_owned();
    let watched = arguments.watch.is_some() || arguments.once;
    if globals.json() && !watched {
        screen::print_json(&started)?;
    } else if !globals.json() {
        screen::print(&told(&started, arguments.dry_run, Paint::stdout()))?;
    }
    let standing = match (arguments.watch, arguments.once) {
        (Some(seconds), _) => {
            let most = Duration::from_secs(seconds);
            watch::follow(&client, &id, globals.json(), |_, elapsed| elapsed >= most)?;
            Some(look(&client, &id, Duration::ZERO)?)
        }
        (None, true) => Some(look(&client, &id, LOOK)?),
        (None, false) => None,
    };
    if let Some(file) = &arguments.report {
        report::write_json(&client, &id, file)?;
    }
    let Some((view, document)) = standing else { return Ok(()) };
    let standing = view.standing_now();
    if globals.json() {
        screen::print_json(&document)?;
    } else {
        screen::print(&banner::shown(&view, standing))?;
    }
    if standing.code() == 0 { Ok(()) } else { Err(Failure::Said(standing.code())) }
}

/// What else a refusal means: another plan was meant, or a service; the plan does not hold; one is under way.
fn refused(client: &Client, arguments: &Arguments, body: &[u8], failure: Failure) -> Failure {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let (code, plan) = (document["code"].as_str().unwrap_or_default(), &arguments.plan);
    match (failure, code) {
        (Failure::Said(_), "invalid_plan" | "unknown_plan") => Failure::Said(WRONG),
        (Failure::Failed(error), "invalid_plan") => Failure::Wrong(error),
        (Failure::Failed(_), "unknown_plan") => {
            if near::services(client).iter().any(|service| service == plan) {
                let service = "is a service, not a plan: add --profile default, or name a plan";
                return Failure::wrong(format!("{plan} {service}"));
            }
            let plans = client.ask(Question::get("/api/v1/plans")).unwrap_or_default();
            let known = near::names(&plans["plans"]);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let none = "; there is none: plans are files in rollouts/ beside the weir.toml of the running weir";
            let advice = if known.is_empty() { none.to_owned() } else { near::advice(plan, &known) };
            Failure::wrong(format!("there is no plan \"{plan}\"{advice}"))
        }
        (Failure::Failed(error), "rollout_running") if !arguments.supersede => {
            let own = document["detail"].as_str().is_some_and(|detail| detail.contains("is under way"));
            let more = if own { "\n  end that one and start this one with --supersede" } else { "" };
            Failure::failed(format!("{error:#}{more}"))
        }
        (other, _) => other,
    }
}

/// What is asked for: a plan of the running weir by its name, or the plan itself when a file is named.
fn body(arguments: &Arguments) -> Result<Value, Failure> {
    let mut body = match &arguments.profile {
        Some(profile) => Map::from_iter([
            ("service".to_owned(), arguments.plan.clone().into()),
            ("profile".to_owned(), profile.clone().into()),
        ]),
        None => named(&arguments.plan)?,
    };
    let texts = [("candidate", &arguments.candidate), ("rolloutId", &arguments.id), ("version", &arguments.version)];
    for (key, text) in texts {
        if let Some(text) = text {
            body.insert(key.into(), text.clone().into());
        }
    }
    let flags = [("dryRun", arguments.dry_run), ("supersede", arguments.supersede), ("automatic", arguments.automatic)];
    for (key, set) in flags {
        if set {
            body.insert(key.into(), true.into());
        }
    }
    if !arguments.reason.is_empty() {
        body.insert("reason".into(), arguments.reason.clone().into());
    }
    Ok(body.into())
}

/// `{"plan": NAME}`, or the content of a file that is named as one.
fn named(plan: &str) -> Result<Map<String, Value>, Failure> {
    let file = Path::new(plan);
    let is_file = plan.contains('/') || file.extension().is_some_and(|end| end == "toml" || end == "json");
    if !is_file {
        return Ok(Map::from_iter([("plan".to_owned(), plan.into())]));
    }
    let text = std::fs::read_to_string(file).map_err(|error| Failure::wrong(format!("cannot read {plan}: {error}")))?;
    let content = match file.extension() {
        Some(end) if end == "json" => serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()),
        _ => toml::from_str::<Value>(&text).map_err(|error| error.to_string()),
    };
    match content {
        Ok(Value::Object(mut object)) => {
            let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            object.entry("name").or_insert_with(|| json!(name));
            Ok(object)
        }
        Ok(_) => Err(Failure::wrong(format!("{plan} holds no plan"))),
        Err(error) => Err(Failure::wrong(format!("{plan}: {error}"))),
    }
}

fn told(started: &Value, dry: bool, paint: Paint) -> String {
    let view = View::read(started).unwrap_or_default();
    let id = printable(&view.rollout_id);
    let state = format!("{} at {}", view.state.replace('_', " "), percent(view.current_percentage));
    let dry = if dry { " (dry run: no weight is touched)" } else { "" };
    format!("rollout {} is {}{dry}; watch it with `weir rollout watch {id}`\n", paint.bold(&id), printable(&state))
}

/// A look at how it stands: as soon as gates were judged, or when `within` is over.
fn look(client: &Client, id: &str, within: Duration) -> Result<(View, Value), Failure> {
    let began = Instant::now();
    loop {
        let document = client.ask(Question::get(path(id, "")))?;
        let view = View::read(&document).unwrap_or_default();
        let judged = view.verdict != "inconclusive" && !view.gates.is_empty() || view.bound.is_some();
        if !view.is_live() || judged || began.elapsed() >= within {
            return Ok((view, document));
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn asked(line: &[&str]) -> Value {
        let line = Line::try_parse_from([&["start"], line].concat()).expect("right usage");
        body(&line.arguments).expect("it can be read")
    }

    #[test]
    fn a_plan_is_asked_for_by_name_and_a_service_by_profile() {
        assert_eq!(asked(&["engine-2"]), json!({ "plan": "engine-2" }));
        assert_eq!(
            asked(&["engine", "--profile", "stable-channel", "--dry-run", "--id", "x", "--reason", "y"]),
            json!({ "service": "engine", "profile": "stable-channel", "rolloutId": "x", "dryRun": true, "reason": "y" })
        );
    }

    #[test]
    fn a_file_is_sent_as_the_plan_itself() {
        let file = std::env::temp_dir().join(format!("weir-start-{}.toml", std::process::id()));
        std::fs::write(&file, "service = \"engine\"\n[[phases]]\npercent = 5\n").expect("it can be written");
        let body = asked(&[&file.display().to_string()]);
        let _ = std::fs::remove_file(&file);
        assert_eq!(body["service"], "engine");
        assert_eq!(body["phases"][0]["percent"], 5);
        assert!(body["name"].as_str().is_some_and(|name| name.starts_with("weir-start-")), "{body}");
    }
}
