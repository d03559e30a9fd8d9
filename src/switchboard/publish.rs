//! From a [`State`] to a [`Snapshot`]: live state is looked up by identity and shared, everything else is copied.
//!
//! It publishes nothing; the one store is in [`super::writer`].

use std::sync::Arc;

use super::change;
use super::reconcile::{Drain, ServiceState, State};
use super::snapshot::{Cohort, Draining, Listener, Mirror, Pool, Service, Snapshot};
use crate::model::{
    Address, Limits, ListenerSpec, MirrorSpec, Name, Origin, Plan, PoolSpec, RateLimitSpec, ServiceSpec,
};
use crate::routing::cookie::Keys;
use crate::routing::split::Split;
use crate::routing::table::Table;
use crate::throttle::book::Book;
use crate::throttle::limit::RateLimit;
use crate::throttle::visitors::{Guarded, Rules};
use crate::tls::pools::PoolsTls;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::registry::Registry;

/// Where live state and addresses come from.
pub struct Sources<'a> {
    /// Live state by identity.
    pub registry: &'a Registry,
    /// Buckets by identity.
    pub throttles: &'a Book,
    /// The addresses that an origin stands for now; none when its name has not resolved yet.
    pub resolve: &'a dyn Fn(&Origin) -> Vec<Address>,
    /// The listeners of the process.
    pub listeners: &'a [ListenerSpec],
    /// Keys of the affinity cookies.
    pub keys: &'a Arc<Keys>,
    /// What pools speak TLS with.
    pub tls: &'a PoolsTls,
}

/// Builds the snapshot of `state`.
pub fn build(state: &State, revision: u64, sources: &Sources<'_>) -> Snapshot {
    let plan = &state.plan;
    let services = plan.services.iter().zip(&state.services);
    let services: Box<[Service]> = services
        .map(|(spec, live)| {
            let names: Vec<Name> = spec.pools.iter().map(|pool| pool.name.clone()).collect();
            let split = Split::new(&live.weights, &names, &spec.stable);
            Service {
                name: spec.name.clone(),
                slot: live.slot,
                pools: spec.pools.iter().map(|pool| build_pool(spec, pool, live, sources)).collect(),
                cap: spec.max_in_flight.map(|max| sources.throttles.cap(&spec.name, None, max)),
                capped: spec.max_in_flight.is_some() || spec.pools.iter().any(|pool| pool.max_in_flight.is_some()),
                stable: spec.pool_index(&spec.stable).unwrap_or(0),
                weights: live.weights.clone(),
                mirrors: build_mirrors(spec, live, sources),
                killed: live.killed.clone(),
                closed: live.closed.clone(),
                cohort: live.cohort.as_ref().and_then(|cohort| build_cohort(cohort, spec)),
                units: sources.registry.units(&spec.name),
                draining: live.drain.as_ref().map(|drain| build_drain(drain, &names, &spec.stable)),
                split,
                spec: spec.clone(),
            }
        })
        .collect();
    let table = Table::new(&plan.routes, |route| place(&plan.services, &route.service, route.pool.as_ref()));
    Snapshot {
        generation: state.generation,
        revision,
        rate_limits: plan.rate_limits.iter().map(|spec| build_limit(spec, plan, &table, sources)).collect(),
        table,
        listeners: sources.listeners.iter().map(|listener| build_listener(listener, &plan.services)).collect(),
        services,
        limits: plan.limits,
        guarded: guarded(&plan.limits, sources.throttles),
        trusted_proxies: plan.trusted_proxies.clone().into(),
        access_log: plan.access_log.clone(),
        tracing: plan.tracing.clone(),
        keys: sources.keys.clone(),
        names_clients: plan.services.iter().any(|spec| spec.pools.iter().any(|pool| pool.proxy_protocol.is_some())),
    }
}

fn build_pool(service: &ServiceSpec, pool: &PoolSpec, live: &ServiceState, sources: &Sources<'_>) -> Pool {
    let mut ids: Vec<EndpointId> = Vec::new();
    for origin in &pool.origins {
        for addr in (sources.resolve)(origin) {
            let id =
                EndpointId { service: service.name.clone(), pool: pool.name.clone(), origin: origin.clone(), addr };
            // Two names of one pool may stand for one address; it is one endpoint.
            if !ids.iter().any(|other| other.addr == id.addr) {
                ids.push(id);
            }
        }
    }
    let find = |id: &EndpointId| match service.health {
        Some(_) => sources.registry.probed_endpoint(id),
        None => sources.registry.endpoint(id),
    };
    let closed = live.closed.as_ref().filter(|closed| closed.covers(&pool.name));
    Pool {
        name: pool.name.clone(),
        prefix: format!("/{}", pool.name),
        weight: live.weights.of(&pool.name),
        slow_start_ms: service.slow_start.as_millis() as u64,
        on_zero_streams: pool.on_zero_streams.unwrap_or(service.on_zero_streams),
        notice: closed.map(|closed| Arc::new(closed.notice(&service.name, &pool.name))),
        state: sources.registry.pool(&service.name, &pool.name),
        cap: pool.max_in_flight.map(|max| match pool.min_in_flight {
            Some(min) => sources.throttles.adaptive(&service.name, &pool.name, min, max),
            None => sources.throttles.cap(&service.name, Some(&pool.name), max),
        }),
        tls: sources.tls.of(service, pool).cloned(),
        proxy_protocol: pool.proxy_protocol,
        endpoints: ids.iter().map(find).collect(),
    }
}

/// A killed service sends nothing anywhere but to stable, copies included.
fn build_mirrors(service: &ServiceSpec, live: &ServiceState, sources: &Sources<'_>) -> Box<[Mirror]> {
    let specs = service.mirrors.iter().filter(|_| live.killed.is_none());
    let build = |spec: &MirrorSpec| {
        Some(Mirror {
            from: service.pools.iter().map(|pool| spec.from.contains(&pool.name)).collect(),
            to: service.pool_index(&spec.to)?,
            meter: sources.registry.mirror(&service.name, &spec.to),
            spec: spec.clone(),
        })
    };
    specs.filter_map(build).collect()
}

fn build_limit(spec: &RateLimitSpec, plan: &Plan, table: &Table, sources: &Sources<'_>) -> RateLimit {
    let service = spec.service.as_ref().map(|name| place(&plan.services, name, None).0);
    let route = spec.route.as_ref().and_then(|name| table.routes().iter().position(|it| it.spec.name == *name));
    RateLimit::new(spec.clone(), service, route, sources.throttles.limit(spec))
}

fn guarded(limits: &Limits, throttles: &Book) -> Option<Guarded> {
    let rules = Rules { connections: limits.connections_per_address, offences: limits.offences_per_address };
    (rules != Rules { connections: 0, offences: 0 }).then(|| Guarded { visitors: throttles.visitors(), rules })
}

fn build_cohort(cohort: &change::Cohort, spec: &ServiceSpec) -> Option<Cohort> {
    let pool = spec.pool_index(&cohort.pool)?;
    Some(Cohort { pool, matches: cohort.matches.clone().into() })
}

fn build_drain(drain: &Drain, names: &[Name], stable: &str) -> Draining {
    Draining {
        split: Split::new(&drain.before, names, stable),
        pools: names.iter().map(|name| drain.pools.contains(name)).collect(),
        since_unix_s: drain.since_unix_s,
        until_ms: drain.until_ms,
    }
}

fn build_listener(listener: &ListenerSpec, services: &[ServiceSpec]) -> Listener {
    let pin = listener.pin.as_ref().and_then(|pin| {
        let (service, pool) = place(services, &pin.service, Some(&pin.pool));
        Some((service, pool?))
    });
    let (name, networks) = (listener.name.clone(), listener.networks.clone().into());
    let proxy_protocol = listener.proxy_protocol.clone().map(Into::into);
    Listener { name, pin, networks, redirect: listener.redirect, proxy_protocol }
}

/// Where a service and its pool are. A plan names only what it has.
fn place(services: &[ServiceSpec], service: &Name, pool: Option<&Name>) -> (usize, Option<usize>) {
    let at = services.iter().position(|spec| spec.name == *service).unwrap_or(0);
    (at, pool.and_then(|pool| services[at].pool_index(pool)))
}
