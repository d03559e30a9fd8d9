//! From weights to a pool: the one place where shares become ranges. It does not know what a draw or a bucket comes from
//! ([`super::splitter`], [`super::bucket`], [`super::cookie`]), nor whether a pool can serve.
//!
//! # Layout
//!
//! The pools lie side by side on one line, of 2^64 draws or of 1 000 000 buckets. The pools other than stable, sorted by
//! name, take their places from the two ends: the 1st from the bottom upwards, the 2nd from the top downwards, the 3rd
//! above the 1st, the 4th below the 2nd, and so on; stable takes what is left in the middle. A pool keeps its place at
//! weight 0, so the places depend on the names alone, and the bucket and the weights alone decide the pool.
//!
//! With stable and canary: canary exactly when `bucket < round(share × 1 000 000)`. In general an inner border is
//! rounded to the nearest bucket, halves away from its end of the line. Raising one pool's weight only ever widens its
//! range, so no unit leaves it; with at most three pools the same holds for every change that raises its share.

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

/// Which end of the line a border is measured from.
#[derive(Clone, Copy)]
enum From {
    Bottom,
    Top,
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

/// Pool indices in their places on the line, and how many of them are measured from the bottom.
fn places(pools: &[Name], stable: &str) -> (Vec<usize>, usize) {
    let mut others: Vec<usize> = (0..pools.len()).filter(|&i| pools[i].as_str() != stable).collect();
    others.sort_by(|&a, &b| pools[a].cmp(&pools[b]));
    let mut line: Vec<usize> = others.iter().copied().step_by(2).collect();
    let from_bottom = line.len();
    line.extend(pools.iter().position(|pool| pool.as_str() == stable));
    let from_top: Vec<usize> = others.iter().copied().skip(1).step_by(2).collect();
    line.extend(from_top.into_iter().rev());
    (line, from_bottom)
}

/// The ranges of the pools with a weight above 0, in line order.
fn ranges(weights: &[u32], total: u64, (line, from_bottom): &(Vec<usize>, usize)) -> Vec<Range> {
    let (mut below, mut bucket_floor) = (0_u64, 0);
    let mut ranges = Vec::with_capacity(line.len());
    for (place, &pool) in line.iter().enumerate() {
        let weight = u64::from(weights[pool]);
        if weight == 0 {
            continue;
        }
        below += weight;
        let end = if place < *from_bottom { From::Bottom } else { From::Top };
        // Rounding from both ends may let two borders cross by one bucket; the lower one stands.
        bucket_floor = bucket_border(below, total, end).max(bucket_floor);
        ranges.push(Range { pool, draw_end: draw_border(below, total), bucket_end: bucket_floor });
    }
    ranges
}

/// `below / total` of 2^64, rounded down; the very top of the line has no border and is cut to the largest draw.
fn draw_border(below: u64, total: u64) -> u64 {
    u64::try_from((u128::from(below) << 64) / u128::from(total)).unwrap_or(u64::MAX)
}

/// `below / total` of the buckets, rounded to the nearest as seen from its end of the line, halves up.
fn bucket_border(below: u64, total: u64, end: From) -> u32 {
    let round = |part: u64| ((2 * part * u64::from(BUCKETS) + total) / (2 * total)) as u32;
    match end {
        From::Bottom => round(below),
        From::Top => BUCKETS - round(total - below),
    }
}
