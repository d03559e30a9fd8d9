//! `weir diff`: what a changed file would do, before it is saved. Reads files only; a running weir is asked only when
//! no file is named, for what it has live.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::client::{Client, Question};
use super::failure::Failure;
use super::screen::Paint;
use super::{Globals, place, screen};
use crate::config::{Config, Problems, WeightsFile, diff, read_weights, restart_needed};

#[derive(Debug, Args)]
#[command(after_help = "\
Without a file it compares what is live with the files as they are saved.

Examples:
  cp weights.toml next.toml; $EDITOR next.toml; weir diff --weights next.toml
  weir diff --to weir.next.toml")]
pub(super) struct Arguments {
    /// The weights file as it would be
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The configuration as it would be; it is read as if it stood where the saved one stands
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    if arguments.to.is_none() && arguments.weights.is_none() {
        return live(globals);
    }
    let saved = place::config(globals)?;
    let (config, weights) = match (&arguments.to, &arguments.weights) {
        (Some(to), _) => (candidate(to, &saved)?, arguments.weights.clone()),
        (None, weights) => (saved.clone(), weights.clone()),
    };
    let before = read_weights(&saved.weights_path, &saved.plan).map_err(wrong)?;
    let path = weights.unwrap_or_else(|| config.weights_path.clone());
    let after = if arguments.weights.is_some() {
        WeightsFile::parse(&read(&path)?, &path.display().to_string(), &config.plan).map_err(wrong)?
    } else {
        read_weights(&path, &config.plan).map_err(wrong)?
    };
    for note in config.notes.iter().chain(&after.notes) {
        screen::note(&note.to_string());
    }
    tell(&diff(&saved, &before, &config, &after), &restart_needed(&saved, &config), globals)
}

/// A configuration that is not saved yet.
fn candidate(path: &Path, saved: &Config) -> Result<Config, Failure> {
    let text = read(path)?;
    let token_file = saved.given_token_file.as_deref();
    // Relative paths start beside the saved file; problems are named by the file they are in.
    Config::parse_with(&text, &saved.path, token_file)
        .or_else(|problems| Config::parse_with(&text, path, token_file).and(Err(problems)))
        .map_err(wrong)
}

/// What a reload would change: what is live against what is saved, as the running weir sees both.
fn live(globals: &Globals) -> Result<(), Failure> {
    let answer = Client::new(globals)?.ask(Question::get("/api/v1/diff"))?;
    let lines = |key: &str| -> Vec<String> {
        let list = answer[key].as_array().into_iter().flatten();
        list.filter_map(|line| line.as_str().map(screen::printable)).collect()
    };
    tell(&lines("changes"), &lines("restart"), globals)
}

fn tell(changes: &[String], restart: &[String], globals: &Globals) -> Result<(), Failure> {
    if globals.json() {
        return screen::print_json(&json!({ "changes": changes, "restart": restart }));
    }
    screen::print(&render(changes, restart, Paint::stdout()))
}

fn render(changes: &[String], restart: &[String], paint: Paint) -> String {
    let mut text: String = changes.iter().map(|line| format!("{line}\n")).collect();
    for key in restart {
        text += &format!(
            "{}\n",
            paint.yellow(&format!("{key}: needs a restart; a running weir refuses the file until then"))
        );
    }
    if text.is_empty() { "nothing would change\n".into() } else { text }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let context = format!("cannot read {}", path.display());
        Failure::Wrong(anyhow::Error::new(error).context(context))
    })
}

fn wrong(problems: Problems) -> Failure {
    Failure::wrong(problems.to_string())
}
