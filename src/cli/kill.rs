//! `weir kill` and `weir unkill`: everything of a service, or of all services, to stable, above whatever else is going
//! on; and what is killed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::{Paint, printable};
use super::{Globals, change, offline, screen};
use crate::config::switch_text;
use crate::model::{Name, Scope, kill_reason};

#[derive(Debug, Args)]
#[command(override_usage = "weir kill [OPTIONS] SERVICE or --all, --switch NAME, --cancel NAME, --status, --from FILE")]
#[command(after_help = "\
A killed service sends every request to its stable pool: weights, routes, paths, overrides and
rollouts do not count until `weir unkill`.

Examples:
  weir kill engine --reason \"errors on /pay\"
  weir kill --all --reason \"do not touch anything tonight\"
  weir kill --cancel engine-errors --reason \"it is the load test\"
  weir kill --status")]
pub(super) struct Kill {
    /// The service
    #[arg(value_parser = change::name, required_unless_present_any = ["all", "status", "switch", "cancel", "from"])]
    service: Option<Name>,
    /// Every service
    #[arg(long, conflicts_with = "service")]
    all: bool,
    /// Pull this kill switch of weir.toml, without its grace
    #[arg(long, value_name = "NAME", value_parser = change::name, conflicts_with_all = ["service", "all"])]
    switch: Option<Name>,
    /// End the countdown of this kill switch
    #[arg(long, value_name = "NAME", value_parser = change::name, conflicts_with_all = ["service", "all", "switch"])]
    cancel: Option<Name>,
    /// Print the `[[kill_switches]]` that this JSON of another system stands for, - is stdin; ask nobody
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "all", "switch", "cancel", "status"])]
    from: Option<PathBuf>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Say what is killed and what the kill switches do, change nothing
    #[arg(long, conflicts_with_all = ["service", "all", "switch", "cancel"])]
    status: bool,
    /// Change the weights file without asking a running weir; one that runs takes it over when it sees the file
    #[arg(long, conflicts_with_all = ["switch", "cancel", "from", "status"])]
    offline: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What was killed by a file stays killed until that file says otherwise. Rollouts that were under
way stay paused.")]
pub(super) struct Unkill {
    /// The service
    #[arg(value_parser = change::name, required_unless_present_any = ["all", "switch"])]
    service: Option<Name>,
    /// What was killed for every service
    #[arg(long, conflicts_with = "service")]
    all: bool,
    /// What this kill switch killed
    #[arg(long, value_name = "NAME", value_parser = change::name, conflicts_with_all = ["service", "all"])]
    switch: Option<Name>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Change the weights file without asking a running weir; one that runs takes it over when it sees the file
    #[arg(long, conflicts_with = "switch")]
    offline: bool,
}

pub(super) fn kill(arguments: &Kill, globals: &Globals) -> Result<(), Failure> {
    if let Some(file) = &arguments.from {
        return from(file);
    }
    let whose = arguments.service.as_ref().map_or("--all", Name::as_str);
    if arguments.offline {
        return offline::kill(globals, &scope(arguments.service.as_ref()), Some(&kill_reason(&arguments.reason)));
    }
    let client = Client::new(globals)?.instead(format!("weir kill {whose} --offline"));
    if arguments.status {
        return status(&client, globals);
    }
    for (name, word) in [(&arguments.switch, "trigger"), (&arguments.cancel, "cancel")] {
        if let Some(name) = name {
            return tell(&client, name, word, &arguments.reason, globals);
        }
    }
    send(&client, "/api/v1/kill", arguments.service.as_ref(), &arguments.reason, globals)
}

pub(super) fn unkill(arguments: &Unkill, globals: &Globals) -> Result<(), Failure> {
    if arguments.offline {
        return offline::kill(globals, &scope(arguments.service.as_ref()), None);
    }
    let client = Client::new(globals)?;
    if let Some(name) = &arguments.switch {
        return tell(&client, name, "recover", &arguments.reason, globals);
    }
    send(&client, "/api/v1/unkill", arguments.service.as_ref(), &arguments.reason, globals)
}

fn scope(service: Option<&Name>) -> Scope {
    service.cloned().map_or(Scope::System, Scope::Service)
}

fn send(client: &Client, path: &str, service: Option<&Name>, reason: &str, globals: &Globals) -> Result<(), Failure> {
    let mut body = match service {
        Some(service) => json!({ "scope": "service", "service": service.as_str() }),
        None => json!({ "scope": "system" }),
    };
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    let answer = client.ask(change::signed(Question::post(path, body), ""))?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    let paint = Paint::stdout();
    let whose = service.map_or_else(|| "every service".to_owned(), |service| format!("service {service}"));
    let back = service.map_or_else(|| "--all".to_owned(), Name::to_string);
    let lets_go = path.ends_with("unkill");
    if lets_go {
        let status = client.ask(Question::get("/api/v1/status")).unwrap_or_default();
        screen::print(&let_go(&answer, &status, service.map(Name::as_str), paint))?;
    } else {
        let what = paint.red("is killed");
        screen::print(&format!("{whose} {what}: everything goes to stable; `weir unkill {back}` lets it go\n"))?;
    }
    if let Some(pending) = answer["pending"].as_str() {
        screen::note(&printable(pending));
    }
    let back = if lets_go { "`weir undo`".to_owned() } else { format!("`weir unkill {back}`") };
    match service {
        Some(_) => change::warn(client, &answer, &back),
        None => change::warn_all(client, &back),
    }
    Ok(())
}

/// What is so after a kill was to be taken back: still killed by another one, never killed, or what counts again.
fn let_go(answer: &Value, status: &Value, service: Option<&str>, paint: Paint) -> String {
    let whose = service.map_or_else(|| "every service".to_owned(), |name| format!("service {}", printable(name)));
    let by = |killed: &Value| match killed["reason"].as_str().unwrap_or_default() {
        "" => String::new(),
        reason => format!(" by \"{}\"", printable(reason)),
    };
    let still = answer["killed"].as_array().into_iter().flatten();
    let mut still = still.filter(|it| service.is_none_or(|name| it["service"] == name)).peekable();
    if let Some(killed) = still.peek() {
        if killed["scope"] == "system" {
            return format!("{whose} is still killed{} at the top: `weir unkill --all`\n", by(killed));
        }
        let one = |it: &Value| {
            let name = it["service"].as_str().map(printable).unwrap_or_default();
            format!("service {name} is still killed{} of its own: `weir unkill {name}`\n", by(it))
        };
        return still.map(one).collect();
    }
    if answer["unkilled"] == false {
        return format!("{whose} was not killed\n");
    }
    if status["services"].is_null() {
        return format!("{whose} {}; its weights count again\n", paint.green("is let go"));
    }
    let mut text = format!("{whose} {}\n", paint.green("is let go"));
    let services = status["services"].as_array().into_iter().flatten();
    for it in services.filter(|it| service.is_none_or(|name| it["name"] == name)) {
        let name = it["name"].as_str().map(printable).unwrap_or_default();
        let _ = write!(text, "  {name} is at {} again", paint.bold(&change::weights(&it["weights"])));
        let rollout = &it["rollout"];
        if let (Some(id), Some("paused" | "rolling_out")) = (rollout["rolloutId"].as_str(), rollout["state"].as_str()) {
            let id = printable(id);
            let _ = write!(text, "; rollout {id} stays paused: `weir rollout resume {id}`");
        }
        text.push('\n');
    }
    text
}

/// Prints the switches of another system as they stand in `weir.toml`.
fn from(file: &Path) -> Result<(), Failure> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.map_err(|error| Failure::wrong(format!("cannot read {}: {error}", file.display())))?;
    let read = serde_json::from_str(&text).map_err(|error| error.to_string()).and_then(|body| switch_text(&body));
    let (text, left) = read.map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))?;
    left.iter().for_each(|left| screen::note(&format!("left out: {}", printable(left))));
    screen::print(&text)
}

/// Tells a kill switch something and what it does then.
fn tell(client: &Client, name: &Name, word: &str, reason: &str, globals: &Globals) -> Result<(), Failure> {
    let body = if reason.is_empty() { json!({}) } else { json!({ "reason": reason }) };
    let path = format!("/api/v1/kill-switches/{name}/{word}");
    let answer = client.ask(change::signed(Question::post(path, body), ""))?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    screen::print(&format!("{}\n", line(&answer, Paint::stdout())))
}

/// `engine-errors counts down to kill service engine, 12 s left: 34 % of …`.
fn line(switch: &Value, paint: Paint) -> String {
    let text = |key: &str| printable(switch[key].as_str().unwrap_or_default());
    let scope = match switch["service"].as_str() {
        Some(name) => format!("service {}", printable(name)),
        None => "every service".into(),
    };
    let left = switch["leftMs"].as_u64().map(|ms| ms.div_ceil(1000));
    let (attempt, most) = (&switch["attempt"], &switch["maxAttempts"]);
    let doing = match switch["state"].as_str().unwrap_or_default() {
        "grace" => format!("{} {scope} in {} s", paint.red("kills"), left.unwrap_or_default()),
        "killed" => match left {
            Some(left) => format!("{} {scope}; it tries to come back in {left} s", paint.red("killed")),
            None if switch["byPerson"] == true => format!("stands aside: {scope} was {} by hand", paint.red("killed")),
            None => format!("{} {scope}", paint.red("holds killed")),
        },
        "recovering" => format!("{} {scope} on probation, attempt {attempt} of {most}", paint.bold("has let go of")),
        "exhausted" => format!("{} {scope}; {attempt} attempts failed, a person decides", paint.red("killed")),
        _ if switch["enabled"] == false => format!("is switched off; it would kill {scope}"),
        _ => format!("is {} to kill {scope}", paint.green("armed")),
    };
    let because = match (text("reason"), text("who")) {
        (reason, who) if reason.is_empty() && who.is_empty() => String::new(),
        (reason, who) if reason.is_empty() => format!(" ({who})"),
        (reason, who) => format!(": {reason} ({who})"),
    };
    let since = switch["since"].as_str().map(|since| paint.dim(&format!(" since {}", printable(since))));
    format!("kill switch {} {doing}{because}{}", text("name"), since.unwrap_or_default())
}

fn status(client: &Client, globals: &Globals) -> Result<(), Failure> {
    let status = client.ask(Question::get("/api/v1/status"))?;
    let killed = killed(&status);
    if globals.json() {
        let list: Vec<Value> = killed
            .iter()
            .map(|(service, reason)| match service {
                Some(service) => json!({ "scope": "service", "service": service, "reason": reason }),
                None => json!({ "scope": "system", "reason": reason }),
            })
            .collect();
        return screen::print_json(&json!({ "killed": list, "switches": status["killSwitches"] }));
    }
    let paint = Paint::stdout();
    let mut text = String::new();
    for (service, reason) in &killed {
        let whose =
            service.as_deref().map_or_else(|| "every service".into(), |name| format!("service {}", printable(name)));
        let by = by(&status, service.as_deref());
        let _ = writeln!(text, "{} {whose}: {}{}", paint.red("killed"), printable(reason), paint.dim(&by));
    }
    if killed.is_empty() {
        text += "nothing is killed\n";
    }
    for switch in status["killSwitches"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", line(switch, paint));
    }
    screen::print(&text)
}

/// What the kill switches do that do more than watch, a line each.
pub(super) fn busy(status: &Value, paint: Paint) -> Vec<String> {
    let switches = status["killSwitches"].as_array().into_iter().flatten();
    switches.filter(|switch| switch["state"] != "armed").map(|switch| line(switch, paint)).collect()
}

/// The countdown that ends first: `engine-errors kills service engine in 4 s`.
pub(super) fn countdown(status: &Value) -> Option<String> {
    let switches = status["killSwitches"].as_array().into_iter().flatten();
    let left = |switch: &&Value| switch["leftMs"].as_u64().unwrap_or_default();
    let first = switches.filter(|switch| switch["state"] == "grace").min_by_key(left)?;
    let scope = first["service"].as_str().map_or("every service".into(), |name| format!("service {}", printable(name)));
    let name = first["name"].as_str().map(printable).unwrap_or_default();
    Some(format!("{name} kills {scope} in {} s", left(&first).div_ceil(1000)))
}

/// ` (ann by the API, 2026-11-21T08:00:00Z)`, as far as it is known.
fn by(status: &Value, service: Option<&str>) -> String {
    let services = status["services"].as_array().into_iter().flatten();
    let own = |it: &&Value| match service {
        Some(name) => it["name"] == name && it["killed"]["scope"] != "system",
        None => it["killed"]["scope"] == "system",
    };
    let Some(killed) = services.clone().find(own).map(|it| &it["killed"]) else { return String::new() };
    let Some(since) = killed["since"].as_str() else { return String::new() };
    let who = killed["who"].as_str().filter(|who| !who.is_empty()).unwrap_or("somebody");
    let way = match killed["how"].as_str().unwrap_or_default() {
        "file" | "start" => " by the weights file",
        "api" => " by the API",
        "cli" => " by the command line",
        _ => "",
    };
    format!(" ({}{way}, {})", printable(who), printable(since))
}

/// What is killed and why: the whole system (none), then services.
pub(super) fn killed(status: &Value) -> Vec<(Option<String>, String)> {
    let reason = |of: &Value| {
        let killed = if of["killed"].is_null() { &of["kill"] } else { &of["killed"] };
        match killed {
            Value::String(reason) => Some(reason.clone()),
            Value::Bool(true) => Some("no reason was given".into()),
            Value::Object(object) => Some(object.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned()),
            _ => None,
        }
    };
    let system = reason(status).map(|reason| (None, reason));
    let services = status["services"].as_array().into_iter().flatten();
    let services = services.filter_map(|it| {
        let whose = if it["killed"]["scope"] == "system" { None } else { Some(it["name"].as_str()?.to_owned()) };
        Some((whose, reason(it)?))
    });
    // A kill of the system is told with every service.
    let mut killed: Vec<(Option<String>, String)> = Vec::new();
    for one in system.into_iter().chain(services) {
        if !killed.contains(&one) {
            killed.push(one);
        }
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_says_what_it_does_how_long_and_why() {
        let plain = Paint::plain();
        let switch = |state: &str, left: Option<u64>| {
            let switch = json!({ "name": "errors", "service": "engine", "state": state, "leftMs": left, "attempt": 1,
                "maxAttempts": 3, "reason": "34 % failed", "who": "kill switch errors", "enabled": true });
            line(&switch, plain)
        };
        let why = ": 34 % failed (kill switch errors)";
        for (state, left, said) in [
            ("grace", Some(11_001), "kills service engine in 12 s"),
            ("killed", Some(5_000), "killed service engine; it tries to come back in 5 s"),
            ("killed", None, "holds killed service engine"),
            ("recovering", Some(9), "has let go of service engine on probation, attempt 1 of 3"),
            ("exhausted", None, "killed service engine; 1 attempts failed, a person decides"),
            ("armed", None, "is armed to kill service engine"),
        ] {
            assert_eq!(switch(state, left), format!("kill switch errors {said}{why}"));
        }
        let all = json!({ "killSwitches": [{ "name": "all", "state": "armed", "service": null, "enabled": true }] });
        assert!(busy(&all, plain).is_empty());
        let fresh = line(&all["killSwitches"][0], plain);
        assert_eq!(fresh, "kill switch all is armed to kill every service");
    }

    #[test]
    fn letting_go_says_what_is_so_afterwards() {
        let plain = Paint::plain();
        let said = |answer: Value| {
            let rollout = json!({ "rolloutId": "w1", "state": "paused" });
            let weights = json!({ "stable": 80, "canary": 20 });
            let status = json!({ "services": [{ "name": "engine", "weights": weights, "rollout": rollout }] });
            let_go(&answer, &status, Some("engine"), plain)
        };
        let by = |scope: &str| json!([{ "service": "engine", "scope": scope, "reason": "freeze" }]);
        assert_eq!(
            said(json!({ "unkilled": true, "killed": by("system") })),
            "service engine is still killed by \"freeze\" at the top: `weir unkill --all`\n"
        );
        assert_eq!(said(json!({ "unkilled": false, "killed": [] })), "service engine was not killed\n");
        assert_eq!(
            said(json!({ "unkilled": true, "killed": [] })),
            "service engine is let go\n  engine is at stable=80 canary=20 again; rollout w1 stays paused: \
             `weir rollout resume w1`\n"
        );
    }

    #[test]
    fn what_is_killed_is_told_with_its_reason() {
        let status = json!({ "killed": null, "services": [
            { "name": "engine", "killed": "errors on /pay" }, { "name": "shop", "killed": null },
        ]});
        assert_eq!(killed(&status), [(Some("engine".to_owned()), "errors on /pay".to_owned())]);
        let both = |scope: &str| {
            let killed = json!({ "scope": scope, "reason": "freeze" });
            json!({ "services": [{ "name": "engine", "killed": killed }, { "name": "shop", "killed": killed }] })
        };
        assert_eq!(killed(&both("system")), [(None, "freeze".to_owned())]);
        assert_eq!(killed(&both("service")).len(), 2);
        assert_eq!(killed(&json!({ "killed": "all of it", "services": [] })), [(None, "all of it".to_owned())]);
    }
}
