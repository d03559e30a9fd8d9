//! Is the control itself bad? Then nothing can be said about the candidate, and nothing is rolled back.

use serde::{Deserialize, Serialize};

use crate::rollout::tick::Arm;

/// Slots of the window, and their length in ms: 30 s in all.
const SLOTS: usize = 10;

/// See [`SLOTS`].
const SLOT_MS: u64 = 3_000;

/// Attempts in the window below which nothing is said.
const ATTEMPTS_MIN: u64 = 20;

/// Attempts before the window from which on the control's own past is a measure.
const PAST_MIN: u64 = 500;

/// A rise is only one if it is at least this much, as a ratio of attempts: twice nearly nothing is nearly nothing.
const RISE_MIN: f64 = 0.02;

/// The control's attempts and errors, lately and before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Environment {
    guard: f64,
    times: f64,
    slots: Vec<[u64; 2]>,
    slot_ms: u64,
    past: [u64; 2],
}

// === impl Environment ===

impl Environment {
    /// Bad from the rate `guard` on, or from `times` its own past.
    pub(super) fn new(guard: f64, times: f64) -> Self {
        Self { guard, times, slots: vec![[0, 0]], slot_ms: 0, past: [0, 0] }
    }

    /// Adds a tick of the control.
    pub(super) fn add(&mut self, elapsed_ms: u64, control: &Arm) {
        self.slot_ms += elapsed_ms;
        if self.slot_ms >= SLOT_MS {
            self.slot_ms = 0;
            let bad = self.degraded(1.0).is_some();
            self.slots.push([0, 0]);
            if self.slots.len() > SLOTS {
                let gone = self.slots.remove(0);
                // What was bad does not become the measure.
                if !bad {
                    self.past.iter_mut().zip(gone).for_each(|(sum, count)| *sum += count);
                }
            }
        }
        if let Some(slot) = self.slots.last_mut() {
            slot[0] += control.attempts;
            slot[1] += control.errors;
        }
    }

    /// Why it is bad; none when it is well. `dispersion` widens what chance explains.
    pub(super) fn degraded(&self, dispersion: f64) -> Option<String> {
        let [attempts, errors] = self.slots.iter().fold([0, 0], |sum, slot| [sum[0] + slot[0], sum[1] + slot[1]]);
        if attempts < ATTEMPTS_MIN {
            return None;
        }
        let rate = errors as f64 / attempts as f64;
        // Two deviations above the guard: five failures of the first twenty are chance where a few users fail often.
        let allowed = self.guard * attempts as f64;
        let chance = 2.0 * (dispersion.max(1.0) * allowed * (1.0 - self.guard)).sqrt();
        if errors as f64 > allowed + chance {
            let (rate, guard) = (100.0 * rate, 100.0 * self.guard);
            return Some(format!("{rate:.1} % of stable's own requests failed lately, more than {guard:.0} %"));
        }
        let [before, before_errors] = self.past;
        if before < PAST_MIN {
            return None;
        }
        let past = before_errors as f64 / before as f64;
        let expected = past * attempts as f64;
        // Five standard deviations: looked at every few seconds for days, chance alone stays below.
        let chance = expected + 5.0 * (dispersion.max(1.0) * expected.max(1.0)).sqrt();
        let risen = rate > self.times * past && rate - past >= RISE_MIN && errors as f64 > chance;
        risen.then(|| {
            let (rate, past) = (100.0 * rate, 100.0 * past);
            format!("{rate:.1} % of stable's own requests failed lately, {past:.2} % did before")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(environment: &mut Environment, seconds: u64, attempts: u64, errors: u64) {
        let arm = Arm { attempts, errors, ..Arm::default() };
        (0..seconds).for_each(|_| environment.add(1000, &arm));
    }

    #[test]
    fn a_few_failures_among_the_first_requests_are_chance() {
        let mut environment = Environment::new(0.2, 2.0);
        run(&mut environment, 1, 20, 7);
        assert_eq!(environment.degraded(1.0), None);
        run(&mut environment, 1, 1, 1);
        assert!(environment.degraded(1.0).expect("bad").contains("more than 20 %"));
        let mut environment = Environment::new(0.2, 2.0);
        run(&mut environment, 1, 20, 11);
        assert_eq!(environment.degraded(4.0), None, "failures that come in clusters prove less");
    }

    #[test]
    fn an_outage_of_stable_is_seen_and_its_end_too() {
        let mut environment = Environment::new(0.2, 2.0);
        run(&mut environment, 100, 100, 0);
        assert_eq!(environment.degraded(1.0), None);
        run(&mut environment, 10, 100, 100);
        assert!(environment.degraded(1.0).expect("bad").contains("more than 20 %"));
        run(&mut environment, 40, 100, 0);
        assert_eq!(environment.degraded(1.0), None);
    }

    #[test]
    fn twice_its_own_past_is_bad_only_when_it_is_much() {
        let mut environment = Environment::new(0.2, 2.0);
        run(&mut environment, 100, 100, 2);
        run(&mut environment, 30, 100, 3);
        assert_eq!(environment.degraded(1.0), None);
        run(&mut environment, 30, 100, 9);
        assert!(environment.degraded(1.0).expect("bad").contains("did before"));
    }
}
