//! Whether, where and when a request is tried once more: what rules out a second execution, what the budget allows, and
//! how long is waited before.
//!
//! What is never repeated: a request that is not idempotent once a byte of it went out, one whose body is no longer at
//! hand, and one that timed out, unless a try's own time was over and another endpoint was found for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::exchange::{Conn, Failure};
use super::forward::{Attempt, Course, Job, Trail, Tried};
use super::replay::Replay;
use super::wire::Wire;
use crate::model::{Fault, Retry};
use crate::proxy::bodies::upload::{Downstream, Upload};
use crate::proxy::decide;
use crate::proxy::decide::admit::Places;
use crate::proxy::record;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::timer::Timer;
use crate::telemetry::lane::Lane;

/// Longest pause before a try.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Whether and where a failed attempt may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retriable {
    /// It might run twice, or cannot be sent again.
    No,
    /// On another endpoint.
    Elsewhere,
    /// On another endpoint, or over a fresh connection to the same.
    Anywhere,
    /// There: it was looked for and paid for before the try was given up.
    At((usize, usize)),
}

// === impl Retriable ===

impl Retriable {
    /// `stale`: the connection was idle and may have been closed just as we wrote, so the endpoint is worth a second
    /// try where there is no other.
    pub(crate) fn after(repeatable: bool, stale: bool) -> Self {
        match (repeatable, stale) {
            (false, _) => Self::No,
            (true, true) => Self::Anywhere,
            (true, false) => Self::Elsewhere,
        }
    }
}

/// Whether an attempt of which something may have been sent can be made again.
pub(crate) fn retriable<W: Wire>(
    job: &Job<'_>,
    conn: &Conn<W>,
    upload: &Upload,
    at_hand: bool,
    failure: &Failure,
) -> Retriable {
    let Failure::Endpoint { fault, answered, .. } = *failure else { return Retriable::No };
    let repeatable = job.question.repeatable || upload.is_unsent();
    Retriable::after(at_hand && fault != Fault::UpstreamTimeout && repeatable, conn.reused && !answered)
}

/// The lane of the attempt that has just failed.
fn lane_of(job: &Job<'_>, trail: &Trail) -> Lane {
    let draw = job.worker.chance.borrow_mut().rng.draw();
    record::lane(job.decision, trail, draw)
}

/// Counts an attempt that another one follows: what the client sees at the end tells nothing of it.
fn lose(job: &Job<'_>, pool: usize, lane: Lane, began: Instant) {
    let failed = record::Failed { snapshot: job.snapshot, decision: job.decision, pool, lane };
    job.snapshot.services[job.decision.service].pools[pool].state.meter.of(job.worker.index).lanes[lane.index()]
        .lose_us(began.elapsed().as_micros() as u64);
    failed.count(job.worker.index);
}

/// Attempts of one request, those included that made no connection.
fn attempts_max(policy: &Retry) -> usize {
    policy.attempts as usize + 2
}

/// Where to try next; none when every endpoint has been tried.
fn next(job: &Job<'_>, tried: &[(usize, usize)]) -> Option<(usize, usize)> {
    decide::next(job.question, job.decision, tried, &mut job.worker.chance.borrow_mut().rng)
}

/// Whether the budget allows one more, which is paid for then.
pub(in crate::proxy) fn pay(job: &Job<'_>) -> bool {
    let service = &job.snapshot.services[job.decision.service];
    let now_ms = job.worker.now(Instant::now()).mono_ms;
    job.worker.budgets.borrow_mut().withdraw(service.slot, &service.spec.retry, now_ms)
}

/// Tells an endpoint that was found that nothing comes: perhaps it was found for its trial.
pub(in crate::proxy) fn give_back(job: &Job<'_>, (pool, endpoint): (usize, usize)) {
    let service = &job.snapshot.services[job.decision.service];
    service.pools[pool].endpoints[endpoint].give_back_trial(job.question.now.mono_ms);
}

/// What a failed attempt costs, and where to go next.
pub(crate) fn fail<A>(
    job: &Job<'_>,
    attempt: &Attempt,
    Course { began, trail, places, .. }: Course<'_>,
    (fault, reason): (Fault, &'static str),
    retriable: Retriable,
) -> Tried<A> {
    let target = (attempt.pool, attempt.endpoint);
    attempt.fail(fault, job.question);
    let lane = lane_of(job, trail);
    match again(job, trail, places, (target, reason), retriable) {
        Some(next) => {
            lose(job, target.0, lane, began);
            Tried::Next(next)
        }
        None => Tried::Over(Err(Refusal::Upstream { fault, reason })),
    }
}

/// Where to try once more, when the rules and the budget allow it.
fn again(
    job: &Job<'_>,
    trail: &mut Trail,
    places: &mut Places,
    (failed, reason): ((usize, usize), &'static str),
    retriable: Retriable,
) -> Option<(usize, usize)> {
    let service = &job.snapshot.services[job.decision.service];
    let pool = &service.pools[failed.0];
    pool.endpoints[failed.1].note_error(reason);
    trail.failed.push_str(&pool.name);
    trail.failed.push(':');
    trail.failed.push_str(reason);
    trail.failed.push(',');
    tracing::debug!(service = %service.name, pool = %pool.name, endpoint = %pool.endpoints[failed.1].id.addr, reason,
        "attempt failed");
    trail.tried.push(failed);
    let policy = &service.spec.retry;
    let over = policy.attempts == 0 || trail.sends > policy.attempts || trail.tried.len() >= attempts_max(policy);
    let next = match retriable {
        Retriable::No => return None,
        Retriable::At(next) => next,
        Retriable::Elsewhere | Retriable::Anywhere if over => return None,
        Retriable::Elsewhere => next(job, &trail.tried)?,
        Retriable::Anywhere => next(job, &trail.tried).unwrap_or(failed),
    };
    let moved = !service.capped || places.move_to(service, failed.0, next.0);
    if !moved || !matches!(retriable, Retriable::At(_)) && !pay(job) {
        give_back(job, next);
        return None;
    }
    trail.retried = true;
    trail.pauses += 1;
    pool.state.meter.of(job.worker.index).retries.add(1);
    Some(next)
}

/// Waits before a try that follows a failed one: by chance, up to a time that doubles with each of them.
pub(crate) async fn pause<D: Downstream>(
    job: &Job<'_>,
    trail: &mut Trail,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
) -> Result<(), Refusal> {
    let base = job.snapshot.services[job.decision.service].spec.retry.backoff;
    if base.is_zero() || trail.pauses == trail.paused {
        return Ok(());
    }
    trail.paused = trail.pauses;
    let most = pause_max(base, trail.pauses);
    let micros = job.worker.chance.borrow_mut().rng.below(most.as_micros() as usize + 1) as u64;
    let whole = replay.is_whole();
    let gone = std::future::poll_fn(|cx| match whole {
        true => replay.poll_gone(cx),
        false => std::task::Poll::Pending,
    });
    match timer.limit(Instant::now() + Duration::from_micros(micros), gone).await {
        Ok(()) => Err(Refusal::ClientGone),
        Err(_) => Ok(()),
    }
}

/// The longest pause before the `nth` retry, counted from 1.
fn pause_max(base: Duration, nth: u32) -> Duration {
    base.saturating_mul(1 << (nth - 1).min(16)).min(PAUSE_MAX)
}

/// The try that takes the place of one which keeps its client waiting: looked for and paid for before that is given up,
/// so that nothing is given up for nothing.
pub(crate) struct Elsewhere<'a> {
    job: &'a Job<'a>,
    tried: Vec<(usize, usize)>,
    sends: u32,
    /// Where it goes, once it is secured.
    pub(crate) found: Cell<Option<(usize, usize)>>,
}

// === impl Elsewhere ===

impl<'a> Elsewhere<'a> {
    pub(crate) fn new(job: &'a Job<'a>, trail: &Trail, current: (usize, usize)) -> Self {
        let asked = job.snapshot.services[job.decision.service].spec.retry.per_try_timeout.is_some();
        let tried = if asked { trail.tried.iter().copied().chain([current]).collect() } else { Vec::new() };
        Self { job, tried, sends: trail.sends, found: Cell::new(None) }
    }

    /// How long the current try may take; none when it is the last, or when the request must not run twice.
    pub(crate) fn patience<D: Downstream>(&self, replay: &Replay<'_, D>) -> Option<Duration> {
        let policy = &self.job.snapshot.services[self.job.decision.service].spec.retry;
        let after = policy.per_try_timeout?;
        let more = self.sends < policy.attempts && self.tried.len() < attempts_max(policy);
        (more && self.job.question.repeatable && replay.stays_at_hand()).then_some(after)
    }

    /// Finds another endpoint and pays for the try.
    pub(crate) fn secure(&self) -> bool {
        let Some(found) = next(self.job, &self.tried) else { return false };
        let pools = &self.job.snapshot.services[self.job.decision.service].pools;
        let same = self.tried.last().is_some_and(|current| current.0 == found.0);
        let has_room = || pools[found.0].cap.as_ref().is_none_or(|cap| cap.enter().is_some());
        let secured = (same || has_room()) && pay(self.job);
        match secured {
            true => self.found.set(Some(found)),
            false => give_back(self.job, found),
        }
        secured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let of = |nth| pause_max(Duration::from_millis(100), nth).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 99].map(of), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pause_max(Duration::MAX, 40), PAUSE_MAX);
    }
}
