//! What the pools did over the last minute: a small ring of sums, taken once a second on the control side. Workers
//! know nothing of it.

use std::collections::{HashMap, VecDeque};

use super::snapshot::Snapshot;
use crate::model::{Fault, Name};
use crate::telemetry::histogram::Summary;
use crate::telemetry::lane::{CacheAnswer, LaneShard};
use crate::telemetry::meter::{PoolMeter, latency};

/// Sums that are kept, one a second: the longest window, and its start.
const SAMPLES_MAX: usize = 61;

/// Latencies are summed up every so many samples: a summary is 3 KiB a pool, a sum of counts 48 bytes.
const LATENCY_EVERY: u64 = 5;

/// The last minute.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    ring: VecDeque<Sample>,
    taken: u64,
}

/// What a pool did over a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    /// Its length in seconds.
    pub(super) seconds: f64,
    /// Requests that were sent to the pool first.
    pub(super) requests: u64,
    /// Attempts, retries from other pools included.
    pub(super) attempts: u64,
    /// Attempts that the pool is to blame for.
    pub(super) failed: u64,
    /// The same, and answers of 500 or above.
    pub(super) errors: u64,
    /// Answers that a cache had, and that none had; of services that count them.
    pub(super) cache: [u64; 2],
    /// Latencies, over the last whole multiple of five seconds.
    pub(super) latency: Summary,
}

#[derive(Debug)]
struct Sample {
    at_ms: u64,
    pools: HashMap<(Name, Name), Sums>,
}

#[derive(Debug)]
struct Sums {
    requests: u64,
    attempts: u64,
    failed: u64,
    errors: u64,
    cache: [u64; 2],
    latency: Option<Summary>,
}

// === impl Sampler ===

impl Sampler {
    /// Takes a sample of every pool of `snapshot` at `now_ms`.
    pub(super) fn take(&mut self, snapshot: &Snapshot, now_ms: u64) {
        let with_latency = self.taken.is_multiple_of(LATENCY_EVERY);
        self.taken += 1;
        let pools = snapshot.services.iter().flat_map(|service| service.pools.iter().map(move |pool| (service, pool)));
        let pools = pools.map(|(service, pool)| {
            let mut sums = Sums::of(&pool.state.meter);
            sums.latency = with_latency.then(|| latency(&pool.state.meter));
            ((service.name.clone(), pool.name.clone()), sums)
        });
        self.ring.push_back(Sample { at_ms: now_ms, pools: pools.collect() });
        while self.ring.len() > SAMPLES_MAX {
            self.ring.pop_front();
        }
    }

    /// What the pool did over about the last `seconds`, at most a minute; none before the first sample.
    pub(super) fn window(
        &self,
        service: &Name,
        pool: &Name,
        meter: &PoolMeter,
        seconds: u64,
        now_ms: u64,
    ) -> Option<Window> {
        let key = (service.clone(), pool.clone());
        let from_ms = now_ms.saturating_sub(seconds * 1000);
        let known = || self.ring.iter().filter_map(|sample| Some((sample.at_ms, sample.pools.get(&key)?)));
        // The newest sample that is old enough, else the oldest there is.
        let start = known().take_while(|(at, _)| *at <= from_ms).last().or_else(|| known().next())?;
        let then = known().filter(|(_, sums)| sums.latency.is_some());
        let then = then.clone().take_while(|(at, _)| *at <= from_ms).last().or_else(|| then.clone().next());
        let latency = latency(meter);
        let latency = match then.and_then(|(_, sums)| sums.latency.as_ref()) {
            Some(earlier) => latency.since(earlier),
            None => latency,
        };
        let sums = Sums::of(meter);
        Some(Window {
            seconds: now_ms.saturating_sub(start.0) as f64 / 1000.0,
            requests: sums.requests.saturating_sub(start.1.requests),
            attempts: sums.attempts.saturating_sub(start.1.attempts),
            failed: sums.failed.saturating_sub(start.1.failed),
            errors: sums.errors.saturating_sub(start.1.errors),
            cache: [0, 1].map(|said| sums.cache[said].saturating_sub(start.1.cache[said])),
            latency,
        })
    }
}

// === impl Sums ===

impl Sums {
    fn of(meter: &PoolMeter) -> Self {
        let lanes = |value: &dyn Fn(&LaneShard) -> u64| meter.sum(|shard| shard.lanes.iter().map(value).sum());
        let failed = |fault: &Fault| meter.sum(|shard| shard.faults[fault.index()].value());
        Self {
            requests: meter.sum(|shard| shard.requests.value()),
            attempts: meter.sum(|shard| shard.attempts.value()),
            failed: Fault::ALL.iter().filter(|fault| fault.blames_pool()).map(failed).sum(),
            errors: lanes(&|lane| lane.errors.value()),
            cache: CacheAnswer::ALL.map(|said| lanes(&|lane| lane.cache[said as usize].value())),
            latency: None,
        }
    }
}
