//! Bands around distributions and rates, for display: they decide nothing.

/// A confidence band around a distribution function after `n` observations, valid at all times at once with an error of
/// at most `alpha`: every quantile level moves by at most this much. Howard and Ramdas, Bernoulli 28(3) 2022, with the
/// iterated logarithm begun at 100: `0.85·√((ln(1 + ln(n/100)) + C)/n)`. None below 100 observations.
pub fn distribution(n: u64, alpha: f64) -> Option<f64> {
    const N_MIN: f64 = 100.0;
    let n = n as f64;
    if n < N_MIN {
        return None;
    }
    let c = constant(alpha);
    Some(0.85 * (((1.0 + (n / N_MIN).ln()).ln() + c) / n).sqrt())
}

/// C of the band by α: the solution of `min over η of 4·exp(−γ²C)·(1 + 1/((γ² − 1)·ln η)) = α` with
/// `γ² = 2/η·(0.85 − √(2(η − 1)/C))²` (the source's theorem 2). In between, that of the next smaller α: a wider band.
fn constant(alpha: f64) -> f64 {
    const SOLVED: [(f64, f64); 5] = [
        (0.05, 8.122_719_345_838_098),
        (0.025, 8.622_649_283_224_062),
        (0.01, 9.283_543_354_029_13),
        (0.005, 9.783_365_215_444_673),
        (0.0005, 11.442_058_818_391_046),
    ];
    let found = SOLVED.iter().find(|(solved, _)| *solved <= alpha);
    found.unwrap_or(&SOLVED[SOLVED.len() - 1]).1
}

/// A Wilson interval for `bad` of `items` at `z` standard deviations (2.576 is 99 %), for one look at a fixed number.
pub fn wilson(bad: u64, items: u64, z: f64) -> [f64; 2] {
    if items == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (items as f64, bad as f64 / items as f64);
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_that_of_the_published_table() {
        for (n, width) in [(1_000, 0.087), (10_000, 0.028), (100_000, 0.009)] {
            let found = distribution(n, 0.01).expect("enough");
            assert!((found - width).abs() < 0.0006, "{n}: {found}");
        }
        assert_eq!(distribution(99, 0.01), None);
    }

    #[test]
    fn its_constant_solves_the_equation_of_the_source() {
        for alpha in [0.05, 0.025, 0.01, 0.005, 0.0005] {
            let c = constant(alpha);
            let error = |eta: f64| {
                let gamma = 2.0 / eta * (0.85 - (2.0 * (eta - 1.0) / c).sqrt()).powi(2);
                if gamma <= 1.0 {
                    f64::INFINITY
                } else {
                    4.0 * (-gamma * c).exp() * (1.0 + 1.0 / ((gamma - 1.0) * eta.ln()))
                }
            };
            let least = (1..40_000).map(|i| error(1.0 + f64::from(i) * 1e-6)).fold(f64::INFINITY, f64::min);
            assert!((least / alpha - 1.0).abs() < 1e-6, "{alpha}: {least}");
        }
        assert_eq!(constant(0.03).to_bits(), constant(0.025).to_bits());
        assert_eq!(constant(1e-9).to_bits(), constant(0.0005).to_bits());
    }

    #[test]
    fn a_wilson_interval_holds_the_rate_and_narrows() {
        let [low, high] = wilson(5, 200, 2.576);
        assert!(low < 0.025 && high > 0.025 && high < 0.08);
        assert_eq!(wilson(0, 0, 2.0), [0.0, 1.0]);
        assert!(wilson(0, 10_000, 2.576)[1] < 0.001);
    }
}
