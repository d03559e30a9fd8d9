//! The exact multinomial test: how likely counts at least as unlikely as these are, when the shares are as they should
//! be. Two pools make it the exact binomial test. Nothing is approximated. Pure.

/// Most outcomes that are added up one by one: about a second. Beyond it every pool is tested alone (Bonferroni).
const OUTCOMES_MAX: u64 = 20_000_000;

/// Outcomes as likely as the seen one count, in spite of rounding; as R's `binom.test` has it.
const SLACK: f64 = 1e-7;

/// The p-value of `seen` under `shares`, which sum to 1. A request where none can be makes it 0.
pub(super) fn p_value(seen: &[u64], shares: &[f64]) -> f64 {
    if seen.iter().zip(shares).any(|(count, share)| *count > 0 && *share <= 0.0) {
        return 0.0;
    }
    let (seen, shares): (Vec<u64>, Vec<f64>) =
        seen.iter().zip(shares).filter(|(_, share)| **share > 0.0).map(|(seen, share)| (*seen, *share)).unzip();
    let total: u64 = seen.iter().sum();
    if seen.len() < 2 || total == 0 {
        return 1.0;
    }
    let factorials = log_factorials(total);
    if seen.len() > 2 && outcomes(total, seen.len() as u64) > OUTCOMES_MAX {
        let alone = seen
            .iter()
            .zip(&shares)
            .map(|(count, share)| sum(&[*count, total - count], &[*share, 1.0 - share], total, &factorials));
        return (alone.fold(1.0, f64::min) * seen.len() as f64).min(1.0);
    }
    sum(&seen, &shares, total, &factorials)
}

/// Probability of all outcomes that are at most as likely as `seen`.
fn sum(seen: &[u64], shares: &[f64], total: u64, factorials: &[f64]) -> f64 {
    let logs: Vec<f64> = shares.iter().map(|share| share.ln()).collect();
    let term = |pool: usize, count: u64| count as f64 * logs[pool] - factorials[count as usize];
    let limit = seen.iter().enumerate().map(|(pool, count)| term(pool, *count)).sum::<f64>() + SLACK;
    // Of the first pools so far: how many requests are left, and the logarithm of what they contribute.
    fn walk(pool: usize, left: u64, so_far: f64, pools: usize, limit: f64, term: &dyn Fn(usize, u64) -> f64) -> Sum {
        let mut sum = Sum::default();
        if pool + 1 == pools {
            sum.add(so_far + term(pool, left), limit);
            return sum;
        }
        for count in 0..=left {
            let inner = walk(pool + 1, left - count, so_far + term(pool, count), pools, limit, term);
            sum.merge(&inner);
        }
        sum
    }
    let sum = walk(0, total, 0.0, seen.len(), limit, &term);
    // Both parts leave out the factor total! of every outcome; dividing by the whole also takes rounding away.
    (sum.unlikely / sum.all).clamp(0.0, 1.0)
}

/// Sums of probabilities that are too small for f64 one by one: kept relative to the largest so far.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    all: f64,
    unlikely: f64,
    scale: Option<f64>,
}

impl Sum {
    fn add(&mut self, log: f64, limit: f64) {
        self.merge(&Sum { all: 1.0, unlikely: if log <= limit { 1.0 } else { 0.0 }, scale: Some(log) });
    }

    fn merge(&mut self, other: &Sum) {
        let Some(theirs) = other.scale else { return };
        let ours = self.scale.unwrap_or(theirs);
        let scale = ours.max(theirs);
        let (own, more) = ((ours - scale).exp(), (theirs - scale).exp());
        self.all = self.all * own + other.all * more;
        self.unlikely = self.unlikely * own + other.unlikely * more;
        self.scale = Some(scale);
    }
}

fn log_factorials(most: u64) -> Vec<f64> {
    let mut list = vec![0.0];
    let mut last = 0.0;
    for number in 1..=most {
        last += (number as f64).ln();
        list.push(last);
    }
    list
}

/// In how many ways `total` requests can fall on `pools`; saturates.
fn outcomes(total: u64, pools: u64) -> u64 {
    let mut ways: u64 = 1;
    for step in 1..pools {
        ways = ways.saturating_mul(total + step) / step;
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn two_pools_are_the_exact_binomial_test() {
        // R: binom.test(7, 10, 0.5)$p.value and binom.test(3, 100, 0.1)$p.value
        near(p_value(&[7, 3], &[0.5, 0.5]), 0.34375);
        near(p_value(&[5, 5], &[0.5, 0.5]), 1.0);
        near(p_value(&[0, 10], &[0.5, 0.5]), 2.0 / 1024.0);
        // By hand: of three draws at 1/4, three or none; (1/4)^3 is the least likely.
        near(p_value(&[3, 0], &[0.25, 0.75]), 1.0 / 64.0);
    }

    #[test]
    fn three_pools_are_the_exact_multinomial_test() {
        // Of two draws from three equal pools, both in one: 3 of 9 outcomes; one each in two: 1.
        near(p_value(&[2, 0, 0], &[1.0 / 3.0; 3]), 1.0 / 3.0);
        near(p_value(&[1, 1, 0], &[1.0 / 3.0; 3]), 1.0);
        let odd = p_value(&[800, 100, 100], &[0.7, 0.2, 0.1]);
        assert!(odd < 1e-12, "{odd}");
    }

    #[test]
    fn a_request_where_none_can_be_never_fits() {
        assert_eq!(p_value(&[999, 1], &[1.0, 0.0]), 0.0);
        assert_eq!(p_value(&[1000, 0], &[1.0, 0.0]), 1.0);
        assert_eq!(p_value(&[0, 0], &[0.5, 0.5]), 1.0);
    }

    #[test]
    fn large_numbers_neither_overflow_nor_take_for_ever() {
        let fits = p_value(&[90_010, 9_990], &[0.9, 0.1]);
        assert!((0.8..1.0).contains(&fits), "{fits}");
        assert!(p_value(&[50_000, 50_000], &[0.9, 0.1]) < 1e-100);
        let five = p_value(&[20_000, 20_000, 20_000, 20_000, 20_000], &[0.2; 5]);
        assert_eq!(five, 1.0);
    }
}
