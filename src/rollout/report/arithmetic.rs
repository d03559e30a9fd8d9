//! The arithmetic of a verdict in words: the formula, what went into it, what came out, so that anybody can recompute
//! it from the ticks of the report.

use crate::model::rollout::{Ask, Gate};
use crate::rollout::verdict::GateVerdict;
use crate::rollout::view::View;
use crate::upstream::culprits::{Culprit, CulpritKind};

/// Endpoints, and routes, that are named.
const CULPRITS_MAX: usize = 5;

/// Line by line.
pub(super) fn lines(view: &View) -> Vec<String> {
    let Some(judgement) = &view.judgement else { return Vec::new() };
    let plan = &view.rollout.plan;
    let mut lines = Vec::new();
    for said in &judgement.gates {
        let gate = plan.gates_of(view.rollout.phase).find(|gate| gate.name == said.name);
        lines.extend(gate.and_then(formula));
        lines.extend(result(said, view.figures.ticks));
    }
    let of = |kind| move |culprit: &&Culprit| culprit.kind == kind;
    for (word, kind) in [("endpoint", CulpritKind::Endpoint), ("route", CulpritKind::Route)] {
        let parts = view.figures.culprits.iter().filter(of(kind)).take(CULPRITS_MAX);
        let parts: Vec<_> = parts.map(|it| format!("{} {} ({:.0} %)", it.name, it.errors, 100.0 * it.part)).collect();
        if !parts.is_empty() {
            lines.push(format!("the candidate's errors by {word}: {}", parts.join(", ")));
        }
    }
    lines
}

/// What is multiplied up in each tick.
fn formula(gate: &Gate) -> Option<String> {
    let name = &gate.name;
    match &gate.ask {
        Ask::ErrorRate { max_ratio, .. } => Some(format!(
            "{name}: per tick, q = the candidate's assigned part, m = bad of both, x = bad of the candidate, \
             p(r) = q·r/(q·r + 1 − q); E = mean over r > {max_ratio} of Π (p(r)/p({max_ratio}))^x · \
             ((1 − p(r))/(1 − p({max_ratio})))^(m − x)"
        )),
        Ask::Latency { margin, margin_ms, .. } => Some(format!(
            "{name}: the same over requests that took longer than the control's quantile of the time before; the \
             candidate's threshold is {} times that and {margin_ms} ms more",
            1.0 + margin
        )),
        Ask::CacheHit { max_ratio, warm_up, .. } => Some(format!(
            "{name}: the same over answers that say what their cache did, bad = those that none had, r > {max_ratio}; \
             the {} s from the candidate's first request on do not count",
            warm_up.as_secs()
        )),
        Ask::Guard { max, .. } => Some(format!("{name}: the candidate's rate of bad events against {max}, alone")),
        _ => None,
    }
}

fn result(said: &GateVerdict, ticks: u64) -> Option<String> {
    let (value, limit) = (said.e_value?, said.limit?);
    let sign = if value >= limit { "≥" } else { "<" };
    let alpha = 1.0 / limit;
    let safe = match (said.safe_e_value, said.safe_limit) {
        (Some(value), Some(limit)) => format!("; evidence of safety {value:.4}, needed {limit:.4}"),
        _ => String::new(),
    };
    let value = if value < 1e9 { format!("{value:.4}") } else { format!("{value:.3e}") };
    Some(format!("{}: E = {value} {sign} {limit:.4} = 1/{alpha:.6} after {ticks} ticks{safe}", said.name))
}
