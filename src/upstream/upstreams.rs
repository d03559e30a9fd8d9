//! The room's owner: registry, names, probes and the tick that judges pools, all on the control thread.
//!
//! The switchboard asks [`Names`] what origins stand for, finds state in the [`Registry`], publishes, and then says
//! with [`Upstreams::set_targets`] what is published. Nothing here publishes anything.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::endpoint::{Admission, Endpoint, StateKind};
use super::names::{Lookups, Names};
use super::pool::{PoolState, Spare};
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
    /// Starts the tasks on the current runtime, which must be the control thread's.
    pub fn start(workers: usize, lookups: Lookups) -> Arc<Self> {
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
            names: Names::new(lookups),
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
    /// policies. Called after each publication.
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
        let PoolTarget { pool, breaker, takes_traffic, .. } = &self.target;
        *takes_traffic && pool.is_sound(now_ms, breaker) && self.endpoints().any(|endpoint| serves(endpoint, now_ms))
    }
}

fn serves(endpoint: &Endpoint, now_ms: u64) -> bool {
    endpoint.admission(now_ms) == Admission::Serving
}

/// One round of judging: rests and recoveries of pools, services left without a live endpoint, lines for ejections.
fn tick(published: &mut [Watched], now_ms: u64) {
    reprieve_services_without_endpoints(published, now_ms);
    // Settled before anything rests: of two pools that fail alike neither rests, whatever their order.
    let spares: Vec<bool> = published.iter().map(|watched| watched.can_spare(now_ms)).collect();
    for (index, Watched { target, .. }) in published.iter().enumerate() {
        let same = |other: &Watched| other.target.pool.service == target.pool.service;
        let other = |at: usize| at != index && spares[at] && same(&published[at]);
        let spare = if (0..published.len()).any(other) { Spare::Some } else { Spare::None };
        if let Some((before, after)) = target.pool.tick(now_ms, &target.breaker, spare) {
            let (service, pool) = (&*target.pool.service, &*target.pool.name);
            let (before, after) = (before.as_str(), after.as_str());
            tracing::warn!(service, pool, before, after, "the breaker changed what a pool receives");
        }
    }
    published.iter_mut().for_each(say_ejections);
}

/// The last live endpoint of a service is never ejected, but it may fall to its probes while the others are ejected,
/// and two workers may eject the last two in the same moment. The one whose ejection ends first then serves at once.
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
            tracing::warn!(
                service = &**service,
                addr = %endpoint.id.addr,
                "nothing else of the service serves; its ejection ends"
            );
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
            let (service, pool, addr) = (&*endpoint.id.service, &*endpoint.id.pool, &endpoint.id.addr);
            let reason = endpoint.state().last_error.unwrap_or_default();
            let times = ejections - *known;
            *known = ejections;
            tracing::warn!(service, pool, %addr, times, reason, "an endpoint was ejected by its answers");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::{Health, Origin, ProbeKind, Protocol};
    use crate::upstream::endpoint::{EndpointId, Outcome};
    use crate::upstream::testing::{Manners, Upstream, until};

    const LONG: Duration = Duration::from_secs(5);

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn id(pool: &str, addr: SocketAddr) -> EndpointId {
        let origin = Origin { protocol: Protocol::Http1, host: addr.ip().to_string(), port: addr.port() };
        EndpointId { service: name("engine"), pool: name(pool), origin, addr: addr.into() }
    }

    fn health(interval_ms: u64) -> Health {
        let kind = ProbeKind::Http { path: "/healthz".into(), host: None, expect: 200..=399 };
        let (interval, timeout) = (Duration::from_millis(interval_ms), Duration::from_millis(200));
        Health { kind, interval, timeout, fall: 3, rise: 2, ..Health::default() }
    }

    fn publish(upstreams: &Upstreams, pools: &[(&str, &[SocketAddr])], health: Option<&Health>) {
        let target = |pool: &str, addrs: &[SocketAddr]| {
            let endpoint = |addr: &SocketAddr| {
                let id = id(pool, *addr);
                let endpoint = match health {
                    Some(_) => upstreams.registry().probed_endpoint(&id),
                    None => upstreams.registry().endpoint(&id),
                };
                Target { endpoint, health: health.cloned(), tls: None, proxy: None }
            };
            PoolTarget {
                pool: upstreams.registry().pool(&name("engine"), &name(pool)),
                breaker: Breaker::default(),
                takes_traffic: true,
                endpoints: addrs.iter().map(endpoint).collect(),
            }
        };
        let targets: Vec<PoolTarget> = pools.iter().map(|(pool, addrs)| target(pool, addrs)).collect();
        let endpoints = targets.iter().flat_map(|target| &target.endpoints).map(|target| &target.endpoint);
        upstreams.registry().trust_new_if_nothing_serves(endpoints);
        upstreams.set_targets(targets);
    }

    fn kind(upstreams: &Upstreams, addr: SocketAddr) -> StateKind {
        let endpoints = upstreams.registry().endpoints();
        endpoints.iter().find(|endpoint| endpoint.id.addr == addr.into()).expect("named").state_kind()
    }

    #[tokio::test]
    async fn the_first_round_tells_dead_from_alive_before_anybody_is_served() {
        let (alive, broken) =
            (Upstream::start(Manners::Status(200)).await, Upstream::start(Manners::Status(500)).await);
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[alive.addr, broken.addr])], Some(&health(2_000)));
        assert!(upstreams.first_round(LONG).await);
        assert_eq!(kind(&upstreams, alive.addr), StateKind::Serving);
        assert_eq!(kind(&upstreams, broken.addr), StateKind::Unproved);
    }

    #[tokio::test]
    async fn a_probe_that_never_answers_does_not_hold_up_the_start() {
        let stalled = Upstream::start(Manners::Stall).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        let patient = Health { timeout: Duration::from_secs(60), ..health(2_000) };
        publish(&upstreams, &[("stable", &[stalled.addr])], Some(&patient));
        assert!(!upstreams.first_round(Duration::from_millis(100)).await);
        assert_eq!(kind(&upstreams, stalled.addr), StateKind::Serving);
    }

    #[tokio::test]
    async fn an_endpoint_added_later_serves_after_its_first_pass() {
        let (first, second) =
            (Upstream::start(Manners::Status(200)).await, Upstream::start(Manners::Status(503)).await);
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[first.addr])], Some(&health(20)));
        assert!(upstreams.first_round(LONG).await);
        upstreams.set_serving();
        publish(&upstreams, &[("stable", &[first.addr, second.addr])], Some(&health(20)));
        until("some probes", || second.seen() > 5).await;
        assert_eq!(kind(&upstreams, second.addr), StateKind::Unproved);
        second.turn(Manners::Status(200));
        until("the first pass", || kind(&upstreams, second.addr) == StateKind::Serving).await;
    }

    #[tokio::test]
    async fn a_service_whose_only_endpoint_moved_has_no_gap() {
        let (old, new) = (Upstream::start(Manners::Status(200)).await, Upstream::start(Manners::Status(200)).await);
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[old.addr])], Some(&health(60_000)));
        assert!(upstreams.first_round(LONG).await);
        upstreams.set_serving();
        publish(&upstreams, &[("stable", &[new.addr])], Some(&health(60_000)));
        assert_eq!(kind(&upstreams, new.addr), StateKind::Serving);
    }

    #[tokio::test]
    async fn a_dead_endpoint_goes_down_comes_back_and_says_why() {
        let upstream = Upstream::start(Manners::Status(200)).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[upstream.addr])], Some(&health(20)));
        assert!(upstreams.first_round(LONG).await);
        upstream.turn(Manners::Reset);
        until("down", || kind(&upstreams, upstream.addr) == StateKind::Down).await;
        let state = upstreams.registry().endpoints()[0].state();
        assert!(state.last_error.as_deref().is_some_and(|text| text.starts_with("answer: ")), "{state:?}");
        upstream.turn(Manners::Status(200));
        until("serving", || kind(&upstreams, upstream.addr) == StateKind::Serving).await;
    }

    #[tokio::test]
    async fn publications_neither_restart_a_schedule_nor_resurrect_a_dead_endpoint() {
        let dead = Upstream::start(Manners::Status(500)).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        upstreams.set_serving();
        let slow = health(60_000);
        publish(&upstreams, &[("stable", &[dead.addr])], Some(&health(10)));
        until("some probes", || dead.seen() > 3).await;
        dead.turn(Manners::Status(200));
        until("up", || kind(&upstreams, dead.addr) == StateKind::Serving).await;
        dead.turn(Manners::Status(500));
        until("down", || kind(&upstreams, dead.addr) == StateKind::Down).await;
        // A new policy begins its own schedule once; the same policy a thousand times over does not.
        publish(&upstreams, &[("stable", &[dead.addr])], Some(&slow));
        assert!(upstreams.first_round(LONG).await);
        let seen = dead.seen();
        for _ in 0..1_000 {
            publish(&upstreams, &[("stable", &[dead.addr])], Some(&slow));
            tokio::task::yield_now().await;
        }
        assert_eq!(dead.seen(), seen);
        assert_eq!(kind(&upstreams, dead.addr), StateKind::Down);
    }

    #[tokio::test]
    async fn without_probes_a_fallen_endpoint_gets_requests_again() {
        let dead = Upstream::start(Manners::Status(500)).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[dead.addr])], Some(&health(20)));
        assert!(upstreams.first_round(LONG).await);
        assert_eq!(kind(&upstreams, dead.addr), StateKind::Unproved);
        publish(&upstreams, &[("stable", &[dead.addr])], None);
        assert_eq!(kind(&upstreams, dead.addr), StateKind::Serving);
    }

    #[tokio::test]
    async fn many_endpoints_are_probed_side_by_side() {
        let mut stalled = Vec::new();
        for _ in 0..20 {
            stalled.push(Upstream::start(Manners::Stall).await);
        }
        let upstreams = Upstreams::start(1, Lookups::default());
        let addrs: Vec<_> = stalled.iter().map(|upstream| upstream.addr).collect();
        publish(&upstreams, &[("stable", &addrs)], Some(&health(60_000)));
        // One after another they would take four seconds.
        assert!(upstreams.first_round(Duration::from_secs(2)).await);
    }

    #[tokio::test]
    async fn a_failing_pool_rests_by_itself_while_another_serves() {
        let upstream = Upstream::start(Manners::Status(200)).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[upstream.addr]), ("canary", &[upstream.addr])], None);
        let pool = |pool: &str| upstreams.registry().pool(&name("engine"), &name(pool));
        let canary = pool("canary");
        canary.meter.of(0).attempts.add(30);
        (0..20).for_each(|_| canary.meter.of(0).fault(crate::model::Fault::UpstreamTimeout));
        until("the rest", || !canary.admits(0)).await;
        assert_eq!(canary.rests(), 1);
        assert!(pool("stable").admits(u64::MAX));
        // Stable leaves: canary is all there is.
        publish(&upstreams, &[("canary", &[upstream.addr])], None);
        until("the last resort", || canary.admits(u64::MAX)).await;
    }

    #[tokio::test]
    async fn of_two_pools_that_fail_alike_neither_rests() {
        let upstream = Upstream::start(Manners::Status(200)).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[upstream.addr]), ("canary", &[upstream.addr])], None);
        let pools = ["stable", "canary"].map(|pool| upstreams.registry().pool(&name("engine"), &name(pool)));
        let mut watched = upstreams.published.lock().expect("the lock");
        tick(&mut watched, 1_000_000);
        for pool in &pools {
            pool.meter.of(0).attempts.add(40);
            (0..40).for_each(|_| pool.meter.of(0).fault(crate::model::Fault::UpstreamConnect));
        }
        tick(&mut watched, 1_000_250);
        assert!(pools.iter().all(|pool| pool.admits(u64::MAX) && pool.rests() == 0));
        // Stable is well again: its old errors leave the window, and canary rests for new ones.
        (1_000_500..1_011_000).step_by(250).for_each(|now_ms| tick(&mut watched, now_ms));
        pools[1].meter.of(0).attempts.add(40);
        (0..40).for_each(|_| pools[1].meter.of(0).fault(crate::model::Fault::UpstreamConnect));
        tick(&mut watched, 1_011_250);
        assert!(pools[0].admits(u64::MAX) && !pools[1].admits(0));
    }

    #[tokio::test]
    async fn a_service_whose_endpoints_are_all_ejected_gets_one_back() {
        let upstream = Upstream::start(Manners::Status(200)).await;
        let upstreams = Upstreams::start(1, Lookups::default());
        publish(&upstreams, &[("stable", &[upstream.addr])], None);
        let endpoint = upstreams.registry().endpoint(&id("stable", upstream.addr));
        let policy = Breaker { base_ejection: Duration::from_secs(60), ..Breaker::default() };
        for _ in 0..5 {
            endpoint.report(Outcome::Failed, clock::now().mono_ms, &policy, || false);
        }
        assert!(matches!(endpoint.state_kind(), StateKind::Ejected { .. }));
        until("the reprieve", || endpoint.state_kind() == StateKind::Serving).await;
    }
}
