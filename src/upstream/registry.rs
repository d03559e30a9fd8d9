//! Finds or makes live state by identity, and forgets what is no longer named.
//!
//! An endpoint that is no longer named drains: whoever still holds it keeps it, and if it is named again before the
//! last holder let go, it is the same one. It does not decide what is named; the switchboard does.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::endpoint::{Admission, Endpoint, EndpointId};
use super::gate::Ledger;
use super::pool::PoolState;
use super::slots::Slots;
use super::units::UnitLedger;
use crate::model::Name;
use crate::telemetry::clock;
use crate::telemetry::count::Sharded;
use crate::telemetry::mirror::MirrorMeter;

/// Every service, pool and endpoint that is named now. Control side only; workers see the `Arc`s in the snapshot.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    slots: Arc<Slots>,
    serving: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pools: HashMap<(Name, Name), Arc<PoolState>>,
    units: HashMap<Name, Arc<UnitLedger>>,
    /// By service and the pool that gets the copies.
    mirrors: HashMap<(Name, Name), Arc<MirrorMeter>>,
    endpoints: HashMap<EndpointId, Arc<Endpoint>>,
    draining: Vec<Weak<Endpoint>>,
    serials: u64,
}

// === impl Registry ===

impl Registry {
    /// An empty registry for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, slots: Arc::default(), serving: AtomicBool::new(false), inner: Mutex::default() }
    }

    /// The process has begun to serve: from here on a new probed endpoint waits for its first pass. Before, it is used
    /// until its first probe says otherwise, so that a start does not wait for probes that never answer.
    pub fn set_serving(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    /// The pool's state, made when it is new.
    pub fn pool(&self, service: &Name, pool: &Name) -> Arc<PoolState> {
        let key = (service.clone(), pool.clone());
        let mut inner = self.inner();
        let make = || Arc::new(PoolState::new(service.clone(), pool.clone(), self.workers));
        Arc::clone(inner.pools.entry(key).or_insert_with(make))
    }

    /// The service's ledger of units, made when it is new.
    pub fn units(&self, service: &Name) -> Arc<UnitLedger> {
        Arc::clone(self.inner().units.entry(service.clone()).or_default())
    }

    /// What became of the copies that a service's pool got, made when it is new.
    pub fn mirror(&self, service: &Name, pool: &Name) -> Arc<MirrorMeter> {
        let make = || Arc::new(Sharded::new(self.workers));
        Arc::clone(self.inner().mirrors.entry((service.clone(), pool.clone())).or_insert_with(make))
    }

    /// The endpoint's state, made when it is new; a new one serves at once. For services without probes.
    pub fn endpoint(&self, id: &EndpointId) -> Arc<Endpoint> {
        self.find_or_make(id, None)
    }

    /// The endpoint's state, made when it is new; a new one serves after its first pass. For services with probes.
    pub fn probed_endpoint(&self, id: &EndpointId) -> Arc<Endpoint> {
        let serving = self.serving.load(Ordering::Relaxed);
        self.find_or_make(id, Some(if serving { Ledger::AWAITED } else { Ledger::TRUSTED }))
    }

    /// Of the endpoints that one service is going to be published with (those of pools that take traffic): when none of
    /// them serves, the new ones are used until their first probe, as at process start. Otherwise a service whose only
    /// container was created again under another address would answer 503 until the first probe is back.
    /// To be called before the publication, so that no request meets it without.
    pub fn trust_new_if_nothing_serves<'a>(&self, endpoints: impl Iterator<Item = &'a Arc<Endpoint>> + Clone) {
        let now_ms = clock::now().mono_ms;
        if endpoints.clone().all(|endpoint| endpoint.admission(now_ms) == Admission::Refused) {
            endpoints.for_each(|endpoint| endpoint.trust(now_ms));
        }
    }

    /// Forgets every pool and endpoint that is not in these sets. Forgotten endpoints drain.
    pub fn retain(&self, pools: &HashSet<(Name, Name)>, endpoints: &HashSet<EndpointId>) {
        let now_ms = clock::now().mono_ms;
        let mut inner = self.inner();
        let Inner { pools: kept_pools, units, mirrors, endpoints: kept, draining, .. } = &mut *inner;
        kept_pools.retain(|key, _| pools.contains(key));
        units.retain(|service, _| pools.iter().any(|(named, _)| named == service));
        mirrors.retain(|key, _| pools.contains(key));
        draining.retain(|weak| weak.strong_count() > 0);
        kept.retain(|id, endpoint| {
            let named = endpoints.contains(id);
            if !named {
                endpoint.set_draining(true, now_ms);
                draining.push(Arc::downgrade(endpoint));
            }
            named
        });
    }

    /// Every named pool, ordered by service and name.
    pub fn pools(&self) -> Vec<Arc<PoolState>> {
        let mut pools: Vec<_> = self.inner().pools.values().cloned().collect();
        pools.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        pools
    }

    /// Every named endpoint and, after them, every one that drains and is still held; each part in the order of their
    /// making.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let inner = self.inner();
        let mut named: Vec<_> = inner.endpoints.values().cloned().collect();
        let mut draining: Vec<_> = inner.draining.iter().filter_map(Weak::upgrade).collect();
        drop(inner);
        named.sort_by_key(|endpoint| endpoint.serial);
        draining.sort_by_key(|endpoint| endpoint.serial);
        named.append(&mut draining);
        named
    }

    fn find_or_make(&self, id: &EndpointId, probed: Option<Ledger>) -> Arc<Endpoint> {
        let now_ms = clock::now().mono_ms;
        let mut inner = self.inner();
        if let Some(endpoint) = inner.endpoints.get(id) {
            return Arc::clone(endpoint);
        }
        let held = inner.draining.iter().filter_map(Weak::upgrade).find(|endpoint| endpoint.id == *id);
        let endpoint = match held {
            Some(endpoint) => {
                match probed {
                    Some(ledger) => endpoint.revived(ledger, now_ms),
                    None => endpoint.set_draining(false, now_ms),
                }
                inner.draining.retain(|weak| weak.as_ptr() != Arc::as_ptr(&endpoint));
                endpoint
            }
            None => {
                inner.serials += 1;
                let ledger = probed.unwrap_or(Ledger::SERVES);
                Arc::new(Endpoint::new(id.clone(), Arc::clone(&self.slots), inner.serials, self.workers, ledger))
            }
        };
        inner.endpoints.insert(id.clone(), Arc::clone(&endpoint));
        endpoint
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Origin, Protocol};
    use crate::upstream::endpoint::StateKind;

    fn id(pool: &str, port: u16) -> EndpointId {
        let origin = Origin { protocol: Protocol::Http1, host: "127.0.0.1".into(), port };
        let addr = origin.literal().expect("an address");
        let name = |text| Name::new(text).expect("a name");
        EndpointId { service: name("engine"), pool: name(pool), origin, addr }
    }

    fn only(registry: &Registry, ids: &[EndpointId]) {
        let pools = ids.iter().map(|id| (id.service.clone(), id.pool.clone())).collect();
        registry.retain(&pools, &ids.iter().cloned().collect());
    }

    #[test]
    fn live_state_is_found_by_identity() {
        let registry = Registry::new(2);
        let first = registry.endpoint(&id("stable", 1));
        assert!(Arc::ptr_eq(&first, &registry.probed_endpoint(&id("stable", 1))));
        let other = registry.endpoint(&id("canary", 1));
        assert_eq!((first.slot, other.slot), (0, 1));
        assert_ne!(first.serial, other.serial);
        let name = |text| Name::new(text).expect("a name");
        let pool = registry.pool(&name("engine"), &name("stable"));
        assert!(Arc::ptr_eq(&pool, &registry.pool(&name("engine"), &name("stable"))));
    }

    #[test]
    fn a_slot_is_reused_only_after_the_last_holder_let_go_and_a_serial_never() {
        let registry = Registry::new(1);
        let held = registry.endpoint(&id("stable", 1));
        only(&registry, &[]);
        assert_eq!(held.state_kind(), StateKind::Draining);
        let second = registry.endpoint(&id("stable", 2));
        assert_eq!(second.slot, 1);
        drop(held);
        let third = registry.endpoint(&id("stable", 3));
        assert_eq!(third.slot, 0);
        assert_eq!(third.serial, 3);
    }

    #[test]
    fn an_endpoint_named_again_while_it_drains_is_the_same_one() {
        let registry = Registry::new(1);
        let held = registry.endpoint(&id("stable", 1));
        only(&registry, &[]);
        assert_eq!(registry.endpoints().len(), 1);
        let again = registry.endpoint(&id("stable", 1));
        assert!(Arc::ptr_eq(&held, &again));
        assert!(!again.is_draining());
        assert_eq!(registry.endpoints().len(), 1);
    }

    #[test]
    fn a_new_probed_endpoint_serves_at_start_and_waits_for_its_first_pass_later() {
        let registry = Registry::new(1);
        assert_eq!(registry.probed_endpoint(&id("stable", 1)).state_kind(), StateKind::Serving);
        registry.set_serving();
        assert_eq!(registry.probed_endpoint(&id("stable", 2)).state_kind(), StateKind::Unproved);
        assert_eq!(registry.endpoint(&id("stable", 3)).state_kind(), StateKind::Serving);
        // A known one keeps its state over a reload.
        assert_eq!(registry.probed_endpoint(&id("stable", 1)).state_kind(), StateKind::Serving);
    }

    #[test]
    fn a_new_endpoint_is_used_at_once_only_when_nothing_else_of_its_service_serves() {
        let registry = Registry::new(1);
        registry.set_serving();
        let (old, new) = (registry.endpoint(&id("stable", 1)), registry.probed_endpoint(&id("stable", 2)));
        registry.trust_new_if_nothing_serves([&old, &new].into_iter());
        assert_eq!(new.state_kind(), StateKind::Unproved);
        registry.trust_new_if_nothing_serves([&new].into_iter());
        assert_eq!(new.state_kind(), StateKind::Serving);
        // Its first failed probe ends that, and it is not trusted a second time.
        new.probed(false, 1, 2, 3);
        registry.trust_new_if_nothing_serves([&new].into_iter());
        assert_eq!(new.state_kind(), StateKind::Unproved);
    }

    #[test]
    fn a_probed_endpoint_that_left_and_came_back_is_proved_anew() {
        let registry = Registry::new(1);
        registry.set_serving();
        let held = registry.probed_endpoint(&id("canary", 1));
        held.probed(true, 1, 2, 3);
        assert_eq!(held.state_kind(), StateKind::Serving);
        only(&registry, &[]);
        let again = registry.probed_endpoint(&id("canary", 1));
        assert_eq!(again.state_kind(), StateKind::Unproved);
    }
}
