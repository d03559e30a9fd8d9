//! What triggers look at: attempts, errors and latencies of a tick, by service and kind of pools. Every lane counts:
//! whoever sent it, a failed answer is one.

use std::collections::HashMap;

use super::super::super::kill::watch::Counts;
use super::super::count::in_flight;
use super::super::levers;
use super::Watched;
use crate::model::{Limit, Name, Pools, Scope};
use crate::switchboard::snapshot::{Pool, Service, Snapshot};
use crate::telemetry::clock;
use crate::telemetry::histogram::Summary;
use crate::telemetry::lane::Lane;
use crate::telemetry::reading::Reading;
use crate::upstream::endpoint::Admission;

/// Remembers what the counters were.
#[derive(Debug, Default)]
pub(super) struct Meters {
    readings: HashMap<(Name, Name), Reading>,
    /// Of this tick, by service and pool.
    counts: HashMap<(Name, Name), Counts>,
    /// Requests that began so far, and those of this tick, by service and pool.
    begun: HashMap<(Name, Name), (u64, u64)>,
}

// === impl Meters ===

impl Meters {
    /// Reads the pools of these services; `None` stands for every service.
    pub(super) fn read(&mut self, needs: impl Iterator<Item = Option<Name>>, snapshot: &Snapshot) {
        let mut every = false;
        let mut named: Vec<Name> = Vec::new();
        for need in needs {
            match need {
                None => every = true,
                Some(name) if !named.contains(&name) => named.push(name),
                Some(_) => {}
            }
        }
        let services = snapshot.services.iter().filter(|service| every || named.contains(&service.name));
        self.counts.clear();
        let (mut readings, mut begun) = (HashMap::new(), HashMap::new());
        for (service, pool) in services.flat_map(|service| service.pools.iter().map(move |pool| (service, pool))) {
            let key = (service.name.clone(), pool.name.clone());
            let reading = Reading::of(&pool.state.meter);
            // A pool that is new counts from now on.
            let counts = self.readings.get(&key).map(|earlier| reading.since(earlier)).unwrap_or_default();
            let mut sum = Counts { latency: Some(Summary::default()), ..Counts::default() };
            for lane in Lane::ALL.map(|lane| counts.lane(lane)) {
                sum.attempts += lane.attempts;
                sum.errors += lane.errors;
                sum.latency.iter_mut().for_each(|latency| latency.merge(&lane.latency));
            }
            self.counts.insert(key.clone(), sum);
            let began = begun_so_far(pool);
            let before = self.begun.get(&key).map_or(0, |(before, _)| *before);
            begun.insert(key.clone(), (began, began.saturating_sub(before)));
            readings.insert(key, reading);
        }
        (self.readings, self.begun) = (readings, begun);
    }

    /// What these pools of a service did.
    fn of(&self, service: &Service, pools: Pools, now_ms: u64) -> Counts {
        let own = |index: usize| pools == Pools::All || index != service.stable;
        let mut sum = Counts::default();
        for (_, pool) in service.pools.iter().enumerate().filter(|(index, _)| own(*index)) {
            if let Some(counts) = self.counts.get(&(service.name.clone(), pool.name.clone())) {
                sum.add(counts);
            }
        }
        // A pool that gets nothing need not serve.
        let mut wanted = service.pools.iter().enumerate().filter(|(i, _)| own(*i) && service.takes_traffic(*i));
        let nothing = wanted.clone().next().is_none();
        sum.serves = nothing || wanted.any(|(_, pool)| pool_serves(pool, now_ms));
        sum.idle = self.is_idle(service, own);
        sum
    }

    /// Whether these pools of a service got no new request in this tick and are meant to get none.
    fn is_idle(&self, service: &Service, own: impl Fn(usize) -> bool) -> bool {
        let meant = |index: usize| {
            let cohort = service.cohort.as_ref().is_some_and(|cohort| cohort.pool == index);
            index == service.stable || service.killed.is_none() && (service.takes_traffic(index) || cohort)
        };
        let begun = |pool: &Pool| self.begun.get(&(service.name.clone(), pool.name.clone())).map_or(0, |(_, new)| *new);
        let mut pools = service.pools.iter().enumerate().filter(|(index, _)| own(*index));
        pools.all(|(index, pool)| !meant(index) && begun(pool) == 0)
    }
}

// === impl Watched ===

impl Watched {
    /// The services that its triggers look at.
    pub(super) fn needs(&self) -> impl Iterator<Item = Option<Name>> {
        self.watches.iter().map(|watch| watch.trigger().service.clone().or_else(|| own(&self.spec.scope)))
    }

    /// Shows every trigger what happened.
    pub(super) fn watch(&mut self, meters: &Meters, snapshot: &Snapshot, elapsed_ms: u64) {
        let now_ms = clock::now().mono_ms;
        for watch in &mut self.watches {
            let trigger = watch.trigger();
            let service = trigger.service.clone().or_else(|| own(&self.spec.scope));
            let (pools, timed) = (trigger.pools, matches!(trigger.limit, Limit::Latency { .. }));
            let mut counts = Counts { idle: true, ..Counts::default() };
            let looked_at = |other: &&Service| service.as_ref().is_none_or(|service| other.name == *service);
            for service in snapshot.services.iter().filter(looked_at) {
                let other = meters.of(service, pools, now_ms);
                let (serves, idle) = (counts.serves || other.serves, counts.idle && other.idle);
                counts.add(&other);
                (counts.serves, counts.idle) = (serves, idle);
            }
            if !timed {
                counts.latency = None;
            }
            watch.add(elapsed_ms, &counts);
        }
    }
}

fn own(scope: &Scope) -> Option<Name> {
    match scope {
        Scope::System => None,
        Scope::Service(name) => Some(name.clone()),
    }
}

/// Whether there is anything to come back to: an endpoint that serves, in a pool that is not stable.
pub(super) fn serves(snapshot: &Snapshot, scope: &Scope) -> bool {
    let now_ms = clock::now().mono_ms;
    let of = |service: &Service| {
        let others = || service.pools.iter().enumerate().filter(|(index, _)| *index != service.stable);
        others().next().is_none() || others().any(|(_, pool)| pool_serves(pool, now_ms))
    };
    match scope {
        Scope::System => snapshot.services.iter().any(of),
        Scope::Service(name) => levers::service(snapshot, name).is_some_and(of),
    }
}

/// Requests that ended in the pool and those that are in it: what came so far.
fn begun_so_far(pool: &Pool) -> u64 {
    let ended = pool.state.meter.sum(|shard| shard.why.iter().map(|why| why.value()).fold(0, u64::wrapping_add));
    ended.wrapping_add(in_flight(pool))
}

pub(super) fn pool_serves(pool: &Pool, now_ms: u64) -> bool {
    pool.endpoints.iter().any(|endpoint| endpoint.admission(now_ms) == Admission::Serving)
}
