//! Counters with one writer each, and the padding that keeps their cache lines apart.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge that exactly one thread writes. Adding is a load and a store, not a read-modify-write.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// One value per worker, each on cache lines of its own. 128 bytes: x86 prefetches lines in pairs.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Padded<T>]>,
}

#[repr(align(128))]
#[derive(Debug)]
struct Padded<T>(T);

// === impl Count ===

impl Count {
    /// Adds; only the owning thread may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes one away, for gauges; only the owning thread may call it.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets it, for gauges; only the owning thread may call it.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value; any thread.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Sharded ===

impl<T: Default> Sharded<T> {
    /// One shard for each of `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self::of_each(workers, T::default)
    }
}

impl<T> Sharded<T> {
    /// The same, each as `make` makes it.
    pub fn of_each(workers: usize, make: impl Fn() -> T) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Padded(make())).collect() }
    }

    /// The shard of `worker`.
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.shards[worker].0
    }

    /// Every shard, for reading.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|padded| &padded.0)
    }

    /// A sum over the shards.
    pub fn sum(&self, value: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(value).sum()
    }
}
