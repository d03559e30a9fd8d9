//! The rules of the house that no compiler checks, read from the sources: who may import whom, what decides is pure,
//! files are short and say what they are for, and what the program knows is in the README.
//!
//! Every test lists all that is wrong, as `file:line: what`. Style that rustfmt and clippy see is theirs.

#[path = "tidy/catalogue.rs"]
mod catalogue;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/source.rs"]
mod source;

use source::{nothing, read, root, sources};

/// The floors. A room imports only rooms on lower floors: no circles, no sideways.
const FLOORS: &[(u8, &[&str])] = &[
    (8, &["main"]),
    (7, &["cli"]),
    (6, &["app"]),
    (5, &["admin"]),
    (4, &["proxy", "rollout"]),
    (3, &["switchboard"]),
    (2, &["acme", "throttle", "upstream"]),
    (1, &["config", "outside", "routing", "telemetry", "tls"]),
    (0, &["model"]),
];

/// Imports that a floor would allow and the design does not.
const NEVER: &[(&str, &str)] = &[("proxy", "config"), ("rollout", "config")];

/// Rooms and files that decide: they are handed the time, the dice and the text.
const PURE: &[&str] = &[
    "src/acme/schedule.rs",
    "src/model/",
    "src/routing/",
    "src/proxy/decide/balance.rs",
    "src/proxy/decide/mod.rs",
    "src/proxy/frames/glitches.rs",
    "src/proxy/frames/rules.rs",
    "src/proxy/frames/scanner.rs",
    "src/proxy/h1/",
    "src/proxy/hpack/",
    "src/rollout/evidence/",
    "src/rollout/judge/",
    "src/rollout/kill/",
    "src/rollout/machine/",
    "src/rollout/notify/cooldown.rs",
    "src/rollout/notify/incidents.rs",
    "src/rollout/notify/memory.rs",
    "src/rollout/notify/wants.rs",
    "src/rollout/notify/words.rs",
    "src/rollout/rules/",
    "src/switchboard/reconcile.rs",
    "src/throttle/rate.rs",
    "src/upstream/book.rs",
    "src/upstream/gate.rs",
];

/// Ways to a clock, to randomness, to a socket, to a file, to the environment.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "clock::",
    "getrandom",
    "tokio::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::fs",
    "std::env",
    "std::thread",
    "tracing::",
    "metrics::",
];

/// Most lines of a file without its tests; a file under `tests/` is nothing but tests.
const LINES_MAX: usize = 400;

/// Widest line, as in `.rustfmt.toml`, which leaves comments and strings alone.
const COLUMNS_MAX: usize = 120;

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "globals", "misc"];

/// Written in halves, so that this file does not hold what it looks for.
const BANNED: &[&str] = &[
    concat!("#[ig", "nore"),
    concat!("#[should_", "panic"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("fn te", "st_"),
];

// === who may import whom ===

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

/// The rooms that a line names by `crate::` (`weir::` in main), also in braces.
fn named(line: &str, prefix: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        if line[..at].ends_with(|c: char| is_name(c) || c == '$' || c == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        let word = |text: &str| text.trim_start().chars().take_while(|c| is_name(*c)).collect::<String>();
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let mut depth = 0;
                let parts = list.split(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    c == ',' && depth == 0
                });
                found.extend(parts.map(word).filter(|word| !word.is_empty()));
            }
        }
    }
    found
}

#[test]
fn a_room_imports_only_rooms_on_lower_floors() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| source.path != "src/lib.rs") {
        let room = source.room();
        let Some(own) = floor(room) else {
            wrong.push(source.at(1, format!("{room} has no floor; add it to FLOORS")));
            continue;
        };
        let prefix = if room == "main" { "weir::" } else { "crate::" };
        let tests = source.lines_without_tests();
        for (number, line) in source.lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for other in named(line, prefix).iter().filter(|other| *other != room) {
                match floor(other) {
                    _ if NEVER.contains(&(room, other)) => {
                        wrong.push(source.at(number, format!("{room} must not import {other}: {}", line.trim())));
                    }
                    Some(floor) if floor < own => {}
                    Some(floor) => wrong
                        .push(source.at(number, format!("{room} ({own}) imports {other} ({floor}): {}", line.trim()))),
                    None => wrong.push(source.at(number, format!("{other} is no room: {}", line.trim()))),
                }
            }
            let up = line.split("super::").count() - 1;
            let deep = source.depth() + usize::from(number > tests);
            if line.contains(&"super::".repeat(deep)) && up >= deep && deep > 0 {
                wrong.push(source.at(number, format!("leaves the room by super: {}", line.trim())));
            }
        }
    }
    nothing(wrong);
}

#[test]
fn the_map_lists_every_room() {
    let map = read("src/lib.rs");
    let mut wrong = Vec::new();
    for (floor, room) in FLOORS.iter().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, room))) {
        let listed = [format!("| {floor} | [`{room}`] |"), format!("| {floor} | `{room}` |")];
        if !listed.iter().any(|row| map.contains(row)) {
            wrong.push(format!("src/lib.rs: the table of rooms lacks {room} on floor {floor}"));
        }
    }
    let code = map.lines().filter(|line| !line.starts_with("//!") && !line.is_empty());
    wrong.extend(code.filter(|line| !line.starts_with("pub mod ")).map(|line| format!("src/lib.rs: code: {line}")));
    // A test that the map names must be there.
    let tests: String = sources(&["src", "tests"]).into_iter().map(|source| source.text).collect();
    for name in map.split('`').skip(1).step_by(2).filter(|name| name.len() > 20 && name.contains('_')) {
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !tests.contains(&format!("fn {name}(")) {
            wrong.push(format!("src/lib.rs: there is no test {name}"));
        }
    }
    nothing(wrong);
}

#[test]
fn what_decides_is_pure() {
    let mut wrong = Vec::new();
    let sources = sources(&["src"]);
    for pure in PURE {
        let mut rooms = sources.iter().filter(|source| source.path.starts_with(pure)).peekable();
        assert!(rooms.peek().is_some(), "{pure} is gone");
        for source in rooms {
            for (number, line) in source.code() {
                wrong.extend(IMPURE.iter().filter(|word| line.contains(**word)).map(|word| source.at(number, word)));
            }
        }
    }
    nothing(wrong);
}

// === files ===

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if !source.text.starts_with("//! ") {
            wrong.push(source.at(1, "does not open with //!"));
        }
        let lines = source.lines_without_tests();
        if lines > LINES_MAX && !source.path.starts_with("tests/") {
            wrong.push(source.at(lines, format!("{lines} lines without tests; at most {LINES_MAX}")));
        }
        let stem = source.path.trim_end_matches(".rs");
        if source.path.starts_with("src/") && root().join(stem).is_dir() {
            wrong.push(source.at(1, format!("a room's door is in the room: {stem}/mod.rs")));
        }
        if EMPTY_NAMES.iter().any(|name| stem.split('/').any(|part| part == *name)) {
            wrong.push(source.at(1, "is named for nothing"));
        }
        for (number, line) in source.lines() {
            let is_table = ["//! |", "/// |", "// |"].iter().any(|mark| line.trim_start().starts_with(mark));
            if line.chars().count() > COLUMNS_MAX && !is_table {
                wrong.push(source.at(number, format!("{} columns", line.chars().count())));
            }
            wrong.extend(BANNED.iter().filter(|word| line.contains(**word)).map(|word| source.at(number, word)));
        }
    }
    nothing(wrong);
}

#[test]
fn every_exception_to_a_lint_has_a_reason() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let attribute = |line: &str| {
            let line = line.trim_start();
            ["#[", "#!["].iter().any(|open| line.starts_with(open))
                && (line.contains("allow(") || line.contains("expect("))
        };
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, _) in source.lines().filter(|(_, line)| attribute(line)) {
            let end = lines[number - 1..].iter().position(|line| line.trim_end().ends_with(']')).unwrap_or(0);
            if !lines[number - 1..number + end].concat().contains("reason = ") {
                wrong.push(source.at(number, "an exception without a reason"));
            }
        }
    }
    nothing(wrong);
}

/// The checks themselves must be able to fail.
#[test]
fn imports_are_seen_in_every_form() {
    let names = |line: &str| named(line, "crate::").join(" ");
    assert_eq!(names("use crate::config::Config;"), "config");
    assert_eq!(names("use crate::{model::{Name, Head}, telemetry};"), "model telemetry");
    assert_eq!(names("    let x: crate::admin::X = crate::app::y();"), "admin app");
    assert_eq!(names("$crate::model; my_crate::model; a::crate::b"), "");
}
