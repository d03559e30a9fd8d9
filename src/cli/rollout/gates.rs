//! The gates of a rollout's screen: two bars on a logarithmic scale each, evidence against the candidate and evidence
//! that it is safe, both against their limits; what it stands on in words below. Pure.

use super::super::figures::{evidence, milliseconds, ratio, times};
use super::super::screen::{Paint, printable};
use super::picture::{clipped, excludes};
use super::view::{GateView, View, word};

/// Most and least columns of a bar; between them it takes what names and verdicts leave.
const BAR: (usize, usize) = (24, 4);

/// Columns of `3.14 of 1 000` after a bar.
const FIGURES: usize = 13;

/// Columns of the longest verdict.
const VERDICT: usize = 13;

/// Most and least columns of the gate's name.
const NAME: (usize, usize) = (20, 10);

/// Parts of a column, so that a bar moves smoothly.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The lines of all gates: at most `rows`, the worst kept when there is no room for all.
pub(super) fn render(view: &View, columns: usize, rows: Option<usize>, paint: Paint) -> Vec<String> {
    if view.gates.is_empty() {
        return Vec::new();
    }
    let width = view.gates.iter().map(|gate| gate.name.chars().count()).max().unwrap_or(0).clamp(NAME.1, NAME.0);
    let layout = Layout::new(width, columns);
    let mut lines = vec![String::new(), paint.dim(&layout.title())];
    let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(lines.len()));
    let blocks: Vec<Vec<String>> = view.gates.iter().map(|gate| block(gate, layout, paint)).collect();
    // Second lines go first, then whole gates; what is well before what is not.
    let mut shown: Vec<usize> = blocks.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..view.gates.len()).collect();
    order.sort_by_key(|&index| (severity(&view.gates[index]), std::cmp::Reverse(index)));
    for least in [1, 0] {
        for &index in &order {
            let more_than_room = shown.iter().sum::<usize>() + usize::from(shown.contains(&0)) > room;
            if more_than_room {
                shown[index] = shown[index].min(least);
            }
        }
    }
    for (block, shown) in blocks.iter().zip(&shown) {
        lines.extend(block.iter().take(*shown).cloned());
    }
    let hidden = shown.iter().filter(|shown| **shown == 0).count();
    if hidden > 0 {
        let plural = if hidden == 1 { "" } else { "s" };
        lines.push(paint.dim(&format!("and {hidden} gate{plural} that say no worse; --output json shows all")));
    }
    lines
}

/// Where the columns are.
#[derive(Debug, Clone, Copy)]
struct Layout {
    name: usize,
    bar: usize,
    columns: usize,
}

impl Layout {
    fn new(name: usize, columns: usize) -> Self {
        let for_bars = columns.saturating_sub(name + VERDICT + 6) / 2;
        Self { name, bar: for_bars.saturating_sub(FIGURES + 1).clamp(BAR.1, BAR.0), columns }
    }

    /// Columns of a bar with its numbers.
    fn meter(self) -> usize {
        self.bar + 1 + FIGURES
    }

    fn title(self) -> String {
        let (name, meter) = (self.name, self.meter());
        format!("{:name$}  {:meter$}  {:meter$}  VERDICT", "GATE", "EVIDENCE AGAINST", "EVIDENCE OF SAFETY")
    }
}

/// How bad a verdict is; what is well is least.
fn severity(gate: &GateView) -> u8 {
    let worst = match gate.verdict.as_str() {
        "shown_safe" => 0,
        "inconclusive" | "not_compared" => 1,
        "no_traffic" => 2,
        "error" => 3,
        "environment_degraded" => 4,
        _ => 5,
    };
    if gate.dry_run { 0 } else { worst }
}

/// A verdict as people say it.
pub(super) fn said(verdict: &str) -> String {
    match verdict {
        "environment_degraded" => "stable is bad".into(),
        "fail" => "fails".into(),
        other => word(other),
    }
}

fn block(gate: &GateView, layout: Layout, paint: Paint) -> Vec<String> {
    let name = format!("{:1$}", clipped(&printable(&gate.name), layout.name), layout.name);
    let against = meter(layout.bar, gate.e_value, gate.limit, paint, Paint::red);
    let safe = meter(layout.bar, gate.safe_e_value, gate.safe_limit, paint, Paint::green);
    let verdict = said(&gate.verdict);
    let verdict = match severity(gate) {
        _ if gate.dry_run => paint.dim(&verdict),
        0 => paint.green(&verdict),
        1 | 2 => verdict,
        3 | 4 => paint.yellow(&verdict),
        _ => paint.red(&verdict),
    };
    let mut lines = Vec::new();
    let detail = short(gate);
    let detail = if gate.dry_run { format!("dry run: {detail}") } else { detail };
    if gate.e_value.is_none() && gate.safe_e_value.is_none() {
        // Nothing to measure by: its words stand where the bars would.
        let room = 2 * layout.meter() + 2;
        lines.push(format!("{name}  {}  {verdict}", paint.dim(&format!("{:room$}", clipped(&detail, room)))));
        return lines;
    }
    lines.push(format!("{name}  {against}  {safe}  {verdict}"));
    if !detail.is_empty() {
        let indent = 2;
        lines.push(format!("{:indent$}{}", "", paint.dim(&clipped(&detail, layout.columns.saturating_sub(indent)))));
    }
    lines
}

/// `██████······ 3.14 of 200`: the logarithm of the evidence, from 1 (none at all) to its limit.
fn meter(bar: usize, value: Option<f64>, limit: Option<f64>, paint: Paint, full: fn(Paint, &str) -> String) -> String {
    let (Some(value), Some(limit)) = (value, limit.filter(|limit| *limit > 1.0)) else {
        return " ".repeat(bar + 1 + FIGURES);
    };
    let part = (value.max(1.0).ln() / limit.ln()).clamp(0.0, 1.0);
    let eighths = (part * (bar * 8) as f64).floor() as usize;
    let filled = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
    let rest = "·".repeat(bar - eighths.div_ceil(8));
    let drawn = if value >= limit { full(paint, &filled) } else { filled };
    let figures = format!("{} of {}", evidence(value), evidence(limit));
    format!("{drawn}{} {figures:FIGURES$}", paint.dim(&rest))
}

/// The gate's own sentence, and where it has none its numbers.
pub(super) fn detail(gate: &GateView) -> String {
    if gate.detail.is_empty() { short(gate) } else { printable(&gate.detail) }
}

/// What the gate stands on in a line: both pools, the ratio, the bound; and where there are no such numbers its own
/// words. Why it is not further stands below all gates.
fn short(gate: &GateView) -> String {
    let unit = |value: f64| match gate.kind.as_str() {
        "error_rate" | "guard" | "zero_tolerance" => ratio(value),
        "cache_hit" => format!("{} misses", ratio(value)),
        "latency" if value <= 1.0 => format!("{} slow", ratio(value)),
        "latency" => milliseconds(value),
        _ => format!("{value}"),
    };
    let measured = gate.e_value.is_some() || gate.safe_e_value.is_some();
    let mut parts = Vec::new();
    if measured {
        match (gate.candidate, gate.control) {
            (Some(candidate), Some(control)) => {
                // Of the two numbers that stand there; the estimate over phases of other shares may differ.
                let ratio = if control > 0.0 { Some(candidate / control) } else { gate.ratio };
                let ratio = ratio.map(|ratio| format!(" ({})", times(ratio))).unwrap_or_default();
                parts.push(format!("{} against {}{ratio}", unit(candidate), unit(control)));
            }
            (Some(candidate), None) => parts.push(unit(candidate)),
            (None, _) => {}
        }
        parts.extend(gate.bound.filter(|bound| bound.is_finite()).map(excludes));
    }
    if !gate.detail.is_empty() && parts.is_empty() {
        parts.push(printable(&gate.detail));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(name: &str, verdict: &str) -> GateView {
        GateView {
            name: name.into(),
            kind: "error_rate".into(),
            verdict: verdict.into(),
            e_value: Some(3.0),
            limit: Some(200.0),
            safe_e_value: Some(20.0),
            safe_limit: Some(20.0),
            detail: "words".into(),
            ..GateView::default()
        }
    }

    #[test]
    fn a_bar_is_empty_without_evidence_and_full_at_its_limit() {
        let bar = |value, limit| meter(12, Some(value), Some(limit), Paint::plain(), Paint::red);
        assert_eq!(bar(0.3, 200.0), "············ 0.30 of 200  ");
        assert_eq!(bar(200.0, 200.0), "████████████ 200 of 200   ");
        assert_eq!(bar(1e9, 200.0), "████████████ 10^9 of 200  ");
        // Half of the way on the logarithmic scale.
        assert_eq!(bar(10.0, 100.0), "██████······ 10 of 100    ");
        assert_eq!(meter(12, None, None, Paint::plain(), Paint::red).trim(), "");
    }

    #[test]
    fn without_room_for_all_the_worst_gates_stay() {
        let mut gates: Vec<GateView> = (0..6).map(|number| gate(&format!("gate-{number}"), "shown_safe")).collect();
        gates.push(gate("bad", "fail"));
        let view = View { gates, ..View::default() };
        let all = render(&view, 80, None, Paint::plain());
        assert_eq!(all.len(), 2 + 2 * 7, "{all:#?}");
        for rows in 2..12 {
            let some = render(&view, 80, Some(rows), Paint::plain());
            assert!(some.len() <= rows.max(4), "{rows}: {some:#?}");
            assert!(rows < 4 || some.iter().any(|line| line.starts_with("bad")), "{rows}: {some:#?}");
        }
    }
}
