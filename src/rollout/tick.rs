//! What one tick of a rollout counted: plain integers of the requests that were split, by pool. Nothing is judged here.

use serde::{Deserialize, Serialize};

/// Most latency thresholds that are counted against at once.
pub const LEVELS_MAX: usize = 8;

/// One arm's counts of one tick, of requests that the weights placed there (not by path, route, listener or override).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Attempts that ended.
    pub attempts: u64,
    /// Attempts that failed: no connection, no or a broken answer, a timeout, a status of 500 or above.
    pub errors: u64,
    /// Units whose first failed attempt of this rollout this was; with a split by unit.
    pub first_errors: u64,
    /// Units that were seen for the first time in this rollout; with a split by unit, else 0.
    pub units: u64,
    /// Answers of 400 to 499.
    pub client_errors: u64,
    /// Answers cut short by the endpoint.
    pub disconnects: u64,
    /// Answers that a cache had, of those that say what their cache did; none to instances that warm up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_hits: u64,
    /// Those that none had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_misses: u64,
    /// Requests whose latency counts: those that ended, less those to instances that warm up.
    pub timed: u64,
    /// Of these, how many took longer than each threshold of this arm; timeouts are longer than any.
    pub slow: [u64; LEVELS_MAX],
}

/// One tick.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Length of the tick in ms, on a clock that does not jump. Time in which nobody watched does not count.
    pub elapsed_ms: u64,
    /// The candidate's assigned part of candidate and control, by the live weights, `0.0..=1.0`.
    pub share: f64,
    /// Whether units stick (affinity): then units count once, with the assigned share.
    pub by_unit: bool,
    /// Whether the composition still settles after a change of weights; such a tick is shown and not scored.
    pub settling: bool,
    /// Whether the candidate has an endpoint to serve with.
    pub serving: bool,
    /// What is wrong with the control when it has no endpoint to serve with, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_down: Option<String>,
    /// The candidate.
    pub candidate: Arm,
    /// What it is compared with: the baseline pool or stable.
    pub control: Arm,
    /// Two halves of stable, drawn by another salt: the A/A monitor, and the dispersion.
    pub halves: [Arm; 2],
    /// The candidate's traffic that something else than the weights sent there (path, route, cohort, override).
    pub named: Arm,
    /// What the candidate and the control have in flight.
    pub in_flight: [u64; 2],
}

// === impl Arm ===

impl Arm {
    /// Adds `other`.
    pub fn add(&mut self, other: &Arm) {
        self.attempts += other.attempts;
        self.errors += other.errors;
        self.first_errors += other.first_errors;
        self.units += other.units;
        self.client_errors += other.client_errors;
        self.disconnects += other.disconnects;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
        self.timed += other.timed;
        self.slow.iter_mut().zip(other.slow).for_each(|(sum, slow)| *sum += slow);
    }
}

/// Journals and reports of services without caches need not say so in each tick.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
