//! The buckets of one rate limit, by key: a table of fixed size that all workers share.
//!
//! A key that is known costs a look at one or two cache lines and one compare-and-swap on its own bucket: no lock, and
//! nothing that the requests of other keys write. A client's connection stays on one worker, so its bucket stays in
//! that core's cache. A key that is new takes the lock of its set of seven, among some ten thousand.
//!
//! **When a set is full**, the bucket that has least to remember is forgotten, first one that is full again, which
//! loses nothing. Being forgotten gives a key its burst back, so it is no way to shut others out; and who wants his own
//! bucket forgotten has to empty the six others of its set further than his own, which takes more than he gains, and to
//! find keys of that set, which a secret decides. Memory never grows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::rate::{Rate, SPAN_MAX};
use super::secret::{Secret, Shared};

/// Buckets of one set: with its lock they fill two cache lines.
const WAYS: usize = 7;

/// Buckets by key.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    secret: Shared,
    forgotten: AtomicU64,
}

#[repr(align(128))]
#[derive(Debug, Default)]
struct Set {
    buckets: [Bucket; WAYS],
    /// Held while a bucket is given to another key.
    making: Mutex<()>,
}

#[derive(Debug, Default)]
struct Bucket {
    /// The hash of its key; 0: nobody's, or just being given to another one.
    key: AtomicU64,
    /// When it is full again.
    full_ns: AtomicU64,
}

// === impl Table ===

impl Table {
    /// A table of at most `keys_max` keys, and of at least seven.
    pub(super) fn new(keys_max: usize) -> Self {
        let sets = (0..(keys_max / WAYS).max(1)).map(|_| Set::default()).collect();
        Self { sets, secret: Shared::new(), forgotten: AtomicU64::new(0) }
    }

    /// What makes the hash of a key for [`Table::take`]: nobody outside knows which keys share a set.
    #[inline]
    pub(super) fn secret(&self) -> Secret {
        self.secret.load()
    }

    /// Has hashes be made by another secret, while there are no buckets yet.
    pub(super) fn set_secret(&self, secret: Secret) {
        self.secret.store(secret);
    }

    /// Takes one request out of the bucket of `key`, or says how long until one is there.
    pub(super) fn take(&self, key: u64, now_ns: u64, rate: Rate) -> Result<(), Duration> {
        let key = key.max(1);
        let set = self.set(key);
        loop {
            if let Some(taken) = set.find(key).and_then(|bucket| bucket.take(key, now_ns, rate)) {
                return taken;
            }
            let _making = set.making.lock().unwrap_or_else(PoisonError::into_inner);
            if set.find(key).is_none() {
                let bucket = set.least();
                if bucket.full_ns.load(Ordering::SeqCst) > now_ns {
                    self.forgotten.fetch_add(1, Ordering::Relaxed);
                }
                // A new bucket is full and gives this request.
                bucket.give(key, rate.take(0, now_ns).unwrap_or(now_ns));
                return Ok(());
            }
        }
    }

    /// Puts a request back that was taken: something else refused it.
    pub(super) fn give_back(&self, key: u64, rate: Rate) {
        let key = key.max(1);
        if let Some(bucket) = self.set(key).find(key) {
            let less = |full_ns: u64| Some(full_ns.saturating_sub(rate.step_ns()));
            let _ = bucket.full_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
    }

    /// How many buckets are not full.
    pub(super) fn held(&self, now_ns: u64) -> u64 {
        let buckets = self.sets.iter().flat_map(|set| &set.buckets);
        buckets.filter(|bucket| bucket.full_ns.load(Ordering::Relaxed) > now_ns).count() as u64
    }

    /// The hash of each key whose bucket is not full, and the nanoseconds until it is.
    pub(super) fn left(&self, now_ns: u64) -> Vec<(u64, u64)> {
        let left = |bucket: &Bucket| {
            let key = bucket.key.load(Ordering::SeqCst);
            let full_ns = bucket.full_ns.load(Ordering::SeqCst);
            // Given to another key meanwhile, it says nothing.
            let told = key != 0 && full_ns > now_ns && bucket.key.load(Ordering::SeqCst) == key;
            told.then(|| (key, full_ns - now_ns))
        };
        self.sets.iter().flat_map(|set| &set.buckets).filter_map(left).collect()
    }

    /// Has the bucket of `key` be full no sooner than in so long. It gets no place from one that has more to remember.
    pub(super) fn lower(&self, key: u64, left_ns: u64, now_ns: u64) {
        let (key, full_ns) = (key.max(1), now_ns.saturating_add(left_ns.min(SPAN_MAX.as_nanos() as u64)));
        let set = self.set(key);
        let _making = set.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = set.find(key) {
            bucket.full_ns.fetch_max(full_ns, Ordering::SeqCst);
            return;
        }
        let bucket = set.least();
        if bucket.full_ns.load(Ordering::SeqCst) < full_ns {
            bucket.give(key, full_ns);
        }
    }

    /// How many buckets were forgotten before they were full again.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The most keys that it keeps.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.sets.len() * WAYS
    }

    #[inline]
    fn set(&self, key: u64) -> &Set {
        &self.sets[((u128::from(key) * self.sets.len() as u128) >> 64) as usize]
    }
}

// === impl Set ===

impl Set {
    #[inline]
    fn find(&self, key: u64) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| bucket.key.load(Ordering::SeqCst) == key)
    }

    /// The bucket that has least to remember.
    fn least(&self) -> &Bucket {
        let full_ns = |bucket: &&Bucket| bucket.full_ns.load(Ordering::SeqCst);
        self.buckets.iter().min_by_key(full_ns).unwrap_or(&self.buckets[0])
    }
}

// === impl Bucket ===

impl Bucket {
    /// Gives it to another key; under the lock of its set.
    fn give(&self, key: u64, full_ns: u64) {
        self.key.store(0, Ordering::SeqCst);
        self.full_ns.store(full_ns, Ordering::SeqCst);
        self.key.store(key, Ordering::SeqCst);
    }

    /// Takes one request; none when the bucket was given to another key meanwhile. What was taken from that one is
    /// one request at most, and only while buckets are forgotten.
    #[inline]
    fn take(&self, key: u64, now_ns: u64, rate: Rate) -> Option<Result<(), Duration>> {
        let mut full_ns = self.full_ns.load(Ordering::SeqCst);
        let taken = loop {
            match rate.take(full_ns, now_ns) {
                Err(wait) => match rate.corrected(full_ns, now_ns) {
                    None => break Err(wait),
                    Some(empty_ns) => {
                        let (set, read) = (Ordering::SeqCst, Ordering::SeqCst);
                        let corrected = self.full_ns.compare_exchange(full_ns, empty_ns, set, read);
                        full_ns = corrected.map_or_else(|other| other, |_| empty_ns);
                    }
                },
                Ok(next) => {
                    match self.full_ns.compare_exchange_weak(full_ns, next, Ordering::SeqCst, Ordering::SeqCst) {
                        Ok(_) => break Ok(()),
                        Err(other) => full_ns = other,
                    }
                }
            }
        };
        (self.key.load(Ordering::SeqCst) == key).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn slow(burst: u64) -> Rate {
        Rate::new(1, Duration::from_secs(3600), burst)
    }

    #[test]
    fn a_set_is_two_cache_lines() {
        assert_eq!(size_of::<Set>(), 128);
    }

    #[test]
    fn threads_that_share_a_bucket_take_exactly_its_burst() {
        for round in 0..50 {
            let (table, taken) = (Table::new(1024), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let ok = (0..200).filter(|_| table.take(7 + round, S, slow(100)).is_ok()).count();
                        taken.fetch_add(ok, Ordering::SeqCst);
                    });
                }
            });
            assert_eq!(taken.load(Ordering::SeqCst), 100);
            assert_eq!((table.held(S), table.forgotten()), (1, 0));
        }
    }

    #[test]
    fn a_million_keys_cost_no_memory_and_push_no_busy_key_out() {
        let table = Table::new(65_536);
        let hash = |key: u64| table.secret().hash_one(key);
        // A hundred clients used up their burst.
        let busy: Vec<u64> = (0..100).map(|i| hash(u64::MAX - i)).collect();
        let rate = slow(20);
        busy.iter().for_each(|&key| (0..20).for_each(|_| assert!(table.take(key, S, rate).is_ok())));
        for i in 0..1_000_000 {
            assert!(table.take(hash(i), S, rate).is_ok(), "a new key is never shut out");
        }
        assert!(table.room() <= 65_536 && table.forgotten() > 900_000, "{}", table.forgotten());
        assert!(busy.iter().all(|&key| table.take(key, S, rate).is_err()), "a flood made a busy key be forgotten");
    }

    #[test]
    fn what_is_full_again_is_forgotten_first_and_loses_nothing() {
        let table = Table::new(1);
        let rate = Rate::new(1, Duration::from_secs(1), 10);
        (1..=7).for_each(|key| assert!(table.take(key, S, rate).is_ok()));
        assert!(table.take(8, 2 * S, rate).is_ok());
        assert_eq!(table.forgotten(), 0);
        assert_eq!(table.held(2 * S), 1);
    }

    #[test]
    fn what_was_put_back_can_be_taken_again() {
        let table = Table::new(1024);
        assert!(table.take(5, S, slow(1)).is_ok());
        assert!(table.take(5, S, slow(1)).is_err());
        table.give_back(5, slow(1));
        assert!(table.take(5, S, slow(1)).is_ok());
    }

    proptest! {
        #[test]
        fn a_key_gets_no_more_than_its_burst_for_each_time_it_was_forgotten(
            keys in proptest::collection::vec(1_u64..30, 1..400), burst in 1_u64..5,
        ) {
            let table = Table::new(14);
            let mut taken = std::collections::HashMap::<u64, u64>::new();
            for key in keys {
                let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                *taken.entry(key).or_default() += u64::from(table.take(spread, S, slow(burst)).is_ok());
            }
            let over: u64 = taken.values().map(|n| n.saturating_sub(burst)).sum();
            prop_assert!(over <= table.forgotten() * burst, "{over} too many, {} forgotten", table.forgotten());
        }
    }
}
