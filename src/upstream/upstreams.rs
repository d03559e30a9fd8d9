//! The room's owner: registry, names, probes and the tick that judges pools, all on the control thread.
//!
//! The switchboard asks [`Names`] what origins stand for, finds state in the [`Registry`], publishes, and then says with
//! [`Upstreams::set_targets`] what is published. Nothing here publishes anything.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::endpoint::{Admission, Endpoint, StateKind};
use super::names::Names;
use super::pool::{Phase, PoolState, Spare};
use super::probe::{Prober, Target};
use super::registry::Registry;
use crate::model::{Breaker, Name};
use crate::telemetry::clock;

/// How often pools are judged. A quarter of a second: a burst of errors rests a pool before a person notices, and the
/// work is a few hundred loads.
const TICK: Duration = Duration::from_millis(250);

/// A pool as it is published.
#[derive(Debug, Clone)]
pub struct PoolTarget {
    /// Its state.
    pub pool: Arc<PoolState>,
    /// Its service's breaker.
    pub breaker: Breaker,
    /// Whether it takes requests by weight or by failover: weight above 0, or stable.
    pub takes_traffic: bool,
    /// Its endpoints.
    pub endpoints: Vec<Target>,
}

/// Live state of the other side and the tasks that keep it true. Dropping it ends the tasks.
#[derive(Debug)]
pub struct Upstreams {
    registry: Registry,
    names: Names,
    prober: Prober,
    published: Arc<Mutex<Vec<Watched>>>,
    ticker: JoinHandle<()>,
}

/// What the tick watches.
#[derive(Debug)]
struct Watched {
    target: PoolTarget,
    /// Ejections that were logged, by serial.
    ejections: HashMap<u64, u64>,
}

// === impl Upstreams ===

impl Upstreams {
    /// Starts the tasks on the current runtime, which must be the control thread's. `servers` are name servers; none
    /// means those of `/etc/resolv.conf`.
    pub fn start(workers: usize, servers: Vec<SocketAddr>) -> Arc<Self> {
        let published: Arc<Mutex<Vec<Watched>>> = Arc::default();
        let watched = Arc::clone(&published);
        let ticker = tokio::spawn(async move {
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                tick(&mut watched, clock::now().mono_ms);
            }
        });
        Arc::new(Self {
            registry: Registry::new(workers),
            names: Names::new(servers),
            prober: Prober::new(),
            published,
            ticker,
        })
    }

    /// State by identity.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Names and their addresses.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Says what is published now: everything else is forgotten and drains, probes follow, breakers judge by these
    /// policies. Called after each publication, within the control runtime.
    pub fn set_targets(&self, pools: Vec<PoolTarget>) {
        let named_pools = pools.iter().map(|target| (target.pool.service.clone(), target.pool.name.clone())).collect();
        let targets = || pools.iter().flat_map(|target| &target.endpoints);
        let named = targets().map(|target| target.endpoint.id.clone()).collect::<HashSet<_>>();
        self.registry.retain(&named_pools, &named);
        self.prober.set(targets());
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut old: HashMap<u64, u64> = published.drain(..).flat_map(|watched| watched.ejections).collect();
        let watch = |target: PoolTarget| {
            let known = |target: &Target| {
                let endpoint = &target.endpoint;
                (endpoint.serial, old.remove(&endpoint.serial).unwrap_or_else(|| endpoint.ejections()))
            };
            let ejections = target.endpoints.iter().map(known).collect();
            Watched { target, ejections }
        };
        *published = pools.into_iter().map(watch).collect();
    }

    /// Waits until every published endpoint had its first probe. False when the time was too short; the endpoints are
    /// used until their first probe says otherwise either way.
    pub async fn first_round(&self, limit: Duration) -> bool {
        self.prober.first_round(limit).await
    }

    /// The proxy has begun to serve: from here on a new probed endpoint waits for its first pass.
    pub fn set_serving(&self) {
        self.registry.set_serving();
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

// === impl Watched ===

impl Watched {
    fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.target.endpoints.iter().map(|target| &target.endpoint)
    }

    /// Whether it can take another pool's requests now.
    fn can_spare(&self, now_ms: u64) -> bool {
        let resting = matches!(self.target.pool.phase(), Phase::Resting { .. });
        self.target.takes_traffic && !resting && self.endpoints().any(|endpoint| serves(endpoint, now_ms))
    }
}

fn serves(endpoint: &Endpoint, now_ms: u64) -> bool {
    endpoint.admission(now_ms) == Admission::Serving
}

/// One round of judging: rests and recoveries of pools, services left without a live endpoint, lines for ejections.
fn tick(published: &mut [Watched], now_ms: u64) {
    reprieve_services_without_endpoints(published, now_ms);
    for index in 0..published.len() {
        let target = &published[index].target;
        let other = |(at, other): (usize, &Watched)| {
            at != index && other.target.pool.service == target.pool.service && other.can_spare(now_ms)
        };
        let spare = if published.iter().enumerate().any(other) { Spare::Some } else { Spare::None };
        if let Some((before, after)) = target.pool.tick(now_ms, &target.breaker, spare) {
            let (service, pool) = (&*target.pool.service, &*target.pool.name);
            let (before, after) = (before.as_str(), after.as_str());
            tracing::warn!(service, pool, before, after, "the breaker changed what a pool receives");
        }
    }
    published.iter_mut().for_each(|watched| say_ejections(watched));
}

/// The last live endpoint of a service is never ejected, but it may fall to its probes while the others are ejected, and
/// two workers may eject the last two in the same moment. The one whose ejection ends first then serves at once.
fn reprieve_services_without_endpoints(published: &[Watched], now_ms: u64) {
    let services: HashSet<&Name> = published.iter().map(|watched| &watched.target.pool.service).collect();
    for service in services {
        let takes = |watched: &&Watched| watched.target.takes_traffic && watched.target.pool.service == *service;
        let endpoints = || published.iter().filter(takes).flat_map(Watched::endpoints);
        if endpoints().any(|endpoint| serves(endpoint, now_ms)) {
            continue;
        }
        let ends = |endpoint: &&Arc<Endpoint>| match endpoint.state_kind() {
            StateKind::Ejected { until_ms } => Some(until_ms),
            _ => None,
        };
        let next = endpoints().filter(|endpoint| ends(endpoint).is_some()).min_by_key(ends);
        if let Some(endpoint) = next
            && endpoint.reprieve(now_ms)
        {
            tracing::warn!(service = &**service, addr = %endpoint.id.addr, "nothing else of the service serves; its ejection ends");
        }
    }
}

/// One line per endpoint that was ejected since the last tick.
fn say_ejections(watched: &mut Watched) {
    for target in &watched.target.endpoints {
        let endpoint = &target.endpoint;
        let known = watched.ejections.entry(endpoint.serial).or_default();
        let ejections = endpoint.ejections();
        if ejections > *known {
            let (service, pool, addr) = (&*endpoint.id.service, &*endpoint.id.pool, endpoint.id.addr);
            let reason = endpoint.state().last_error.unwrap_or_default();
            let times = ejections - *known;
            *known = ejections;
            tracing::warn!(service, pool, %addr, times, reason, "an endpoint was ejected by its answers");
        }
    }
}
