//! What others do, on the same ticks: thresholds over windows, and tests that are looked at too often.

use std::collections::VecDeque;

use weir::rollout::evidence::mismatch::ln_factor;
use weir::rollout::tick::Tick;

/// Their names, in the order of [`Rules::look`].
pub(crate) const NAMES: [&str; 8] = [
    "error rate 50 % over stable's, 5 min window",
    "error rate > 1 %, 5 min window, 3 checks in a row",
    "> 10 % of at least 100 failed, 5 min window",
    "error rate > 0.5 %, 5 min window",
    "success < 99 % a minute, 5 checks in all (Flagger)",
    "success < 99 % a minute, one check (Argo)",
    "Mann-Whitney on minutes, 98 %, every 5 min (Kayenta)",
    "z-test at 1 %, every 10 s",
];

/// Every rule at once.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    window: VecDeque<[u64; 4]>,
    minute: [u64; 4],
    minutes: Vec<[f64; 2]>,
    second: u64,
    all: [u64; 4],
    row: u32,
    failed: u32,
    pub(crate) fired: [Option<u64>; 8],
}

impl Rules {
    /// Takes a tick of ten seconds.
    pub(crate) fn look(&mut self, tick: &Tick) {
        let counts = [tick.candidate.attempts, tick.candidate.errors, tick.control.attempts, tick.control.errors];
        self.second += tick.elapsed_ms / 1000;
        self.window.push_back(counts);
        if self.window.len() > 30 {
            self.window.pop_front();
        }
        for (sum, count) in self.minute.iter_mut().zip(counts) {
            *sum += count;
        }
        for (sum, count) in self.all.iter_mut().zip(counts) {
            *sum += count;
        }
        let full = self.window.len() == 30;
        let [n, x, m, y] = self.window.iter().fold([0; 4], |sum, counts| std::array::from_fn(|i| sum[i] + counts[i]));
        let rate = |x: u64, n: u64| if n == 0 { 0.0 } else { x as f64 / n as f64 };
        let (own, other) = (rate(x, n), rate(y, m));
        self.fire(0, full && n > 0 && own > 1.5 * other);
        if self.second.is_multiple_of(30) {
            self.row = if full && own > 0.01 { self.row + 1 } else { 0 };
        }
        self.fire(1, self.row >= 3);
        self.fire(2, n >= 100 && own > 0.1);
        self.fire(3, full && own > 0.005);
        if self.second.is_multiple_of(60) {
            let [n, x, m, y] = std::mem::take(&mut self.minute);
            let bad = n > 0 && rate(x, n) > 0.01;
            self.failed += u32::from(bad);
            self.fire(4, self.failed >= 5);
            self.fire(5, bad);
            self.minutes.push([rate(x, n), rate(y, m)]);
            let worse = self.minutes.len() >= 10 && self.minutes.len().is_multiple_of(5) && mann_whitney(&self.minutes);
            self.fire(6, worse);
        }
        self.fire(7, z(self.all) > 2.326);
        // The Bayes factor is used by the sample-ratio check; here only so that it is run on everything.
        debug_assert!(ln_factor([0.5, 0.5], [1.0, 1.0]).is_finite());
    }

    fn fire(&mut self, rule: usize, fires: bool) {
        if fires {
            self.fired[rule].get_or_insert(self.second);
        }
    }
}

fn z([n, x, m, y]: [u64; 4]) -> f64 {
    if x + y < 5 || n == 0 || m == 0 {
        return 0.0;
    }
    let pooled = (x + y) as f64 / (n + m) as f64;
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n as f64 + 1.0 / m as f64)).sqrt();
    if deviation > 0.0 { (x as f64 / n as f64 - y as f64 / m as f64) / deviation } else { 0.0 }
}

/// One-sided at 98 %, by the normal approximation, with ties at the mean rank.
fn mann_whitney(minutes: &[[f64; 2]]) -> bool {
    let n = minutes.len() as f64;
    let mut above = 0.0;
    for [own, _] in minutes {
        for [_, other] in minutes {
            above += if own > other {
                1.0
            } else if own < other {
                0.0
            } else {
                0.5
            };
        }
    }
    let deviation = (n * n * (2.0 * n + 1.0) / 12.0).sqrt();
    (above - n * n / 2.0) / deviation > 2.054
}
