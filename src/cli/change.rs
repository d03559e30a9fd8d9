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

/// Warns when a pool that gets traffic now has nothing to serve it with. That weir cannot be asked is no failure of the
/// change.
pub(super) fn warn(client: &Client, service: &str) {
    let Ok(status) = client.ask(Question::get("/api/v1/status")) else { return };
    for pool in dead(&status, service) {
        screen::note(&format!("nothing serves in pool {}: its traffic goes elsewhere or gets 503", printable(&pool)));
    }
}

/// The pools of a service that get traffic and have no endpoint that serves.
fn dead(status: &Value, service: &str) -> Vec<String> {
    let services = status["services"].as_array().into_iter().flatten();
    let pools = services.filter(|it| it["name"] == service).flat_map(|it| it["pools"].as_array()).flatten();
    let serves = |pool: &Value| pool["endpoints"].as_array().into_iter().flatten().any(|it| it["state"] == "serving");
    let dead = pools.filter(|pool| pool["weight"].as_u64() != Some(0) && !serves(pool));
    dead.filter_map(|pool| pool["name"].as_str().map(str::to_owned)).collect()
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
        let pools = [pool("stable", 90, "serving"), pool("canary", 10, "down"), pool("old", 0, "down")];
        let status = json!({ "services": [{ "name": "engine", "pools": pools }] });
        assert_eq!(dead(&status, "engine"), ["canary"]);
        assert!(dead(&status, "shop").is_empty());
    }
}
