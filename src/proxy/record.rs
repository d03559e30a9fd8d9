//! What is told of a request when it is over: counters, histogram, access log. The only place that writes them.

use std::net::IpAddr;
use std::time::Instant;

use super::decide::Decision;
use super::forward::Trail;
use super::worker::Worker;
use crate::model::{Fault, Head};
use crate::switchboard::snapshot::Snapshot;
use crate::telemetry::access_log::Record;

/// One request, from its head to the end of its answer.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    pub(crate) began: Instant,
    pub(crate) client: Option<IpAddr>,
    pub(crate) protocol: &'static str,
    pub(crate) request_id: &'a [u8],
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
    let pool = story.decision.map(|decision| {
        let pools = &snapshot.services[decision.service].pools;
        // Requests count where they were meant to go when nothing was tried, else where they were last sent.
        &pools[story.trail.last.map_or(decision.pool, |(pool, _)| pool)]
    });
    match (pool, story.decision) {
        (Some(pool), Some(decision)) => {
            let shard = pool.state.meter.of(worker.index);
            let first = &snapshot.services[decision.service].pools[decision.pool];
            first.state.meter.of(worker.index).requests.add(1);
            let why = if story.trail.retried { crate::model::Why::Retry } else { decision.why };
            shard.why[why as usize].add(1);
            shard.latency.record_us(duration_us);
            shard.bytes_in.add(story.bytes_in);
            shard.bytes_out.add(story.bytes_out);
            // Upstream faults are counted attempt by attempt; the other two kinds once per request.
            if let Some(fault) = story.fault.filter(|fault| !fault.blames_pool()) {
                shard.fault(fault);
            }
        }
        _ => {
            if let Some(fault) = story.fault {
                worker.shard().refused[fault.index()].add(1);
            }
        }
    }
    let draw = worker.chance.borrow_mut().rng.draw();
    if worker.logger.borrow().wants(story.status, draw) {
        log(worker, snapshot, head, story, duration_us);
    }
}

#[cold]
fn log(worker: &Worker, snapshot: &Snapshot, head: &Head, story: &Story<'_>, duration_us: u64) {
    let service = story.decision.map(|decision| &snapshot.services[decision.service]);
    let last = story.trail.last.or(story.decision.map(|decision| (decision.pool, decision.endpoint)));
    let pool = service.zip(last).map(|(service, (pool, _))| &service.pools[pool]);
    let endpoint = pool.zip(story.trail.last).map(|(pool, (_, endpoint))| pool.endpoints[endpoint].id.addr.to_string());
    let retried = if story.trail.retried { Some(crate::model::Why::Retry) } else { None };
    let attempts = match pool.filter(|_| story.trail.last.is_some()) {
        Some(pool) if !story.fault.is_some_and(Fault::blames_pool) || story.trail.failed.is_empty() => {
            format!("{}{}:{}", story.trail.failed, pool.name, story.status)
        }
        _ => story.trail.failed.trim_end_matches(',').to_owned(),
    };
    let record = Record {
        unix_us: worker.unix_us(story.began),
        request_id: story.request_id,
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
        bucket: story.decision.and_then(|decision| decision.bucket),
    };
    worker.logger.borrow_mut().write(&record);
}
