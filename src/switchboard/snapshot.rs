//! One immutable generation of everything that a request is decided on.

use std::sync::Arc;

use ipnet::IpNet;

use crate::model::rollout::CohortMatch;
use crate::model::{
    AccessLog, Closed, Killed, Limits, MirrorSpec, Name, Notice, OnZeroStreams, ProxyVersion, ServiceSpec, Tracing,
    Weights,
};
use crate::routing::cookie::Keys;
use crate::routing::split::Split;
use crate::routing::table::Table;
use crate::telemetry::mirror::MirrorMeter;
use crate::throttle::gate::Cap;
use crate::throttle::limit::RateLimit;
use crate::throttle::visitors::Guarded;
use crate::tls::pool::PoolTls;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::PoolState;
use crate::upstream::units::UnitLedger;

/// What a request is decided on. Workers load it once per request.
#[derive(Debug)]
pub struct Snapshot {
    /// The generation that operators see; it rises with every change of configuration or weights.
    pub generation: u64,
    /// Rises with every publication, also when only endpoints changed.
    pub revision: u64,
    /// The services; routes refer to them by index.
    pub services: Box<[Service]>,
    /// The route table.
    pub table: Table,
    /// The rate limits, in the order of the configuration.
    pub rate_limits: Box<[RateLimit]>,
    /// The listeners, in the order of the configuration; fixed for the life of the process.
    pub listeners: Box<[Listener]>,
    /// Limits.
    pub limits: Limits,
    /// Who has how many connections and what they were ended for, where that is bounded by address.
    pub guarded: Option<Guarded>,
    /// Proxies whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Box<[IpNet]>,
    /// Access log policy.
    pub access_log: AccessLog,
    /// What becomes of traces; none: their fields pass like any other.
    pub tracing: Option<Tracing>,
    /// Keys of the affinity cookies.
    pub keys: Arc<Keys>,
    /// Whether any pool tells its endpoints whom a connection is opened for.
    pub names_clients: bool,
}

/// A service within a snapshot.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Dense index by identity, the same in every snapshot; workers keep their splitters by it.
    pub slot: usize,
    /// Its policies.
    pub spec: ServiceSpec,
    /// Its pools, in the order of the configuration.
    pub pools: Box<[Pool]>,
    /// Index of the stable pool.
    pub stable: usize,
    /// The weights as written.
    pub weights: Weights,
    /// The weights as the request path reads them.
    pub split: Split,
    /// Which of its units failed, while somebody asks; by identity.
    pub units: Arc<UnitLedger>,
    /// How many requests may be in flight in its pools together.
    pub cap: Option<Cap>,
    /// Whether it or one of its pools has a cap.
    pub capped: bool,
    /// What is copied from pool to pool; none while it is killed.
    pub mirrors: Box<[Mirror]>,
    /// Why everything goes to stable by whatever way it comes.
    pub killed: Option<Killed>,
    /// What of it answers 503; each of its pools knows for itself.
    pub closed: Option<Closed>,
    /// Requests that go to one pool whatever its weight.
    pub cohort: Option<Cohort>,
    /// Pools at 0 whose bound clients may stay for a while.
    pub draining: Option<Draining>,
}

// === impl Snapshot ===

impl Snapshot {
    /// What the `https` endpoints of each pool that has some are spoken to with.
    pub fn pools_tls(&self) -> impl Iterator<Item = &Arc<PoolTls>> {
        self.services.iter().flat_map(|service| &service.pools).filter_map(|pool| pool.tls.as_ref())
    }
}

// === impl Service ===

impl Service {
    /// Whether the pool at `index` takes requests by weight or by failover: its weight is above 0, or it is stable.
    pub fn takes_traffic(&self, index: usize) -> bool {
        index == self.stable || self.pools.get(index).is_some_and(|pool| pool.weight > 0)
    }
}

/// A part of the requests of some pools is copied to another one.
#[derive(Debug)]
pub struct Mirror {
    /// How much of what, and its bounds.
    pub spec: MirrorSpec,
    /// Which pools' requests are copied, by index.
    pub from: Box<[bool]>,
    /// Index of the pool that gets the copies.
    pub to: usize,
    /// What became of the copies, by identity.
    pub meter: Arc<MirrorMeter>,
}

/// Requests with these headers go to one pool.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// Index of the pool.
    pub pool: usize,
    /// Headers that a request must have, all of them.
    pub matches: Box<[CohortMatch]>,
}

/// A pool within a snapshot.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// `/NAME`, for direct paths.
    pub prefix: String,
    /// Its weight; 0 receives no new request by weight.
    pub weight: u32,
    /// Live state, by identity.
    pub state: Arc<PoolState>,
    /// How many requests may be in flight.
    pub cap: Option<Cap>,
    /// Time in which the share of an endpoint that came back grows to a whole one, in milliseconds.
    pub slow_start_ms: u64,
    /// What becomes of its long streams when its weight goes to 0.
    pub on_zero_streams: OnZeroStreams,
    /// What it answers instead of sending anything on.
    pub notice: Option<Arc<Notice>>,
    /// What its `https` endpoints are spoken to with; none where it has none.
    pub tls: Option<Arc<PoolTls>>,
    /// How its endpoints are told whom a connection is opened for; none: not at all.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Its endpoints, by identity; empty when no name has resolved yet.
    pub endpoints: Box<[Arc<Endpoint>]>,
}

/// A drain in progress: clients bound before it began stay where the old split had them.
#[derive(Debug, Clone)]
pub struct Draining {
    /// The split before the pools went to 0.
    pub split: Split,
    /// Which pools drain, by index.
    pub pools: Box<[bool]>,
    /// Cookies issued before this second are bound.
    pub since_unix_s: u64,
    /// When it is over, on the monotonic clock of [`crate::model::Now`].
    pub until_ms: u64,
}

/// A listener within a snapshot.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// The service and pool that it is pinned to.
    pub pin: Option<(usize, usize)>,
    /// Clients that may use it; empty: everybody.
    pub networks: Box<[IpNet]>,
    /// Every request is sent to `https` on this port.
    pub redirect: Option<u16>,
    /// Networks whose connections begin with a header of the PROXY protocol; none: nobody's do.
    pub proxy_protocol: Option<Box<[IpNet]>>,
}
