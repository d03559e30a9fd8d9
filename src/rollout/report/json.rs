//! The report of a rollout as JSON: what it went by, what was decided and on what numbers, every tick's counts, and the
//! fields that report readers of other systems look for. The page is made of it.

use serde_json::{Value, json};

use super::arithmetic;
use crate::rollout::event::{Event, Kind};
use crate::rollout::machine::State;
use crate::rollout::record::Record;
use crate::rollout::verdict::{GateVerdict, Verdict};
use crate::rollout::view::{View, plan_json, ratio, rfc3339};

/// Everything that a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The rollout.
    pub view: &'a View,
    /// Its ticks, oldest first.
    pub ticks: &'a [Record],
    /// Its events, oldest first.
    pub events: &'a [Event],
    /// When the report is made, in ms since the Unix epoch.
    pub at_ms: u64,
}

/// The report.
pub fn report(parts: &Parts<'_>) -> Value {
    let view = parts.view;
    let mut report = view.json();
    let (candidate, control) = (&view.figures.arms[0], &view.figures.arms[1]);
    let rates = [candidate, control].map(|arm| ratio(arm.errors, arm.attempts));
    let more = json!({
        "generatedAt": rfc3339(parts.at_ms),
        "plan": plan_json(&view.rollout.plan),
        "endedAt": view.rollout.ended_at_ms.map(rfc3339),
        "intendedPercentage": view.rollout.intended.percent(),
        "latency": { "candidate": view.figures.latency[0], "control": view.figures.latency[1] },
        "counts": { "candidate": candidate, "control": control },
        "rates": { "candidate": rates[0], "control": rates[1] },
        "verified": verified(parts.events),
        "arithmetic": arithmetic::lines(view),
        "events": parts.events,
        "ticks": parts.ticks,
    });
    merge(&mut report, more);
    merge(&mut report, seeds(parts, rates));
    report
}

/// The fields of canary reports that other tools read.
fn seeds(parts: &Parts<'_>, rates: [Option<f64>; 2]) -> Value {
    let view = parts.view;
    let rolled_back = view.rollout.state == State::RolledBack;
    let gates = view.judgement.as_ref().map(|judgement| judgement.gates.as_slice()).unwrap_or_default();
    let count = |verdict: Verdict| gates.iter().filter(|gate| gate.verdict == verdict).count();
    let skipped = count(Verdict::NoTraffic) + count(Verdict::NotCompared);
    let delta = |own: Option<f64>, other: Option<f64>| Some(own? - other?);
    let p95 = |side: usize| view.figures.latency[side].p95.map(|bounded| bounded.value);
    json!({
        "success": view.rollout.state == State::Completed,
        "rollback_triggered": rolled_back,
        "rollback_reason": rolled_back.then(|| view.rollout.because.clone()),
        "smoke_returncode": smoke(gates),
        "metrics_delta": {
            "error_rate": delta(rates[0], rates[1]),
            "latency_p95_ms": delta(p95(0), p95(1)),
        },
        "baseline_metrics": { "error_rate": rates[1], "latency_p95_ms": p95(1) },
        "canary_metrics": { "error_rate": rates[0], "latency_p95_ms": p95(0) },
        "dry_run": view.rollout.plan.dry_run,
        "generated_at": rfc3339(parts.at_ms),
        "status": status(view),
        "summary": {
            "total": gates.len(),
            "passed": count(Verdict::ShownSafe),
            "failed": count(Verdict::Fail),
            "skipped": skipped,
            "warning": gates.len() - count(Verdict::ShownSafe) - count(Verdict::Fail) - skipped,
        },
        "metrics": suite(view),
    })
}

/// How a canary stands, in the words of canary runners.
pub fn status(view: &View) -> &'static str {
    match view.rollout.state {
        State::Pending => "pending",
        State::RollingOut | State::Paused => "running",
        State::Completed => "passed",
        State::RolledBack => "failed",
    }
}

/// The candidate's requests as a suite of tests: each request is one.
pub fn suite(view: &View) -> Value {
    let arm = &view.figures.arms[0];
    let passed = arm.attempts.saturating_sub(arm.errors);
    json!({
        "totalTests": arm.attempts,
        "passed": passed,
        "failed": arm.errors,
        "errored": 0,
        "skipped": 0,
        "passRate": ratio(passed, arm.attempts),
        // What the proxy sees of both is the time to the end of the answer.
        "avgSessionStartMs": view.figures.latency[0].p50.map(|bounded| bounded.value),
        "avgTimeToFirstOutputMs": view.figures.latency[0].p50.map(|bounded| bounded.value),
        "disconnectRate": ratio(arm.disconnects, arm.attempts),
    })
}

/// 0 or 1 by the last word of a smoke test; none when there is none, or it was not asked.
fn smoke(gates: &[GateVerdict]) -> Option<u8> {
    let tests = gates.iter().filter(|gate| matches!(gate.kind.as_str(), "http" | "command" | "suite"));
    let said = tests.filter_map(|gate| match gate.verdict {
        Verdict::ShownSafe => Some(0),
        Verdict::Fail => Some(1),
        _ => None,
    });
    said.max()
}

/// What was checked after the rollback.
fn verified(events: &[Event]) -> Option<&str> {
    events.iter().rev().find(|event| event.kind == Kind::RollbackCompleted).map(|event| event.message.as_str())
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
