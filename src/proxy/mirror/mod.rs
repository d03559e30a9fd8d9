//! Mirroring: a request that is about to be forwarded is copied to another pool, and nobody waits for the copy.
//!
//! `copying` gathers a copy while the request's body passes, `send` sends it once it is whole and throws the answer
//! away, and `scene` keeps both answers where somebody asked for pairs ([`crate::telemetry::pair`]).
//!
//! A copy is gathered before it is sent, so that what turns out too large is never half sent. It has connections of its
//! own, is never retried, and counts for no pool, endpoint, breaker or rollout. Bounds: `max_in_flight` copies of a
//! worker, each of one head and `max_body` (twice that over HTTP/2), of whose answer [`send::ANSWER_BYTES_MAX`] are
//! read, within `timeout`. Upgrades are not copied.

mod copying;
mod scene;
mod send;

pub(crate) use copying::Aside;

use crate::model::MIRROR_WHOLE;
use crate::proxy::attempt::forward::Job;
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::decide::dice::Rng;
use crate::proxy::h1::request::Framing;
use crate::switchboard::snapshot::{Pool, Service};
use crate::telemetry::mirror::Dropped;
use crate::upstream::endpoint::Admission;

/// The field that marks a copy; its value is the pool that the request itself went to.
pub(crate) const MARK: &str = "x-weir-mirror";

/// Begins a copy of a request that is about to be forwarded, where its service has mirrors: before its body is read.
#[inline]
pub(crate) fn begin<D: Downstream>(job: &Job<'_>, down: &mut D) {
    let service = &job.snapshot.services[job.decision.service];
    if !service.mirrors.is_empty() {
        copy(job, service, down);
    }
}

#[inline(never)]
fn copy<D: Downstream>(job: &Job<'_>, service: &Service, down: &mut D) {
    let drawn = draw(service, job.decision.pool, &mut job.worker.chance.borrow_mut().rng);
    let Some(index) = drawn else { return };
    let mirror = &service.mirrors[index];
    let method = job.question.head.method();
    if job.outgoing.upgrade || is_copy(job) || !mirror.spec.methods.iter().any(|known| known == method) {
        return;
    }
    let shard = mirror.meter.of(job.worker.index);
    let large = matches!(job.outgoing.framing, Framing::Length(n) if n > mirror.spec.body_bytes_max as u64);
    let begun = match () {
        () if large => Err(Dropped::Body),
        () if shard.in_flight.value() >= u64::from(mirror.spec.in_flight_max) => Err(Dropped::Full),
        () => endpoint(job, &service.pools[mirror.to]).ok_or(Dropped::Unserved),
    };
    match begun {
        Ok(endpoint) => {
            if let Some(aside) = Aside::begin(job, index, endpoint) {
                down.set_aside(aside);
            }
        }
        Err(why) => shard.drop_for(why),
    }
}

/// The mirror that copies this request of a pool; their parts lie side by side, so that it is one at most.
fn draw(service: &Service, pool: usize, rng: &mut Rng) -> Option<usize> {
    let mut ticket = rng.below(MIRROR_WHOLE as usize) as u32;
    let mine = service.mirrors.iter().enumerate().filter(|(_, mirror)| mirror.from.get(pool) == Some(&true));
    for (index, mirror) in mine {
        match ticket.checked_sub(mirror.spec.parts) {
            None => return Some(index),
            Some(rest) => ticket = rest,
        }
    }
    None
}

/// Whether it is a copy already, as a trusted proxy says: copies are not copied again.
fn is_copy(job: &Job<'_>) -> bool {
    job.outgoing.caller.trusted && job.question.head.value(MARK).is_some()
}

/// Index of an endpoint that serves, by chance. An endpoint under trial is left to the clients' requests.
fn endpoint(job: &Job<'_>, pool: &Pool) -> Option<usize> {
    let count = pool.endpoints.len();
    if count == 0 || pool.notice.is_some() {
        return None;
    }
    let first = job.worker.chance.borrow_mut().rng.below(count);
    let serves = |&index: &usize| pool.endpoints[index].admission(job.question.now.mono_ms) == Admission::Serving;
    (0..count).map(|step| (first + step) % count).find(serves)
}
