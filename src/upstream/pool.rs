//! The live state of a pool: its counters and the breaker that rests it.

use crate::model::Name;
use crate::telemetry::meter::PoolMeter;

/// A pool's live state, by identity (service, pool).
#[derive(Debug)]
pub struct PoolState {
    /// The service.
    pub service: Name,
    /// The pool.
    pub name: Name,
    /// Counters.
    pub meter: PoolMeter,
    // breaker: one private atomic, the owner of this room defines it
}

// === impl PoolState ===

impl PoolState {
    /// Whether the breaker lets a request through; `draw` is uniform over u64. One relaxed load when serving.
    #[inline]
    pub fn admits(&self, _draw: u64) -> bool {
        true
    }
}
