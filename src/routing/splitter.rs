//! The draws that decide a request when nothing sticks: as even as round robin over any hundred of them, and as random
//! as dice to a client that walks a loop of URLs. It knows nothing of weights or pools ([`super::split`] compares), so a
//! weight change needs no reset.

/// Draws per block: each lands in another 32nd of the line. At 10 % any 100 consecutive draws hold two whole blocks with
/// at least 3 hits each, so at least 6; and they touch at most 5 blocks, which bounds them at 15.
const BLOCK: usize = 32;

/// Blocks that share one golden-ratio walk of their common offset; then it starts afresh.
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
        // The first block starts at a random place, as if the sequence had always been running.
        splitter.begin_block();
        splitter.left = 1 + (splitter.random() >> 59) as u32;
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
