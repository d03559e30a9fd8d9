//! The draws that decide a request when nothing sticks: as even as round robin over any hundred of them, and as random
//! as dice to a client that walks a loop of URLs. It knows nothing of weights or pools ([`super::split`] compares), so
//! a weight change needs no reset.
//!
//! # Method
//!
//! A block of 32 draws lands once in every 32nd of the line, in a random order; all draws of a block lie at the same
//! offset within their 32nd. The offset walks in golden-ratio steps from block to block and starts afresh every 8.
//! The random order makes any two draws of a block negatively correlated and draws of different blocks as good as
//! independent, so no loop of any length can beat with it; the shared offset makes a block's hits exact to one, and the
//! golden-ratio steps keep those ones apart.
//!
//! # Measured against
//!
//! *windows*: fewest and most hits at 10 % in any 100 and any 1 000 consecutive draws of 60 million (20 seeds).
//! *loops*: over loop lengths 2 to 300, the largest variance of one URL's hits in 100 loops, as a multiple of what
//! independent draws have; 1.05 is the noise of the measurement.
//!
//! | sequence | window 100 | window 1 000 | loops at 1 % | at 10 % | at 50 % | ns |
//! |---|---|---|---|---|---|---|
//! | independent draws | 0–29 | 58–150 | 1.05 | 1.04 | 1.04 | 1.3 |
//! | golden ratio | 8–12 | 99–101 | 10 (141) | 37 (233) | 74 (233) | 0.6 |
//! | golden ratio, fresh offset every 34 | 7–14 | 88–114 | 1.05 | 1.87 (13) | 2.90 (8) | 0.9 |
//! | golden ratio, fresh offset every 55 | 7–14 | 90–110 | 1.05 | 2.18 (21) | 3.43 (13) | 1.0 |
//! | shuffled 32nds, fresh offset every block | 6–16 | 90–114 | 1.07 | 1.04 | 1.05 | 3.0 |
//! | shuffled 64ths, offset walks 8 blocks | 3–18 | 92–109 | 1.04 | 1.06 | 1.05 | 2.8 |
//! | shuffled 32nds, offset walks 34 blocks | 6–14 | 94–106 | 1.10 (85) | 1.05 | 1.05 | 2.8 |
//! | **shuffled 32nds, offset walks 8 blocks** | **6–15** | **93–107** | 1.04 | 1.04 | 1.04 | 2.8 |
//!
//! A golden-ratio run inside a block still beats with short loops (of 8, 13 and 21 URLs), which is why the order is
//! shuffled. The bounds of the last line do not depend on luck: 6–15 and 92–109 hold for every seed (the test
//! `no_window_can_leave_its_bounds` derives them).

/// Draws per block. Any 100 consecutive draws hold two whole blocks, at 10 % at least 3 hits each.
const BLOCK: usize = 32;

/// Blocks that share one golden-ratio walk of their offset. Longer walks beat with loops at small shares (see above).
const WALK: u32 = 8;

/// 2^64 divided by the golden ratio: the step whose multiples keep farthest from each other.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A sequence of draws, one per worker and service. Never shared: it has no lock.
#[derive(Debug, Clone)]
pub struct Splitter {
    /// State of the generator (splitmix64).
    state: u64,
    /// Where in its 32nd every draw of this block lies; its upper 59 bits are used.
    offset: u64,
    /// Draws left in this block.
    left: u32,
    /// Blocks left in this walk.
    blocks: u32,
    /// The 32nds; the first `left` are still to be drawn.
    strata: [u8; BLOCK],
}

// === impl Splitter ===

impl Splitter {
    /// Starts a sequence; workers and replicas take different seeds so that they do not march in step.
    pub fn new(seed: u64) -> Self {
        let strata = std::array::from_fn(|i| i as u8);
        let mut splitter = Self { state: seed, offset: 0, left: 0, blocks: 0, strata };
        // The first block starts at a random place, as if the sequence had always been running: its draws so far are
        // drawn and dropped, so that what is left of it is as mixed as any rest.
        splitter.begin_block();
        for _ in 0..splitter.random() >> 59 {
            splitter.draw();
        }
        splitter
    }

    /// The next draw, uniform over `u64`.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        if self.left == 0 {
            self.begin_block();
        }
        // One step of a Fisher-Yates shuffle; the strata of the last block in any order are as good a start as sorted.
        let chosen = ((self.random() >> 32) * u64::from(self.left)) >> 32;
        self.left -= 1;
        // Both indices are below 32 already; the masks spare the bounds checks.
        let (chosen, last) = (chosen as usize % BLOCK, self.left as usize % BLOCK);
        self.strata.swap(chosen, last);
        let stratum = self.strata[last];
        (u64::from(stratum) << 59) | (self.offset >> 5)
    }

    fn begin_block(&mut self) {
        self.left = BLOCK as u32;
        if self.blocks == 0 {
            self.blocks = WALK;
            self.offset = self.random();
        }
        self.blocks -= 1;
        self.offset = self.offset.wrapping_add(GOLDEN);
    }

    /// splitmix64 (Steele, Lea, Flood 2014): its constants are the published ones.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: u64 = u64::MAX / 10;

    /// Fewest and most hits in any `window` consecutive draws.
    fn extremes(hits: &[bool], window: usize) -> (u32, u32) {
        let mut inside = hits[..window].iter().filter(|&&hit| hit).count() as u32;
        let mut extremes = (inside, inside);
        for (entering, leaving) in hits[window..].iter().zip(hits) {
            inside = inside + u32::from(*entering) - u32::from(*leaving);
            extremes = (extremes.0.min(inside), extremes.1.max(inside));
        }
        extremes
    }

    /// How far one URL's hits in 100 loops of `length` spread, as a multiple of the variance of independent draws.
    fn spread(length: usize, threshold: u64, mut draw: impl FnMut() -> u64) -> f64 {
        let share = threshold as f64 / 2_f64.powi(64);
        let walks = 1_000_usize.div_ceil(length);
        let mut squares = 0.0;
        for _ in 0..walks {
            let mut hits = vec![0_u32; length];
            for _ in 0..100 {
                hits.iter_mut().for_each(|hits| *hits += u32::from(draw() < threshold));
            }
            squares += hits.iter().map(|&hits| (f64::from(hits) - 100.0 * share).powi(2)).sum::<f64>();
        }
        squares / (walks * length) as f64 / (100.0 * share * (1.0 - share))
    }

    /// Who tries ten requests on a fresh process must not see more of the canary than its share.
    #[test]
    fn the_first_draws_of_a_sequence_are_as_fair_as_all_others() {
        let seeds = 20_000_u64;
        for first in [1_usize, 2, 5, 10, 20, 32] {
            let hits = (0..seeds).map(|seed| {
                let mut splitter = Splitter::new(seed.wrapping_mul(GOLDEN));
                (0..first).filter(|_| splitter.draw() < TENTH).count()
            });
            let share = hits.sum::<usize>() as f64 / (seeds as f64 * first as f64);
            // Five standard deviations of independent draws.
            let bound = 5.0 * (0.09 / (seeds as f64 * first as f64)).sqrt();
            assert!((share - 0.1).abs() < bound, "the first {first}: {share}");
        }
    }

    #[test]
    fn any_hundred_draws_hold_6_to_15_hits_and_any_thousand_90_to_110() {
        for seed in 0..50_u64 {
            let mut splitter = Splitter::new(seed << 32 | seed);
            let hits: Vec<bool> = (0..60_000).map(|_| splitter.draw() < TENTH).collect();
            let (hundred, thousand) = (extremes(&hits, 100), extremes(&hits, 1_000));
            assert!(hundred.0 >= 6 && hundred.1 <= 15, "seed {seed}: {hundred:?}");
            assert!(thousand.0 >= 90 && thousand.1 <= 110, "seed {seed}: {thousand:?}");
        }
    }

    /// Hits that offsets of `blocks` consecutive blocks can add to their 3 each: 32 × 10 % = 3.2, so an offset below
    /// 0.2 adds one. All starting points are tried that could make a difference.
    fn added(blocks: u64) -> (u64, u64) {
        let fifth = u64::MAX / 5;
        let borders = (1..=blocks).flat_map(|k| [0, fifth].map(|edge: u64| edge.wrapping_sub(GOLDEN.wrapping_mul(k))));
        let count = |start: u64| (1..=blocks).filter(|k| start.wrapping_add(GOLDEN.wrapping_mul(*k)) < fifth).count();
        let starts = borders.flat_map(|border| [border.wrapping_sub(9), border.wrapping_add(9)]);
        let counts: Vec<u64> = starts.map(|start| count(start) as u64).collect();
        (counts.iter().copied().min().unwrap_or(0), counts.iter().copied().max().unwrap_or(0))
    }

    /// The bounds for a window whose first block lends `first` draws and is followed by `walk - 1` blocks of its walk.
    fn bounds(window: u64, first: u64, walk: usize) -> (u64, u64) {
        let mut lent = vec![first];
        while lent.iter().sum::<u64>() < window {
            lent.push((window - lent.iter().sum::<u64>()).min(32));
        }
        let (head, tail) = lent.split_at(walk.min(lent.len()));
        std::iter::once(head).chain(tail.chunks(WALK as usize)).fold((0, 0), |(least, most), blocks| {
            let whole = blocks.iter().filter(|&&draws| draws == 32).count() as u64;
            let ample = blocks.iter().filter(|&&draws| draws > 3).count() as u64;
            let parts = blocks.iter().filter(|&&draws| draws < 32);
            let sure: u64 = parts.map(|&draws| (3 + draws).saturating_sub(32)).sum();
            let scant: u64 = blocks.iter().filter(|&&draws| draws <= 3).sum();
            (least + 3 * whole + added(whole).0 + sure, most + 3 * ample + added(ample).1 + scant)
        })
    }

    #[test]
    fn no_window_can_leave_its_bounds() {
        for (window, expected) in [(100, (6, 15)), (1_000, (92, 109))] {
            let all = (1..=32).flat_map(|first| (1..=WALK as usize).map(move |walk| bounds(window, first, walk)));
            let worst = all.fold((u64::MAX, 0), |worst, found| (worst.0.min(found.0), worst.1.max(found.1)));
            assert_eq!(worst, expected, "window {window}");
        }
    }

    #[test]
    fn a_client_that_walks_a_loop_sees_no_wider_shares_than_dice_give() {
        for (share, dice_seed) in [(TENTH, 11), (u64::MAX / 2, 12)] {
            let (mut own, mut dice) = (Vec::new(), Vec::new());
            for length in 2..=300 {
                let (mut splitter, mut random) =
                    (Splitter::new(length as u64), Splitter::new(dice_seed + length as u64));
                own.push(spread(length, share, || splitter.draw()));
                dice.push(spread(length, share, || random.random()));
            }
            let mean = |spreads: &[f64]| spreads.iter().sum::<f64>() / spreads.len() as f64;
            let worst = |spreads: &[f64]| spreads.iter().copied().fold(0.0, f64::max);
            assert!(mean(&own) < mean(&dice), "{} against {}", mean(&own), mean(&dice));
            assert!(worst(&own) < 1.05 * worst(&dice), "{} against {}", worst(&own), worst(&dice));
        }
    }

    #[test]
    fn a_weight_change_in_the_middle_of_a_block_needs_no_reset() {
        let mut splitter = Splitter::new(7);
        for (threshold, share) in [(TENTH, 0.1), (u64::MAX / 2, 0.5), (TENTH, 0.1), (0, 0.0), (u64::MAX / 3, 1.0 / 3.0)]
        {
            let hits = (0..1_003).filter(|_| splitter.draw() < threshold).count() as f64;
            assert!((hits - 1_003.0 * share).abs() <= 16.0, "{hits} at {share}");
        }
    }

    #[test]
    fn draws_are_uniform_in_their_high_and_low_bits() {
        let mut splitter = Splitter::new(3);
        let (mut high, mut low) = ([0_u32; 64], [0_u32; 64]);
        for _ in 0..640_000 {
            let draw = splitter.draw();
            high[(draw >> 58) as usize] += 1;
            low[(draw & 63) as usize] += 1;
        }
        // A block shares its low bits, so 20 000 blocks carry them; six deviations of that.
        assert!(high.iter().all(|&count| count.abs_diff(10_000) < 600), "{high:?}");
        assert!(low.iter().all(|&count| count.abs_diff(10_000) < 3_400), "{low:?}");
    }

    #[test]
    fn workers_with_different_seeds_do_not_march_in_step() {
        let (mut one, mut other) = (Splitter::new(1), Splitter::new(2));
        let equal = (0..32_000).filter(|_| one.draw() >> 59 == other.draw() >> 59).count();
        assert!((700..1_300).contains(&equal), "{equal} of 32000 fell on the same 32nd; 1000 would by chance");
    }
}
