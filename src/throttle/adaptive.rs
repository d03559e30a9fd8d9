//! A limit that adapts, as workers share it: one [`Gradient`] behind a lock that nobody waits for, and the limit in
//! force beside it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::gradient::Gradient;

/// The adaptive limit of one pool.
#[derive(Debug)]
pub struct Adaptive {
    /// Between which bounds.
    bounds: (u32, u32),
    gradient: Mutex<Gradient>,
    limit: AtomicU32,
}

// === impl Adaptive ===

impl Adaptive {
    /// One that begins as low as it may be.
    pub fn new(min: u32, max: u32, now_ms: u64) -> Self {
        let gradient = Gradient::new(min, max, now_ms);
        Self { bounds: (min, max), limit: AtomicU32::new(gradient.limit()), gradient: Mutex::new(gradient) }
    }

    /// Between which bounds it adapts.
    pub fn bounds(&self) -> (u32, u32) {
        self.bounds
    }

    /// The limit in force.
    #[inline]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes note of how long an answer took; by how much the limit has risen. While another worker is at it the answer
    /// is passed over: there are enough of them.
    pub fn note(&self, took_us: u64, in_flight: u32, now_ms: u64) -> u32 {
        let Ok(mut gradient) = self.gradient.try_lock() else { return 0 };
        if !gradient.note(took_us, in_flight, now_ms) {
            return 0;
        }
        let limit = gradient.limit();
        limit.saturating_sub(self.limit.swap(limit, Ordering::Relaxed))
    }
}
