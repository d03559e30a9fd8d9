//! One rollout as a screen: where it stands, what both pools do, how far every gate's evidence is from its limits, and
//! why it is not further. Pure: a view, the time, a size in; text out. Gates are drawn in `gates`.

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::super::figures::{count, elapsed, milliseconds, moment, percent, ratio, times};
use super::super::screen::{Paint, printable};
use super::gates;
use super::view::{ArmView, EventView, PhaseView, Standing, View, word};

/// Columns where the terminal does not say: what everything is laid out for.
pub(super) const COLUMNS: usize = 80;

/// Columns before the line of phases and before everything that explains it.
const INDENT: usize = 14;

/// Rows that the events get when there is room.
const EVENTS: usize = 6;

/// Events that are shown even on the smallest terminal.
const EVENTS_LEAST: usize = 1;

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) columns: usize,
    /// None: as many as it takes.
    pub(super) rows: Option<usize>,
}

/// The whole screen.
pub(super) fn render(view: &View, now: &Zoned, room: Room, paint: Paint) -> String {
    let mut lines = head(view, now, room, paint);
    lines.push(String::new());
    lines.extend(phases(view, room, paint));
    lines.push(String::new());
    lines.extend(pools(view, paint));
    let why = why(view, room, paint);
    // What is left for gates and events: gates first, for they decide.
    let left = room.rows.map(|rows| rows.saturating_sub(lines.len() + why.len() + 1));
    let for_gates = left.map(|left| left.saturating_sub(EVENTS_LEAST.min(view.events.len()) + 1));
    let gates = gates::render(view, room.columns, for_gates, paint);
    let for_events = left.map_or(EVENTS, |left| left.saturating_sub(gates.len() + 1).min(EVENTS));
    lines.extend(gates);
    lines.extend(why);
    lines.extend(events(&view.events, for_events, now, room.columns, paint));
    let rows = room.rows.unwrap_or(usize::MAX);
    lines.iter().take(rows).map(|line| format!("{}\n", line.trim_end())).collect()
}

fn head(view: &View, now: &Zoned, room: Room, paint: Paint) -> Vec<String> {
    let (service, candidate) = (printable(&view.service), printable(&view.candidate));
    let version = view.version.as_deref().map(|version| format!(" ({})", printable(version))).unwrap_or_default();
    let left = format!("{service}: {} → {candidate}{version}", view.control());
    let state = if view.killed.is_some() { "killed".to_owned() } else { word(&view.state) };
    let state = if view.dry_run { format!("dry run, {state}") } else { state };
    let right = format!("{state} at {}", percent(view.current_percentage));
    let gap = room.columns.saturating_sub(left.chars().count() + right.chars().count()).max(2);
    let right = match (view.killed.is_some(), view.state.as_str(), view.verdict.as_str()) {
        (true, ..) | (_, "rolled_back", _) | (_, _, "fail") => paint.red(&right),
        (_, "paused" | "pending", _) | (_, _, "environment_degraded" | "error") => paint.yellow(&right),
        (..) => paint.green(&right),
    };
    let began = view.started_at.as_deref().map(|at| format!("since {}", moment(at, now)));
    let by = Some(printable(&view.started_by)).filter(|by| !by.is_empty()).map(|by| format!("by {by}"));
    let plan = Some(view.plan()).filter(|plan| !plan.is_empty()).map(|plan| format!("plan {plan}"));
    let facts = [Some(printable(&view.rollout_id)), plan, began, by].into_iter().flatten().collect::<Vec<_>>();
    vec![
        format!("{}{}{right}", paint.bold(&left), " ".repeat(gap)),
        paint.dim(&clipped(&facts.join(", "), room.columns)),
    ]
}

// === phases ===

fn phases(view: &View, room: Room, paint: Paint) -> Vec<String> {
    if view.phases.is_empty() {
        return vec![format!("phase {}", view.phase + 1)];
    }
    let label = format!("phase {} of {}", (view.phase + 1).min(view.phases.len()), view.phases.len());
    let track = track(view, room.columns.saturating_sub(INDENT));
    let mut lines = vec![format!("{label:INDENT$}{track}")];
    lines.push(format!("{:INDENT$}{}", "", paint.dim(&clipped(&clock(view), room.columns.saturating_sub(INDENT)))));
    lines.push(format!("{:INDENT$}{}", "", paint.dim(&clipped(&share(view), room.columns.saturating_sub(INDENT)))));
    lines
}

/// `1 % ━━━━━ 5 % ━━━╌╌ 25 % ╌╌╌╌ 100 % ╌╌╌`: what is behind, where it is, what comes.
fn track(view: &View, width: usize) -> String {
    let labels: Vec<String> = view.phases.iter().map(|phase| percent(phase.percent)).collect();
    let text: usize = labels.iter().map(|label| label.chars().count() + 2).sum();
    let each = width.saturating_sub(text) / labels.len();
    if each < 3 {
        // Too many to name each: one track from 0 to 100 %.
        let track = width.saturating_sub(14).min(50);
        return format!("0 % {} 100 %", bar(view.current_percentage / 100.0, track));
    }
    let ended = view.state == "completed";
    let one = |(index, label): (usize, &String)| {
        let done = match index {
            _ if ended => 1.0,
            index if index < view.phase => 1.0,
            index if index == view.phase && view.state != "rolled_back" => progress(view, &view.phases[index]),
            _ => 0.0,
        };
        format!("{label} {}", bar(done, each.min(16)))
    };
    labels.iter().enumerate().map(one).collect::<Vec<_>>().join(" ")
}

fn bar(part: f64, width: usize) -> String {
    let filled = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("{}{}", "━".repeat(filled), "╌".repeat(width - filled))
}

/// How much of the phase's least time is over.
fn progress(view: &View, phase: &PhaseView) -> f64 {
    if phase.min_duration_ms == 0 { 1.0 } else { view.phase_ms as f64 / phase.min_duration_ms as f64 }
}

/// Time in the phase, and what is left of it.
fn clock(view: &View) -> String {
    let Some(phase) = view.phases.get(view.phase).filter(|_| view.is_live()) else {
        if view.never_began() {
            return "ended before its first share; nothing moved".into();
        }
        let at = view.phases.get(view.phase).filter(|_| view.state == "rolled_back");
        let at = at.map(|phase| format!("went back in {} ({}); ", printable(&phase.name), percent(phase.percent)));
        return format!("{}took {}", at.unwrap_or_default(), elapsed(view.watched_ms));
    };
    let inside = format!("{} in it", elapsed(view.phase_ms));
    let least = phase.min_duration_ms.saturating_sub(view.phase_ms);
    let most = phase.max_duration_ms.saturating_sub(view.phase_ms);
    let later: u64 = view.phases.iter().skip(view.phase + 1).map(|phase| phase.min_duration_ms).sum();
    let left = match () {
        () if view.state == "paused" => "its clock stands still".to_owned(),
        () if least > 0 => {
            format!("at least {} to go, {} in all", elapsed(least), elapsed(least + later))
        }
        () if phase.max_duration_ms == 0 => "its least time is over".to_owned(),
        () if most > 0 => format!("its least time is over, evidence is waited for {} more", elapsed(most)),
        () => "its longest time is over".to_owned(),
    };
    format!("{inside}; {left}")
}

/// What was asked for and what came of it.
fn share(view: &View) -> String {
    let mut text = format!("share intended {}", percent(view.current_percentage));
    if let Some(realised) = view.realised_percentage {
        text += &format!(", realised {realised:.2} %");
    }
    if view.settling {
        text += "; settling after the change, not scored yet";
    }
    if let Some(holdback) = view.phases.get(view.phase).map(|phase| phase.holdback).filter(|back| *back > 0.0) {
        text += &format!("; {} held back", percent(holdback));
    }
    text
}

// === pools ===

fn pools(view: &View, paint: Paint) -> Vec<String> {
    let title = ["POOL", "REQUESTS", "BAD", "RATIO", "REQ/S 60 S", "P50", "P95", "P99"].map(str::to_owned);
    let mut rows = vec![title];
    rows.extend(view.arms.iter().map(pool_row));
    let widths: [usize; 8] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines[0] = paint.dim(&lines[0]);
    lines
}

fn pool_row(arm: &ArmView) -> [String; 8] {
    let none = || "-".to_owned();
    let time = |value: Option<f64>| value.map_or_else(none, milliseconds);
    let part = match (arm.errors, arm.requests) {
        (Some(errors), Some(requests)) if requests > 0 => ratio(errors as f64 / requests as f64),
        _ => none(),
    };
    [
        printable(&arm.pool),
        arm.requests.map_or_else(none, count),
        arm.errors.map_or_else(none, count),
        part,
        arm.requests_per_s.map_or_else(none, |rate| format!("{rate:.1}")),
        time(arm.p50_ms),
        time(arm.p95_ms),
        time(arm.p99_ms),
    ]
}

// === why, and what happened ===

/// Why it is not further, what to do, or how it ended.
fn why(view: &View, room: Room, paint: Paint) -> Vec<String> {
    let reason = view.why();
    let (word, text) = match view.standing() {
        Standing::Passed => (paint.green("promoted"), reason),
        Standing::Failed => (paint.red(&view.state_word()), reason),
        Standing::Inconclusive if view.killed.is_some() => {
            (paint.red("killed"), view.killed.as_deref().map(printable).unwrap_or_default())
        }
        Standing::Inconclusive if view.state == "paused" => (paint.yellow("paused"), reason),
        Standing::Inconclusive => {
            let waits = view.waiting_for.as_deref().map(printable).filter(|waits| !waits.is_empty());
            let safe = view.verdict == "shown_safe";
            (paint.bold(if safe { "goes on" } else { "why not yet" }), waits.unwrap_or(reason))
        }
    };
    let ended = view.state_word();
    let plain = match view.standing() {
        Standing::Passed => "promoted",
        Standing::Failed => &ended,
        Standing::Inconclusive if view.killed.is_some() => "killed",
        Standing::Inconclusive if view.state == "paused" => "paused",
        Standing::Inconclusive if view.verdict == "shown_safe" => "goes on",
        Standing::Inconclusive => "why not yet",
    };
    let width = room.columns.saturating_sub(INDENT);
    let mut wrapped = wrap(&text, width).into_iter();
    let first = wrapped.next().unwrap_or_default();
    let pad = " ".repeat(INDENT.saturating_sub(plain.chars().count()));
    let mut lines = vec![String::new(), format!("{word}{pad}{first}")];
    lines.extend(wrapped.take(2).map(|line| format!("{:INDENT$}{line}", "")));
    for (word, text) in [("frozen", &view.window_closed), ("trouble", &view.trouble)] {
        if let Some(text) = text.as_deref().map(printable).filter(|text| !text.is_empty() && view.is_live()) {
            let word = paint.yellow(&format!("{word:INDENT$}"));
            lines.push(format!("{word}{}", clipped(&text, width)));
        }
    }
    if let Some(next) = what_next(view) {
        lines.push(format!("{:INDENT$}{}", "", paint.dim(&clipped(&next, width))));
    }
    lines
}

/// What a person may do now.
fn what_next(view: &View) -> Option<String> {
    let service = printable(&view.service);
    let command = |words: &str| format!("`weir rollout {words} {service}`");
    match view.state.as_str() {
        _ if view.killed.is_some() => Some(format!("`weir unkill {service}` lets it go on")),
        "paused" => Some(format!("{} or {}", command("resume"), command("rollback"))),
        "rolling_out" if view.verdict == "no_traffic" => {
            Some(format!("no request: is anybody there? {}", command("pause")))
        }
        _ => None,
    }
}

fn events(events: &[EventView], most: usize, now: &Zoned, columns: usize, paint: Paint) -> Vec<String> {
    if events.is_empty() || most == 0 {
        return Vec::new();
    }
    let mut lines = vec![String::new()];
    lines.extend(events.iter().rev().take(most).rev().map(|event| event_line(event, now.time_zone(), columns, paint)));
    lines
}

/// `03:02:10  phase started  message`.
pub(in crate::cli) fn event_line(event: &EventView, zone: &TimeZone, columns: usize, paint: Paint) -> String {
    let at = i64::try_from(event.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map(|at| at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()).unwrap_or_default();
    let kind = word(&event.kind);
    let message = clipped(&printable(&event.message), columns.saturating_sub(at.chars().count() + 24));
    let kind = match event.severity.as_str() {
        "critical" => paint.red(&format!("{kind:20}")),
        "warning" => paint.yellow(&format!("{kind:20}")),
        _ => format!("{kind:20}"),
    };
    format!("{}  {kind}  {message}", paint.dim(&at))
}

/// The bound in words, which is what a quiet service has to be told.
pub(super) fn excludes(bound: f64) -> String {
    format!("excludes {} or more", times(bound))
}

/// At most so many columns, with a mark when something was cut off.
pub(super) fn clipped(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of at most so many columns, broken at blanks.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a last line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}
