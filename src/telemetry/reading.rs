//! What a pool's counters say at one moment, and what happened between two: plain integers, by lane. Nothing is judged.

use super::histogram::Summary;
use super::lane::{CacheAnswer, Lane, LaneShard};
use super::meter::PoolMeter;

/// The counters of a pool at one moment.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    lanes: [LaneCounts; 3],
}

/// What a pool did between two readings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// By [`Lane::index`].
    pub lanes: [LaneCounts; 3],
}

/// What came by one lane. Each request that the weights placed is one attempt of one lane of one pool; its retries are
/// attempts of [`Lane::Named`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Attempts that ended and say something of the pool: those that the client broke off are left out.
    pub attempts: u64,
    /// Of these, those in which the pool failed: no connection, no or a broken answer, a timeout, a status of 500 or
    /// above.
    pub errors: u64,
    /// Units whose first error this was, while the unit ledger is armed.
    pub first_errors: u64,
    /// Units that were seen first, while the unit ledger is armed.
    pub units: u64,
    /// Answers of 400 to 499.
    pub client_errors: u64,
    /// Answers that the endpoint cut short (errors as well), and tunnels that it reset (no errors).
    pub disconnects: u64,
    /// Answers that said that a cache had them, and that none had; of services that count them.
    pub cache: [u64; 2],
    /// How long it took: failed attempts and those that the client broke off included, tunnels not. A request that was
    /// retried counts with all its time in [`Lane::Named`] of the pool that answered it, and its failed attempt with
    /// its own time where it failed.
    pub latency: Summary,
}

// === impl Reading ===

impl Reading {
    /// The sum over the workers as it is now; any thread.
    pub fn of(meter: &PoolMeter) -> Self {
        Self { lanes: Lane::ALL.map(|lane| LaneCounts::of(meter, lane)) }
    }

    /// What came after `earlier`, a reading of the same pool.
    pub fn since(&self, earlier: &Reading) -> PoolCounts {
        let since = |lane: Lane| self.lanes[lane.index()].since(&earlier.lanes[lane.index()]);
        PoolCounts { lanes: Lane::ALL.map(since) }
    }

    /// Everything since the process began.
    pub fn total(&self) -> PoolCounts {
        PoolCounts { lanes: self.lanes.clone() }
    }
}

// === impl PoolCounts ===

impl PoolCounts {
    /// One lane.
    pub fn lane(&self, lane: Lane) -> &LaneCounts {
        &self.lanes[lane.index()]
    }

    /// What the weights placed: both halves.
    pub fn placed(&self) -> LaneCounts {
        let mut placed = self.lane(Lane::A).clone();
        placed.add(self.lane(Lane::B));
        placed
    }
}

// === impl LaneCounts ===

impl LaneCounts {
    fn of(meter: &PoolMeter, lane: Lane) -> Self {
        let shards = || meter.iter().map(|shard| &shard.lanes[lane.index()]);
        let sum = |value: fn(&LaneShard) -> u64| shards().map(value).sum::<u64>();
        // A worker counts the time first and then what it was, so this order never finds an error without its attempt
        // where stores are seen in order.
        let errors = sum(|lane| lane.errors.value());
        let first_errors = sum(|lane| lane.first_errors.value());
        let units = sum(|lane| lane.units.value());
        let client_errors = sum(|lane| lane.client_errors.value());
        let disconnects = sum(|lane| lane.disconnects.value());
        let cache = CacheAnswer::ALL.map(|said| shards().map(|lane| lane.cache[said as usize].value()).sum());
        let latency = Summary::of(shards().flat_map(|lane| std::iter::once(&lane.latency).chain(lane.lost())));
        let ended = latency.count() + sum(|lane| lane.tunnels.value());
        let attempts = ended.saturating_sub(sum(|lane| lane.uncounted.value()));
        Self { attempts, errors, first_errors, units, client_errors, disconnects, cache, latency }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &LaneCounts) {
        self.attempts += other.attempts;
        self.errors += other.errors;
        self.first_errors += other.first_errors;
        self.units += other.units;
        self.client_errors += other.client_errors;
        self.disconnects += other.disconnects;
        self.cache.iter_mut().zip(other.cache).for_each(|(sum, answers)| *sum += answers);
        self.latency.merge(&other.latency);
    }

    fn since(&self, earlier: &LaneCounts) -> LaneCounts {
        let errors = self.errors.saturating_sub(earlier.errors);
        LaneCounts {
            // Whoever reads rates must never find more errors than attempts.
            attempts: self.attempts.saturating_sub(earlier.attempts).max(errors),
            errors,
            first_errors: self.first_errors.saturating_sub(earlier.first_errors),
            units: self.units.saturating_sub(earlier.units),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            disconnects: self.disconnects.saturating_sub(earlier.disconnects),
            cache: [0, 1].map(|said| self.cache[said].saturating_sub(earlier.cache[said])),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::meter::PoolMeter;

    #[test]
    fn a_reading_sums_workers_and_two_readings_say_what_was_between() {
        let meter = PoolMeter::new(2);
        let lane = |worker: usize, lane: Lane| &meter.of(worker).lanes[lane.index()];
        lane(0, Lane::A).latency.record_us(1_000);
        let before = Reading::of(&meter);
        lane(0, Lane::A).latency.record_us(2_000);
        lane(1, Lane::A).lose_us(500);
        lane(1, Lane::A).errors.add(1);
        lane(1, Lane::A).first_errors.add(1);
        lane(1, Lane::B).latency.record_us(9);
        lane(1, Lane::B).client_errors.add(1);
        lane(0, Lane::B).tunnels.add(1);
        lane(0, Lane::B).disconnects.add(1);
        lane(1, Lane::A).cache[CacheAnswer::Hit as usize].add(4);
        lane(0, Lane::B).cache[CacheAnswer::Miss as usize].add(2);
        lane(0, Lane::Named).latency.record_us(7);
        lane(0, Lane::Named).uncounted.add(1);
        let counts = Reading::of(&meter).since(&before);
        let (a, b, named) = (counts.lane(Lane::A), counts.lane(Lane::B), counts.lane(Lane::Named));
        assert_eq!((a.attempts, a.errors, a.first_errors, a.latency.count()), (2, 1, 1, 2));
        assert_eq!((b.attempts, b.client_errors, b.disconnects, b.latency.count()), (2, 1, 1, 1));
        assert_eq!((named.attempts, named.latency.count()), (0, 1));
        let placed = counts.placed();
        assert_eq!((placed.attempts, placed.errors, placed.latency.count(), placed.cache), (4, 1, 3, [4, 2]));
    }
}
