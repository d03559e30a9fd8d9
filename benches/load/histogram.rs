//! Latencies in buckets that grow with the value: 128 per power of two, so a quantile is right within 0.8 %.

use std::time::Duration;

/// Buckets per power of two, as a power of two.
const PRECISION_BITS: u32 = 7;

/// Counts of durations, in nanoseconds.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; 64 << PRECISION_BITS], total: 0, longest: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[index(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn longest_us(&self) -> f64 {
        self.longest.as_secs_f64() * 1e6
    }

    /// The upper end of the bucket that holds the quantile `q` (0 to 1), in microseconds.
    pub(crate) fn quantile_us(&self, q: f64) -> f64 {
        let rank = (self.total as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return upper(place) / 1e3;
            }
        }
        self.longest_us()
    }
}

/// Values below 2^7 have a bucket each; above, the top seven bits after the leading one choose it.
fn index(nanos: u64) -> usize {
    let value = nanos.max(1);
    let magnitude = value.ilog2();
    if magnitude <= PRECISION_BITS {
        return value as usize;
    }
    let shift = magnitude - PRECISION_BITS;
    ((shift as usize) << PRECISION_BITS) + (value >> shift) as usize
}

fn upper(place: usize) -> f64 {
    let shift = (place >> PRECISION_BITS).saturating_sub(1);
    let mantissa = place - (shift << PRECISION_BITS);
    (mantissa + 1) as f64 * (shift as f64).exp2()
}
