//! How much wilder than chance the counts are, measured on two halves of stable that differ in nothing.
//!
//! If bad events come in clusters (one client retries, one connection breaks), counts vary more than a binomial and a
//! test that does not know it sees differences where there are none. Both halves of stable run the same version, so
//! whatever differs between them more than chance allows is that: D is the variance seen over the variance expected,
//! over blocks of one, ten, a hundred and a thousand ticks, since clusters last.

use serde::{Deserialize, Serialize};

use super::ratio::{Counted, Ratio};

/// Ticks in a block, by scale.
const BLOCKS: [u32; 4] = [1, 10, 100, 1000];

/// Blocks below which a scale says nothing: with fewer, D varies by more than half its value.
const BLOCKS_MIN: u32 = 8;

/// D is never taken to be larger: beyond it nothing could be shown by any amount of evidence.
pub const DISPERSION_MAX: f64 = 50.0;

/// D of one kind of event, and the A/A monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    scales: [Scale; 4],
    same: [Ratio; 2],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    ticks: u32,
    blocks: u32,
    /// Σ(x − mq) and Σ mq(1−q) of the block under way.
    deviation: f64,
    variance: f64,
    /// Σ of squares and of variances over the blocks.
    seen: f64,
    expected: f64,
}

// === impl Dispersion ===

impl Dispersion {
    /// Nothing measured yet.
    pub fn new(epoch_ms: u64) -> Self {
        Self { scales: Default::default(), same: [Ratio::new(1.0, epoch_ms), Ratio::new(1.0, epoch_ms)] }
    }

    /// Adds a tick of the two halves: items and bad ones of each, and how long it was.
    pub fn add(&mut self, elapsed_ms: u64, items: [u64; 2], bad: [u64; 2]) {
        let total = items[0] + items[1];
        self.same.iter_mut().for_each(|test| test.pass(elapsed_ms));
        if total == 0 {
            return;
        }
        let q = items[0] as f64 / total as f64;
        let m = (bad[0] + bad[1]) as f64;
        for (scale, ticks) in self.scales.iter_mut().zip(BLOCKS) {
            scale.add(bad[0] as f64 - m * q, m * q * (1.0 - q), ticks);
        }
        self.same[0].add(&Counted { share: q, items, bad });
        self.same[1].add(&Counted { share: 1.0 - q, items: [items[1], items[0]], bad: [bad[1], bad[0]] });
    }

    /// D, 1 or more. An estimate within what chance explains counts as 1.
    pub fn estimate(&self) -> f64 {
        let of = |scale: &Scale| {
            if scale.blocks < BLOCKS_MIN || scale.expected <= 0.0 {
                return 1.0;
            }
            let ratio = scale.seen / scale.expected;
            // A sum of B squares varies by √(2/B) of itself.
            let chance = 1.0 + 2.0 * (2.0 / f64::from(scale.blocks)).sqrt();
            if ratio > chance { ratio } else { 1.0 }
        };
        self.scales.iter().map(of).fold(1.0, f64::max).min(DISPERSION_MAX)
    }

    /// `ln E` against "both halves are alike", either way round, tempered like the real test: what it shows here, the
    /// real test would show for a candidate that is no different.
    pub fn ln_self_test(&self) -> f64 {
        let dispersion = self.estimate();
        let terms = self.same.iter().map(|test| test.ln_worse(dispersion) - 2_f64.ln());
        super::ln_sum_exp(terms)
    }
}

// === impl Scale ===

impl Scale {
    fn add(&mut self, deviation: f64, variance: f64, ticks: u32) {
        self.deviation += deviation;
        self.variance += variance;
        self.ticks += 1;
        if self.ticks < ticks {
            return;
        }
        if self.variance > 0.0 {
            self.seen += self.deviation * self.deviation;
            self.expected += self.variance;
            self.blocks += 1;
        }
        (self.ticks, self.deviation, self.variance) = (0, 0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence of coins; no dice in a test of arithmetic.
    fn coin(state: &mut u64) -> bool {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 63 == 1
    }

    #[test]
    fn events_that_fall_one_by_one_have_a_dispersion_of_one() {
        let (mut measured, mut state) = (Dispersion::new(u64::MAX), 1);
        for _ in 0..3000 {
            let bad = if coin(&mut state) { [1, 0] } else { [0, 1] };
            measured.add(1000, [50, 50], bad);
        }
        assert!(measured.estimate() < 1.3, "{}", measured.estimate());
        assert!(measured.ln_self_test() < 100_f64.ln());
    }

    #[test]
    fn events_that_come_twenty_at_a_time_have_one_of_about_twenty() {
        let (mut measured, mut state) = (Dispersion::new(u64::MAX), 7);
        for _ in 0..3000 {
            let bad = if coin(&mut state) { [20, 0] } else { [0, 20] };
            measured.add(1000, [50, 50], bad);
        }
        assert!((15.0..30.0).contains(&measured.estimate()), "{}", measured.estimate());
        assert!(measured.ln_self_test() < 100_f64.ln());
    }

    #[test]
    fn clusters_that_last_for_many_ticks_are_seen_on_a_longer_scale() {
        let (mut measured, mut state) = (Dispersion::new(u64::MAX), 3);
        for _ in 0..300 {
            let bad = if coin(&mut state) { [1, 0] } else { [0, 1] };
            (0..10).for_each(|_| measured.add(1000, [50, 50], bad));
        }
        assert!(measured.estimate() > 6.0, "{}", measured.estimate());
    }
}
