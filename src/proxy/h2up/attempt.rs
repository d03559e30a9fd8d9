//! One attempt over HTTP/2 as the attempts of a request see it: an answer, or what it cost and where to go next. The
//! rules are those of `forward`.

use std::time::Instant;

use super::answer::Answer;
use super::exchange::{AtHand, Call, exchange};
use super::grpc;
use super::outcome::Lost;
use super::request::Ask;
use super::trunk::{Dial, HTTP1, NO_ROOM};
use crate::model::Fault;
use crate::proxy::attempt::again::{Elsewhere, Retriable, fail};
use crate::proxy::attempt::forward::{Attempt, Course, Job, Trail, Tried};
use crate::proxy::attempt::replay::{Patience, Replay};
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::decide::Question;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::timer::Timer;

/// An answer over HTTP/2, as far as its head.
pub(crate) struct Answered2 {
    pub(crate) answer: Box<Answer>,
    pub(crate) attempt: Attempt,
    pub(crate) trail: Trail,
    /// When its head was there.
    pub(crate) at: Instant,
}

/// Counts how an answer ended: whose fault it is, if anybody's. `cut`: it ended before its end.
pub(crate) fn settle(
    answer: &Answer,
    attempt: &Attempt,
    trail: &mut Trail,
    cut: Option<Fault>,
    question: &Question<'_>,
) -> Option<Fault> {
    let status = answer.response.status;
    trail.grpc_status = answer.grpc_status().filter(|_| cut.is_none());
    let failed = match trail.grpc_status {
        Some(status) if grpc::is_server_failure(status) => Some(Fault::UpstreamAnswer),
        Some(_) => {
            attempt.answered_well(question);
            None
        }
        None => cut.filter(|fault| fault.blames_pool()),
    };
    if let Some(fault) = failed {
        attempt.fail(fault, question);
    }
    cut.or(failed).or((500..600).contains(&status).then_some(Fault::UpstreamAnswer))
}

/// One attempt over HTTP/2. An error: the endpoint chose HTTP/1.1, and nothing was sent.
pub(crate) async fn over_http2<'c, D: Downstream>(
    job: &Job<'_>,
    mut attempt: Attempt,
    dial: &Dial,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    course: Course<'c>,
) -> Result<Tried<Box<Answered2>>, (Attempt, Course<'c>)> {
    let target = (attempt.pool, attempt.endpoint);
    let elsewhere = Elsewhere::new(job, course.trail, target);
    let secure = || elsewhere.secure();
    let ask = match Ask::new(job.outgoing, &attempt.endpoint().authority) {
        Ok(ask) => ask,
        Err(refusal) => return Ok(Tried::Over(Err(refusal))),
    };
    let call = Call {
        worker: job.worker,
        endpoint: attempt.endpoint(),
        dial,
        ask: &ask,
        began: course.began,
        framing: job.outgoing.framing,
        to_head: job.question.head.method_bytes() == b"HEAD",
        upgrade: job.outgoing.upgrade,
        patience: elsewhere.patience(replay).map(|after| Patience { after, secure: &secure }),
    };
    let at_hand = AtHand { framed: replay.body.clone(), complete: replay.complete };
    let tried = exchange(&call, at_hand, replay, timer).await;
    drop(ask);
    let lost = match tried {
        Ok(mut answer) => {
            let (at, Course { began, trail, places, .. }) = (Instant::now(), course);
            trail.upstream_us = Some(at.saturating_duration_since(began).as_micros() as u64);
            match grpc::is_call(job.question.head) && answer.expect_status() {
                true => attempt.answer_begun(answer.response.status),
                false => attempt.answer(answer.response.status, job.question),
            }
            (attempt.places, trail.cache) = (std::mem::take(places), attempt.cached(&answer.response, &answer.bytes));
            let trail = std::mem::take(trail);
            return Ok(Tried::Over(Ok(Box::new(Answered2 { answer, attempt, trail, at }))));
        }
        Err(Lost::Http1) => return Err((attempt, course)),
        Err(lost) => lost,
    };
    let secured = elsewhere.found.take();
    Ok(failed(job, &attempt, course, lost, secured, replay.is_at_hand()))
}

/// What a failed attempt costs, and where to go next. `secured`: what has been found and paid for already;
/// `replayable`: whether the request is at hand.
fn failed<A>(
    job: &Job<'_>,
    attempt: &Attempt,
    course: Course<'_>,
    lost: Lost,
    secured: Option<(usize, usize)>,
    replayable: bool,
) -> Tried<A> {
    let trail = course.trail;
    let anywhere = if replayable { Retriable::Anywhere } else { Retriable::No };
    let (fault, reason, retriable) = match lost {
        Lost::Client(refusal) => return Tried::Over(Err(refusal)),
        // This process is out of descriptors; connections that nobody uses give way for the next request.
        Lost::Unconnected(NO_ROOM) => {
            job.worker.make_room();
            return Tried::Over(Err(Refusal::Full("weir".into())));
        }
        // The endpoint does well; it only wants another connection.
        Lost::Unprocessed { graceful: true, .. } if replayable && !std::mem::replace(&mut trail.moved, true) => {
            return Tried::Next((attempt.pool, attempt.endpoint));
        }
        Lost::Http1 => (Fault::UpstreamConnect, HTTP1, Retriable::Elsewhere),
        Lost::Unconnected(reason) => {
            (job.worker.hurry)(&attempt.endpoint().id.origin);
            (Fault::UpstreamConnect, reason, Retriable::Elsewhere)
        }
        Lost::Unprocessed { reason, .. } => {
            trail.sends += 1;
            (Fault::UpstreamAnswer, reason, anywhere)
        }
        Lost::Sent { fault, reason, stale } => {
            trail.sends += 1;
            let repeatable = replayable && fault != Fault::UpstreamTimeout && job.question.repeatable;
            (fault, reason, secured.map_or(Retriable::after(repeatable, stale), Retriable::At))
        }
    };
    fail(job, attempt, Course { trail, ..course }, (fault, reason), retriable)
}
