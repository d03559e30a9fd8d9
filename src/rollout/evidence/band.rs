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

/// C of the band by α, interpolated between the values that solve the source's equation.
fn constant(alpha: f64) -> f64 {
    const SOLVED: [(f64, f64); 5] = [(0.05, 8.12), (0.025, 8.62), (0.01, 9.28), (0.005, 9.78), (0.0005, 11.44)];
    let x = alpha.clamp(0.0005, 0.05).ln();
    let pair = SOLVED.windows(2).find(|pair| x >= pair[1].0.ln()).unwrap_or(&SOLVED[3..]);
    let part = (x - pair[0].0.ln()) / (pair[1].0.ln() - pair[0].0.ln());
    pair[0].1 + part * (pair[1].1 - pair[0].1)
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
    fn a_wilson_interval_holds_the_rate_and_narrows() {
        let [low, high] = wilson(5, 200, 2.576);
        assert!(low < 0.025 && high > 0.025 && high < 0.08);
        assert_eq!(wilson(0, 0, 2.0), [0.0, 1.0]);
        assert!(wilson(0, 10_000, 2.576)[1] < 0.001);
    }
}
