//! Latency histogram with fixed memory: log-linear buckets, one writer, mergeable over workers.
//!
//! A power of two is cut into 16 equal cells, so a cell is at most 1/16 of its lower edge wide and its middle is
//! within 3.2 % of everything in it. A cell that holds one of [`BOUNDS_S`] is cut once more exactly there, so the
//! Prometheus counts and the quantiles come from the same numbers and are exact at every `le`.

use super::count::Count;

/// Bounds that are shown in Prometheus text, in seconds.
pub const BOUNDS_S: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Cells per power of two.
const SUB: usize = 16;

/// Values from 2^27 µs (134 s) fall into the last bucket.
const TOP_BIT: usize = 27;

/// Cells before the bounds cut them: `0..SUB` one by one, [`SUB`] for each power of two from 2^4 to 2^26, the rest.
const CELLS: usize = SUB + (TOP_BIT - 4) * SUB + 1;

/// Number of buckets.
pub const BUCKETS_MAX: usize = CELLS + BOUNDS_S.len();

/// Static and not constant: indexing a constant copies all of it first.
static PLACE: Place = Place::new();

/// Durations by bucket, written by one worker.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Count]>,
    sum_us: Count,
}

/// What histograms held at one moment, summed; what windows and quantiles are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    counts: Box<[u64]>,
    sum_us: u64,
}

/// Where cells begin among the buckets, and where bounds cut them; made by the compiler.
struct Place {
    /// First bucket of each cell.
    first: [u16; CELLS],
    /// From this value on the cell's second bucket; [`u32::MAX`] when it is not cut.
    cut: [u32; CELLS],
    /// Largest duration of each bucket, in µs.
    upper: [u64; BUCKETS_MAX],
    /// The bucket that ends at each of [`BOUNDS_S`].
    bound: [usize; BOUNDS_S.len()],
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
        self.buckets[bucket(us)].add(1);
    }
}

// === impl Summary ===

impl Default for Summary {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS_MAX].into(), sum_us: 0 }
    }
}

impl Summary {
    /// The sum of `histograms` as they are now; any thread.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut summary = Self::default();
        for histogram in histograms {
            summary.sum_us = summary.sum_us.wrapping_add(histogram.sum_us.value());
            for (total, count) in summary.counts.iter_mut().zip(&histogram.buckets) {
                *total += count.value();
            }
        }
        summary
    }

    /// What came after `earlier`, a summary of the same histograms.
    pub fn since(&self, earlier: &Summary) -> Summary {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Summary { counts, sum_us: self.sum_us.wrapping_sub(earlier.sum_us) }
    }

    /// Adds `other`.
    pub fn merge(&mut self, other: &Summary) {
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
        self.counts.iter_mut().zip(&other.counts).for_each(|(total, count)| *total += count);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// How many were at most each of [`BOUNDS_S`]: exact, cumulative.
    pub fn at_most(&self) -> [u64; BOUNDS_S.len()] {
        let mut total = 0;
        let mut from = 0;
        std::array::from_fn(|i| {
            total += self.counts[from..=PLACE.bound[i]].iter().sum::<u64>();
            from = PLACE.bound[i] + 1;
            total
        })
    }

    /// How many were longer than `us` microseconds: exact when `us` is a [`Summary::border`], else as if it were the
    /// next one. What is over 134 s is longer than any.
    pub fn above(&self, us: u64) -> u64 {
        let last = BUCKETS_MAX - 1;
        self.counts[(bucket(us) + 1).min(last)..].iter().sum()
    }

    /// The shortest duration in µs, not below `us`, at which [`Summary::above`] is exact; at most 134 s.
    pub fn border(us: u64) -> u64 {
        PLACE.upper[bucket(us).min(BUCKETS_MAX - 2)]
    }

    /// The shortest [`Summary::border`] that a part `q` (`0.0..=1.0`) of all stays at or below, so that counting what
    /// is above it is exact. 134 s, which nothing but the longest exceeds, when empty.
    pub fn threshold_at(&self, q: f64) -> u64 {
        let rank = ((self.count() as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        PLACE.upper[found.unwrap_or(BUCKETS_MAX).min(BUCKETS_MAX - 2)]
    }

    /// The duration in µs that a part `q` (`0.0..=1.0`) of all stays at or below, to within 3.2 %; none when empty.
    /// Above 134 s it is only known that it was more.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let lower = bucket.checked_sub(1).map_or(0, |below| PLACE.upper[below] + 1);
        Some(if bucket + 1 == BUCKETS_MAX { lower } else { lower.midpoint(PLACE.upper[bucket]) })
    }
}

/// Bucket of a duration. Cells are found by `us - 1`, because `le` includes its bound.
#[inline]
fn bucket(us: u64) -> usize {
    let value = us.saturating_sub(1).min(1 << TOP_BIT);
    let cell = cell(value);
    usize::from(PLACE.first[cell]) + usize::from(value >= u64::from(PLACE.cut[cell]))
}

#[inline]
const fn cell(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let bit = value.ilog2() as usize;
    if bit >= TOP_BIT {
        return CELLS - 1;
    }
    (bit - 3) * SUB + ((value >> (bit - 4)) as usize - SUB)
}

impl Place {
    const fn new() -> Self {
        let mut place = Self {
            first: [0; CELLS],
            cut: [u32::MAX; CELLS],
            upper: [u64::MAX; BUCKETS_MAX],
            bound: [0; BOUNDS_S.len()],
        };
        let (mut cell, mut bucket, mut next) = (0, 0, 0);
        while cell < CELLS {
            place.first[cell] = bucket as u16;
            // The first value of the next cell is the largest duration of this one, since values are durations - 1.
            let end = if cell + 1 < CELLS { first_value(cell + 1) } else { u64::MAX };
            if next < BOUNDS_S.len() && bound_us(next) <= end {
                let bound = bound_us(next);
                place.bound[next] = bucket;
                next += 1;
                if bound < end {
                    place.cut[cell] = bound as u32;
                    place.upper[bucket] = bound;
                    bucket += 1;
                }
            }
            place.upper[bucket] = end;
            bucket += 1;
            cell += 1;
        }
        place
    }
}

const fn first_value(cell: usize) -> u64 {
    if cell < SUB {
        return cell as u64;
    }
    let bit = cell / SUB + 3;
    ((SUB + cell % SUB) as u64) << (bit - 4)
}

const fn bound_us(index: usize) -> u64 {
    (BOUNDS_S[index] * 1e6 + 0.5) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(values: &[u64]) -> Summary {
        let histogram = Histogram::default();
        values.iter().for_each(|&us| histogram.record_us(us));
        Summary::of([&histogram])
    }

    #[test]
    fn a_bound_counts_into_its_own_le_and_one_more_microsecond_into_the_next() {
        for (i, bound) in BOUNDS_S.iter().enumerate() {
            let us = (bound * 1e6).round() as u64;
            let at_most = filled(&[us - 1, us, us + 1]).at_most();
            assert_eq!(at_most[i], 2, "le {bound}");
            assert_eq!(at_most[..i].iter().sum::<u64>(), 0, "le {bound}");
        }
    }

    #[test]
    fn an_empty_summary_has_no_quantile() {
        assert_eq!(Summary::default().quantile_us(0.5), None);
    }

    #[test]
    fn the_longest_is_above_every_threshold() {
        let summary = filled(&[2, 1_000_000_000]);
        assert_eq!((summary.above(u64::MAX), summary.above(0), summary.above(summary.threshold_at(1.0))), (1, 2, 1));
        assert_eq!(Summary::default().above(Summary::default().threshold_at(0.5)), 0);
    }

    #[test]
    fn a_window_holds_only_what_came_after_its_start() {
        let histogram = Histogram::default();
        histogram.record_us(10);
        let before = Summary::of([&histogram]);
        histogram.record_us(9_000_000);
        let window = Summary::of([&histogram]).since(&before);
        assert_eq!((window.count(), window.sum_s()), (1, 9.0));
        assert!(window.quantile_us(0.0).unwrap() > 8_500_000);
    }

    proptest! {
        #[test]
        fn counts_at_every_bound_are_exact(values in proptest::collection::vec(0_u64..20_000_000, 0..200)) {
            let summary = filled(&values);
            for (bound, count) in BOUNDS_S.iter().zip(summary.at_most()) {
                let limit = (bound * 1e6).round() as u64;
                prop_assert_eq!(count, values.iter().filter(|&&us| us <= limit).count() as u64);
            }
            prop_assert_eq!(summary.count(), values.len() as u64);
        }

        #[test]
        fn a_quantile_is_within_four_percent(us in 1_u64..134_000_000, q in 0.0_f64..1.0) {
            let found = filled(&[us]).quantile_us(q).unwrap();
            prop_assert!(found.abs_diff(us) as f64 <= (us as f64 * 0.04).max(1.0), "{us} was read as {found}");
        }

        #[test]
        fn what_is_above_a_threshold_is_exact(
            values in proptest::collection::vec(0_u64..20_000_000, 0..200), us in 0_u64..20_000_000, q in 0.0_f64..1.0,
        ) {
            let summary = filled(&values);
            let border = Summary::border(us);
            prop_assert!(border >= us && Summary::border(border) == border);
            let above = |limit: u64| values.iter().filter(|&&us| us > limit).count() as u64;
            prop_assert_eq!(summary.above(border), above(border));
            prop_assert_eq!(summary.above(us), above(border));
            let threshold = summary.threshold_at(q);
            prop_assert_eq!(Summary::border(threshold), threshold);
            prop_assert_eq!(summary.above(threshold), above(threshold));
            prop_assert!(above(threshold) as f64 <= values.len() as f64 * (1.0 - q) + 1e-9);
        }

        #[test]
        fn any_duration_has_a_bucket_and_buckets_rise(a in any::<u64>(), b in any::<u64>()) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(bucket(low) <= bucket(high) && bucket(high) < BUCKETS_MAX);
            prop_assert!(high <= PLACE.upper[bucket(high)]);
        }
    }
}
