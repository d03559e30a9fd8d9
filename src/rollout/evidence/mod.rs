//! The statistics of a rollout: pure mathematics over counts. It knows no pools, gates or plans; [`super::judge`] does.
//!
//! Everything that decides is an *e-process*: a number that begins at 1, can be computed again after every tick, and
//! reaches 1/α with a chance of at most α as long as the null hypothesis holds, however often it is looked at and
//! whenever one stops (Ville's inequality). Sources: Lindon and Malek, arXiv 2011.03567 (counts under concurrent
//! assignment); Howard and Ramdas, arXiv 1906.09712 (quantiles); Shin, Ramdas and Rinaldo, arXiv 2203.03532 (restarts);
//! Johari et al., Operations Research 2022 (always valid inference).
//!
//! - [`ratio`]: is the rate of one arm more than r₀ times the other's? Which ratios are excluded?
//! - [`guard`]: is a rate above a constant?
//! - [`epochs`]: restarts, for what begins late
//! - [`dispersion`]: how much wilder than chance the counts are, and the A/A monitor
//! - [`mismatch`]: does the split put requests where it should?
//! - [`band`]: bands around distributions, for display

pub mod band;
pub mod dispersion;
pub mod epochs;
pub mod guard;
pub mod mismatch;
pub mod ratio;

/// `ln Σ exp`, stable; minus infinity for nothing.
pub fn ln_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + terms.map(|term| (term - top).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        assert!((ln_sum_exp([1000.0, 1000.0].into_iter()) - (1000.0 + 2_f64.ln())).abs() < 1e-12);
        assert!((ln_sum_exp([-1000.0, -1000.0].into_iter()) - (-1000.0 + 2_f64.ln())).abs() < 1e-12);
        assert_eq!(ln_sum_exp(std::iter::empty()), f64::NEG_INFINITY);
    }
}
