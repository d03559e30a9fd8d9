//! What is counted of a pool's attempts by the lane in which they came: two halves of what the weights placed there,
//! and what something else sent. It says nothing of what the counts mean; `reading` sums them up.

use std::sync::OnceLock;

use super::count::Count;
use super::histogram::Histogram;

/// By what a request came to its pool. Only the first attempt of a request is placed by the weights; whatever comes to
/// a pool by failover, spill or as a retry is [`Lane::Named`] there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Placed by the weights (splitter or bucket); one half, by a fair coin that no weight depends on.
    A,
    /// The other half.
    B,
    /// By a listener, path, route, override, cohort, drain, failover, spill or retry.
    Named,
}

/// What an answer said of the caches that it came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheAnswer {
    /// One of them had it.
    Hit,
    /// None of them had it.
    Miss,
}

/// One worker's counts of one lane of a pool.
#[derive(Debug, Default)]
pub struct LaneShard {
    /// Time from request head to the end of the response, of requests whose last attempt came by this lane.
    pub latency: Histogram,
    /// Attempts in which the pool failed: no connection, no or a broken answer, a timeout, a status of 500 or above.
    pub errors: Count,
    /// Units whose first error since the unit ledger was armed this was.
    pub first_errors: Count,
    /// Units that were seen first since the unit ledger was armed.
    pub units: Count,
    /// Answers of 400 to 499.
    pub client_errors: Count,
    /// Answers that the endpoint cut short, and tunnels that it reset.
    pub disconnects: Count,
    /// Answers that said what their cache did, by [`CacheAnswer`]; only of services that count them.
    pub cache: [Count; 2],
    /// Tunnels that ended: attempts whose length says nothing, so that it is kept out of this lane's latency.
    pub tunnels: Count,
    /// Of those in `latency`, requests that are no attempt to judge: the client left or the proxy refused.
    pub uncounted: Count,
    /// Time of failed attempts that another one followed; made when there is one.
    lost: OnceLock<Box<Histogram>>,
}

// === impl Lane ===

impl Lane {
    /// Every lane, in the order of [`Lane::index`].
    pub const ALL: [Lane; 3] = [Lane::A, Lane::B, Lane::Named];

    /// Position in [`Lane::ALL`].
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::A => "a",
            Lane::B => "b",
            Lane::Named => "named",
        }
    }

    /// The half of a unit: the same for as long as its bucket is, and independent of where the split cuts.
    #[inline]
    pub fn of_bucket(bucket: u32) -> Self {
        // The finaliser of splitmix64 over the bucket and a salt of its own (pi in hexadecimal).
        let mut x = u64::from(bucket) ^ 0x243f_6a88_85a3_08d3;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::of_draw(x ^ (x >> 31))
    }

    /// The half of a request that belongs to no unit; `draw` is uniform over u64.
    #[inline]
    pub fn of_draw(draw: u64) -> Self {
        // A bit from the middle: what else the draw decides is decided by its upper end.
        if draw & (1 << 20) == 0 { Lane::A } else { Lane::B }
    }
}

// === impl CacheAnswer ===

impl CacheAnswer {
    /// Both, in declaration order.
    pub const ALL: [CacheAnswer; 2] = [CacheAnswer::Hit, CacheAnswer::Miss];

    /// The word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheAnswer::Hit => "hit",
            CacheAnswer::Miss => "miss",
        }
    }
}

// === impl LaneShard ===

impl LaneShard {
    /// Counts the time of a failed attempt that another one followed.
    #[cold]
    pub fn lose_us(&self, us: u64) {
        self.lost.get_or_init(Box::default).record_us(us);
    }

    /// What [`LaneShard::lose_us`] counted; none before the first.
    pub fn lost(&self) -> Option<&Histogram> {
        self.lost.get().map(Box::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BUCKETS;

    #[test]
    fn halves_are_halves_of_any_range_of_buckets_and_of_any_draws() {
        for range in [0..BUCKETS, 0..10_000, 990_000..BUCKETS, 123_456..223_456] {
            let n = f64::from(range.end - range.start);
            let a = range.clone().filter(|&bucket| Lane::of_bucket(bucket) == Lane::A).count() as f64;
            assert!((a - n / 2.0).abs() < 2.0 * n.sqrt(), "{a} of {n} in {range:?}");
        }
        assert_eq!(Lane::of_draw(0), Lane::A);
        assert_eq!(Lane::of_draw(u64::MAX), Lane::B);
    }
}
