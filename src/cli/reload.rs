//! `weir reload`: for hosts where no file event arrives and a second is too long, and to hear at once what is wrong.

use super::client::{Client, Question};
use super::failure::Failure;
use super::{Globals, change, screen};

pub(super) fn execute(globals: &Globals) -> Result<(), Failure> {
    let question = change::signed(Question::post("/api/v1/reload", serde_json::json!({})), "");
    let answer = Client::new(globals)?.ask(question)?;
    if globals.json() {
        return screen::print_json(&answer);
    }
    let generation = &answer["generation"];
    let changed = answer["changed"].as_bool() == Some(true);
    let text = if changed { "reloaded" } else { "reloaded; nothing changed" };
    screen::print(&format!("{text} (generation {generation})\n"))?;
    if let Some(pending) = answer["pending"].as_str() {
        screen::note(&screen::printable(pending));
    }
    Ok(())
}
