//! Is a rate above a constant π?
//!
//! `((π₁/π)^x · ((1−π₁)/(1−π))^(n−x))`, mixed over π₁ above π, is an e-process for "at most π in every tick", however
//! the rate moves below it.

use serde::{Deserialize, Serialize};

use super::epochs::Epochs;

/// Alternatives: π and what lies between it and 1, by parts of the way.
const PARTS: [f64; 6] = [0.05, 0.1, 0.2, 0.4, 0.7, 0.95];

/// The test of one rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    max: f64,
    above: Epochs<6>,
    items: u64,
    bad: u64,
}

// === impl Guard ===

impl Guard {
    /// A test against the rate `max`, `0.0..1.0`; 0 is taken as one in a million, so that a first event counts much.
    pub fn new(max: f64, epoch_ms: u64) -> Self {
        Self { max: max.clamp(1e-6, 1.0 - 1e-6), above: Epochs::new(epoch_ms), items: 0, bad: 0 }
    }

    /// Time went by.
    pub fn pass(&mut self, elapsed_ms: u64) {
        self.above.pass(elapsed_ms);
    }

    /// Adds a tick.
    pub fn add(&mut self, items: u64, bad: u64) {
        let bad = bad.min(items);
        if items == 0 {
            return;
        }
        self.items += items;
        self.bad += bad;
        let (good, bad) = ((items - bad) as f64, bad as f64);
        self.above.add(&PARTS.map(|part| {
            let rate = self.max + part * (1.0 - self.max);
            bad * (rate / self.max).ln() + good * ((1.0 - rate) / (1.0 - self.max)).ln()
        }));
    }

    /// `ln E` against "at most `max`".
    pub fn ln_e(&self, dispersion: f64) -> f64 {
        self.above.ln_e(&[1.0 / PARTS.len() as f64; PARTS.len()], dispersion)
    }

    /// The rate since the beginning; none without items.
    pub fn rate(&self) -> Option<f64> {
        (self.items > 0).then(|| self.bad as f64 / self.items as f64)
    }

    /// Items and bad ones since the beginning.
    pub fn counts(&self) -> (u64, u64) {
        (self.items, self.bad)
    }
}

/// Alternatives below π for [`Below`], as parts of it, and their weights: mostly "next to nothing", which is what a
/// healthy service shows.
const LESS: [(f64, f64); 4] = [(0.001, 0.7), (0.1, 0.1), (0.3, 0.1), (0.6, 0.1)];

/// The other way round: is a rate shown to be below π? Without a single bad event, ln(1/β)/π items and a third more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Below {
    max: f64,
    sums: [f64; 4],
}

// === impl Below ===

impl Below {
    /// A test against "at least `max`".
    pub fn new(max: f64) -> Self {
        Self { max: max.clamp(1e-6, 1.0 - 1e-6), sums: [0.0; 4] }
    }

    /// Adds a tick.
    pub fn add(&mut self, items: u64, bad: u64) {
        let bad = bad.min(items);
        let (good, bad) = ((items - bad) as f64, bad as f64);
        for (sum, (part, _)) in self.sums.iter_mut().zip(LESS) {
            *sum += bad * part.ln() + good * ((1.0 - part * self.max) / (1.0 - self.max)).ln();
        }
    }

    /// `ln E` against "at least `max`".
    pub fn ln_e(&self, dispersion: f64) -> f64 {
        let temper = 1.0 / dispersion.max(1.0);
        super::ln_sum_exp(self.sums.iter().zip(LESS).map(|(sum, (_, weight))| weight.ln() + temper * sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_well_above_is_found_and_one_at_the_border_is_not() {
        let mut broken = Guard::new(0.2, u64::MAX);
        (0..20).for_each(|_| broken.add(5, 4));
        assert!(broken.ln_e(1.0) > 1000_f64.ln());
        let mut border = Guard::new(0.2, u64::MAX);
        (0..1000).for_each(|_| border.add(10, 2));
        assert!(border.ln_e(1.0) < 0.0);
    }

    #[test]
    fn a_flawless_candidate_is_shown_below_one_percent_after_a_few_hundred_requests() {
        let mut below = Below::new(0.01);
        let needed = (1..1000).find(|_| {
            below.add(1, 0);
            below.ln_e(1.0) >= 20_f64.ln()
        });
        assert!((300..360).contains(&needed.expect("it is shown")), "{needed:?}");
        let mut border = Below::new(0.01);
        (0..1000).for_each(|_| border.add(100, 1));
        assert!(border.ln_e(1.0) < 0.0);
    }

    #[test]
    fn nothing_counted_says_nothing() {
        let mut guard = Guard::new(0.0, 1);
        guard.add(0, 0);
        assert!(guard.ln_e(1.0).abs() < 1e-12 && guard.rate().is_none());
    }
}
