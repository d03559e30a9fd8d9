//! One gate's state: what it has seen, and what it says now.

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::events::{counted, of};
use super::missing::{alone, unscored, untimed};
use super::{Asked, words};
use crate::model::rollout::{Ask, EvidencePolicy, Gate, QuantileWeight};
use crate::rollout::evidence::dispersion::Dispersion;
use crate::rollout::evidence::guard::{Below, Guard};
use crate::rollout::evidence::ln_sum_exp;
use crate::rollout::evidence::ratio::{Counted, Ratio};
use crate::rollout::tick::{Arm, Tick};
use crate::rollout::verdict::{GateVerdict, Outcome, Verdict};

/// A latency threshold that the runner counts `slow` against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Which quantile of the control it is.
    pub quantile: f64,
    /// Margin δ of the candidate, as a ratio.
    pub margin: f64,
    /// Margin d of the candidate, in ms.
    pub margin_ms: f64,
    /// The threshold of the candidate and of the control in µs, once frozen.
    pub above_us: Option<[u64; 2]>,
}

/// What a gate knows beside its own counts.
pub(super) struct Around<'a> {
    pub(super) policy: &'a EvidencePolicy,
    /// Chance of a false alarm that this gate may use.
    pub(super) alpha: f64,
    pub(super) errors: &'a Dispersion,
    /// Why the environment is degraded.
    pub(super) degraded: Option<&'a str>,
    /// Nothing can be compared: one of the two has everything.
    pub(super) alone: bool,
    /// Whether the candidate had no request for too long.
    pub(super) no_traffic: bool,
    /// What the candidate was asked so far, scored or not.
    pub(super) asked: Asked,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) gate: Gate,
    seen: Seen,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Seen {
    Ratio { ratio: Ratio, below: Below },
    Tail { tails: Vec<Tail> },
    Guard { guard: Guard },
    Cache { cache: Box<Cache> },
    Count { count: u64 },
    Serving { down_ms: u64 },
    Told { verdict: Box<GateVerdict> },
    Asked { outcome: Option<Outcome> },
}

/// One quantile level of a latency gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tail {
    weight: f64,
    quantile: f64,
    /// Index among the levels.
    level: usize,
    ratio: Ratio,
    below: Below,
    spread: Dispersion,
}

// === impl Level ===

impl Level {
    /// Freezes it at `us`, the control's quantile. `round` is the next border of the histogram at or above a duration.
    pub(super) fn freeze(&mut self, us: u64, round: impl Fn(u64) -> u64) {
        let candidate = us as f64 * (1.0 + self.margin) + self.margin_ms * 1000.0;
        self.above_us = Some([round(candidate.ceil() as u64), round(us)]);
    }
}

// === impl Seat ===

impl Seat {
    pub(super) fn new(gate: &Gate, policy: &EvidencePolicy, levels: &mut Vec<Level>) -> Self {
        let epoch_ms = policy.epoch.as_millis() as u64;
        let seen = match &gate.ask {
            Ask::ErrorRate { max_ratio, safe_rate, .. } => {
                Seen::Ratio { ratio: Ratio::new(*max_ratio, epoch_ms), below: Below::new(*safe_rate) }
            }
            Ask::Latency { quantiles, margin, margin_ms, excludes } => {
                let tail = |level: &QuantileWeight| {
                    let QuantileWeight { quantile, weight } = *level;
                    levels.push(Level { quantile, margin: *margin, margin_ms: *margin_ms, above_us: None });
                    Tail {
                        weight,
                        quantile,
                        level: levels.len() - 1,
                        ratio: Ratio::new(1.0, epoch_ms),
                        below: Below::new(excludes * (1.0 - quantile)),
                        spread: Dispersion::new(epoch_ms),
                    }
                };
                Seen::Tail { tails: quantiles.iter().map(tail).collect() }
            }
            Ask::Guard { max, .. } => Seen::Guard { guard: Guard::new(*max, epoch_ms) },
            Ask::ZeroTolerance { .. } => Seen::Count { count: 0 },
            Ask::CacheHit { max_ratio, safe_rate, warm_up, .. } => {
                Seen::Cache { cache: Box::new(Cache::new(*max_ratio, *safe_rate, *warm_up, epoch_ms)) }
            }
            Ask::Serving { .. } => Seen::Serving { down_ms: 0 },
            Ask::Plain(_) => {
                let waiting = verdict(gate, Verdict::Inconclusive, "not looked at yet".into());
                Seen::Told { verdict: Box::new(waiting) }
            }
            Ask::Http(_)
            | Ask::Command(_)
            | Ask::Suite { .. }
            | Ask::Prometheus(_)
            | Ask::Signoff { .. }
            | Ask::Approval { .. } => Seen::Asked { outcome: None },
        };
        Self { gate: gate.clone(), seen }
    }

    /// Adds a tick that is scored.
    pub(super) fn add(&mut self, tick: &Tick) {
        let candidate = &tick.candidate;
        match (&mut self.seen, &self.gate.ask) {
            (Seen::Ratio { ratio, below }, Ask::ErrorRate { event, .. }) => {
                ratio.pass(tick.elapsed_ms);
                ratio.add(&counted(tick, *event));
                let (items, bad) = of(candidate, *event, false);
                below.add(items, bad);
            }
            (Seen::Tail { tails }, _) => tails.iter_mut().for_each(|tail| tail.add(tick)),
            (Seen::Cache { cache }, _) => cache.add(tick),
            _ => {}
        }
    }

    /// Adds what counts in every tick, settling or not: these compare with nothing that a change of weights could
    /// distort, so what was sent there by name counts too, and who fails everything has no five seconds to do it in.
    pub(super) fn watch(&mut self, tick: &Tick) {
        let arms = [&tick.candidate, &tick.named];
        match (&mut self.seen, &self.gate.ask) {
            (Seen::Guard { guard }, Ask::Guard { event, .. }) => {
                guard.pass(tick.elapsed_ms);
                for (items, bad) in arms.map(|arm| of(arm, *event, false)) {
                    guard.add(items, bad);
                }
            }
            (Seen::Count { count }, Ask::ZeroTolerance { event }) => {
                *count += arms.iter().map(|arm| of(arm, *event, false).1).sum::<u64>();
            }
            (Seen::Cache { cache }, _) => cache.warm(tick),
            (Seen::Serving { down_ms }, _) => {
                *down_ms = if tick.serving { 0 } else { *down_ms + tick.elapsed_ms };
            }
            _ => {}
        }
    }

    /// The newest look of a plain rule.
    pub(super) fn tell(&mut self, told: GateVerdict) {
        if let Seen::Told { verdict } = &mut self.seen {
            **verdict = told;
        }
    }

    /// What came of asking.
    pub(super) fn asked(&mut self, newest: Option<Outcome>) {
        if let Seen::Asked { outcome } = &mut self.seen {
            *outcome = newest;
        }
    }

    /// What it says now.
    pub(super) fn verdict(&self, around: &Around<'_>) -> GateVerdict {
        let mut said = match (&self.seen, &self.gate.ask) {
            (Seen::Ratio { ratio, below }, Ask::ErrorRate { .. }) => self.of_ratio(ratio, below, around),
            (Seen::Tail { tails }, _) => self.of_tails(tails, around),
            (Seen::Guard { guard }, Ask::Guard { max, .. }) => self.of_guard(guard, *max, around),
            (Seen::Cache { cache }, _) => cache.verdict(&self.gate, around),
            (Seen::Count { count: 0 }, _) => verdict(&self.gate, Verdict::ShownSafe, "no event".into()),
            (Seen::Count { count }, _) => {
                verdict(&self.gate, Verdict::Fail, format!("{count} where none is tolerated"))
            }
            (Seen::Serving { down_ms }, Ask::Serving { within }) => {
                let dead = *down_ms > within.as_millis() as u64;
                let (word, detail) = match (dead, *down_ms) {
                    (true, ms) => {
                        (Verdict::Fail, format!("no endpoint of the candidate has served for {} s", ms / 1000))
                    }
                    (false, 0) => (Verdict::ShownSafe, "the candidate has an endpoint to serve with".into()),
                    (false, _) => (Verdict::Inconclusive, "no endpoint of the candidate serves right now".into()),
                };
                verdict(&self.gate, word, detail)
            }
            (Seen::Told { verdict }, _) => (**verdict).clone(),
            (Seen::Asked { outcome }, _) => self.of_outcome(outcome.as_ref()),
            _ => verdict(&self.gate, Verdict::Error, "the gate and what it saw do not fit".into()),
        };
        let compares =
            matches!(self.seen, Seen::Ratio { .. } | Seen::Tail { .. } | Seen::Cache { .. } | Seen::Serving { .. });
        if let (Some(why), Verdict::Fail, false) = (around.degraded, said.verdict, compares) {
            said.verdict = Verdict::EnvironmentDegraded;
            said.detail = format!("{}; but {why}", said.detail);
        }
        said.dry_run = self.gate.dry_run;
        said
    }

    fn of_ratio(&self, ratio: &Ratio, below: &Below, around: &Around<'_>) -> GateVerdict {
        let Ask::ErrorRate { max_ratio, excludes, safe_rate, min_difference, min_events, .. } = &self.gate.ask else {
            return verdict(&self.gate, Verdict::Error, "not a ratio".into());
        };
        let (beta, spread) = (around.policy.false_advance, around.errors.estimate());
        let (worse, safe) = (ratio.ln_worse(spread), ratio.ln_not_worse(*excludes, spread));
        let flawless = below.ln_e(spread);
        let ([items, _], [bad, _]) = ratio.counts();
        let [candidate, control] = ratio.rates();
        let fails = ratio.fails(around.alpha, spread, *min_events, *min_difference);
        let shown = safe.max(flawless) >= (1.0 / beta).ln();
        let bound = ratio.excluded(beta, spread);
        let rates = format!("{} against {}", words::rate(candidate), words::rate(control));
        let e = format!("E = {}, limit {}", words::e_value(worse), words::grouped((1.0 / around.alpha).round() as u64));
        let detail = match () {
            () if fails => {
                let by = words::how_many(ratio.estimate(), ratio.interval(around.alpha, spread));
                let chance = words::rate(Some(around.alpha));
                format!("{e}: {by}, {rates}; a false alarm has a chance of at most {chance}")
            }
            () if around.alone && !shown => alone((items > 0).then_some(&rates)),
            () if items == 0 => unscored(around),
            () if shown && safe >= flawless => format!("{excludes} times as bad or worse is excluded; {rates}; {e}"),
            () if shown => format!("{} or more is excluded; {rates}; {e}", words::rate(Some(*safe_rate))),
            () => {
                let bound = bound.map_or("no ratio yet".into(), |bound| format!("{}× or more", words::times(bound)));
                format!(
                    "{} requests, {bad} bad, exclude {bound}; {excludes}× or more must be; {rates}; {e} ({max_ratio}×)",
                    words::grouped(items)
                )
            }
        };
        let word = comparing(fails, shown, around);
        GateVerdict {
            e_value: Some(words::finite(worse)),
            limit: Some(1.0 / around.alpha),
            safe_e_value: Some(words::finite(safe.max(flawless))),
            safe_limit: Some(1.0 / beta),
            bound,
            ratio: ratio.estimate(),
            candidate,
            control,
            ..verdict(&self.gate, word, detail)
        }
    }

    fn of_tails(&self, tails: &[Tail], around: &Around<'_>) -> GateVerdict {
        let Ask::Latency { excludes, margin, margin_ms, .. } = &self.gate.ask else {
            return verdict(&self.gate, Verdict::Error, "not a latency".into());
        };
        let beta = around.policy.false_advance;
        let mixed = |of: &dyn Fn(&Tail) -> f64| ln_sum_exp(tails.iter().map(|tail| tail.weight.ln() + of(tail)));
        let worse = mixed(&|tail| tail.ratio.ln_worse(tail.spread.estimate()));
        let safe = mixed(&|tail| tail.ratio.ln_not_worse(*excludes, tail.spread.estimate()));
        let flawless = mixed(&|tail| tail.below.ln_e(tail.spread.estimate()));
        let limit = (1.0 / around.alpha).ln();
        let bursts = tails.iter().all(|tail| !tail.ratio.in_several_ticks());
        let (fails, shown) = (worse >= limit && !bursts, safe.max(flawless) >= (1.0 / beta).ln());
        let Some(first) = tails.last() else {
            return verdict(&self.gate, Verdict::Error, "no quantile".into());
        };
        let [candidate, control] = first.ratio.rates();
        let bound = first.ratio.excluded(beta, first.spread.estimate());
        let name = format!("p{}", (first.quantile * 1000.0).round() / 10.0);
        let tail = format!(
            "{} of its requests are beyond stable's {name} and {} % and {margin_ms} ms, {} of stable's beyond {name}",
            words::rate(candidate),
            (margin * 100.0).round(),
            words::rate(control),
        );
        let e = format!("E = {}, limit {}", words::e_value(worse), words::grouped((1.0 / around.alpha).round() as u64));
        let detail = match () {
            () if fails => {
                let chance = words::rate(Some(around.alpha));
                format!("{e}: {tail}; a false alarm has a chance of at most {chance}")
            }
            () if around.alone && !shown => alone(candidate.is_some().then_some(&tail)),
            () if candidate.is_none() => untimed(around),
            () if shown => format!("a tail {excludes} times as heavy or more is excluded; {tail}; {e}"),
            () => format!("a tail {excludes} times as heavy is not excluded yet; {tail}; {e}"),
        };
        GateVerdict {
            e_value: Some(words::finite(worse)),
            limit: Some(1.0 / around.alpha),
            safe_e_value: Some(words::finite(safe.max(flawless))),
            safe_limit: Some(1.0 / beta),
            bound,
            ratio: first.ratio.estimate(),
            candidate,
            control,
            ..verdict(&self.gate, comparing(fails, shown, around), detail)
        }
    }

    fn of_guard(&self, guard: &Guard, max: f64, around: &Around<'_>) -> GateVerdict {
        let worse = guard.ln_e(around.errors.estimate());
        let fails = worse >= (1.0 / around.alpha).ln();
        let (items, bad) = guard.counts();
        let rate = words::rate(guard.rate());
        let (items, max) = (words::grouped(items), words::rate(Some(max)));
        let detail = if fails {
            let chance = words::rate(Some(around.alpha));
            format!("{rate} is above {max}: {bad} of {items}; a false alarm has a chance of at most {chance}")
        } else {
            format!("{rate} is not shown to be above {max}: {bad} of {items}")
        };
        GateVerdict {
            e_value: Some(words::finite(worse)),
            limit: Some(1.0 / around.alpha),
            candidate: guard.rate(),
            ..verdict(&self.gate, if fails { Verdict::Fail } else { Verdict::ShownSafe }, detail)
        }
    }

    fn of_outcome(&self, outcome: Option<&Outcome>) -> GateVerdict {
        let (word, detail, value) = match outcome {
            None => (Verdict::Inconclusive, "not asked yet".to_owned(), None),
            Some(Outcome::Waiting { detail }) => (Verdict::Inconclusive, detail.clone(), None),
            Some(Outcome::Passed { detail, value }) => (Verdict::ShownSafe, detail.clone(), *value),
            Some(Outcome::Failed { detail, value }) => (Verdict::Fail, detail.clone(), *value),
            Some(Outcome::Unavailable { detail }) => (Verdict::Error, detail.clone(), None),
        };
        GateVerdict { candidate: value, ..verdict(&self.gate, word, detail) }
    }
}

// === impl Tail ===

impl Tail {
    fn add(&mut self, tick: &Tick) {
        let items = [tick.candidate.timed, tick.control.timed];
        let total = items[0] + items[1];
        let slow = |arm: &Arm| arm.slow.get(self.level).copied().unwrap_or(0);
        let bad = [slow(&tick.candidate), slow(&tick.control)];
        self.ratio.pass(tick.elapsed_ms);
        if total > 0 {
            self.ratio.add(&Counted { share: items[0] as f64 / total as f64, items, bad });
        }
        self.below.add(items[0], bad[0]);
        let [a, b] = &tick.halves;
        self.spread.add(tick.elapsed_ms, [a.timed, b.timed], [slow(a), slow(b)]);
    }
}

/// What a gate says that compares.
pub(super) fn comparing(fails: bool, shown: bool, around: &Around<'_>) -> Verdict {
    match () {
        () if fails => Verdict::Fail,
        () if shown && !around.no_traffic => Verdict::ShownSafe,
        () if around.alone => Verdict::NotCompared,
        () if around.no_traffic => Verdict::NoTraffic,
        () => Verdict::Inconclusive,
    }
}

/// A verdict without numbers.
pub(super) fn verdict(gate: &Gate, verdict: Verdict, detail: String) -> GateVerdict {
    GateVerdict {
        name: gate.name.clone(),
        kind: gate.ask.kind().into(),
        verdict,
        dry_run: gate.dry_run,
        waits: false,
        e_value: None,
        limit: None,
        safe_e_value: None,
        safe_limit: None,
        bound: None,
        ratio: None,
        candidate: None,
        control: None,
        detail,
    }
}
