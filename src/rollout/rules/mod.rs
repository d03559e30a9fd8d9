//! Plain rules: a number over a window against a threshold, looked at again and again. They mean exactly what such
//! thresholds mean elsewhere, and have the chance of a false alarm that comes with them; [`super::evidence`] has a
//! stated one.

mod number;
mod window;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::window::Window;
use super::tick::Tick;
use super::verdict::{GateVerdict, Verdict};
use crate::model::rollout::{Ask, Operator, PlainRule, RolloutPlan};
use crate::telemetry::histogram::Summary;

/// Every plain rule of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    rules: Vec<Watched>,
}

/// One rule, and what it has seen. The window begins anew after a restart; what was counted against it stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watched {
    name: String,
    dry_run: bool,
    rule: PlainRule,
    #[serde(skip)]
    window: Option<Window>,
    /// Looks in a row, and in all, at which it was violated.
    consecutive: u32,
    total: u32,
    /// How long the comparison has been true without a break.
    true_ms: u64,
    said: Option<(Verdict, String, Option<f64>, Option<f64>)>,
}

// === impl Rules ===

impl Rules {
    /// The rules of `plan`, with nothing seen.
    pub fn new(plan: &RolloutPlan) -> Self {
        let gates = plan.gates.iter().chain(plan.phases.iter().flat_map(|phase| &phase.gates));
        let watched = gates.filter_map(|gate| match &gate.ask {
            Ask::Plain(rule) => Some(Watched {
                name: gate.name.clone(),
                dry_run: gate.dry_run,
                rule: rule.clone(),
                window: None,
                consecutive: 0,
                total: 0,
                true_ms: 0,
                said: None,
            }),
            _ => None,
        });
        Self { rules: watched.collect() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Forgets what was seen in windows and in a row: another phase is another load.
    pub fn begin_phase(&mut self) {
        for watched in &mut self.rules {
            (watched.window, watched.consecutive, watched.true_ms, watched.said) = (None, 0, 0, None);
        }
    }

    /// Takes a tick and the latencies of candidate and control in it, and says what every rule says now. A tick in
    /// which traffic settles is not looked at.
    pub fn observe(&mut self, tick: &Tick, latency: [&Summary; 2]) -> Vec<GateVerdict> {
        if !tick.settling {
            self.rules.iter_mut().for_each(|watched| watched.add(tick, latency));
        }
        self.rules.iter().map(Watched::verdict).collect()
    }
}

// === impl Watched ===

impl Watched {
    fn add(&mut self, tick: &Tick, latency: [&Summary; 2]) {
        let metric = self.rule.metric;
        let window = self.window.get_or_insert_with(|| Window::new(self.rule.window, number::wants_latency(metric)));
        let Some(since_ms) = window.add(tick, latency) else { return };
        let sums = window.sums();
        let samples = number::samples(metric, &sums);
        let number = number::of(metric, &sums);
        let control = number::of_control(metric, &sums);
        let shown = |number: f64| format!("{} is {}", number::name(metric), number::say(metric, number));
        let sign = sign(self.rule.operator);
        let bound = number::say(metric, self.rule.threshold);
        let (word, detail) = match number {
            None => (Verdict::NoTraffic, format!("nothing to take {} of", number::name(metric))),
            Some(number) if samples < self.rule.min_samples => {
                let needed = self.rule.min_samples;
                (Verdict::Inconclusive, format!("{} of {needed} samples; {}", samples, shown(number)))
            }
            Some(number) => {
                let holds = compare(self.rule.operator, number, self.rule.threshold);
                self.true_ms = if holds { self.true_ms + since_ms } else { 0 };
                let long = Duration::from_millis(self.true_ms) >= self.rule.hold && holds;
                if self.rule.must {
                    self.criterion(holds, long, format!("{}, must be {sign} {bound}", shown(number)))
                } else {
                    self.limit(long, format!("{}, limit {sign} {bound}", shown(number)))
                }
            }
        };
        self.said = Some((word, detail, number, control));
    }

    /// What must hold, for long enough, before the phase is passed; that it does not is no failure.
    fn criterion(&mut self, holds: bool, long: bool, detail: String) -> (Verdict, String) {
        match (holds, long) {
            (_, true) => (Verdict::ShownSafe, detail),
            (true, false) => {
                let (held, wanted) = (self.true_ms / 1000, self.rule.hold.as_secs());
                (Verdict::Inconclusive, format!("{detail}; held for {held} of {wanted} s"))
            }
            (false, false) => (Verdict::Inconclusive, detail),
        }
    }

    /// What must not be.
    fn limit(&mut self, violated: bool, detail: String) -> (Verdict, String) {
        if violated {
            self.consecutive += 1;
            self.total += 1;
        } else {
            self.consecutive = 0;
        }
        let fails = self.consecutive >= self.rule.consecutive_failures
            || self.rule.total_failures.is_some_and(|total| self.total >= total);
        let counted = match (self.rule.consecutive_failures, self.rule.total_failures) {
            (1, None) => String::new(),
            (row, None) => format!("; {} of {row} looks in a row", self.consecutive),
            (row, Some(total)) => format!("; {} of {row} in a row, {} of {total} in all", self.consecutive, self.total),
        };
        match (fails, self.rule.warn_only) {
            (true, false) => (Verdict::Fail, format!("{detail}{counted}")),
            (true, true) => (Verdict::ShownSafe, format!("warning: {detail}{counted}")),
            (false, _) => (Verdict::ShownSafe, format!("{detail}{counted}")),
        }
    }

    fn verdict(&self) -> GateVerdict {
        let waiting = (Verdict::Inconclusive, "not looked at yet".to_owned(), None, None);
        let (verdict, detail, candidate, control) = self.said.clone().unwrap_or(waiting);
        GateVerdict {
            name: self.name.clone(),
            kind: "plain".into(),
            verdict,
            dry_run: self.dry_run,
            waits: false,
            e_value: None,
            limit: Some(self.rule.threshold),
            safe_e_value: None,
            safe_limit: None,
            bound: None,
            ratio: None,
            candidate: candidate.filter(|number| number.is_finite()),
            control: control.filter(|number| number.is_finite()),
            detail,
        }
    }
}

fn compare(operator: Operator, number: f64, threshold: f64) -> bool {
    match operator {
        Operator::GreaterThan => number > threshold,
        Operator::AtLeast => number >= threshold,
        Operator::LessThan => number < threshold,
        Operator::AtMost => number <= threshold,
        Operator::Equals => (number - threshold).abs() < 1e-9,
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::GreaterThan => ">",
        Operator::AtLeast => ">=",
        Operator::LessThan => "<",
        Operator::AtMost => "<=",
        Operator::Equals => "=",
    }
}

#[cfg(test)]
mod tests;
