//! Which endpoint of a pool: the better of two that are drawn; one that came back just now gets only a part of its
//! share. Pure, as [`super`].

use super::Question;
use super::dice::Rng;
use crate::model::Now;
use crate::switchboard::snapshot::{Pool, Service};
use crate::upstream::endpoint::{Admission, Endpoint, StateKind};

/// Least-request of two choices among the endpoints that serve; an endpoint whose ejection is over gets one
/// request as its trial, for a second only one that is repeatable.
pub fn pick(question: &Question<'_>, pool: &Pool, not: impl Fn(usize) -> bool, rng: &mut Rng) -> Option<usize> {
    let now_ms = question.now.mono_ms;
    if pool.notice.is_some() || !pool.state.admits(rng.draw()) {
        return None;
    }
    let endpoints = &pool.endpoints;
    let admission = |index: usize| match not(index) {
        true => Admission::Refused,
        false => endpoints[index].admission(now_ms),
    };
    // What is only described, and not sent, tries nothing.
    let may_try = |it: &Endpoint| question.repeatable || (question.at.is_some() && it.is_overdue(now_ms));
    let trial = |index: usize| may_try(&endpoints[index]) && endpoints[index].take_trial(now_ms);
    let takes = |index: usize| match admission(index) {
        Admission::Serving => true,
        Admission::Trial => trial(index),
        Admission::Refused => false,
    };
    match endpoints.len() {
        0 => None,
        1 => takes(0).then_some(0),
        n => {
            let first = rng.below(n);
            let second = (first + 1 + rng.below(n - 1)) % n;
            let waiting = |index: usize| endpoints[index].meter.of(question.worker).in_flight.value();
            match (admission(first), admission(second)) {
                (Admission::Trial, _) if trial(first) => Some(first),
                (_, Admission::Trial) if trial(second) => Some(second),
                (Admission::Serving, Admission::Serving) => {
                    let fewer = waiting(second) < waiting(first);
                    let (one, other) = if fewer { (second, first) } else { (first, second) };
                    let cold = pool.slow_start_ms > 0 && is_too_cold(pool, one, other, now_ms, rng);
                    Some(if cold { other } else { one })
                }
                (Admission::Serving, _) => Some(first),
                (_, Admission::Serving) => Some(second),
                _ => (0..n).map(|step| (first + step) % n).find(|&index| takes(index)),
            }
        }
    }
}

/// Whether the other of two endpoints takes this request, because the first came back just now: as often as it is
/// colder.
fn is_too_cold(pool: &Pool, one: usize, other: usize, now_ms: u64, rng: &mut Rng) -> bool {
    let warmth = |index: usize| pool.endpoints[index].warmth_per_mille(now_ms, pool.slow_start_ms);
    let (own, others) = (warmth(one), warmth(other));
    own < others && rng.below(others as usize) as u64 >= own
}

/// An endpoint to try when the alternative is an error: one that serves although its pool's breaker rests, else one
/// that is ejected and whose probes have not failed, since it may be back already.
pub(in crate::proxy) fn last_resort(
    question: &Question<'_>,
    pool: &Pool,
    not: impl Fn(usize) -> bool,
) -> Option<usize> {
    let now_ms = question.now.mono_ms;
    let usable = if pool.notice.is_some() { 0 } else { pool.endpoints.len() };
    let find = |holds: &dyn Fn(usize) -> bool| (0..usable).find(|&index| !not(index) && holds(index));
    find(&|index| pool.endpoints[index].admission(now_ms) == Admission::Serving)
        .or_else(|| find(&|index| matches!(pool.endpoints[index].state_kind(), StateKind::Ejected { .. })))
}

/// Whether no other endpoint that traffic may fail over to serves: such an endpoint is never ejected.
pub fn is_last_live(service: &Service, pool: usize, endpoint: usize, now: Now) -> bool {
    let takes = |&(index, it): &(usize, &Pool)| it.weight > 0 || index == service.stable;
    let mut pools = service.pools.iter().enumerate().filter(takes);
    pools.all(|(p, it)| {
        let mut endpoints = it.endpoints.iter().enumerate();
        endpoints.all(|(e, it)| (p, e) == (pool, endpoint) || it.admission(now.mono_ms) != Admission::Serving)
    })
}
