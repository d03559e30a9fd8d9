//! `weir version`.

use serde_json::json;

use super::failure::Failure;
use super::{Globals, screen};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn execute(globals: &Globals) -> Result<(), Failure> {
    if globals.json() {
        return screen::print_json(&json!({ "name": "weir", "version": VERSION }));
    }
    screen::print(&format!("weir {VERSION}\n"))
}
