//! Whether a client sends its body fast enough: a body that comes byte by byte, each within the time that nothing may
//! move, would be no end of an upload. Time is an account: waiting for the client spends it, every byte earns some.
//!
//! It counts only while weir waits for the client and the endpoint has not answered yet, so that what an endpoint does
//! not take is nobody's slowness, and whoever talks both ways at once is not hurried. It ends nothing itself.

use std::time::{Duration, Instant};

use crate::model::{Head, Timeouts};
use crate::proxy::h2up::grpc;

/// What can be earned ahead at most: a sender may pause for as long as nginx lets pass between two reads.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// The account of one body.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What is left, as of when the wait under way began.
    left: Duration,
    /// Since when it is waited for the client.
    since: Option<Instant>,
    /// Bytes a second.
    rate: u32,
}

// === impl Pace ===

impl Pace {
    /// The account of a request's body, where bodies have to keep pace.
    pub(crate) fn of(timeouts: &Timeouts) -> Option<Self> {
        let paced = timeouts.upload_min_rate > 0;
        paced.then_some(Self { left: timeouts.upload_grace, since: None, rate: timeouts.upload_min_rate })
    }

    /// The same of a request over HTTP/2. A gRPC call may say nothing for hours, and there is none over HTTP/1.1, nor
    /// without `te: trailers` (gRPC over HTTP2, "Requests").
    pub(crate) fn of_stream(timeouts: &Timeouts, head: &Head) -> Option<Self> {
        let call = grpc::is_call(head) && head.value("te").is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
        if call { None } else { Self::of(timeouts) }
    }

    /// It is waited for the client from now on, if it was not before.
    pub(crate) fn wait(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// So many bytes came.
    pub(crate) fn came(&mut self, bytes: usize) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.settle(bytes, waited);
    }

    fn settle(&mut self, bytes: usize, waited: Duration) {
        let earned = Duration::from_secs(bytes as u64) / self.rate;
        // Who has begun with a large piece has no more than anybody else can have.
        let left = self.left.saturating_sub(waited);
        self.left = left.saturating_add(earned).min(AHEAD_MAX.max(left));
    }

    /// How long the next byte may take, from when it began to be waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(20);

    fn pace(rate: u32) -> Pace {
        Pace { left: GRACE, since: None, rate }
    }

    /// How long a sender of `bytes` every `gap` lasts, up to an hour.
    fn lasts(rate: u32, bytes: usize, gap: Duration) -> Duration {
        let mut pace = pace(rate);
        let mut at = Duration::ZERO;
        while at < Duration::from_secs(3600) && gap < pace.patience() {
            pace.settle(bytes, gap);
            at += gap;
        }
        at
    }

    #[test]
    fn a_byte_now_and_then_does_not_last_and_the_rate_does() {
        assert!(lasts(240, 1, Duration::from_secs(1)) < Duration::from_secs(21));
        assert!(lasts(240, 1, Duration::from_millis(10)) < Duration::from_secs(35));
        assert_eq!(lasts(240, 240, Duration::from_secs(1)), Duration::from_secs(3600));
        assert_eq!(lasts(240, 10_000, Duration::from_secs(15)), Duration::from_secs(3600), "pieces with pauses");
        assert_eq!(lasts(240, 1 << 30, Duration::from_secs(61)), Duration::ZERO, "a pause longer than may be");
    }

    proptest! {
        /// Whatever the pattern: who lasts has sent at the rate, but for what could be had ahead.
        #[test]
        fn nobody_lasts_who_sends_less_than_the_rate(
            rate in 1_u32..100_000,
            pieces in proptest::collection::vec((0_usize..100_000, 0_u64..70_000), 1..200),
        ) {
            let mut pace = pace(rate);
            let (mut sent, mut waited) = (0_u64, Duration::ZERO);
            for (bytes, gap_ms) in pieces {
                let gap = Duration::from_millis(gap_ms);
                if gap >= pace.patience() {
                    break;
                }
                pace.settle(bytes, gap);
                sent += bytes as u64;
                waited += gap;
            }
            let earned = sent as f64 / f64::from(rate);
            prop_assert!(waited.as_secs_f64() <= GRACE.as_secs_f64() + earned + 0.01);
            prop_assert!(pace.patience() <= AHEAD_MAX);
        }
    }
}
