//! A gate about caches: is the candidate's part of misses larger than the control's? The tests are those of errors,
//! with a miss as the bad event among the answers that say what their cache did.
//!
//! The ratio of misses is how many times as much the application has to answer itself, which is what a lost cache
//! costs. A cache that is cold says nothing of the version, so that the time after the candidate's first request does
//! not count.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gate::{Around, comparing, verdict};
use super::missing::{alone, unsaid};
use super::words;
use crate::model::rollout::{Ask, Gate};
use crate::rollout::evidence::dispersion::Dispersion;
use crate::rollout::evidence::guard::Below;
use crate::rollout::evidence::ratio::{Counted, Ratio};
use crate::rollout::tick::{Arm, Tick};
use crate::rollout::verdict::{GateVerdict, Verdict};

/// What such a gate has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cache {
    ratio: Ratio,
    below: Below,
    spread: Dispersion,
    /// Whether the candidate had a request.
    asked: bool,
    /// What is left of the time to warm up.
    cold_ms: u64,
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(max_ratio: f64, safe_rate: f64, warm_up: Duration, epoch_ms: u64) -> Self {
        Self {
            ratio: Ratio::new(max_ratio, epoch_ms),
            below: Below::new(safe_rate),
            spread: Dispersion::new(epoch_ms),
            asked: false,
            cold_ms: warm_up.as_millis() as u64,
        }
    }

    /// Time went by; it counts from the candidate's first request.
    pub(super) fn warm(&mut self, tick: &Tick) {
        if self.asked {
            self.cold_ms = self.cold_ms.saturating_sub(tick.elapsed_ms);
        }
        self.asked |= tick.candidate.attempts + tick.named.attempts > 0;
    }

    /// Adds a tick that is scored.
    pub(super) fn add(&mut self, tick: &Tick) {
        if self.cold_ms > 0 {
            return;
        }
        let said = |arm: &Arm| arm.cache_hits + arm.cache_misses;
        let (items, bad) =
            ([&tick.candidate, &tick.control].map(said), [tick.candidate.cache_misses, tick.control.cache_misses]);
        let total = items[0] + items[1];
        self.ratio.pass(tick.elapsed_ms);
        if total > 0 {
            self.ratio.add(&Counted { share: items[0] as f64 / total as f64, items, bad });
        }
        self.below.add(items[0], bad[0]);
        let [a, b] = &tick.halves;
        self.spread.add(tick.elapsed_ms, [said(a), said(b)], [a.cache_misses, b.cache_misses]);
    }

    /// What the gate says now; rates are those of misses.
    pub(super) fn verdict(&self, gate: &Gate, around: &Around<'_>) -> GateVerdict {
        let Ask::CacheHit { max_ratio, excludes, safe_rate, min_difference, min_events, waits, .. } = &gate.ask else {
            return verdict(gate, Verdict::Error, "not about caches".into());
        };
        let (beta, spread) = (around.policy.false_advance, self.spread.estimate());
        let (worse, safe) = (self.ratio.ln_worse(spread), self.ratio.ln_not_worse(*excludes, spread));
        let flawless = self.below.ln_e(spread);
        let ([items, _], [misses, _]) = self.ratio.counts();
        let [candidate, control] = self.ratio.rates();
        let fails = self.ratio.fails(around.alpha, spread, *min_events, *min_difference);
        let shown = safe.max(flawless) >= (1.0 / beta).ln();
        let bound = self.ratio.excluded(beta, spread);
        let hits = |misses: Option<f64>| words::rate(misses.map(|misses| 1.0 - misses));
        let rates = format!("hits {} against {}", hits(candidate), hits(control));
        let e = format!("E = {}, limit {}", words::e_value(worse), words::grouped((1.0 / around.alpha).round() as u64));
        let detail = match () {
            () if fails => {
                let by = words::how_many(self.ratio.estimate(), self.ratio.interval(around.alpha, spread));
                let chance = words::rate(Some(around.alpha));
                let then = if *waits { "; the rollout waits until it holds" } else { "" };
                format!("{e}: misses {by}, {rates}; a false alarm has a chance of at most {chance}{then}")
            }
            () if around.alone && !shown => alone((items > 0).then_some(&rates)),
            () if items == 0 => unsaid(around, self.cold_ms),
            () if shown && safe >= flawless => format!("{excludes} times the misses or more is excluded; {rates}; {e}"),
            () if shown => format!("{} misses or more is excluded; {rates}; {e}", words::rate(Some(*safe_rate))),
            () => {
                let bound = bound.map_or("no ratio yet".into(), |bound| format!("{}× or more", words::times(bound)));
                let items = words::grouped(items);
                format!(
                    "{items} answers, {misses} misses, exclude {bound}; {excludes}× or more must be; {rates}; {e} \
                     ({max_ratio}×)"
                )
            }
        };
        GateVerdict {
            waits: *waits,
            e_value: Some(words::finite(worse)),
            limit: Some(1.0 / around.alpha),
            safe_e_value: Some(words::finite(safe.max(flawless))),
            safe_limit: Some(1.0 / beta),
            bound,
            ratio: self.ratio.estimate(),
            candidate,
            control,
            ..verdict(gate, comparing(fails, shown, around), detail)
        }
    }
}
