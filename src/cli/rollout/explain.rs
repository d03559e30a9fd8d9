//! `weir rollout explain`: why it has not advanced, and why it was not rolled back: every gate with its numbers, its
//! limits and what is missing, and the time that is left.

use std::fmt::Write as _;

use clap::Args;

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::figures::{elapsed, evidence, percent};
use super::super::screen::{Paint, printable};
use super::super::{Globals, screen};
use super::view::{GateView, Standing, View, word};
use super::{Which, find, gates};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
}

pub(super) fn execute(arguments: &Arguments, globals: &Globals) -> Result<(), Failure> {
    let found = find(&Client::new(globals)?, &arguments.which.name)?;
    if globals.json() {
        return screen::print_json(&found);
    }
    let view = View::read(&found).unwrap_or_default();
    screen::print(&render(&view, Paint::stdout()))
}

/// Two questions, answered by numbers.
fn render(view: &View, paint: Paint) -> String {
    let at = format!("{} at {}", word(&view.state), percent(view.current_percentage));
    let mut text = format!("{} ({}) is {}\n", printable(&view.service), printable(&view.rollout_id), paint.bold(&at));
    match view.standing() {
        Standing::Inconclusive => {}
        Standing::Passed | Standing::Failed => {
            let _ = writeln!(text, "  it ended after {}: {}", elapsed(view.watched_ms), view.why());
        }
    }
    let _ = writeln!(text, "\n{}", paint.bold(if view.is_live() { "why not advanced" } else { "what spoke for it" }));
    for line in time_left(view) {
        let _ = writeln!(text, "  {line}");
    }
    for gate in &view.gates {
        let _ = writeln!(text, "  {}", advance(gate));
    }
    let title = if view.state == "rolled_back" { "why rolled back" } else { "why not rolled back" };
    let _ = writeln!(text, "\n{}", paint.bold(title));
    for gate in &view.gates {
        let _ = writeln!(text, "  {}", back(gate));
    }
    if view.gates.is_empty() {
        let _ = writeln!(text, "  no gate has spoken yet");
    }
    let why = view.why();
    if view.is_live() && !why.is_empty() {
        let _ = writeln!(text, "\n{why}");
    }
    text
}

/// The clock's part of it.
fn time_left(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(killed) = &view.killed {
        lines.push(format!("killed: {}; nothing advances until it is let go", printable(killed)));
    }
    if let Some(window) = &view.window_closed {
        lines.push(format!("frozen: {}; a rollback is never held up by it", printable(window)));
    }
    if view.state == "paused" {
        lines.push(format!("it is paused; `weir rollout resume {}` lets it go on", printable(&view.service)));
    }
    let Some(phase) = view.phases.get(view.phase).filter(|_| view.is_live()) else { return lines };
    let name = printable(&phase.name);
    let (in_it, least, most) = (elapsed(view.phase_ms), elapsed(phase.min_duration_ms), elapsed(phase.max_duration_ms));
    if view.phase_ms < phase.min_duration_ms {
        let left = elapsed(phase.min_duration_ms - view.phase_ms);
        lines.push(format!("{name}: {in_it} of at least {least} are over; {left} to go"));
    } else if phase.max_duration_ms > view.phase_ms {
        let left = elapsed(phase.max_duration_ms - view.phase_ms);
        let then = view.on_inconclusive.as_deref().map(|then| format!(", then: {}", word(then))).unwrap_or_default();
        lines.push(format!("{name}: {in_it}, at least {least} are over; evidence is waited for {left} more{then}"));
    } else if phase.max_duration_ms > 0 {
        lines.push(format!("{name}: {in_it}, more than its longest time of {most}"));
    }
    lines
}

/// What a gate still wants to see before the share rises.
fn advance(gate: &GateView) -> String {
    let name = printable(&gate.name);
    if gate.dry_run {
        return format!("{name}: a dry run, asks for nothing");
    }
    let words = gates::detail(gate);
    match (gate.safe_e_value, gate.safe_limit) {
        (Some(value), Some(limit)) if value >= limit => {
            format!("{name}: shown safe, {} of {} needed; {words}", evidence(value), evidence(limit))
        }
        (Some(value), Some(limit)) => {
            format!(
                "{name}: {}, evidence of safety {} of {} needed; {words}",
                word(&gate.verdict),
                evidence(value),
                evidence(limit)
            )
        }
        _ => format!("{name}: {}{}", word(&gate.verdict), if words.is_empty() { words } else { format!("; {words}") }),
    }
}

/// How far a gate is from sending everything back.
fn back(gate: &GateView) -> String {
    let name = printable(&gate.name);
    let never = match gate.verdict.as_str() {
        "error" | "no_traffic" | "environment_degraded" => "; this never rolls back",
        _ if gate.dry_run => "; a dry run never rolls back",
        _ if gate.waits => "; this waits and never rolls back",
        _ => "",
    };
    match (gate.e_value, gate.limit) {
        (Some(value), Some(limit)) if value >= limit => {
            format!("{name}: evidence against it {} is over its limit {}{never}", evidence(value), evidence(limit))
        }
        (Some(value), Some(limit)) => {
            let chance = 100.0 / limit;
            let (value, limit) = (evidence(value), evidence(limit));
            format!(
                "{name}: evidence against it {value}, it would take {limit} (a false alarm in {chance:.2} %){never}"
            )
        }
        _ => format!("{name}: {}{never}", word(&gate.verdict)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::PhaseView;
    use super::*;

    #[test]
    fn both_questions_are_answered_by_numbers_and_time() {
        let gate = GateView {
            name: "error_rate".into(),
            kind: "error_rate".into(),
            verdict: "inconclusive".into(),
            e_value: Some(3.1),
            limit: Some(200.0),
            safe_e_value: Some(6.2),
            safe_limit: Some(20.0),
            candidate: Some(0.0052),
            control: Some(0.0049),
            ratio: Some(1.06),
            bound: Some(2.4),
            ..GateView::default()
        };
        let view = View {
            rollout_id: "engine-2-1".into(),
            service: "engine".into(),
            state: "rolling_out".into(),
            current_percentage: 5.0,
            phase_ms: 12_000,
            phases: vec![PhaseView {
                name: "phase-1".into(),
                percent: 5.0,
                min_duration_ms: 10_000,
                max_duration_ms: 600_000,
                holdback: 0.0,
            }],
            on_inconclusive: Some("extend".into()),
            gates: vec![gate],
            ..View::default()
        };
        assert_eq!(
            render(&view, Paint::plain()),
            "engine (engine-2-1) is rolling out at 5 %\n\nwhy not advanced\n  \
             phase-1: 12 s, at least 10 s are over; evidence is waited for 9 min 48 s more, then: extend\n  \
             error_rate: inconclusive, evidence of safety 6.20 of 20 needed; \
             0.52 % against 0.49 % (1.1×); excludes 2.4× or more\n\n\
             why not rolled back\n  \
             error_rate: evidence against it 3.10, it would take 200 (a false alarm in 0.50 %)\n"
        );
    }
}
