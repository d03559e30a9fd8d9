//! Which units of a service failed, and which were seen, since somebody asked: one bit for each bucket.
//!
//! Errors of one sticky unit come in bursts, so a comparison counts each unit once. The bits exist only while they are
//! wanted; a request finds out by one load of a line that nobody writes meanwhile. A unit here is its bucket: two
//! people in one bucket are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::model::BUCKETS;

/// Words of a set: 125 000 bytes, and two sets for a service whose units are counted.
const WORDS: usize = (BUCKETS as usize).div_ceil(64);

/// The units of a service, by its identity.
#[derive(Debug, Default)]
pub struct UnitLedger {
    armed: AtomicBool,
    sets: ArcSwapOption<Sets>,
}

#[derive(Debug)]
struct Sets {
    failed: Box<[AtomicU64]>,
    seen: Box<[AtomicU64]>,
}

// === impl UnitLedger ===

impl UnitLedger {
    /// Begins to count with empty sets, also when it was counting before: a rollout starts.
    pub fn arm(&self) {
        self.arm_with(&[]);
    }

    /// The same with units that have failed already, as [`UnitLedger::failed_units`] gave them: a rollout goes on after
    /// a restart. Those are taken as seen, too.
    pub fn arm_with(&self, failed: &[u32]) {
        let empty = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let sets = Sets { failed: empty(), seen: empty() };
        for bucket in failed {
            mark(&sets.failed, *bucket);
            mark(&sets.seen, *bucket);
        }
        self.sets.store(Some(Arc::new(sets)));
        self.armed.store(true, Ordering::Release);
    }

    /// Counts no more and lets the sets go: the rollout ended.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
        self.sets.store(None);
    }

    /// Whether units are counted now.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Notes a failed attempt of the unit; true for its first.
    pub fn note_failed(&self, bucket: u32) -> bool {
        self.is_armed() && self.sets.load().as_ref().is_some_and(|sets| mark(&sets.failed, bucket))
    }

    /// Notes the unit; true for the first time.
    pub fn note_seen(&self, bucket: u32) -> bool {
        self.is_armed() && self.sets.load().as_ref().is_some_and(|sets| mark(&sets.seen, bucket))
    }

    /// The units that failed, in order; for keeping them over a restart.
    pub fn failed_units(&self) -> Vec<u32> {
        let sets = self.sets.load();
        let words = sets.iter().flat_map(|sets| sets.failed.iter().enumerate());
        let bits = words.flat_map(|(at, word)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at as u32 * 64 + bit)
        });
        bits.collect()
    }
}

/// Sets a bit; true when it was not set. Mostly it is, and then nothing is written.
fn mark(set: &[AtomicU64], bucket: u32) -> bool {
    let Some(word) = set.get(bucket as usize / 64) else { return false };
    let bit = 1_u64 << (bucket % 64);
    word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_fails_for_the_first_time_once_per_rollout() {
        let units = UnitLedger::default();
        assert!(!units.note_failed(7) && !units.note_seen(7), "nobody asked");
        units.arm();
        assert!(units.note_seen(7) && !units.note_seen(7));
        assert!(units.note_failed(7) && !units.note_failed(7) && units.note_failed(8));
        assert!(units.note_failed(0) && units.note_failed(BUCKETS - 1) && !units.note_failed(u32::MAX));
        assert_eq!(units.failed_units(), [0, 7, 8, BUCKETS - 1]);
        units.arm();
        assert!(units.note_failed(7), "another rollout");
        units.arm_with(&[7, 9]);
        assert!(!units.note_failed(7) && !units.note_seen(9) && units.note_failed(8), "a restart");
        units.disarm();
        assert!(!units.is_armed() && !units.note_failed(5) && units.failed_units().is_empty());
    }

    #[test]
    fn of_many_threads_one_is_the_first() {
        let units = UnitLedger::default();
        units.arm();
        let firsts: usize = std::thread::scope(|scope| {
            let count = || (0..10_000).filter(|bucket| units.note_failed(*bucket)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it counts")).sum()
        });
        assert_eq!(firsts, 10_000);
    }
}
