//! The chance that a worker brings into decisions: seeded once, never read from inside a decision's own logic.

use crate::routing::splitter::Splitter;

/// A small generator for choices that nobody can gain by predicting (balancing, sampling, request ids): xorshift64*.
#[derive(Debug)]
pub struct Rng(u64);

/// The splitters of one worker, by service slot.
#[derive(Debug, Default)]
pub struct Splitters(Vec<Splitter>);

// === impl Rng ===

impl Rng {
    /// A generator; any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Uniform over u64, but for 0.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform below `n`, which is above 0.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.draw()) * n as u128) >> 64) as usize
    }
}

// === impl Splitters ===

impl Splitters {
    /// The next draw for the service of `slot`.
    #[inline]
    pub fn draw(&mut self, slot: usize, rng: &mut Rng) -> u64 {
        while self.0.len() <= slot {
            self.0.push(Splitter::new(rng.draw()));
        }
        self.0[slot].draw()
    }
}
