//! What `set`, `rollback` and `undo` share: who asks, how the answer is told.

use serde_json::Value;

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::{Paint, printable};
use super::{Globals, screen};

/// Says who asks and why. The admin API notes it and does not believe it.
pub(super) fn signed(question: Question, reason: &str) -> Question {
    let question = question.header("x-weir-who", &who());
    if reason.is_empty() { question } else { question.header("x-weir-reason", reason) }
}

/// The person: who became root by sudo, else the login name, else the user's number, which for 0 everybody knows.
fn who() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    let number = || {
        // SAFETY: geteuid takes nothing and cannot fail.
        let uid = unsafe { libc::geteuid() };
        if uid == 0 { "root".to_owned() } else { format!("uid {uid}") }
    };
    named("SUDO_USER").or_else(|| named("USER")).or_else(|| named("LOGNAME")).unwrap_or_else(number)
}

/// The path of a service in the API. Names need no escaping; what is no name is refused there.
pub(super) fn path(service: &str, what: &str) -> String {
    format!("/api/v1/services/{service}/{what}")
}

/// Reads the name of a service or pool from an argument.
pub(super) fn name(text: &str) -> Result<crate::model::Name, String> {
    crate::model::Name::new(text).map_err(|error| error.to_string())
}

/// Tells what is live after a change.
pub(super) fn tell(answer: &Value, globals: &Globals) -> Result<(), Failure> {
    if globals.json() {
        return screen::print_json(answer);
    }
    let service = answer["service"].as_str().map(printable).unwrap_or_default();
    let paint = Paint::stdout();
    let generation = format!("(generation {})", answer["generation"]);
    if let (Some(now), false) = (answer["killed"].as_str(), answer["written"].is_null()) {
        let was = &answer["writtenBefore"];
        let was = if was == &answer["written"] { String::new() } else { format!(" (was {})", self::weights(was)) };
        let said = self::weights(&answer["written"]);
        return screen::print(&format!("{service} stays killed ({}); the file says {said}{was}\n", printable(now)));
    }
    let verb = if answer["changed"].as_bool() == Some(false) { "was at" } else { "is at" };
    let weights = paint.bold(&weights(&answer["weights"]));
    let already = if verb == "was at" { " already" } else { "" };
    screen::print(&format!("{service} {verb} {weights}{already} {}\n", paint.dim(&generation)))?;
    if verb == "is at" && !answer["undo"].is_null() {
        let back = format!("before: {}; `weir undo {service}` goes back", self::weights(&answer["undo"]));
        screen::print(&format!("{}\n", paint.dim(&back)))?;
    }
    if let Some(pending) = answer["pending"].as_str() {
        screen::note(&printable(pending));
    }
    Ok(())
}

/// Warns when a pool that gets traffic now has nothing to serve it with, loudly when clients get nothing but 503, with
/// the command that goes `back`; and says that a rollout stands still by this. That weir cannot be asked is no failure
/// of the change.
pub(super) fn warn(client: &Client, answer: &Value, back: &str) {
    let Ok(status) = client.ask(Question::get("/api/v1/status")) else { return };
    let services = status["services"].as_array().into_iter().flatten();
    let Some(service) = services.into_iter().find(|it| it["name"] == answer["service"]) else { return };
    if let Some(text) =
        still(&service["rollout"]).filter(|_| answer["changed"] == true && answer["weights"].is_object())
    {
        screen::note(&text);
    }
    match nothing_serves(service, back) {
        Some(loud) => screen::alarm(&loud),
        None => dead(service).iter().for_each(|pool| {
            screen::note(&format!(
                "nothing serves in pool {}: its traffic goes elsewhere or gets 503",
                printable(pool)
            ));
        }),
    }
}

/// The same for every service of which nothing serves, after a change of all of them.
pub(super) fn warn_all(client: &Client, back: &str) {
    let Ok(status) = client.ask(Question::get("/api/v1/status")) else { return };
    let services = status["services"].as_array().into_iter().flatten();
    services.filter_map(|service| nothing_serves(service, back)).for_each(|loud| screen::alarm(&loud));
}

/// What to say when nothing of a service serves that gets traffic, by weight or by failover.
fn nothing_serves(service: &Value, back: &str) -> Option<String> {
    let pools = || service["pools"].as_array().into_iter().flatten();
    let gets = |pool: &&Value| pool["weight"].as_u64() != Some(0) || pool["name"] == service["stable"];
    let name = |pool: &Value| pool["name"].as_str().map(printable).unwrap_or_default();
    if pools().next().is_none() || pools().filter(gets).any(serves) {
        return None;
    }
    let gone: Vec<String> = pools().filter(gets).map(name).collect();
    let whose = service["name"].as_str().map(printable).unwrap_or_default();
    let other = pools().find(|pool| serves(pool) && !gets(pool)).map(name);
    let other = other.map(|pool| format!("; {pool} serves, and {back} brings it back")).unwrap_or_default();
    Some(format!("nothing serves in {}: clients of {whose} get 503 NOW{other}", gone.join(" and ")))
}

fn serves(pool: &Value) -> bool {
    pool["endpoints"].as_array().into_iter().flatten().any(|it| it["state"] == "serving")
}

/// The pools of a service that get traffic and have no endpoint that serves.
fn dead(service: &Value) -> Vec<String> {
    let pools = service["pools"].as_array().into_iter().flatten();
    let dead = pools.filter(|pool| pool["weight"].as_u64() != Some(0) && !serves(pool));
    dead.filter_map(|pool| pool["name"].as_str().map(str::to_owned)).collect()
}

/// Says that a rollout stands still by a change of a person.
fn still(rollout: &Value) -> Option<String> {
    let id = rollout["rolloutId"].as_str().map(printable)?;
    let percent = rollout["currentPercentage"].as_f64().map(super::figures::percent).unwrap_or_default();
    let waits = matches!(rollout["state"].as_str()?, "rolling_out" | "paused") && rollout["dryRun"] != true;
    waits.then(|| format!("rollout {id} is paused by this; `weir rollout resume {id}` sets {percent} again"))
}

/// `stable=90 canary=10` of a weights object.
pub(super) fn weights(object: &Value) -> String {
    let one = |(pool, weight): (&String, &Value)| {
        let weight = weight.as_str().map_or_else(|| weight.to_string(), printable);
        format!("{}={weight}", printable(pool))
    };
    object.as_object().map(|object| object.iter().map(one).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_with_traffic_and_nothing_that_serves_is_found() {
        let pool = |name: &str, weight: u32, state: &str| {
            let endpoints = [json!({ "state": state })];
            json!({ "name": name, "weight": weight, "endpoints": endpoints })
        };
        let service = |pools: Value| json!({ "name": "engine", "stable": "stable", "pools": pools });
        let pools = [pool("stable", 90, "serving"), pool("canary", 10, "down"), pool("old", 0, "down")];
        let some = service(json!(pools));
        assert_eq!((dead(&some), nothing_serves(&some, "x")), (vec!["canary".to_owned()], None));
        let none = service(json!([pool("stable", 100, "down"), pool("canary", 0, "serving")]));
        assert_eq!(
            nothing_serves(&none, "`weir undo engine`").as_deref(),
            Some(
                "nothing serves in stable: clients of engine get 503 NOW; canary serves, and `weir undo engine` \
                 brings it back"
            )
        );
        let over = service(json!([pool("stable", 0, "serving"), pool("canary", 100, "down")]));
        assert_eq!(nothing_serves(&over, "x"), None, "stable takes what fails over");
    }

    #[test]
    fn a_rollout_that_a_person_stops_by_setting_weights_is_named() {
        let rollout = |state: &str| json!({ "rolloutId": "e-1", "state": state, "currentPercentage": 20.0 });
        let said = |state: &str| still(&rollout(state));
        let again = "`weir rollout resume e-1` sets 20 % again";
        assert_eq!(said("rolling_out"), Some(format!("rollout e-1 is paused by this; {again}")));
        assert_eq!(said("completed"), None);
    }
}
