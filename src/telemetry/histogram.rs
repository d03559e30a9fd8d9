//! Latency histogram with fixed memory: log-linear buckets, one writer, mergeable.

use super::count::Count;

/// Buckets: the Prometheus bounds of [`BOUNDS_S`] and one for the rest.
pub const BUCKETS_MAX: usize = 240;

/// Bounds that are shown in Prometheus text, in seconds.
pub const BOUNDS_S: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Durations by bucket, written by one worker.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Count]>,
    sum_us: Count,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS_MAX).map(|_| Count::default()).collect(), sum_us: Count::default() }
    }
}

// === impl Histogram ===

impl Histogram {
    /// Counts one duration, in microseconds.
    #[inline]
    pub fn record_us(&self, us: u64) {
        self.sum_us.add(us);
        self.buckets[0].add(1); // placeholder index: the owner of this room writes the log-linear index
    }
}
