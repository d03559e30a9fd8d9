//! The judge of a rollout: counts in, a verdict out. Pure; its state can be written down and read back bit by bit.
//!
//! It owns the evidence of every gate, carries it over phases, and puts the gates of the phase together so that the
//! worst wins. Where a whole rollout may be wrongly rolled back with a chance of α, its error gates share a half of it,
//! its latency gates two fifths, and guards the rest: the chances add up to α whatever depends on what.
//!
//! What is outside (`gate` of kind http, command, …) and plain rules are looked at by others; here only their newest
//! words are kept.

mod cache;
mod environment;
mod events;
mod gate;
mod missing;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::environment::Environment;
pub use self::gate::Level;
use self::gate::{Around, Seat};
use super::evidence::dispersion::Dispersion;
use super::evidence::mismatch::Mismatch;
use super::tick::{Arm, LEVELS_MAX, Tick};
use super::verdict::{GateVerdict, Judgement, Outcome, Verdict};
use crate::model::rollout::{Ask, Event, EvidencePolicy, Gate, OnProviderError, RolloutPlan};

/// Name of the guard that is always on.
pub const GUARD: &str = "guard";

/// Name of the gate that is always on: the candidate has something to serve with.
pub const SERVING: &str = "serving";

/// Parts of α for gates of errors, of latency, and for everything else.
const PARTS: [f64; 3] = [0.5, 0.4, 0.1];

/// Chance at which a split that is as intended is called mismatched.
const MISMATCH_ALPHA: f64 = 0.001;

/// Time without an endpoint after which the candidate has failed, unless the plan says another.
const DOWN_MS: u64 = 5_000;

/// Time without an endpoint after which the control is bad: longer than an ejection that is taken back at once.
const CONTROL_DOWN_MS: u64 = 2_000;

/// The judge of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    policy: EvidencePolicy,
    provider_error_holds: bool,
    seats: Vec<Seat>,
    /// Which seats sit in each phase.
    phases: Vec<Vec<usize>>,
    phase: usize,
    levels: Vec<Level>,
    errors: Dispersion,
    split: Mismatch,
    environment: Environment,
    /// Requests of the candidate in this phase, and time since the last one.
    phase_attempts: u64,
    quiet_ms: u64,
    alone: bool,
    /// What is wrong with the control while it has no endpoint to serve with, and since when.
    #[serde(default)]
    control_down: Option<String>,
    #[serde(default)]
    control_down_ms: u64,
    /// Requests of the candidate since the rollout began.
    #[serde(default)]
    asked: Asked,
}

/// Requests of the candidate, whether they were scored or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    /// Those that the weights sent there.
    placed: u64,
    /// Those that something else sent there.
    named: u64,
}

/// What the gates of a phase say together.
struct Whole {
    verdict: Verdict,
    reason: String,
    /// Whether a failure may wait for the plan's delay.
    may_wait: bool,
    /// Whether it only keeps the rollout where it is.
    only_waits: bool,
}

// === impl Whole ===

impl Whole {
    fn of(verdict: Verdict, reason: String) -> Self {
        Self { verdict, reason, may_wait: false, only_waits: false }
    }
}

// === impl Judge ===

impl Judge {
    /// A judge that has seen nothing.
    pub fn new(plan: &RolloutPlan) -> Self {
        let policy = plan.evidence.clone();
        let epoch_ms = policy.epoch.as_millis() as u64;
        let mut levels = Vec::new();
        let mut seats: Vec<Seat> = Vec::new();
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        let always = always(plan);
        let mut phases = Vec::new();
        for phase in 0..plan.phases.len().max(1) {
            let mut sit = Vec::new();
            for gate in plan.gates_of(phase).chain(&always) {
                let at = *index.entry(gate.name.clone()).or_insert_with(|| {
                    seats.push(Seat::new(gate, &policy, &mut levels));
                    seats.len() - 1
                });
                sit.push(at);
            }
            phases.push(sit);
        }
        levels.truncate(LEVELS_MAX);
        Self {
            provider_error_holds: plan.on_provider_error == OnProviderError::Hold,
            errors: Dispersion::new(epoch_ms),
            environment: Environment::new(policy.guard, policy.degraded),
            policy,
            seats,
            phases,
            phase: 0,
            levels,
            split: Mismatch::default(),
            phase_attempts: 0,
            quiet_ms: 0,
            alone: false,
            control_down: None,
            control_down_ms: 0,
            asked: Asked::default(),
        }
    }

    /// The latency thresholds that the runner counts [`Arm::slow`] against, by index.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Begins phase `index`. `quantile_us` is the control's latency at a quantile from the time before, if it had any
    /// requests; `round` the next border of the histogram at or above a duration in µs. Evidence is carried on.
    pub fn begin_phase(&mut self, index: usize, quantile_us: impl Fn(f64) -> Option<u64>, round: impl Fn(u64) -> u64) {
        self.phase = index.min(self.phases.len().saturating_sub(1));
        (self.phase_attempts, self.quiet_ms) = (0, 0);
        self.freeze(quantile_us, round);
    }

    /// Freezes the thresholds: all of them, from past data only.
    pub fn freeze(&mut self, quantile_us: impl Fn(f64) -> Option<u64>, round: impl Fn(u64) -> u64) {
        for level in &mut self.levels {
            if let Some(us) = quantile_us(level.quantile) {
                level.freeze(us, &round);
            }
        }
    }

    /// Whether a threshold waits for data of the control.
    pub fn wants_levels(&self) -> bool {
        self.levels.iter().any(|level| level.above_us.is_none())
    }

    /// The newest outcome of a gate that is asked outside; none when it is to be asked anew.
    pub fn asked(&mut self, gate: &str, outcome: Option<Outcome>) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.gate.name == gate) {
            seat.asked(outcome);
        }
    }

    /// The newest look of plain rules, by gate name.
    pub fn told(&mut self, looks: Vec<GateVerdict>) {
        for look in looks {
            if let Some(seat) = self.seats.iter_mut().find(|seat| seat.gate.name == look.name) {
                seat.tell(look);
            }
        }
    }

    /// Takes a tick and says what the gates of the phase say now. While traffic settles, a tick is not scored.
    pub fn observe(&mut self, tick: &Tick) -> Judgement {
        let seen = tick.candidate.attempts + tick.named.attempts;
        self.phase_attempts += seen;
        self.quiet_ms = if seen > 0 { 0 } else { self.quiet_ms + tick.elapsed_ms };
        self.alone = !(1e-9..1.0 - 1e-9).contains(&tick.share);
        self.asked.placed += tick.candidate.attempts;
        self.asked.named += tick.named.attempts;
        self.control_down.clone_from(&tick.control_down);
        self.control_down_ms = if tick.control_down.is_some() { self.control_down_ms + tick.elapsed_ms } else { 0 };
        self.environment.add(tick.elapsed_ms, &tick.control);
        self.seats.iter_mut().for_each(|seat| seat.watch(tick));
        if !tick.settling {
            self.score(tick);
        }
        self.judgement()
    }

    fn score(&mut self, tick: &Tick) {
        let [a, b] = &tick.halves;
        let bad = |arm: &Arm| if tick.by_unit { arm.first_errors } else { arm.errors };
        self.errors.add(tick.elapsed_ms, [a.attempts, b.attempts], [bad(a), bad(b)]);
        let placed = |arm: &Arm| if tick.by_unit { arm.units } else { arm.attempts };
        // That a pool without endpoints gets less than its share is no news of the split.
        if tick.control_down.is_none() {
            self.split.add(tick.share, [placed(&tick.candidate), placed(&tick.control)]);
        }
        for seat in &mut self.seats {
            seat.add(tick);
        }
    }

    /// What the gates say now.
    pub fn judgement(&self) -> Judgement {
        let degraded = self.degraded();
        let quiet = self.quiet_ms >= self.policy.no_traffic.as_millis() as u64 || self.phase_attempts == 0;
        let no_traffic = quiet && !self.alone;
        let sit = self.phases.get(self.phase).map(Vec::as_slice).unwrap_or_default();
        let classes = sit.iter().fold([0_u32; 3], |mut counts, &index| {
            let gate = &self.seats[index].gate;
            counts[class(gate)] += u32::from(draws(gate));
            counts
        });
        let gates: Vec<GateVerdict> = sit
            .iter()
            .map(|&index| {
                let seat = &self.seats[index];
                let class = class(&seat.gate);
                seat.verdict(&Around {
                    policy: &self.policy,
                    alpha: self.policy.false_rollback * PARTS[class] / f64::from(classes[class].max(1)),
                    errors: &self.errors,
                    degraded: degraded.as_deref(),
                    alone: self.alone,
                    no_traffic,
                    asked: self.asked,
                })
            })
            .collect();
        let mismatch = self.split.ln_e();
        let mut whole = self.worst(&gates);
        if whole.verdict < Verdict::EnvironmentDegraded {
            if let Some(why) = degraded {
                whole = Whole::of(Verdict::EnvironmentDegraded, why);
            } else if mismatch >= (1.0 / MISMATCH_ALPHA).ln() {
                let why = "requests are not split as intended: a cache in front, clients that drop the cookie, or \
                           ejected endpoints make the pools incomparable";
                whole = Whole::of(Verdict::EnvironmentDegraded, why.into());
            }
        }
        let Whole { verdict, reason, may_wait, only_waits } = whole;
        Judgement {
            bound: gates.iter().filter_map(|gate| gate.bound).reduce(f64::max),
            verdict,
            gates,
            reason,
            may_wait,
            only_waits,
            self_test: Some(words::finite(self.errors.ln_self_test())),
            sample_ratio: Some(words::finite(mismatch)),
        }
    }

    /// Why nothing can be said about the candidate; the plainest cause first.
    fn degraded(&self) -> Option<String> {
        let failing = self.environment.degraded(self.errors.estimate());
        let down = self.control_down.as_ref().filter(|_| failing.is_some() || self.control_down_ms >= CONTROL_DOWN_MS);
        down.map(|what| format!("nothing serves in {what}")).or(failing)
    }

    /// The worst of the gates that count.
    fn worst(&self, gates: &[GateVerdict]) -> Whole {
        let counts =
            |gate: &&GateVerdict| !gate.dry_run && (gate.verdict != Verdict::Error || self.provider_error_holds);
        let compared = |gate: &&GateVerdict| gate.verdict != Verdict::NotCompared;
        let counted: Vec<&GateVerdict> = gates.iter().filter(counts).filter(compared).collect();
        let Some(worst) = counted.iter().map(|gate| gate.verdict).max() else {
            return Whole::of(Verdict::ShownSafe, "no gate counts".into());
        };
        let of_it: Vec<&GateVerdict> = counted.into_iter().filter(|gate| gate.verdict == worst).collect();
        // A failure that only keeps the rollout where it is says nothing beside one that acts.
        let acts = |gate: &&GateVerdict| !gate.waits;
        let only_waits = worst == Verdict::Fail && !of_it.iter().any(acts);
        let may_wait = worst == Verdict::Fail && of_it.iter().copied().filter(acts).all(|gate| gate.kind == "plain");
        let reason = match worst {
            Verdict::ShownSafe if gates.iter().filter(counts).all(|gate| compared(&gate)) => "every gate holds".into(),
            Verdict::ShownSafe => "every gate that can be compared holds".into(),
            _ => of_it.iter().map(|gate| format!("{}: {}", gate.name, gate.detail)).collect::<Vec<_>>().join("; "),
        };
        Whole { verdict: worst, reason, may_wait: may_wait && !only_waits, only_waits }
    }
}

/// The part of α that a gate draws on.
fn class(gate: &Gate) -> usize {
    match &gate.ask {
        Ask::ErrorRate { .. } => 0,
        Ask::Latency { .. } => 1,
        _ => 2,
    }
}

/// Whether it is evidence, which has a chance of a false alarm.
fn draws(gate: &Gate) -> bool {
    matches!(gate.ask, Ask::ErrorRate { .. } | Ask::Latency { .. } | Ask::Guard { .. } | Ask::CacheHit { .. })
}

/// The gates that every plan has, unless it says them itself.
fn always(plan: &RolloutPlan) -> Vec<Gate> {
    let everywhere = || plan.gates.iter();
    let guarded = everywhere().any(|gate| matches!(gate.ask, Ask::Guard { event: Event::Error, .. }));
    let serves = everywhere().any(|gate| matches!(gate.ask, Ask::Serving { .. }));
    let guard = Ask::Guard { event: Event::Error, max: plan.evidence.guard };
    let serving = Ask::Serving { within: std::time::Duration::from_millis(DOWN_MS) };
    [(guarded, GUARD, guard), (serves, SERVING, serving)]
        .into_iter()
        .filter(|(said, ..)| !said)
        .map(|(_, name, ask)| Gate { name: name.into(), dry_run: false, ask })
        .collect()
}

#[cfg(test)]
mod tests;
