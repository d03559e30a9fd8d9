//! What is told of a request when it is over: counters, histogram, access log. The only place that writes them; of an
//! attempt that another one followed, [`Failed`] tells.

use std::net::IpAddr;
use std::time::Instant;

use crate::model::{Fault, Head, Why};
use crate::proxy::attempt::forward::Trail;
use crate::proxy::decide::Decision;
use crate::proxy::heads::trace::Trace;
use crate::proxy::worker::Worker;
use crate::switchboard::snapshot::{Service, Snapshot};
use crate::telemetry::access_log::Record;
use crate::telemetry::clock;
use crate::telemetry::lane::Lane;
use crate::telemetry::meter::PoolShard;
use crate::telemetry::spans::SpanIds;

/// One request, from its head to the end of its answer.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    pub(crate) began: Instant,
    pub(crate) client: Option<IpAddr>,
    pub(crate) protocol: &'static str,
    pub(crate) request_id: &'a [u8],
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) decision: Option<&'a Decision>,
    pub(crate) trail: &'a Trail,
    /// The status sent; 499 when the client left before.
    pub(crate) status: u16,
    /// Whose fault, when it failed.
    pub(crate) fault: Option<Fault>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// Tells it.
pub(crate) fn tell(worker: &Worker, snapshot: &Snapshot, head: &Head, story: &Story<'_>) {
    let duration_us = story.began.elapsed().as_micros() as u64;
    let draw = worker.chance.borrow_mut().rng.draw();
    match story.decision {
        Some(decision) => {
            let service = &snapshot.services[decision.service];
            let first = &service.pools[decision.pool];
            first.state.meter.of(worker.index).requests.add(1);
            // Requests count where they were meant to go when nothing was tried, else where they were last sent.
            let last = story.trail.last.map_or(decision.pool, |(pool, _)| pool);
            let shard = service.pools[last].state.meter.of(worker.index);
            let why = if story.trail.retried { Why::Retry } else { decision.why };
            shard.why[why as usize].add(1);
            shard.bytes_in.add(story.bytes_in);
            shard.bytes_out.add(story.bytes_out);
            if service.capped && story.trail.last.is_some() {
                pace(service, last, story, duration_us);
            }
            let lane = lane(decision, story.trail, draw);
            let counted = &shard.lanes[lane.index()];
            if story.fault.is_some() || story.status >= 400 || story.status == 101 || head.is_connect() {
                let failed = Failed { snapshot, decision, pool: last, lane };
                odd(shard, &failed, story, duration_us, worker.index);
            } else {
                counted.latency.record_us(duration_us);
            }
            if let Some(said) = story.trail.cache {
                counted.cache[said as usize].add(1);
            }
            // While nobody counts units this is one load of a line that nobody writes.
            if service.units.is_armed() && lane != Lane::Named {
                let first = decision.bucket.is_some_and(|bucket| service.units.note_seen(bucket));
                counted.units.add(u64::from(first));
            }
        }
        None => {
            if let Some(fault) = story.fault {
                worker.shard().refused[fault.index()].add(1);
            }
        }
    }
    let logged = worker.logger.borrow().wants(story.status, draw);
    if logged || story.trace.is_some_and(|trace| trace.told) {
        log(worker, snapshot, head, story, duration_us, logged);
    }
}

/// Tells an adaptive limit how long the pool took to answer; to answer not in time is to take as long as it was waited.
#[cold]
fn pace(service: &Service, pool: usize, story: &Story<'_>, duration_us: u64) {
    let Some(cap) = &service.pools[pool].cap else { return };
    let late = (story.fault == Some(Fault::UpstreamTimeout)).then_some(duration_us);
    if let Some(took_us) = story.trail.upstream_us.or(late) {
        cap.note(took_us, clock::mono_ms(Instant::now()));
    }
}

/// A failed attempt, as far as the evidence of its pool goes.
pub(crate) struct Failed<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) decision: &'a Decision,
    /// Index of the pool that failed.
    pub(crate) pool: usize,
    /// By which lane it came there.
    pub(crate) lane: Lane,
}

/// The lane of a request's last attempt: only the first is placed by the weights. `draw` is uniform over u64.
pub(crate) fn lane(decision: &Decision, trail: &Trail, draw: u64) -> Lane {
    match (decision.why, decision.bucket) {
        _ if trail.retried => Lane::Named,
        (Why::Weight | Why::Bucket | Why::Header | Why::ClientIp, Some(bucket)) => Lane::of_bucket(bucket),
        (Why::Weight | Why::Bucket | Why::Header | Why::ClientIp, None) => Lane::of_draw(draw),
        (
            Why::Drain
            | Why::Route
            | Why::Path
            | Why::Listener
            | Why::Override
            | Why::Cohort
            | Why::Kill
            | Why::Failover
            | Why::Spill
            | Why::Retry,
            _,
        ) => Lane::Named,
    }
}

/// What is neither a plain answer nor one below 400. The time is counted before what it was, and what it was not
/// before the time, so that who reads meanwhile never finds more errors than attempts.
#[cold]
fn odd(shard: &PoolShard, failed: &Failed<'_>, story: &Story<'_>, duration_us: u64, worker: usize) {
    let (own, named) = (&shard.lanes[failed.lane.index()], &shard.lanes[Lane::Named.index()]);
    match story.fault {
        // Upstream faults are counted attempt by attempt; the other two kinds once per request.
        Some(fault) if !fault.blames_pool() => {
            shard.fault(fault);
            // A client that left while the endpoint kept it waiting counts with its time; without an attempt nothing
            // was placed. HTTP/2 keeps no trail of a request that its client reset.
            let waited = story.trail.last.is_some() || story.status == 499;
            let lane = if waited { own } else { named };
            lane.uncounted.add(1);
            lane.latency.record_us(duration_us);
        }
        // A tunnel, which a 101 or the 200 to a CONNECT begins.
        None if story.status < 400 => {
            own.tunnels.add(1);
            own.disconnects.add(u64::from(story.trail.reset));
            named.uncounted.add(1);
            named.latency.record_us(duration_us);
        }
        Some(_) => {
            own.latency.record_us(duration_us);
            // What was cut short had begun with another status; weir's own answers to faults are 502 and 504.
            own.disconnects.add(u64::from(story.status < 500 && story.trail.grpc_status.is_none()));
            failed.count(worker);
        }
        None => {
            own.latency.record_us(duration_us);
            own.client_errors.add(1);
        }
    }
}

// === impl Failed ===

impl Failed<'_> {
    /// Counts the error by lane, unit and route.
    #[cold]
    pub(crate) fn count(&self, worker: usize) {
        let service = &self.snapshot.services[self.decision.service];
        let shard = service.pools[self.pool].state.meter.of(worker);
        let counted = &shard.lanes[self.lane.index()];
        counted.errors.add(1);
        if let (Lane::A | Lane::B, Some(bucket)) = (self.lane, self.decision.bucket) {
            counted.first_errors.add(u64::from(service.units.note_failed(bucket)));
        }
        let route = self.decision.route.map(|route| &*self.snapshot.table.routes()[route].spec.name);
        shard.routes.count(route);
    }
}

/// Writes the line of the access log if it is `logged`, and the span of a trace that is told.
#[cold]
fn log(worker: &Worker, snapshot: &Snapshot, head: &Head, story: &Story<'_>, duration_us: u64, logged: bool) {
    let service = story.decision.map(|decision| &snapshot.services[decision.service]);
    let last = story.trail.last.or(story.decision.map(|decision| (decision.pool, decision.endpoint)));
    let pool = service.zip(last).map(|(service, (pool, _))| &service.pools[pool]);
    let endpoint = pool.zip(story.trail.last).map(|(pool, (_, endpoint))| pool.endpoints[endpoint].id.addr.to_string());
    let retried = if story.trail.retried { Some(Why::Retry) } else { None };
    let attempts = match pool.filter(|_| story.trail.last.is_some()) {
        Some(pool) if !story.fault.is_some_and(Fault::blames_pool) || story.trail.failed.is_empty() => {
            format!("{}{}:{}", story.trail.failed, pool.name, story.status)
        }
        _ => story.trail.failed.trim_end_matches(',').to_owned(),
    };
    let record = Record {
        unix_us: worker.unix_us(story.began),
        request_id: story.request_id,
        trace_id: story.trace.map(|trace| &trace.trace_id[..]),
        client_ip: story.client,
        method: head.slice(head.method),
        host: head.slice(head.authority),
        path: head.slice(head.target),
        protocol: story.protocol,
        status: story.status,
        bytes_in: story.bytes_in,
        bytes_out: story.bytes_out,
        duration_us,
        upstream_us: story.trail.upstream_us,
        service: service.map(|service| service.name.as_str()),
        pool: pool.map(|pool| pool.name.as_str()),
        why: retried.or(story.decision.map(|decision| decision.why)),
        endpoint: endpoint.as_deref(),
        attempts: &attempts,
        generation: snapshot.generation,
        fault: story.fault,
        user_agent: head.value("user-agent"),
        grpc_status: story.trail.grpc_status,
        bucket: story.decision.and_then(|decision| decision.bucket),
    };
    if logged {
        worker.logger.borrow_mut().write(&record);
    }
    if let Some(&Trace { trace_id, parent_id, span_id, .. }) = story.trace.filter(|trace| trace.told) {
        worker.spans.push(&SpanIds { trace_id, span_id, parent_id }, &record);
    }
}
