//! Finds or makes live state by identity, so that a reload keeps what buckets hold. Control side only; workers see the
//! `Arc`s in the snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::adaptive::Adaptive;
use super::gate::{Cap, Gate};
use super::limit::Live;
use super::visitors::Visitors;
use crate::model::{Name, RateLimitSpec};
use crate::telemetry::clock;

/// Live state of everything that limits traffic.
#[derive(Debug)]
pub struct Book {
    workers: usize,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    limits: HashMap<Name, Kept>,
    gates: HashMap<GateId, Arc<Gate>>,
    adaptive: HashMap<(Name, Name), Arc<Adaptive>>,
    /// None until somebody asks for it.
    visitors: Option<Arc<Visitors>>,
}

/// A service, or a pool of it.
type GateId = (Name, Option<Name>);

#[derive(Debug)]
struct Kept {
    live: Arc<Live>,
    keys_max: usize,
}

// === impl Book ===

impl Book {
    /// An empty book for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, pages: Mutex::default() }
    }

    /// The buckets of a rate limit. They are the same for as long as it keeps its name and its `keys_max`.
    pub fn limit(&self, spec: &RateLimitSpec) -> Arc<Live> {
        let make = || Kept { live: Arc::new(Live::new(spec.keys_max, self.workers)), keys_max: spec.keys_max };
        let mut pages = self.pages();
        let kept = pages.limits.entry(spec.name.clone()).or_insert_with(make);
        if kept.keys_max != spec.keys_max {
            *kept = make();
        }
        Arc::clone(&kept.live)
    }

    /// The cap of a service, or of a pool of it. Its places are the same for as long as it has one.
    pub fn cap(&self, service: &Name, pool: Option<&Name>, max: u32) -> Cap {
        let mut pages = self.pages();
        let gate = pages.gates.entry((service.clone(), pool.cloned())).or_default();
        Cap { gate: Arc::clone(gate), max, adaptive: None }
    }

    /// The cap of a pool that adapts between these. What it has learned stays for as long as they do.
    pub fn adaptive(&self, service: &Name, pool: &Name, min: u32, max: u32) -> Cap {
        let cap = self.cap(service, Some(pool), max);
        let mut pages = self.pages();
        let make = || Arc::new(Adaptive::new(min, max, clock::mono_ms(Instant::now())));
        let adaptive = pages.adaptive.entry((service.clone(), pool.clone())).or_insert_with(make);
        if adaptive.bounds() != (min, max) {
            *adaptive = make();
        }
        Cap { adaptive: Some(Arc::clone(adaptive)), ..cap }
    }

    /// Who has connections open, and what they were ended for; the same for the life of the process.
    pub fn visitors(&self) -> Arc<Visitors> {
        Arc::clone(self.pages().visitors.get_or_insert_with(Arc::default))
    }

    /// Forgets rate limits that are no longer named.
    pub fn retain_limits<'a>(&self, named: impl Iterator<Item = &'a Name> + Clone) {
        self.pages().limits.retain(|name, _| named.clone().any(|other| other == name));
    }

    /// Forgets caps that are in nobody's hands.
    pub fn retain_caps(&self) {
        let mut pages = self.pages();
        pages.gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        pages.adaptive.retain(|_, adaptive| Arc::strong_count(adaptive) > 1);
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn buckets_are_found_by_name_and_forgotten_when_nobody_names_them() {
        let name = |text| Name::new(text).expect("a name");
        let spec = |text, keys_max| RateLimitSpec {
            name: name(text),
            service: None,
            route: None,
            key: Vec::new(),
            rate: 1,
            per: Duration::from_secs(1),
            burst: 1,
            keys_max,
            shadow: false,
        };
        let book = Book::new(1);
        let first = book.limit(&spec("a", 100));
        assert!(Arc::ptr_eq(&first, &book.limit(&RateLimitSpec { rate: 9, ..spec("a", 100) })));
        assert!(!Arc::ptr_eq(&first, &book.limit(&spec("b", 100))));
        assert!(book.limit(&spec("b", 700)).room() == 700);
        assert!(Arc::ptr_eq(&first, &book.limit(&spec("a", 100))));
        book.retain_limits([name("b")].iter());
        assert!(!Arc::ptr_eq(&first, &book.limit(&spec("a", 100))));
    }
}
