//! Restarts of a test, so that what begins late is found soon.
//!
//! A likelihood ratio that watched a healthy candidate for an hour has drifted far down and would need as long to come
//! back. So another copy of the test starts every epoch; copy k has the weight 1/(k(k+1)), which sum to 1, and counts
//! as 1 until it starts. The mixture is an e-process again (Shin, Ramdas and Rinaldo, arXiv 2203.03532).

use serde::{Deserialize, Serialize};

use super::ln_sum_exp;

/// Most copies; at five minutes an epoch they reach over eight hours. Later on the newest goes on.
pub const EPOCHS_MAX: usize = 100;

/// Copies of a test with `K` alternatives each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epochs<const K: usize> {
    /// Length of an epoch in ms.
    every_ms: u64,
    /// Time since the newest copy started.
    since_ms: u64,
    /// Log-likelihood ratios of each copy, by alternative.
    #[serde(with = "rows")]
    copies: Vec<[f64; K]>,
}

// === impl Epochs ===

impl<const K: usize> Epochs<K> {
    /// One copy, which starts now.
    pub fn new(every_ms: u64) -> Self {
        Self { every_ms: every_ms.max(1), since_ms: 0, copies: vec![[0.0; K]] }
    }

    /// Time went by; true when another copy started.
    pub fn pass(&mut self, elapsed_ms: u64) -> bool {
        self.since_ms = self.since_ms.saturating_add(elapsed_ms);
        if self.since_ms < self.every_ms || self.copies.len() == EPOCHS_MAX {
            return false;
        }
        self.since_ms = 0;
        self.copies.push([0.0; K]);
        true
    }

    /// Adds the log-likelihood ratio of a tick for each alternative, to every copy.
    pub fn add(&mut self, increments: &[f64; K]) {
        for copy in &mut self.copies {
            copy.iter_mut().zip(increments).for_each(|(sum, increment)| *sum += increment);
        }
    }

    /// `ln E` of the mixture with these weights of the alternatives, which sum to 1. Each likelihood ratio is taken to
    /// the power `1/dispersion` (1 or more): still an e-process by Jensen's inequality when the model is right.
    pub fn ln_e(&self, weights: &[f64; K], dispersion: f64) -> f64 {
        let temper = 1.0 / dispersion.max(1.0);
        let copies = self.copies.iter().enumerate().map(|(index, copy)| {
            let k = index as f64 + 1.0;
            let within = ln_sum_exp(copy.iter().zip(weights).map(|(sum, weight)| weight.ln() + temper * sum));
            within - (k * (k + 1.0)).ln()
        });
        // What has not started yet counts as 1: Σ 1/(k(k+1)) over k > n is 1/(n+1).
        let waiting = -(self.copies.len() as f64 + 1.0).ln();
        ln_sum_exp(copies.chain(std::iter::once(waiting)))
    }
}

/// Arrays of any length, which serde derives only up to 32.
mod rows {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<const K: usize, S: Serializer>(rows: &[[f64; K]], to: S) -> Result<S::Ok, S::Error> {
        rows.iter().map(<[f64; K]>::as_slice).collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, const K: usize, D: Deserializer<'de>>(from: D) -> Result<Vec<[f64; K]>, D::Error> {
        let rows = Vec::<Vec<f64>>::deserialize(from)?;
        if rows.is_empty() || rows.len() > super::EPOCHS_MAX {
            return Err(D::Error::custom("a wrong number of epochs"));
        }
        let row = |row: Vec<f64>| <[f64; K]>::try_from(row).map_err(|_| D::Error::custom("a wrong number of terms"));
        rows.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_saw_nothing_is_at_one_however_many_epochs_passed() {
        let mut epochs = Epochs::<3>::new(10);
        for _ in 0..50 {
            epochs.pass(7);
            assert!(epochs.ln_e(&[1.0 / 3.0; 3], 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn what_begins_late_is_found_by_a_later_copy() {
        let mut epochs = Epochs::<1>::new(10);
        for _ in 0..100 {
            epochs.pass(1);
            epochs.add(&[-1.0]);
        }
        let before = epochs.ln_e(&[1.0], 1.0);
        for _ in 0..20 {
            epochs.pass(1);
            epochs.add(&[1.0]);
        }
        let after = epochs.ln_e(&[1.0], 1.0);
        assert!(before < 0.0 && after > 5.0, "{before} {after}");
    }

    #[test]
    fn tempering_only_lowers_evidence() {
        let mut epochs = Epochs::<2>::new(1000);
        epochs.add(&[9.0, 4.0]);
        let even = [0.5; 2];
        assert!(epochs.ln_e(&even, 2.0) < epochs.ln_e(&even, 1.0));
        assert_eq!(epochs.ln_e(&even, 0.5).to_bits(), epochs.ln_e(&even, 1.0).to_bits());
    }

    #[test]
    fn copies_are_bounded_and_survive_being_written_down_bit_by_bit() {
        let mut epochs = Epochs::<2>::new(1);
        for i in 0..1000 {
            epochs.pass(1);
            epochs.add(&[0.1 * f64::from(i), -1.0 / 3.0]);
        }
        assert_eq!(epochs.copies.len(), EPOCHS_MAX);
        let text = serde_json::to_string(&epochs).expect("it is data");
        assert_eq!(serde_json::from_str::<Epochs<2>>(&text).expect("it is its own"), epochs);
    }
}
