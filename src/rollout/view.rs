//! One rollout as everybody sees it: published by its runner after every step, read without waiting for it. As JSON it
//! is what the API answers and what the report begins with.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::evidence::band;
use super::machine::{Rollout, Stage, State};
use super::tick::{Arm, Tick};
use super::verdict::{Judgement, Verdict};
use crate::model::Name;
use crate::model::rollout::{OnFailure, OnInconclusive, Phase, RolloutPlan, Share, Strategy};
use crate::telemetry::histogram::Summary;
use crate::upstream::culprits::{Culprit, CulpritKind};

/// Endpoints, and routes, that are shown with their part of the candidate's errors.
const CULPRITS_SHOWN: usize = 5;

/// A rollout at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// What the machine knows.
    pub rollout: Rollout,
    /// The newest judgement; none before the first tick.
    pub judgement: Option<Judgement>,
    /// The newest tick.
    pub tick: Option<Tick>,
    /// What was counted since the rollout began.
    pub figures: Figures,
    /// The pool that the candidate is compared with.
    pub control: Name,
    /// What the weights give the candidate now; none when the service is gone.
    pub live_share: Option<Share>,
    /// Requests per second of candidate and control, of the last minute or since it began.
    pub per_s: [Option<f64>; 2],
    /// Why the service or the system is killed, while it is.
    pub killed: Option<String>,
    /// The freeze window in force.
    pub window_closed: Option<String>,
    /// What is wrong with the engine of this rollout, if anything.
    pub trouble: Option<String>,
}

/// Sums since a rollout began.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// Ticks so far.
    pub ticks: u64,
    /// Candidate and control, as far as the weights sent the requests there.
    pub arms: [Arm; 2],
    /// Candidate and control: quantiles over the whole rollout.
    pub latency: [BoundedQuantiles; 2],
    /// Where the candidate's errors came from: endpoints, then routes, the largest part of each first.
    pub culprits: Vec<Culprit>,
}

/// Three quantiles; none without requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BoundedQuantiles {
    /// Median.
    pub p50: Option<Bounded>,
    /// 95 % stay at or below.
    pub p95: Option<Bounded>,
    /// 99 % stay at or below.
    pub p99: Option<Bounded>,
}

/// A number in ms with the band in which it lies with a confidence of 95 %, at every moment at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bounded {
    /// The number.
    pub value: f64,
    /// The band; none with fewer than a hundred requests, or where it has no end.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
}

// === impl BoundedQuantiles ===

impl BoundedQuantiles {
    /// Of these durations.
    pub(super) fn of(summary: &Summary) -> Self {
        let width = band::distribution(summary.count(), 0.05);
        let at = |q: f64| {
            let q = Some(q).filter(|q| (0.0..=1.0).contains(q))?;
            summary.quantile_us(q).map(|us| us as f64 / 1000.0)
        };
        let bounded = |q: f64| {
            let [low, high] = [width.and_then(|width| at(q - width)), width.and_then(|width| at(q + width))];
            at(q).map(|value| Bounded { value, low, high })
        };
        Self { p50: bounded(0.5), p95: bounded(0.95), p99: bounded(0.99) }
    }
}

// === impl View ===

impl View {
    /// Everything, as the API shows one rollout.
    pub fn json(&self) -> Value {
        let mut object = self.short();
        let (rollout, plan) = (&self.rollout, &self.rollout.plan);
        let judgement = self.judgement.as_ref();
        let realised = self.figures_share();
        let more = json!({
            "plan": plan.name,
            "strategy": strategy(plan.strategy),
            "control": self.control,
            "baseline": plan.baseline,
            "version": plan.version,
            "phases": plan.phases.iter().enumerate().map(|(i, phase)| self.phase(i, phase)).collect::<Vec<_>>(),
            "intendedPercentage": rollout.intended.percent(),
            "livePercentage": self.live_share.map(Share::percent),
            "realisedPercentage": realised.map(|share| share * 100.0),
            "startedBy": rollout.started_by,
            "reason": rollout.reason,
            "phaseMs": rollout.phase_ms,
            "dryRun": plan.dry_run,
            "autoAdvance": plan.auto_advance,
            "autoRollback": plan.auto_rollback,
            "onFailure": on_failure(plan.on_failure),
            "onInconclusive": on_inconclusive(plan.on_inconclusive),
            "detail": judgement.map(|judgement| judgement.reason.clone()).unwrap_or_default(),
            "gates": judgement.map(|judgement| json!(judgement.gates)).unwrap_or_else(|| json!([])),
            "selfTest": judgement.and_then(|judgement| judgement.self_test),
            "sampleRatio": judgement.and_then(|judgement| judgement.sample_ratio),
            "settling": self.tick.as_ref().is_some_and(|tick| tick.settling),
            "serving": self.tick.as_ref().is_none_or(|tick| tick.serving),
            "arms": [self.arm(&plan.candidate, 0), self.arm(&self.control, 1)],
            "culprits": self.culprits(),
            "ticks": self.figures.ticks,
            "killed": self.killed,
            "windowClosed": self.window_closed,
            "waitingFor": self.waiting_for(),
            "trouble": self.trouble,
            "labels": plan.labels,
        });
        if let Value::Object(more) = more {
            object.extend(more);
        }
        Value::Object(object)
    }

    /// What a list shows.
    pub fn short(&self) -> Map<String, Value> {
        let (rollout, plan) = (&self.rollout, &self.rollout.plan);
        let phase = plan.phases.get(rollout.phase);
        let short = json!({
            "rolloutId": rollout.id,
            "plan": plan.name,
            "service": plan.service,
            "candidate": plan.candidate,
            "state": rollout.state,
            "phase": rollout.phase,
            "phaseName": phase.map(|phase| &phase.name),
            "currentPercentage": rollout.share.percent(),
            "percent": rollout.share.percent(),
            "startedAt": rfc3339(rollout.started_at_ms),
            "completedAt": rollout.ended_at_ms.map(rfc3339),
            "verdict": rollout.verdict,
            "bound": self.judgement.as_ref().and_then(|judgement| judgement.bound),
            "because": rollout.because,
            "begun": rollout.inner.begun,
            "watchedMs": rollout.watched_ms,
        });
        if let Value::Object(short) = short { short } else { Map::new() }
    }

    /// What it waits for, in words, when it is not evidence.
    fn waiting_for(&self) -> Option<String> {
        let inner = &self.rollout.inner;
        if let Some(delay) = &inner.delay {
            return Some(format!("rolled back in {} s unless cancelled", delay.left_ms / 1000));
        }
        if let Some(retreat) = &inner.retreat {
            let stage = match retreat.stage {
                Stage::Moving => "traffic moves back",
                Stage::Acting => "the actions of the rollback run",
                Stage::Verifying => "what the rollback left behind is checked",
            };
            return Some(stage.into());
        }
        match self.rollout.state {
            State::Completed | State::RolledBack => None,
            State::Pending if !inner.prepared => Some("the start actions run".into()),
            _ if inner.window.is_some() => inner.window.clone(),
            State::Paused => Some("a person: it is paused".into()),
            State::Pending => Some(self.open_questions().unwrap_or_else(|| "what is asked before the start".into())),
            State::RollingOut if inner.held => Some("a person: a gate failed and the plan says hold".into()),
            State::RollingOut => self.waiting_gates(),
        }
    }

    /// Gates that fail and keep it where it is until they hold.
    fn waiting_gates(&self) -> Option<String> {
        let judgement = self.judgement.as_ref().filter(|judgement| judgement.only_waits)?;
        let gates = judgement.gates.iter().filter(|gate| gate.waits && gate.verdict == Verdict::Fail);
        let names: Vec<&str> = gates.map(|gate| gate.name.as_str()).collect();
        Some(format!("{} to hold again", names.join(", ")))
    }

    /// What the gates outside say that have not passed.
    fn open_questions(&self) -> Option<String> {
        let is_outside = |name: &str| {
            let mut gates = self.rollout.plan.gates_of(self.rollout.phase);
            gates.any(|gate| gate.name == name && gate.ask.is_outside())
        };
        let gates = self.judgement.iter().flat_map(|judgement| &judgement.gates);
        let open = gates.filter(|gate| !gate.dry_run && gate.verdict != Verdict::ShownSafe && is_outside(&gate.name));
        let words: Vec<String> = open.map(|gate| format!("{}: {}", gate.name, gate.detail)).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// The candidate's part of what was counted for both arms in all.
    fn figures_share(&self) -> Option<f64> {
        let tick = self.tick.as_ref()?;
        let total = tick.candidate.attempts + tick.control.attempts;
        (total > 0).then(|| tick.candidate.attempts as f64 / total as f64)
    }

    /// The largest parts of the candidate's errors.
    fn culprits(&self) -> Vec<&Culprit> {
        let of = |kind| self.figures.culprits.iter().filter(move |it| it.kind == kind).take(CULPRITS_SHOWN);
        of(CulpritKind::Endpoint).chain(of(CulpritKind::Route)).collect()
    }

    fn arm(&self, pool: &Name, side: usize) -> Value {
        let arm = &self.figures.arms[side];
        let BoundedQuantiles { p50, p95, p99 } = self.figures.latency[side];
        let [p50, p95, p99] = [p50, p95, p99].map(|bounded| bounded.map(|bounded| bounded.value));
        json!({
            "pool": pool,
            "requests": arm.attempts,
            "errors": arm.errors,
            "clientErrors": arm.client_errors,
            "disconnects": arm.disconnects,
            "requestsPerS": self.per_s[side],
            "inFlight": self.tick.as_ref().map(|tick| tick.in_flight[side]),
            "errorRatioSinceStart": ratio(arm.errors, arm.attempts),
            "cacheHitRatioSinceStart": ratio(arm.cache_hits, arm.cache_hits + arm.cache_misses),
            "sinceStart": { "p50Ms": p50, "p95Ms": p95, "p99Ms": p99 },
        })
    }

    fn phase(&self, index: usize, phase: &Phase) -> Value {
        let rollout = &self.rollout;
        let status = match index.cmp(&rollout.phase) {
            std::cmp::Ordering::Less => "passed",
            std::cmp::Ordering::Equal => match rollout.state {
                State::Pending => "pending",
                State::RollingOut => "running",
                State::Paused => "paused",
                State::Completed => "passed",
                State::RolledBack if !rollout.inner.begun => "pending",
                State::RolledBack if rollout.verdict == Verdict::Fail => "failed",
                State::RolledBack => "rolled_back",
            },
            std::cmp::Ordering::Greater => "pending",
        };
        json!({
            "name": phase.name,
            "percent": phase.share.percent(),
            "holdback": phase.holdback.percent(),
            "minDurationMs": phase.min_duration.as_millis() as u64,
            "maxDurationMs": phase.max_duration.as_millis() as u64,
            "cohort": phase.cohort,
            "status": status,
        })
    }
}

/// A moment as the API writes it.
pub fn rfc3339(at_ms: u64) -> String {
    let at = Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The plan with its words, for reports; without what may be secret.
pub(super) fn plan_json(plan: &RolloutPlan) -> Value {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    conceal(&mut value);
    value
}

/// Takes out the values of headers and variables, and of addresses what is no address.
fn conceal(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(conceal),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("headers" | "env", Value::Object(secrets)) => {
                        secrets.values_mut().for_each(|secret| *secret = "…".into());
                    }
                    ("url", Value::String(url)) => *url = address(url),
                    (_, value) => conceal(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An address without a name, a password and a query.
fn address(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, ""), |(address, _)| (address, "?…"));
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let sign = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{sign}{host}{path}{query}")
}

pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Phased => "phased",
        Strategy::Linear => "linear",
        Strategy::Immediate => "immediate",
        Strategy::BlueGreen => "blue_green",
    }
}

fn on_failure(policy: OnFailure) -> &'static str {
    match policy {
        OnFailure::Rollback => "rollback",
        OnFailure::Pause => "pause",
        OnFailure::Hold => "hold",
    }
}

fn on_inconclusive(policy: OnInconclusive) -> &'static str {
    match policy {
        OnInconclusive::Extend => "extend",
        OnInconclusive::Pause => "pause",
        OnInconclusive::Advance => "advance",
        OnInconclusive::Rollback => "rollback",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_plan_holds_no_values_of_headers_variables_and_queries() {
        let mut plan = json!({ "gates": [{ "ask": {
            "url": "https://me:hunter2@ci.test:8443/run/hunter?token=hunter2",
            "headers": { "authorization": "Bearer hunter2" },
            "env": { "TOKEN": "hunter2" },
        } }], "actions": [{ "act": { "url": "/smoke?key=hunter2" } }] });
        conceal(&mut plan);
        assert!(!plan.to_string().contains("hunter2"), "{plan}");
        assert_eq!(plan["gates"][0]["ask"]["url"], "https://ci.test:8443/run/hunter?…");
        assert_eq!(plan["gates"][0]["ask"]["headers"]["authorization"], "…");
        assert_eq!(plan["actions"][0]["act"]["url"], "/smoke?…");
    }
}
