//! `weir rollout list` and `weir rollout history`: one line per rollout.

use std::fmt::Write as _;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;

use super::super::client::{Client, Question};
use super::super::failure::Failure;
use super::super::figures::{elapsed, moment, percent};
use super::super::screen::{Paint, printable};
use super::super::{Globals, screen};
use super::view::View;

#[derive(Debug, Args)]
pub(super) struct History {
    /// Of this service only
    service: Option<String>,
    /// Most rollouts that are shown, newest first
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
}

/// Those that run.
pub(super) fn live(globals: &Globals) -> Result<(), Failure> {
    show(globals, "no rollout runs\n", usize::MAX, View::is_live)
}

/// Those that were, and run.
pub(super) fn history(arguments: &History, globals: &Globals) -> Result<(), Failure> {
    let wanted = |view: &View| arguments.service.as_ref().is_none_or(|service| view.service == *service);
    show(globals, "there was no rollout yet\n", arguments.limit, wanted)
}

fn show(globals: &Globals, none: &str, limit: usize, wanted: impl Fn(&View) -> bool) -> Result<(), Failure> {
    let answer = Client::new(globals)?.ask(Question::get("/api/v1/rollouts"))?;
    let list = answer.as_array().or_else(|| answer["rollouts"].as_array()).cloned().unwrap_or_default();
    let mut found: Vec<(View, Value)> =
        list.into_iter().filter_map(|one| Some((View::read(&one).filter(&wanted)?, one))).collect();
    found.sort_by_key(|(view, _)| std::cmp::Reverse(view.started_ms()));
    found.truncate(limit);
    if globals.json() {
        let documents: Vec<Value> = found.into_iter().map(|(_, document)| document).collect();
        return screen::print_json(&serde_json::json!({ "rollouts": documents }));
    }
    let views: Vec<View> = found.into_iter().map(|(view, _)| view).collect();
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let text = if views.is_empty() { none.into() } else { render(&views, &now, Paint::stdout()) };
    screen::print(&screen::wrapped(&text, screen::columns()))
}

fn render(views: &[View], now: &Zoned, paint: Paint) -> String {
    let title = ["ID", "SERVICE", "STATE", "AT", "STARTED", "TOOK"].map(str::to_owned);
    let mut rows = vec![title];
    rows.extend(views.iter().map(|view| row(view, now)));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = cells.join("  ");
        let view = index.checked_sub(1).map(|index| &views[index]);
        let line = match view.map(|view| view.state.as_str()) {
            None => paint.dim(line.trim_end()),
            Some("rolled_back") => paint.red(line.trim_end()),
            Some("paused" | "pending") => paint.yellow(line.trim_end()),
            Some("completed") => paint.green(line.trim_end()),
            Some(_) => line.trim_end().to_owned(),
        };
        let _ = writeln!(text, "{line}");
        if let Some(why) = view.map(View::why).filter(|why| !why.is_empty()) {
            let _ = writeln!(text, "  {}", paint.dim(&why));
        }
    }
    text
}

fn row(view: &View, now: &Zoned) -> [String; 6] {
    [
        printable(&view.rollout_id),
        printable(&view.service),
        view.state_word(),
        percent(view.current_percentage),
        view.started_at.as_deref().map(|at| moment(at, now)).unwrap_or_default(),
        elapsed(view.watched_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_fits_a_terminal_of_80_columns() {
        let now = "2026-11-21T03:02:10Z".parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC);
        let view = View {
            rollout_id: "engine-2-1".into(),
            service: "engine".into(),
            state: "rolled_back".into(),
            started_at: Some("2026-11-19T03:00:10Z".into()),
            because: "error_rate failed: 34 of 900 against 12 of 17000, at least 3.8 times as many".into(),
            ..View::default()
        };
        let text = screen::wrapped(&render(&[view], &now, Paint::plain()), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.contains("3.8 times"), "{text}");
        assert!(text.contains("\n      times as many\n") || text.contains("as many"), "{text}");
    }

    #[test]
    fn a_history_is_one_line_each_with_the_reason_below() {
        let now = "2026-11-21T03:02:10Z".parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC);
        let view = View {
            rollout_id: "engine-2-1".into(),
            service: "engine".into(),
            state: "rolled_back".into(),
            started_at: Some("2026-11-21T03:00:10Z".into()),
            watched_ms: 95_000,
            because: "error_rate failed: 3.8× at 5 %".into(),
            ..View::default()
        };
        assert_eq!(
            render(&[view], &now, Paint::plain()),
            "ID          SERVICE  STATE        AT   STARTED             TOOK\n\
             engine-2-1  engine   rolled back  0 %  03:00:10 (2 min ago)  1 min 35 s\n  \
             error_rate failed: 3.8× at 5 %\n"
                .replace("STARTED             TOOK", "STARTED               TOOK")
        );
    }
}
