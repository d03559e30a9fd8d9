//! The arithmetic of a token bucket: one number per bucket, the moment at which it is full again (GCRA). Pure.
//!
//! A bucket that is full at or before now has its whole burst; each request moves the moment on by one step, and none
//! may move it further ahead than the burst lasts. So no interval of length t sees more than burst + rate × t requests,
//! in whatever order clocks of several threads are read, and a bucket that is full needs no memory at all.

use std::time::Duration;

/// A rate and a burst, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time in which one request comes in; at least 1.
    step_ns: u64,
    /// Time in which an empty bucket fills.
    span_ns: u64,
}

/// Longest time that an empty bucket may take to fill: a year. Sums of it and of any moment stay far from overflowing.
pub const SPAN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Threads read their clocks a moment before they get to a bucket; none is so late that it takes another's request for
/// what another rate left behind.
const CLOCKS_APART_NS: u64 = 1_000_000_000;

// === impl Rate ===

impl Rate {
    /// `rate` requests in each `per`, and at most `burst` at once. The step is rounded up, so that the rate is never
    /// exceeded; a bucket that would take longer than [`SPAN_MAX`] to fill is cut to that.
    pub fn new(rate: u64, per: Duration, burst: u64) -> Self {
        let (max, per) = (SPAN_MAX.as_nanos(), per.as_nanos().min(SPAN_MAX.as_nanos()));
        let step = per.div_ceil(u128::from(rate.max(1))).max(1);
        let span = step.saturating_mul(u128::from(burst.max(1))).min(max);
        // Both are below 2^55.
        Self { step_ns: step as u64, span_ns: span as u64 }
    }

    /// Takes one request out of a bucket that is full at `full_ns`: when it is full then, or how long until the next
    /// one is there.
    #[inline]
    pub fn take(self, full_ns: u64, now_ns: u64) -> Result<u64, Duration> {
        let next = full_ns.max(now_ns).saturating_add(self.step_ns);
        let ahead = next - now_ns;
        if ahead > self.span_ns { Err(Duration::from_nanos(ahead - self.span_ns)) } else { Ok(next) }
    }

    /// Where a bucket stands that was emptied further than this rate can: another rate did it, before a reload.
    #[inline]
    pub fn corrected(self, full_ns: u64, now_ns: u64) -> Option<u64> {
        let empty_ns = now_ns.saturating_add(self.span_ns);
        (full_ns > empty_ns.saturating_add(CLOCKS_APART_NS)).then_some(empty_ns)
    }

    /// One step, in nanoseconds: what a request that was taken moved the bucket by.
    pub fn step_ns(self) -> u64 {
        self.step_ns
    }

    /// The time in which an empty bucket fills.
    pub fn span(self) -> Duration {
        Duration::from_nanos(self.span_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_has_its_burst_and_then_one_request_a_step() {
        let rate = Rate::new(10, Duration::from_secs(1), 3);
        let mut full = 0;
        let mut take = |now_ms: u64| {
            let taken = rate.take(full, now_ms * 1_000_000);
            full = taken.unwrap_or(full);
            taken.map(drop).map_err(|wait| wait.as_millis())
        };
        assert_eq!([take(1000), take(1000), take(1000)], [Ok(()); 3]);
        assert_eq!(take(1000), Err(100));
        assert_eq!(take(1040), Err(60));
        assert_eq!(take(1100), Ok(()));
        assert_eq!(take(1100), Err(100));
        assert_eq!([take(9000), take(9000), take(9000), take(9000)], [Ok(()), Ok(()), Ok(()), Err(100)]);
    }

    #[test]
    fn a_bucket_that_a_slower_rate_emptied_is_empty_by_the_new_one_and_no_more() {
        let slow = Rate::new(1, Duration::from_secs(3600), 1);
        let full = slow.take(0, 5).expect("it was full");
        let fast = Rate::new(10, Duration::from_secs(1), 3);
        let empty = fast.corrected(full, 5).expect("further than it can");
        assert_eq!(fast.take(empty, 5), Err(Duration::from_millis(100)));
        assert_eq!(fast.corrected(empty, 5), None);
        assert_eq!(slow.corrected(full, 5), None);
    }

    proptest! {
        #[test]
        fn no_interval_sees_more_than_burst_and_rate(
            rate in 1_u64..2_000,
            per_ms in 1_u64..5_000,
            burst in 1_u64..50,
            gaps_us in proptest::collection::vec(0_u64..20_000, 1..400),
            jitter_us in proptest::collection::vec(0_u64..3_000, 400),
        ) {
            let (bucket, mut full, mut now_us) = (Rate::new(rate, Duration::from_millis(per_ms), burst), 0, 1_000_000);
            let mut taken = Vec::new();
            for (gap, jitter) in gaps_us.iter().zip(&jitter_us) {
                now_us += gap;
                // Threads read their clocks a little earlier than they get to the bucket.
                let read_us = now_us - jitter;
                if let Ok(next) = bucket.take(full, read_us * 1_000) {
                    full = next;
                    taken.push(read_us);
                }
            }
            prop_assert!(!taken.is_empty(), "a full bucket gives nothing");
            for i in 0..taken.len() {
                let (mut first, mut last) = (taken[i], taken[i]);
                for (n, at) in (1_u32..).zip(&taken[i..]) {
                    (first, last) = (first.min(*at), last.max(*at));
                    let most = burst as f64 + (last - first) as f64 / 1_000.0 * rate as f64 / per_ms as f64;
                    prop_assert!(f64::from(n) <= most + 1e-6, "{n} in {} µs, at most {most}", last - first);
                }
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_refused(
            rate in 1_u64..100_000, per_ms in 1_u64..100_000, burst in 1_u64..100, n in 1_u64..500,
        ) {
            let bucket = Rate::new(rate, Duration::from_millis(per_ms), burst);
            let mut full = 0;
            for i in 0..n {
                let taken = bucket.take(full, 7 + i * bucket.step_ns());
                prop_assert!(taken.is_ok(), "refused at {i}");
                full = taken.unwrap_or_default();
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_let_through(
            rate in 1_u64..100_000, per_ms in 1_u64..100_000, burst in 1_u64..100,
            full in any::<u32>(), now in any::<u32>(),
        ) {
            let bucket = Rate::new(rate, Duration::from_millis(per_ms), burst);
            let (full, now) = (u64::from(full) * 1_000, u64::from(now) * 1_000);
            if let Err(wait) = bucket.take(full, now) {
                prop_assert!(bucket.take(full, now + wait.as_nanos() as u64).is_ok());
                prop_assert!(bucket.take(full, now + wait.as_nanos() as u64 - 1).is_err());
            }
        }

        #[test]
        fn no_numbers_overflow(
            rate in any::<u64>(), per_s in any::<u32>(), burst in any::<u64>(),
            full in any::<u64>(), now in any::<u64>(),
        ) {
            let bucket = Rate::new(rate, Duration::from_secs(per_s.into()), burst);
            let _ = (bucket.take(full, now), bucket.corrected(full, now));
        }
    }
}
