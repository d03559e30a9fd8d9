//! From weights to a pool: the one place where shares become ranges. It does not know what a draw or a bucket comes
//! from ([`super::splitter`], [`super::bucket`], [`super::cookie`]), nor whether a pool can serve.
//!
//! # Layout
//!
//! The pools lie side by side on one line, of 2^64 draws or of 1 000 000 buckets. The pools other than stable, sorted
//! by name, take their places from the two ends: the 1st from the bottom upwards, the 2nd from the top downwards, the
//! 3rd above the 1st, the 4th below the 2nd, and so on; stable takes what is left in the middle. A pool keeps its place
//! at weight 0, so the places depend on the names alone, and the bucket and the weights alone decide the pool.
//!
//! With stable and canary: canary exactly when `bucket < round(share × 1 000 000)`. Every border is rounded to the
//! nearest bucket, halves up. Raising one pool's weight only ever widens its range, so no unit leaves it. When several
//! weights change at once, that holds for the two pools at the ends whenever their share rises; no layout on a line can
//! hold it for all of four or more.

use crate::model::{BUCKETS, Name, Weights};

/// The ranges of one service's pools, made once per snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    layout: Layout,
    /// Weight of each pool, by pool index.
    weights: Box<[u32]>,
    total: u64,
}

/// The pools that have a range at all, from the bottom of the line to its top.
#[derive(Debug, Clone, PartialEq)]
enum Layout {
    One(usize),
    Two { low: Range, high: usize },
    Many { lower: Box<[Range]>, top: usize },
}

/// A pool and the first draw and bucket above its range.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    pool: usize,
    draw_end: u64,
    bucket_end: u32,
}

// === impl Split ===

impl Split {
    /// Lays out `pools`, given in the snapshot's order: what the methods return are positions in it. Weights of pools
    /// that are not in `pools` do not count. If none of `pools` has a weight (a caller's mistake, since [`Weights`] is
    /// never all zero), everything goes to `stable`, or to the first pool if `stable` is not among them.
    pub fn new(weights: &Weights, pools: &[Name], stable: &str) -> Self {
        let fallback = pools.iter().position(|pool| pool.as_str() == stable).unwrap_or(0);
        let mut by_pool: Box<[u32]> = pools.iter().map(|pool| weights.of(pool)).collect();
        if by_pool.iter().all(|&weight| weight == 0)
            && let Some(weight) = by_pool.get_mut(fallback)
        {
            *weight = 1;
        }
        let total = by_pool.iter().map(|&weight| u64::from(weight)).sum::<u64>().max(1);
        let ranges = ranges(&by_pool, total, &places(pools, stable));
        let layout = match *ranges.as_slice() {
            [] => Layout::One(fallback),
            [only] => Layout::One(only.pool),
            [low, high] => Layout::Two { low, high: high.pool },
            [ref lower @ .., top] => Layout::Many { lower: lower.into(), top: top.pool },
        };
        Self { layout, weights: by_pool, total }
    }

    /// The pool of a draw that is uniform over all of `u64`. A pool of weight 0 is never returned; every other gets its
    /// share to within 2^-64 per border.
    #[inline]
    pub fn by_draw(&self, draw: u64) -> usize {
        match &self.layout {
            Layout::One(pool) => *pool,
            Layout::Two { low, high } => {
                if draw < low.draw_end {
                    low.pool
                } else {
                    *high
                }
            }
            Layout::Many { lower, top } => {
                lower.iter().find(|range| draw < range.draw_end).map_or(*top, |range| range.pool)
            }
        }
    }

    /// The pool of a bucket in `0..1_000_000`; larger ones count as the last bucket. A pool of weight 0 is never
    /// returned.
    #[inline]
    pub fn by_bucket(&self, bucket: u32) -> usize {
        match &self.layout {
            Layout::One(pool) => *pool,
            Layout::Two { low, high } => {
                if bucket < low.bucket_end {
                    low.pool
                } else {
                    *high
                }
            }
            Layout::Many { lower, top } => {
                lower.iter().find(|range| bucket < range.bucket_end).map_or(*top, |range| range.pool)
            }
        }
    }

    /// The part of the whole that a pool gets, `0.0..=1.0`; 0 for a pool that does not exist.
    pub fn share(&self, pool: usize) -> f64 {
        self.weights.get(pool).map_or(0.0, |&weight| f64::from(weight) / self.total as f64)
    }

    /// How many of the 1 000 000 buckets have another pool in `other`. Both must be laid out over the same `pools`.
    pub fn moved(&self, other: &Split) -> u32 {
        let mut borders: Vec<u32> = self.bucket_ends().chain(other.bucket_ends()).chain([BUCKETS]).collect();
        borders.sort_unstable();
        let (mut moved, mut start) = (0, 0);
        for border in borders {
            if border > start {
                moved += if self.by_bucket(start) == other.by_bucket(start) { 0 } else { border - start };
                start = border;
            }
        }
        moved
    }

    fn bucket_ends(&self) -> impl Iterator<Item = u32> {
        let lower = match &self.layout {
            Layout::One(_) => &[],
            Layout::Two { low, .. } => std::slice::from_ref(low),
            Layout::Many { lower, .. } => lower,
        };
        lower.iter().map(|range| range.bucket_end)
    }
}

/// Pool indices in their places on the line.
fn places(pools: &[Name], stable: &str) -> Vec<usize> {
    let mut others: Vec<usize> = (0..pools.len()).filter(|&i| pools[i].as_str() != stable).collect();
    others.sort_by(|&a, &b| pools[a].cmp(&pools[b]));
    let mut line: Vec<usize> = others.iter().copied().step_by(2).collect();
    line.extend(pools.iter().position(|pool| pool.as_str() == stable));
    let from_top: Vec<usize> = others.iter().copied().skip(1).step_by(2).collect();
    line.extend(from_top.into_iter().rev());
    line
}

/// The ranges of the pools with a weight above 0, in line order.
fn ranges(weights: &[u32], total: u64, line: &[usize]) -> Vec<Range> {
    let mut below = 0;
    let weighted = line.iter().filter(|&&pool| weights[pool] > 0);
    let range = |&pool: &usize| {
        below += u64::from(weights[pool]);
        Range { pool, draw_end: draw_border(below, total), bucket_end: bucket_border(below, total) }
    };
    weighted.map(range).collect()
}

/// `below / total` of 2^64, rounded down; the very top of the line has no border and is cut to the largest draw.
fn draw_border(below: u64, total: u64) -> u64 {
    u64::try_from((u128::from(below) << 64) / u128::from(total)).unwrap_or(u64::MAX)
}

/// `below / total` of the buckets, rounded to the nearest, halves up.
fn bucket_border(below: u64, total: u64) -> u32 {
    ((2 * below * u64::from(BUCKETS) + total) / (2 * total)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Weight;

    const POOLS: [&str; 6] = ["stable", "canary", "beta", "alpha", "zeta", "delta"];

    fn names(count: usize) -> Vec<Name> {
        POOLS[..count].iter().map(|pool| Name::new(pool).expect("a name")).collect()
    }

    fn split(weights: &[u32]) -> Split {
        let pools = names(weights.len());
        let entries = pools.iter().cloned().zip(weights.iter().map(|&weight| Weight::Relative(weight))).collect();
        Split::new(&Weights::new(entries).expect("legal weights"), &pools, "stable")
    }

    /// Buckets of each pool, counted one range at a time.
    fn buckets(split: &Split, pools: usize) -> Vec<u32> {
        let mut counts = vec![0; pools];
        let mut start = 0;
        for end in split.bucket_ends().chain([BUCKETS]) {
            if end > start {
                counts[split.by_bucket(start)] += end - start;
                start = end;
            }
        }
        counts
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        let weight = prop_oneof![Just(0_u32), 0_u32..=100, 0_u32..=1_000_000];
        prop::collection::vec(weight, 1..=POOLS.len()).prop_filter("all zero", |all| all.iter().any(|&w| w > 0))
    }

    #[test]
    fn with_stable_and_canary_a_bucket_below_the_share_is_canary() {
        for (stable, canary, border) in [(90, 10, 100_000), (50, 50, 500_000), (2, 1, 333_333), (1, 2, 666_667)] {
            let split = split(&[stable, canary]);
            assert_eq!((split.by_bucket(0), split.by_bucket(border - 1), split.by_bucket(border)), (1, 1, 0));
            assert_eq!(split.by_bucket(BUCKETS - 1), 0);
        }
    }

    #[test]
    fn places_go_by_name_from_both_ends_with_stable_in_the_middle() {
        let split = split(&[20, 16, 16, 16, 16, 16]);
        let order: Vec<&str> = (0..1_000).map(|i| POOLS[split.by_bucket(i * 1_000)]).collect();
        let mut order = order;
        order.dedup();
        assert_eq!(order, ["alpha", "canary", "zeta", "stable", "delta", "beta"]);
    }

    #[test]
    fn all_to_one_pool_and_unnamed_pools() {
        let pools = names(3);
        let all = Weights::all_to(&pools[1], pools.iter().cloned());
        let split = Split::new(&all, &pools, "stable");
        assert_eq!((split.by_draw(0), split.by_draw(u64::MAX), split.by_bucket(0)), (1, 1, 1));
        let stranger = Weights::all_to(&Name::new("stranger").expect("a name"), []);
        let split = Split::new(&stranger, &pools, "stable");
        assert_eq!((split.by_draw(0), split.by_bucket(BUCKETS - 1)), (0, 0));
        assert!((split.share(0) - 1.0).abs() < f64::EPSILON && split.share(9) == 0.0);
    }

    #[test]
    fn ten_to_fifty_moves_exactly_the_difference_and_back() {
        let (ten, fifty, none) = (split(&[90, 10]), split(&[50, 50]), split(&[100, 0]));
        assert_eq!(
            (ten.moved(&fifty), fifty.moved(&ten), ten.moved(&none), ten.moved(&ten)),
            (400_000, 400_000, 100_000, 0)
        );
    }

    proptest! {
        #[test]
        fn a_pool_of_weight_0_is_never_returned(weights in weights(), draw: u64, bucket in 0..BUCKETS) {
            let split = split(&weights);
            for draw in [draw, 0, u64::MAX] {
                prop_assert!(weights[split.by_draw(draw)] > 0);
            }
            for bucket in [bucket, 0, BUCKETS - 1, u32::MAX] {
                prop_assert!(weights[split.by_bucket(bucket)] > 0);
            }
        }

        #[test]
        fn draws_give_every_pool_its_share_within_2_to_the_minus_32(weights in weights()) {
            let split = split(&weights);
            let lower: &[Range] = match &split.layout {
                Layout::One(_) => &[],
                Layout::Two { low, .. } => std::slice::from_ref(low),
                Layout::Many { lower, .. } => lower,
            };
            let (mut start, mut drawn) = (0_u128, vec![0_u128; weights.len()]);
            for end in lower.iter().map(|range| u128::from(range.draw_end)).chain([1 << 64]) {
                drawn[split.by_draw(start as u64)] += end - start;
                prop_assert_eq!(split.by_draw(start as u64), split.by_draw((end - 1) as u64));
                start = end;
            }
            for (pool, drawn) in drawn.iter().enumerate() {
                prop_assert!((*drawn as f64 / 2_f64.powi(64) - split.share(pool)).abs() < 2_f64.powi(-32));
            }
        }

        #[test]
        fn buckets_give_every_pool_its_share_to_the_nearest_bucket(weights in weights()) {
            let split = split(&weights);
            for (pool, count) in buckets(&split, weights.len()).into_iter().enumerate() {
                prop_assert!((f64::from(count) - split.share(pool) * 1e6).abs() <= 1.0 + 1e-6, "{pool}: {count}");
            }
        }

        #[test]
        fn raising_a_weight_never_moves_a_unit_off_its_pool(
            weights in weights(), chosen: prop::sample::Index, more in 1_u32..1_000_000, samples: [u32; 32],
        ) {
            let pool = chosen.index(weights.len());
            let mut raised = weights.clone();
            raised[pool] = (raised[pool] + more).min(crate::model::WEIGHT_MAX);
            let (before, after) = (split(&weights), split(&raised));
            let edges: Vec<u32> = before.bucket_ends().chain(after.bucket_ends()).collect();
            let edges = edges.iter().flat_map(|&end| [end.saturating_sub(1), end.min(BUCKETS - 1)]);
            for bucket in samples.iter().map(|sample| sample % BUCKETS).chain(edges) {
                if before.by_bucket(bucket) == pool {
                    prop_assert_eq!(after.by_bucket(bucket), pool, "bucket {}", bucket);
                }
            }
        }

        #[test]
        fn with_two_pools_exactly_the_difference_moves(a in 0_u32..=1000, b in 0_u32..=1000) {
            let (before, after) = (split(&[1000 - a, a]), split(&[1000 - b, b]));
            prop_assert_eq!(before.moved(&after), a.abs_diff(b) * 1000);
            prop_assert_eq!(after.moved(&before), a.abs_diff(b) * 1000);
        }

        #[test]
        fn moved_counts_what_a_scan_counts(before in weights(), after in weights()) {
            let count = before.len().min(after.len());
            prop_assume!(before[..count].iter().any(|&w| w > 0) && after[..count].iter().any(|&w| w > 0));
            let (before, after) = (split(&before[..count]), split(&after[..count]));
            // Every 997th bucket is enough to catch a range that was left out or counted twice.
            let scanned = (0..BUCKETS).step_by(997).filter(|&b| before.by_bucket(b) != after.by_bucket(b)).count();
            prop_assert!((f64::from(before.moved(&after)) - scanned as f64 * 997.0).abs() <= 997.0 * 12.0);
        }
    }
}
