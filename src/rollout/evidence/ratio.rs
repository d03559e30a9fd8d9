//! Is the candidate's rate of bad events more than r₀ times the control's, and which ratios are excluded?
//!
//! Per tick, given that `m` bad events happened in both arms together and that the candidate had the part `q` of what
//! was counted, its own number `x` of them is binomial with probability `qr/(qr+1-q)` at the risk ratio `r`. That holds
//! whatever the base rate is, so it may move from tick to tick, and so may the share: everything is conditioned on the
//! tick and multiplied, never pooled. The likelihood ratio of `r` against `r₀` is
//!
//! ```text
//! (r/r₀)^x · ((q·r₀ + 1 − q)/(q·r + 1 − q))^m
//! ```
//!
//! and a mixture over a grid of `r` above `r₀` is an e-process for "at most r₀ times worse": given `m` the likelihood
//! ratio rises with `x`, so its mean is largest at the border; with Bernoulli requests `x` is hypergeometric at r₀ = 1
//! and Hoeffding's inequality (1963) gives the same bound. With r₀ > 1 and a large base rate the exact law has the odds
//! ratio `r₀(1−p)/(1−r₀p)` in the place of `r₀`, which is used ([`Null::at`]).
//!
//! The same likelihood, the other way round, shows the candidate *not* to be worse than R times: [`Ratio::excluded`].

use serde::{Deserialize, Serialize};

use super::epochs::Epochs;
use super::ln_sum_exp;

/// Alternatives above r₀, as multiples of it.
pub const ALTERNATIVES: [f64; 12] = [1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Their weights. Small regressions have the most, since they need the most evidence: the cost of a mixture is the
/// logarithm of the weight, a few requests of a large one and thousands of a small one.
const WEIGHTS: [f64; 12] = [0.14, 0.22, 0.14, 0.10, 0.09, 0.08, 0.07, 0.06, 0.05, 0.03, 0.01, 0.01];

/// Ticks with a bad event of the candidate below which it is never called bad: one burst is one event, whatever it
/// counts, and how much events come in bursts is only known after a while.
const TICKS_MIN: u64 = 3;

/// Most evidence (nats) of one tick with several bad events: what a burst says is said once, however large it is. To
/// cut a likelihood ratio keeps its mean at 1 or below.
const TICK_MOST: f64 = 4.0;

/// An estimated ratio this far beyond the margin needs no test of the margin itself.
const FAR: f64 = 1.25;

/// Ratios whose exclusion is looked at: 2^(-3 + i/6), from 1/8 to 2^(63/6-3), about 181.
const GRID: usize = 64;

/// Alternatives below a ratio, in steps of the grid: from 1.26 to 16 times smaller.
const BELOW: [usize; 8] = [2, 4, 6, 8, 12, 15, 18, 24];

/// What was counted in one tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// The candidate's part of what was counted, `0.0..=1.0`.
    pub share: f64,
    /// Items of the candidate and of the control.
    pub items: [u64; 2],
    /// Bad ones among them.
    pub bad: [u64; 2],
}

/// The border of the null hypothesis for one tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Null(f64);

/// The tests of one kind of event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    margin: f64,
    /// Against "not worse", and against "at most margin times worse".
    worse: Epochs<12>,
    beyond: Epochs<12>,
    /// Log-likelihood of each ratio of the grid, up to a constant.
    grid: Vec<f64>,
    sums: Vec<Sums>,
}

/// What was counted since an epoch began, for estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    items: [u64; 2],
    bad: [u64; 2],
    /// Mantel-Haenszel: Σ x_c (1−q), Σ x_s q.
    weighted: [f64; 2],
    /// Σ (x_c − mq)/(1−q): bad events of the candidate beyond the control's rate.
    excess: f64,
    /// Ticks with a bad event of the candidate.
    ticks: u64,
}

// === impl Null ===

impl Null {
    /// r₀ as an odds ratio at the base rate `p`; none when r₀·p is nearly everything and nothing could be worse.
    pub fn at(margin: f64, p: f64) -> Option<Self> {
        let left = 1.0 - margin * p;
        (left > 0.05).then(|| Self((margin * (1.0 - p) / left).max(margin)))
    }
}

// === impl Ratio ===

impl Ratio {
    /// A test with the margin r₀ (1 or more) and another copy every `epoch_ms`.
    pub fn new(margin: f64, epoch_ms: u64) -> Self {
        let (worse, beyond) = (Epochs::new(epoch_ms), Epochs::new(epoch_ms));
        Self { margin, worse, beyond, grid: vec![0.0; GRID], sums: vec![Sums::default()] }
    }

    /// Time went by.
    pub fn pass(&mut self, elapsed_ms: u64) {
        self.beyond.pass(elapsed_ms);
        if self.worse.pass(elapsed_ms) {
            self.sums.push(Sums::default());
        }
    }

    /// Adds a tick. Without a bad event, or without one of the arms, it says nothing about the ratio.
    pub fn add(&mut self, tick: &Counted) {
        let q = tick.share;
        let base = self.base();
        self.sums.iter_mut().for_each(|sums| sums.add(tick));
        let bad = (tick.bad[0] + tick.bad[1]) as f64;
        if bad == 0.0 || !(1e-9..=1.0 - 1e-9).contains(&q) {
            return;
        }
        let worse = tick.bad[0] as f64;
        let likelihood = |ratio: f64| worse * ratio.ln() - bad * (q * ratio + 1.0 - q).ln();
        for (index, sum) in self.grid.iter_mut().enumerate() {
            *sum += likelihood(grid(index));
        }
        let against = |null: f64| {
            let at_null = likelihood(null);
            let most = if tick.bad[0] > 1 { TICK_MOST } else { f64::INFINITY };
            ALTERNATIVES.map(|times| (likelihood(null * times) - at_null).min(most))
        };
        self.worse.add(&against(1.0));
        if let Some(Null(null)) = Null::at(self.margin, base) {
            self.beyond.add(&against(null));
        }
    }

    /// `ln E` against "not worse than the control".
    pub fn ln_worse(&self, dispersion: f64) -> f64 {
        self.worse.ln_e(&WEIGHTS, dispersion)
    }

    /// `ln E` against "at most r₀ times worse".
    pub fn ln_beyond(&self, dispersion: f64) -> f64 {
        self.beyond.ln_e(&WEIGHTS, dispersion)
    }

    /// Whether the candidate is shown to be bad with an error of at most `alpha`: worse than the control, and by so
    /// much that it matters. That it is *worse* has the error `alpha`; every other condition only makes a false alarm
    /// rarer. What matters, since some epoch: at least `min_events` bad events (2 are enough when the control had none)
    /// in three ticks or more, a rate at least `min_difference` above the control's, and a ratio beyond the margin,
    /// either estimated to be far beyond it or shown to be with the same error.
    pub fn fails(&self, alpha: f64, dispersion: f64, min_events: u64, min_difference: f64) -> bool {
        let limit = (1.0 / alpha).ln();
        if self.ln_worse(dispersion) < limit {
            return false;
        }
        let shown = self.margin <= 1.0 || self.ln_beyond(dispersion) >= limit;
        self.sums.iter().any(|sums| {
            let enough = if sums.bad[1] == 0 { min_events.min(2) } else { min_events };
            let difference = sums.excess / (sums.items[0].max(1) as f64);
            let far = sums.ratio().is_none_or(|ratio| ratio >= self.margin * FAR);
            sums.bad[0] >= enough && sums.ticks >= TICKS_MIN && difference >= min_difference && (shown || far)
        })
    }

    /// Whether the candidate's bad events came in several ticks.
    pub fn in_several_ticks(&self) -> bool {
        self.sums.iter().any(|sums| sums.ticks >= TICKS_MIN)
    }

    /// `ln E` against "at least `ratio` times worse"; rounded to the next ratio of the grid above.
    pub fn ln_not_worse(&self, ratio: f64, dispersion: f64) -> f64 {
        let index = (0..GRID).find(|&index| grid(index) >= ratio * (1.0 - 1e-9)).unwrap_or(GRID - 1);
        self.ln_below(index, dispersion)
    }

    /// The smallest ratio such that it and everything above is excluded with an error of at most `beta`; none when
    /// nothing is.
    pub fn excluded(&self, beta: f64, dispersion: f64) -> Option<f64> {
        let limit = (1.0 / beta).ln();
        let first = (0..GRID).rev().take_while(|&index| self.ln_below(index, dispersion) >= limit).last();
        first.map(grid)
    }

    /// The ratios that are *not* excluded with an error of at most `alpha` on each side: a confidence sequence. Open
    /// ends are none.
    pub fn interval(&self, alpha: f64, dispersion: f64) -> [Option<f64>; 2] {
        let limit = (1.0 / alpha).ln();
        let low = (0..GRID).take_while(|&index| self.ln_above(index, dispersion) >= limit).last();
        [low.map(grid), self.excluded(alpha, dispersion)]
    }

    /// The estimated ratio since the beginning; none without bad events of the control.
    pub fn estimate(&self) -> Option<f64> {
        self.sums.first()?.ratio()
    }

    /// Rates of candidate and control since the beginning; none without items.
    pub fn rates(&self) -> [Option<f64>; 2] {
        let Some(sums) = self.sums.first() else { return [None, None] };
        [0, 1].map(|arm| (sums.items[arm] > 0).then(|| sums.bad[arm] as f64 / sums.items[arm] as f64))
    }

    /// Items and bad events of candidate and control since the beginning.
    pub fn counts(&self) -> ([u64; 2], [u64; 2]) {
        self.sums.first().map_or_else(Default::default, |sums| (sums.items, sums.bad))
    }

    /// Rate of the control so far, with a touch of the candidate's, for the odds.
    fn base(&self) -> f64 {
        self.rates()[1].unwrap_or(0.0)
    }

    /// Against "at least grid(index)": a mixture over smaller ratios.
    fn ln_below(&self, index: usize, dispersion: f64) -> f64 {
        self.mixture(index, BELOW.iter().filter_map(|step| index.checked_sub(*step)), dispersion)
    }

    /// Against "at most grid(index)": a mixture over larger ratios.
    fn ln_above(&self, index: usize, dispersion: f64) -> f64 {
        self.mixture(index, BELOW.iter().map(|step| index + step).filter(|other| *other < GRID), dispersion)
    }

    /// Alternatives beyond the grid count with a likelihood ratio of 0, which keeps it an e-process.
    fn mixture(&self, null: usize, others: impl Iterator<Item = usize> + Clone, dispersion: f64) -> f64 {
        let temper = 1.0 / dispersion.max(1.0);
        let prior = -(BELOW.len() as f64).ln();
        ln_sum_exp(others.map(|other| prior + temper * (self.grid[other] - self.grid[null])))
    }
}

// === impl Sums ===

impl Sums {
    /// The estimated ratio (Mantel and Haenszel, over ticks); none without bad events of the control.
    fn ratio(&self) -> Option<f64> {
        let [worse, control] = self.weighted;
        (control > 0.0).then(|| worse / control)
    }

    fn add(&mut self, tick: &Counted) {
        self.ticks += u64::from(tick.bad[0] > 0);
        for arm in [0, 1] {
            self.items[arm] += tick.items[arm];
            self.bad[arm] += tick.bad[arm];
        }
        let (q, [worse, control]) = (tick.share, tick.bad.map(|bad| bad as f64));
        if q < 1.0 - 1e-9 {
            self.weighted[0] += worse * (1.0 - q);
            self.weighted[1] += control * q;
            self.excess += (worse - (worse + control) * q) / (1.0 - q);
        }
    }
}

/// Ratio `index` of the grid.
fn grid(index: usize) -> f64 {
    2_f64.powf(index as f64 / 6.0 - 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(share: f64, bad: [u64; 2]) -> Counted {
        let items = [(share * 10_000.0) as u64, ((1.0 - share) * 10_000.0) as u64];
        Counted { share, items, bad }
    }

    #[test]
    fn two_errors_at_a_small_share_are_much_when_stable_has_none() {
        let mut test = Ratio::new(1.25, u64::MAX);
        (0..2).for_each(|_| test.add(&tick(0.01, [1, 0])));
        assert!(test.ln_worse(1.0) > 50_f64.ln(), "{}", test.ln_worse(1.0).exp());
        assert!(!test.fails(0.05, 1.0, 5, 0.0001));
        test.add(&tick(0.01, [1, 0]));
        assert!(test.fails(0.005, 1.0, 5, 0.0001));
    }

    #[test]
    fn equal_rates_are_shown_not_to_be_twice_as_bad_and_the_bound_comes_down() {
        let mut test = Ratio::new(1.25, u64::MAX);
        let mut bounds = Vec::new();
        for round in 0..400 {
            test.add(&tick(0.5, [1, 1]));
            if round % 100 == 99 {
                bounds.push(test.excluded(0.05, 1.0).expect("something is excluded"));
            }
        }
        assert!(bounds.windows(2).all(|pair| pair[1] <= pair[0]) && bounds[3] < 1.6, "{bounds:?}");
        assert!(test.ln_not_worse(2.0, 1.0) > 20_f64.ln() && test.ln_worse(1.0) < 0.0);
        assert!((test.estimate().expect("an estimate") - 1.0).abs() < 1e-9);
        let [low, high] = test.interval(0.05, 1.0);
        assert!(low.expect("a lower end") < 1.0 && high.expect("an upper end") > 1.0);
    }

    #[test]
    fn a_shared_outage_says_nothing_against_the_candidate() {
        let mut test = Ratio::new(1.25, u64::MAX);
        (0..120).for_each(|_| test.add(&tick(0.05, [100, 1900])));
        assert!(test.ln_worse(1.0) < 0.0 && !test.fails(0.05, 1.0, 5, 0.001));
    }

    #[test]
    fn one_burst_is_one_event_whatever_it_counts() {
        let mut test = Ratio::new(1.25, u64::MAX);
        test.add(&tick(0.01, [20, 5]));
        assert!(test.ln_worse(1.0) < 50_f64.ln() && !test.fails(0.005, 1.0, 5, 0.001));
    }

    #[test]
    fn what_is_within_the_margin_is_not_held_against_the_candidate() {
        let (mut within, mut beyond) = (Ratio::new(1.25, u64::MAX), Ratio::new(1.25, u64::MAX));
        for _ in 0..4000 {
            within.add(&tick(0.5, [12, 10]));
            beyond.add(&tick(0.5, [17, 10]));
        }
        assert!(!within.fails(0.005, 1.0, 5, 0.0001));
        assert!(beyond.fails(0.005, 1.0, 5, 0.0001));
    }

    #[test]
    fn a_half_failing_service_with_a_margin_is_not_held_against_an_equal_candidate() {
        // With p = 0.5 the odds ratio of r₀ = 1.25 is 1.67; without it 1.25 times as many would already count.
        assert_eq!(Null::at(1.25, 0.5), Some(Null(1.25 * 0.5 / 0.375)));
        assert_eq!(Null::at(1.25, 0.9), None);
        assert_eq!(Null::at(1.25, 0.0), Some(Null(1.25)));
    }

    #[test]
    fn a_tick_without_a_bad_event_or_without_an_arm_changes_no_evidence() {
        let mut test = Ratio::new(1.0, u64::MAX);
        test.add(&tick(0.5, [0, 0]));
        test.add(&tick(1.0, [3, 0]));
        test.add(&tick(0.0, [0, 3]));
        assert!(test.ln_worse(1.0).abs() < 1e-12 && test.excluded(0.05, 1.0).is_none());
    }

    #[test]
    fn it_survives_being_written_down_bit_by_bit() {
        let mut test = Ratio::new(1.25, 60_000);
        for i in 0..500_u64 {
            test.pass(1000);
            test.add(&tick(0.07, [i % 3, i % 11]));
        }
        let text = serde_json::to_string(&test).expect("it is data");
        let again: Ratio = serde_json::from_str(&text).expect("it is its own");
        assert_eq!(again.ln_worse(1.3).to_bits(), test.ln_worse(1.3).to_bits());
        assert_eq!(again, test);
    }
}
