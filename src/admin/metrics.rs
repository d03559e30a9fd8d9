//! The Prometheus text: the shards of the workers, the state of the snapshot, then what the facade counted.
//!
//! Labels are names from the configuration, addresses and status codes, never anything that a client chooses.

use super::{cache_metrics, guard_metrics, limit_metrics, mirror_metrics, rollout_metrics};
use crate::model::{Fault, Protocol, StreamKind, Why};
use crate::rollout::desk::Desk;
use crate::switchboard::snapshot::{Pool, Service, Snapshot};
use crate::switchboard::status::Status;
use crate::telemetry::count::Sharded;
use crate::telemetry::flood::{Flood, Side};
use crate::telemetry::handshake::{HandshakeFault, HandshakeKind, HandshakeShard};
use crate::telemetry::lane::Lane;
use crate::telemetry::meter::{self, PoolShard, StreamGauge, Unannounced, WorkerShard};
use crate::telemetry::names::{self, Metric};
use crate::telemetry::pair::Tap;
use crate::telemetry::process::Usage;
use crate::telemetry::reading::{LaneCounts, Reading};
use crate::telemetry::text::Text;
use crate::telemetry::uplink::UplinkFault;
use crate::telemetry::{clock, control};
use crate::tls::pool::PoolTls;
use crate::upstream::endpoint::{Admission, Endpoint};

/// Status codes shown per endpoint; a server that makes up more of them has the rest under `other`.
const CODES_MAX: usize = 40;

/// The window of the effective shares, in seconds.
pub const SHARES_S: u64 = 10;

/// Every [`Why`], in declaration order.
const WHYS: [Why; 14] = [
    Why::Weight,
    Why::Bucket,
    Why::Header,
    Why::ClientIp,
    Why::Drain,
    Why::Route,
    Why::Path,
    Why::Listener,
    Why::Override,
    Why::Cohort,
    Why::Kill,
    Why::Failover,
    Why::Spill,
    Why::Retry,
];

/// What is shown.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The snapshot that is live.
    pub snapshot: &'a Snapshot,
    /// The state of the process.
    pub status: &'a Status,
    /// The part of its service's requests that each pool got over the last [`SHARES_S`], by service and pool of the
    /// snapshot; none without requests.
    pub shares: &'a [Vec<Option<f64>>],
    /// What workers counted beside pools.
    pub workers: &'a Sharded<WorkerShard>,
    /// Access log lines lost.
    pub log_dropped: u64,
    /// Where captured pairs go.
    pub pairs: &'a Tap,
    /// The rollouts.
    pub desk: &'a Desk,
}

/// The whole exposition.
pub fn render(facts: &Facts<'_>) -> String {
    let mut text = Text::default();
    process(&mut text, facts);
    config(&mut text, facts);
    tls(&mut text, facts);
    pools(&mut text, facts.snapshot);
    split(&mut text, facts);
    endpoints(&mut text, facts.snapshot);
    upstream_tls(&mut text, facts.snapshot);
    limit_metrics::render(&mut text, facts.snapshot);
    mirror_metrics::render(&mut text, facts);
    guard_metrics::render(&mut text, facts);
    rollout_metrics::render(&mut text, facts.desk);
    let left_out = text.left_out();
    let mut tail = Text::default();
    tail.family(&names::METRICS_LEFT_OUT).count(&names::METRICS_LEFT_OUT, &[], left_out);
    text.append(&tail.into_string());
    text.append(&control::render());
    text.into_string()
}

fn process(text: &mut Text, facts: &Facts<'_>) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.family(&names::BUILD_INFO).count(&names::BUILD_INFO, &version, 1);
    if let Some(usage) = Usage::now() {
        usage.render(text);
    }
    let workers = facts.workers;
    let mut one = |metric: &Metric, value: u64| text.family(metric).count(metric, &[], value);
    one(&names::WORKERS, facts.status.workers as u64);
    one(&names::CONNECTIONS, workers.sum(|shard| shard.accepted.value()));
    one(&names::CONNECTIONS_OPEN, workers.sum(|shard| shard.open.value()));
    one(&names::ACCESS_LOG_DROPPED, facts.log_dropped + workers.sum(|shard| shard.log_dropped.value()));
    if facts.snapshot.listeners.iter().any(|listener| listener.proxy_protocol.is_some()) {
        text.family(&names::PROXY_PROTOCOL_FAILURES);
        for kind in Unannounced::ALL {
            let value = workers.sum(|shard| shard.unannounced[kind as usize].value());
            text.count(&names::PROXY_PROTOCOL_FAILURES, &[("kind", kind.as_str())], value);
        }
    }
    text.family(&names::HTTP2_ENDED);
    for (side, flood) in Side::ALL.into_iter().flat_map(|side| Flood::ALL.map(|flood| (side, flood))) {
        let labels = [("side", side.as_str()), ("kind", flood.as_str())];
        text.count(&names::HTTP2_ENDED, &labels, workers.sum(|shard| shard.floods.count(side, flood).value()));
    }
    text.family(&names::REFUSED);
    for fault in Fault::ALL {
        let value = workers.sum(|shard| shard.refused[fault.index()].value());
        if value > 0 || !fault.blames_pool() {
            text.count(&names::REFUSED, &[("kind", fault.as_str())], value);
        }
    }
}

fn tls(text: &mut Text, facts: &Facts<'_>) {
    if facts.status.tls.is_empty() {
        return;
    }
    let sum = |listener: usize, of: &dyn Fn(&HandshakeShard) -> u64| {
        facts.workers.sum(|shard| shard.handshakes.get(listener).map_or(0, of))
    };
    let is_tls = |name: &str| facts.status.tls.iter().any(|tls| tls.listener == name);
    let listeners = || facts.snapshot.listeners.iter().enumerate().filter(|(_, listener)| is_tls(&listener.name));
    text.family(&names::TLS_HANDSHAKES);
    for (index, listener) in listeners() {
        for kind in HandshakeKind::ALL {
            let labels =
                [("listener", listener.name.as_str()), ("version", kind.version()), ("resumed", kind.resumed())];
            text.count(&names::TLS_HANDSHAKES, &labels, sum(index, &|shard| shard.count(kind).value()));
        }
    }
    text.family(&names::TLS_HANDSHAKE_FAILURES);
    for (index, listener) in listeners() {
        for fault in HandshakeFault::ALL {
            let labels = [("listener", listener.name.as_str()), ("kind", fault.as_str())];
            text.count(&names::TLS_HANDSHAKE_FAILURES, &labels, sum(index, &|shard| shard.failures(fault).value()));
        }
    }
    text.family(&names::TLS_CERTIFICATE_EXPIRY);
    for tls in &facts.status.tls {
        for (i, certificate) in tls.certificates.iter().enumerate() {
            // Two may be for one name; a series may be there only once.
            let twin = tls.certificates[..i].iter().any(|other| other.name == certificate.name);
            let name =
                if twin { format!("{}@{}", certificate.name, certificate.file) } else { certificate.name.clone() };
            let labels = [("listener", tls.listener.as_str()), ("name", &name)];
            let expires = u64::try_from(certificate.expires_unix_s).unwrap_or(0);
            text.count(&names::TLS_CERTIFICATE_EXPIRY, &labels, expires);
        }
    }
    text.family(&names::TLS_FILES_FAILED);
    for tls in &facts.status.tls {
        text.count(&names::TLS_FILES_FAILED, &[("listener", &tls.listener)], tls.failed.len() as u64);
    }
    if facts.status.acme.is_empty() {
        return;
    }
    text.family(&names::ACME_FAILURES);
    for name in &facts.status.acme {
        text.count(&names::ACME_FAILURES, &[("name", &name.name)], name.failures.into());
    }
    text.family(&names::ACME_NEXT_ORDER);
    for name in &facts.status.acme {
        text.count(&names::ACME_NEXT_ORDER, &[("name", &name.name)], name.next_unix_s);
    }
}

fn config(text: &mut Text, facts: &Facts<'_>) {
    let status = facts.status;
    let mut one = |metric: &Metric, value: u64| text.family(metric).count(metric, &[], value);
    one(&names::CONFIG_LAST_RELOAD_SUCCESSFUL, status.last_reload.ok.into());
    one(&names::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP, status.last_reload.success_unix_s);
    one(&names::CONFIG_GENERATION, status.generation);
    one(&names::CONFIG_SOURCE_STALE, status.stale.is_some().into());
    text.family(&names::KILLED);
    for service in &status.services {
        text.count(&names::KILLED, &[("service", &service.name)], service.killed.is_some().into());
    }
    text.family(&names::ROLLBACK_PENDING);
    for service in &status.services {
        text.count(&names::ROLLBACK_PENDING, &[("service", &service.name)], service.pending.is_some().into());
    }
}

fn pools(text: &mut Text, snapshot: &Snapshot) {
    each_pool(text, snapshot, &names::ATTEMPTS, |pool| pool.state.meter.sum(|shard| shard.attempts.value()));
    each_pool(text, snapshot, &names::RETRIES, |pool| pool.state.meter.sum(|shard| shard.retries.value()));
    hedges(text, snapshot);
    cache_metrics::cache_answers(text, snapshot);
    each_pool(text, snapshot, &names::REQUESTS_IN_FLIGHT, |pool| {
        pool.state.meter.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.in_flight.value()))
    });
    for (metric, value) in [
        (&names::LONG_STREAMS, (|gauge| gauge.running.value()) as fn(&StreamGauge) -> u64),
        (&names::LONG_STREAMS_DRAINING, |gauge| gauge.draining.value()),
    ] {
        text.family(metric);
        for (service, pool) in named(snapshot) {
            for kind in StreamKind::ALL {
                let labels = [("service", service.name.as_str()), ("pool", &pool.name), ("kind", kind.as_str())];
                text.count(metric, &labels, pool.state.meter.sum(|shard| value(&shard.streams[kind.index()])));
            }
        }
    }
    let closed = |pool: &Pool| pool.state.meter.sum(|shard| shard.streams_closed.value());
    each_pool(text, snapshot, &names::LONG_STREAMS_CLOSED, closed);
    let readings: Vec<_> = named(snapshot).map(|(_, pool)| Reading::of(&pool.state.meter).total()).collect();
    for (metric, value) in [
        (&names::LANE_ATTEMPTS, (|counts| counts.attempts) as fn(&LaneCounts) -> u64),
        (&names::LANE_ERRORS, |counts| counts.errors),
    ] {
        text.family(metric);
        for ((service, pool), counts) in named(snapshot).zip(&readings) {
            for lane in Lane::ALL {
                let labels = [("service", service.name.as_str()), ("pool", &pool.name), ("lane", lane.as_str())];
                text.count(metric, &labels, value(counts.lane(lane)));
            }
        }
    }
    text.family(&names::DECISIONS);
    for (service, pool) in named(snapshot) {
        for (i, why) in WHYS.iter().enumerate() {
            let value = pool.state.meter.sum(|shard| shard.why[i].value());
            if value > 0 {
                let labels = [("service", service.name.as_str()), ("pool", &pool.name), ("why", why.as_str())];
                text.count(&names::DECISIONS, &labels, value);
            }
        }
    }
    text.family(&names::POOL_FAULTS);
    for (service, pool) in named(snapshot) {
        for fault in Fault::ALL {
            let value = pool.state.meter.sum(|shard| shard.faults[fault.index()].value());
            let labels = [("service", service.name.as_str()), ("pool", &pool.name), ("kind", fault.as_str())];
            text.count(&names::POOL_FAULTS, &labels, value);
        }
    }
    text.family(&names::BODY_BYTES);
    for (service, pool) in named(snapshot) {
        let bytes_in = pool.state.meter.sum(|shard| shard.bytes_in.value());
        let bytes_out = pool.state.meter.sum(|shard| shard.bytes_out.value());
        for (direction, value) in [("in", bytes_in), ("out", bytes_out)] {
            let labels = [("service", service.name.as_str()), ("pool", &pool.name), ("direction", direction)];
            text.count(&names::BODY_BYTES, &labels, value);
        }
    }
    text.family(&names::REQUEST_DURATION);
    for (service, pool) in named(snapshot) {
        let latency = meter::latency(&pool.state.meter);
        let labels = [("service", service.name.as_str()), ("pool", &pool.name)];
        text.histogram(&names::REQUEST_DURATION, &labels, &latency);
    }
}

fn split(text: &mut Text, facts: &Facts<'_>) {
    each_pool(text, facts.snapshot, &names::MAINTENANCE, |pool| pool.notice.is_some().into());
    each_pool(text, facts.snapshot, &names::POOL_WEIGHT, |pool| pool.weight.into());
    text.family(&names::POOL_ADMITTED);
    for (service, pool) in named(facts.snapshot) {
        let labels = [("service", service.name.as_str()), ("pool", &pool.name)];
        text.ratio(&names::POOL_ADMITTED, &labels, f64::from(pool.state.admit_per_mille()) / 1_000.0);
    }
    text.family(&names::SPLIT_CONFIGURED);
    for (service, pool) in named(facts.snapshot) {
        let labels = [("service", service.name.as_str()), ("pool", &pool.name)];
        text.ratio(&names::SPLIT_CONFIGURED, &labels, service.weights.share(&pool.name));
    }
    text.family(&names::SPLIT_EFFECTIVE);
    for ((service, pool), share) in named(facts.snapshot).zip(facts.shares.iter().flatten()) {
        if let Some(share) = *share {
            text.ratio(&names::SPLIT_EFFECTIVE, &[("service", &service.name), ("pool", &pool.name)], share);
        }
    }
}

fn endpoints(text: &mut Text, snapshot: &Snapshot) {
    let now_ms = clock::now().mono_ms;
    each_endpoint(text, snapshot, &names::ENDPOINT_UP, |endpoint| {
        (endpoint.admission(now_ms) == Admission::Serving).into()
    });
    each_endpoint(text, snapshot, &names::ENDPOINT_EJECTIONS, Endpoint::ejections);
    each_endpoint(text, snapshot, &names::UPSTREAM_CONNECTIONS, |endpoint| {
        endpoint.meter.sum(|shard| shard.connections.value())
    });
    text.family(&names::UPSTREAM_ERRORS);
    for_endpoints(snapshot, |service, pool, endpoint, address| {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.blames_pool()) {
            let value = endpoint.meter.sum(|shard| shard.faults[fault.index()].value());
            let labels = [("service", service), ("pool", pool), ("endpoint", address), ("kind", fault.as_str())];
            text.count(&names::UPSTREAM_ERRORS, &labels, value);
        }
    });
    text.family(&names::REQUESTS);
    for_endpoints(snapshot, |service, pool, endpoint, address| {
        let mut labels = [("service", service), ("pool", pool), ("endpoint", address), ("code", "")];
        let (mut shown, mut other) = (0, 0);
        for code in 0..500 {
            let value = endpoint.meter.sum(|shard| shard.codes[code].value());
            if value > 0 && shown < CODES_MAX {
                shown += 1;
                let code = (code + 100).to_string();
                text.count(&names::REQUESTS, &[labels[0], labels[1], labels[2], ("code", &code)], value);
            } else {
                other += value;
            }
        }
        if other > 0 {
            labels[3].1 = "other";
            text.count(&names::REQUESTS, &labels, other);
        }
    });
}

/// Only of services that hedge.
fn hedges(text: &mut Text, snapshot: &Snapshot) {
    let hedged = || named(snapshot).filter(|(service, _)| service.spec.retry.hedge.is_some());
    if hedged().next().is_none() {
        return;
    }
    text.family(&names::HEDGES);
    for (service, pool) in hedged() {
        let labels = |outcome| [("service", service.name.as_str()), ("pool", pool.name.as_str()), ("outcome", outcome)];
        let sum = |value: fn(&PoolShard) -> u64| pool.state.meter.sum(value);
        text.count(&names::HEDGES, &labels("won"), sum(|shard| shard.hedges_won.value()));
        text.count(&names::HEDGES, &labels("lost"), sum(|shard| shard.hedges_lost.value()));
    }
}

fn upstream_tls(text: &mut Text, snapshot: &Snapshot) {
    if snapshot.pools_tls().next().is_none() {
        return;
    }
    text.family(&names::UPSTREAM_TLS_HANDSHAKES);
    for_endpoints(snapshot, |service, pool, endpoint, address| {
        if endpoint.id.origin.protocol != Protocol::Https {
            return;
        }
        let mut count = |result: &str, value: u64| {
            let labels = [("service", service), ("pool", pool), ("endpoint", address), ("result", result)];
            text.count(&names::UPSTREAM_TLS_HANDSHAKES, &labels, value);
        };
        count("full", endpoint.meter.sum(|shard| shard.tls.full.value()));
        count("resumed", endpoint.meter.sum(|shard| shard.tls.resumed.value()));
        for fault in UplinkFault::ALL {
            let value = endpoint.meter.sum(|shard| shard.tls.failures(fault).value());
            if value > 0 {
                count(fault.as_str(), value);
            }
        }
    });
    for (metric, value) in [
        (&names::UPSTREAM_TLS_FILES_FAILED, (|tls| tls.failed().len() as u64) as fn(&PoolTls) -> u64),
        (&names::UPSTREAM_TLS_UNVERIFIED, |tls| tls.spec.insecure_skip_verify.into()),
    ] {
        text.family(metric);
        for tls in snapshot.pools_tls() {
            text.count(metric, &[("service", &tls.service), ("pool", &tls.pool)], value(tls));
        }
    }
}

pub(super) fn named(snapshot: &Snapshot) -> impl Iterator<Item = (&Service, &Pool)> {
    snapshot.services.iter().flat_map(|service| service.pools.iter().map(move |pool| (service, pool)))
}

fn each_pool(text: &mut Text, snapshot: &Snapshot, metric: &Metric, value: impl Fn(&Pool) -> u64) {
    text.family(metric);
    for (service, pool) in named(snapshot) {
        text.count(metric, &[("service", &service.name), ("pool", &pool.name)], value(pool));
    }
}

fn for_endpoints(snapshot: &Snapshot, mut each: impl FnMut(&str, &str, &Endpoint, &str)) {
    for (service, pool) in named(snapshot) {
        for (i, endpoint) in pool.endpoints.iter().enumerate() {
            let address = &endpoint.id.addr;
            // Two origins may have one address; a series may be there only once.
            let twin = pool.endpoints[..i].iter().any(|other| other.id.addr == *address);
            let label = if twin { format!("{address}@{}", endpoint.authority) } else { address.to_string() };
            each(&service.name, &pool.name, endpoint, &label);
        }
    }
}

fn each_endpoint(text: &mut Text, snapshot: &Snapshot, metric: &Metric, value: impl Fn(&Endpoint) -> u64) {
    text.family(metric);
    for_endpoints(snapshot, |service, pool, endpoint, address| {
        text.count(metric, &[("service", service), ("pool", pool), ("endpoint", address)], value(endpoint));
    });
}
