//! The live state of a pool: its counters and the breaker that rests it.
//!
//! Workers read one number, how many of a thousand requests the breaker lets through. The control side computes it from
//! the counters, about four times a second: [`judge`] is pure, a tick feeds it.
//!
//! A pool that is the only one of its service that could serve keeps everything, whatever its errors. Between two ticks
//! that can be out of date, so a caller that finds no other pool sends to a resting one as its last resort.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::{Breaker, Fault, Name};
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::PoolMeter;

/// Everything passes.
pub const ALL_PER_MILLE: u32 = 1_000;

/// Most samples kept per pool: a window is cut into at least this many parts less one.
const SAMPLES_MAX: usize = 64;

/// A pool's live state, by identity (service, pool).
#[derive(Debug)]
pub struct PoolState {
    /// The service.
    pub service: Name,
    /// The pool.
    pub name: Name,
    /// Counters.
    pub meter: PoolMeter,
    /// What the breaker lets through, of a thousand.
    admit: AtomicU32,
    /// How often it came to rest.
    rests: AtomicU64,
    /// Control side only.
    breaker: Mutex<Window>,
}

/// What the breaker does with a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everything passes.
    Serving,
    /// Nothing passes before this moment.
    Resting {
        /// Monotonic milliseconds.
        until_ms: u64,
    },
    /// A part passes that grows with time since this moment.
    Recovering {
        /// Monotonic milliseconds.
        since_ms: u64,
    },
}

/// Attempts and the failed ones among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that ended or are under way.
    pub attempts: u64,
    /// Attempts that failed by the pool's fault.
    pub failed: u64,
}

#[derive(Debug)]
struct Window {
    phase: Phase,
    /// Totals at past moments, oldest first; cleared when a phase begins, so that old errors are not judged twice.
    samples: VecDeque<(u64, Tally)>,
}

/// What becomes of the breaker at `now_ms`, given what happened in its window.
/// Errors at or above the ratio of enough requests rest a pool; a rest ends in a recovery, a recovery in serving.
pub fn judge(phase: Phase, window: Tally, now_ms: u64, policy: &Breaker) -> Phase {
    let broken = window.is_broken(policy);
    let rested = Phase::Resting { until_ms: now_ms + millis(policy.rest) };
    match phase {
        Phase::Resting { until_ms } if now_ms < until_ms => phase,
        Phase::Resting { .. } => Phase::Recovering { since_ms: now_ms },
        Phase::Serving | Phase::Recovering { .. } if broken => rested,
        Phase::Recovering { since_ms } if now_ms >= since_ms + millis(policy.recovery) => Phase::Serving,
        Phase::Serving | Phase::Recovering { .. } => phase,
    }
}

// === impl Tally ===

impl Tally {
    /// Whether the errors reach the ratio, of enough requests.
    fn is_broken(self, policy: &Breaker) -> bool {
        let enough = self.attempts >= policy.min_requests.max(1);
        enough && self.failed > 0 && self.failed as f64 >= policy.error_ratio * self.attempts as f64
    }
}

// === impl Phase ===

impl Phase {
    /// How many of a thousand requests pass at `now_ms`.
    pub fn admit_per_mille(self, now_ms: u64, policy: &Breaker) -> u32 {
        match self {
            Phase::Serving => ALL_PER_MILLE,
            Phase::Resting { .. } => 0,
            Phase::Recovering { since_ms } => {
                let part = u128::from(now_ms.saturating_sub(since_ms)) * u128::from(ALL_PER_MILLE);
                let part = part / u128::from(millis(policy.recovery).max(1));
                // At least one of a thousand, or a recovery would begin with another tick of rest.
                part.clamp(1, u128::from(ALL_PER_MILLE)) as u32
            }
        }
    }

    /// The word used in logs, metrics and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Serving => "serving",
            Phase::Resting { .. } => "resting",
            Phase::Recovering { .. } => "recovering",
        }
    }
}

// === impl PoolState ===

impl PoolState {
    pub(crate) fn new(service: Name, name: Name, workers: usize) -> Self {
        Self {
            service,
            name,
            meter: Sharded::new(workers),
            admit: AtomicU32::new(ALL_PER_MILLE),
            rests: AtomicU64::new(0),
            // A new pool has counted nothing, so that what happens before its first tick is judged too.
            breaker: Mutex::new(Window { phase: Phase::Serving, samples: VecDeque::from([(0, Tally::default())]) }),
        }
    }

    /// Whether the breaker lets a request through; `draw` is uniform over u64. One relaxed load when serving.
    #[inline]
    pub fn admits(&self, draw: u64) -> bool {
        let admit = self.admit.load(Ordering::Relaxed);
        admit >= ALL_PER_MILLE || ((u128::from(draw) * u128::from(ALL_PER_MILLE)) >> 64) < u128::from(admit)
    }

    /// How many of a thousand requests the breaker lets through now.
    pub fn admit_per_mille(&self) -> u32 {
        self.admit.load(Ordering::Relaxed)
    }

    /// How often the breaker rested it since it was made.
    pub fn rests(&self) -> u64 {
        self.rests.load(Ordering::Relaxed)
    }

    /// What the breaker does with it.
    pub fn phase(&self) -> Phase {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).phase
    }

    /// It rested in the process before this one, and does until then; the next judgement lets nothing through.
    pub(crate) fn rest(&self, until_ms: u64) {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).phase = Phase::Resting { until_ms };
    }

    /// Whether it could take another pool's requests: it neither rests nor fails enough to rest.
    pub(crate) fn is_sound(&self, now_ms: u64, policy: &Breaker) -> bool {
        let total = self.total();
        let mut window = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = matches!(window.phase, Phase::Resting { until_ms } if now_ms < until_ms);
        !resting && !window.seen(now_ms, total, policy).is_broken(policy)
    }

    /// Judges it; control side, every 250 ms or sooner. `spare` says whether another pool could take its requests:
    /// without one it keeps everything. The phases before and after, when they differ.
    pub(crate) fn tick(&self, now_ms: u64, policy: &Breaker, spare: Spare) -> Option<(Phase, Phase)> {
        let total = self.total();
        let mut window = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = window.phase;
        let seen = window.seen(now_ms, total, policy);
        window.sample(now_ms, total, policy);
        let judged = judge(before, seen, now_ms, policy);
        let rests = matches!(judged, Phase::Resting { .. });
        let after = match spare {
            // A rest that would leave nobody to serve is not begun, and one begun earlier is suspended below.
            Spare::None if rests && !matches!(before, Phase::Resting { .. }) => before,
            Spare::None | Spare::Some => judged,
        };
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            window.phase = after;
            window.samples.clear();
            window.samples.push_back((now_ms, total));
        }
        let admit = match spare {
            Spare::None => ALL_PER_MILLE,
            Spare::Some => after.admit_per_mille(now_ms, policy),
        };
        self.admit.store(admit, Ordering::Relaxed);
        if window.phase == before {
            return None;
        }
        if rests {
            self.rests.fetch_add(1, Ordering::Relaxed);
        }
        Some((before, window.phase))
    }

    fn total(&self) -> Tally {
        let blamed = [Fault::UpstreamConnect, Fault::UpstreamAnswer, Fault::UpstreamTimeout];
        let failed = |fault: Fault| self.meter.sum(|shard| shard.faults[fault.index()].value());
        Tally { attempts: self.meter.sum(|shard| shard.attempts.value()), failed: blamed.into_iter().map(failed).sum() }
    }
}

/// Whether another pool of the service could take a pool's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spare {
    /// One serves.
    Some,
    /// None does.
    None,
}

// === impl Window ===

impl Window {
    /// Adds a sample, unless the last one is so young that more would not fit the window.
    fn sample(&mut self, now_ms: u64, total: Tally, policy: &Breaker) {
        let apart = millis(policy.window) / (SAMPLES_MAX as u64 - 2);
        if self.samples.back().is_none_or(|(at, _)| at + apart <= now_ms) {
            self.samples.push_back((now_ms, total));
        }
    }

    /// What happened since the oldest sample that the window still holds.
    fn seen(&mut self, now_ms: u64, total: Tally, policy: &Breaker) -> Tally {
        let length = millis(policy.window).max(1);
        while self.samples.len() > 1 && self.samples[1].0 + length <= now_ms {
            self.samples.pop_front();
        }
        let oldest = self.samples.front().map_or(total, |(_, tally)| *tally);
        Tally {
            attempts: total.attempts.wrapping_sub(oldest.attempts),
            failed: total.failed.wrapping_sub(oldest.failed),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::gate::mixed;

    fn pool() -> PoolState {
        let name = |text| Name::new(text).expect("a name");
        PoolState::new(name("engine"), name("canary"), 1)
    }

    fn send(pool: &PoolState, attempts: u64, failed: u64) {
        pool.meter.of(0).attempts.add(attempts);
        for _ in 0..failed {
            pool.meter.of(0).fault(Fault::UpstreamAnswer);
        }
    }

    #[test]
    fn half_of_twenty_failed_rests_a_pool_and_nineteen_do_not() {
        let policy = Breaker::default();
        let judged = |attempts, failed| judge(Phase::Serving, Tally { attempts, failed }, 1_000, &policy);
        assert_eq!(judged(20, 10), Phase::Resting { until_ms: 11_000 });
        assert_eq!(judged(20, 9), Phase::Serving);
        assert_eq!(judged(19, 19), Phase::Serving);
        assert_eq!(judged(0, 0), Phase::Serving);
    }

    #[test]
    fn a_rested_pool_recovers_in_a_line_over_ten_seconds() {
        let (pool, policy) = (pool(), Breaker::default());
        pool.tick(1_000, &policy, Spare::Some);
        send(&pool, 40, 20);
        assert!(pool.tick(1_250, &policy, Spare::Some).is_some());
        assert_eq!((pool.admit_per_mille(), pool.rests()), (0, 1));
        assert!(!pool.admits(0));
        let mut admitted = Vec::new();
        for now in (1_500..=21_500).step_by(250) {
            pool.tick(now, &policy, Spare::Some);
            admitted.push(pool.admit_per_mille());
        }
        assert!(admitted.is_sorted());
        assert_eq!(admitted.iter().filter(|part| **part == 0).count(), 39);
        assert_eq!(admitted[39], 1);
        assert_eq!(admitted[59], 500);
        assert_eq!(admitted[79], 1_000);
        assert_eq!(pool.phase(), Phase::Serving);
    }

    #[test]
    fn errors_older_than_the_window_are_forgotten() {
        let (pool, policy) = (pool(), Breaker::default());
        pool.tick(0, &policy, Spare::Some);
        send(&pool, 19, 19);
        for now in (250..=20_000).step_by(250) {
            pool.tick(now, &policy, Spare::Some);
        }
        send(&pool, 19, 0);
        assert_eq!(pool.tick(20_250, &policy, Spare::Some), None);
        assert!(pool.admits(u64::MAX));
    }

    #[test]
    fn errors_before_a_rest_are_not_judged_again_and_new_ones_are() {
        let (pool, policy) = (pool(), Breaker::default());
        pool.tick(0, &policy, Spare::Some);
        send(&pool, 100, 100);
        pool.tick(250, &policy, Spare::Some);
        pool.tick(10_250, &policy, Spare::Some);
        assert_eq!(pool.phase(), Phase::Recovering { since_ms: 10_250 });
        pool.tick(10_500, &policy, Spare::Some);
        assert_eq!(pool.phase(), Phase::Recovering { since_ms: 10_250 });
        send(&pool, 20, 15);
        pool.tick(10_750, &policy, Spare::Some);
        assert_eq!(pool.phase(), Phase::Resting { until_ms: 20_750 });
        assert_eq!(pool.rests(), 2);
    }

    #[test]
    fn the_only_pool_that_could_serve_never_rests() {
        let (pool, policy) = (pool(), Breaker::default());
        pool.tick(0, &policy, Spare::None);
        send(&pool, 100, 100);
        assert_eq!(pool.tick(250, &policy, Spare::None), None);
        assert!(pool.admits(u64::MAX));
        // When another pool comes back, what happened in the window counts; when it leaves, the rest is suspended.
        assert!(pool.tick(500, &policy, Spare::Some).is_some());
        assert!(!pool.admits(0));
        pool.tick(750, &policy, Spare::None);
        assert!(pool.admits(u64::MAX));
    }

    #[test]
    fn a_recovering_pool_admits_its_part_of_uniform_draws() {
        let pool = pool();
        pool.admit.store(300, Ordering::Relaxed);
        let admitted = (0..100_000u64).filter(|n| pool.admits(mixed(*n))).count();
        assert!((29_000..31_000).contains(&admitted), "{admitted}");
    }

    #[test]
    fn what_the_client_causes_rests_nothing() {
        let (pool, policy) = (pool(), Breaker::default());
        pool.tick(0, &policy, Spare::Some);
        pool.meter.of(0).attempts.add(100);
        for _ in 0..100 {
            pool.meter.of(0).fault(Fault::Client);
            pool.meter.of(0).fault(Fault::Proxy);
        }
        assert_eq!(pool.tick(250, &policy, Spare::Some), None);
    }
}
