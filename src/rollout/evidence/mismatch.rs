//! Does the split put requests (or units) where it should? A sample-ratio mismatch means that what is compared is not
//! alike: a cache in front, clients that drop the cookie, endpoints that were ejected.
//!
//! The Bayes factor of a Dirichlet prior around the intended shares against exactly these shares, which is an e-process
//! (Lindon and Malek, arXiv 2011.03567): with α₀ = kθ₀, counts S and n = ΣS
//!
//! ```text
//! Γ(Σα₀)/Γ(Σα₀+n) · Π Γ(α₀ᵢ+Sᵢ)/Γ(α₀ᵢ) · Π θ₀ᵢ^(−Sᵢ)
//! ```
//!
//! When the intended share changes, a new factor begins and is multiplied.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

/// k: how much the prior trusts the intended shares. 100 is the usual choice for assignment counts.
const CONCENTRATION: f64 = 100.0;

/// Two shares are the same share within this; weights are finer by far.
const SAME: f64 = 1e-9;

/// The check of one split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    share: f64,
    counts: [u64; 2],
    /// ln of the factors that are closed.
    closed: f64,
}

// === impl Mismatch ===

impl Mismatch {
    /// Adds a tick: the intended share of the first and what both got.
    pub fn add(&mut self, share: f64, counts: [u64; 2]) {
        if !(SAME..=1.0 - SAME).contains(&share) {
            return;
        }
        if (share - self.share).abs() > SAME {
            self.closed += self.open();
            self.counts = [0, 0];
            self.share = share;
        }
        self.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }

    /// `ln E` against "the split is as intended".
    pub fn ln_e(&self) -> f64 {
        self.closed + self.open()
    }

    fn open(&self) -> f64 {
        if self.counts == [0, 0] {
            return 0.0;
        }
        ln_factor([self.share, 1.0 - self.share], self.counts.map(|count| count as f64))
    }
}

/// `ln` of the Bayes factor for intended shares and counts.
pub fn ln_factor(shares: [f64; 2], counts: [f64; 2]) -> f64 {
    let total = counts[0] + counts[1];
    let prior = shares.map(|share| CONCENTRATION * share);
    let arms = [0, 1].map(|i| ln_gamma(prior[i] + counts[i]) - ln_gamma(prior[i]) - counts[i] * shares[i].ln());
    ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + total) + arms[0] + arms[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_as_intended_is_never_suspect_and_one_that_is_off_by_a_fifth_soon_is() {
        let (mut good, mut bad) = (Mismatch::default(), Mismatch::default());
        for _ in 0..300 {
            good.add(0.1, [10, 90]);
            bad.add(0.1, [8, 92]);
        }
        assert!(good.ln_e() < 0.0, "{}", good.ln_e());
        assert!(bad.ln_e() > 1000_f64.ln(), "{}", bad.ln_e());
    }

    #[test]
    fn a_new_share_begins_anew_and_keeps_what_was_shown() {
        let mut check = Mismatch::default();
        check.add(0.1, [50, 50]);
        let shown = check.ln_e();
        check.add(0.5, [50, 50]);
        assert!(shown > 20.0 && (check.ln_e() - shown).abs() < 3.0);
    }
}
