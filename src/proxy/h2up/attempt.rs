//! One attempt over HTTP/2 as the attempts of a request see it: an answer, or what it cost and where to go next. The
//! rules are those of `forward`.

use std::time::Instant;

use super::super::admit::Places;
use super::super::again::{Elsewhere, Retriable, again, lane_of, lose};
use super::super::decide::Question;
use super::super::forward::{Attempt, Job, Reply, Trail, Tried};
use super::super::refusal::Refusal;
use super::super::replay::{Patience, Replay};
use super::super::timer::Timer;
use super::super::upload::Downstream;
use super::answer::Answer;
use super::exchange::{AtHand, Call, exchange};
use super::grpc;
use super::outcome::Lost;
use super::request::request;
use crate::model::Fault;

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

/// One attempt over HTTP/2.
pub(crate) async fn over_http2<D: Downstream>(
    job: &Job<'_>,
    mut attempt: Attempt,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    (trail, places): (&mut Trail, &mut Places),
) -> Tried {
    let target = (attempt.pool, attempt.endpoint);
    trail.last = Some(target);
    let began = if trail.retried { Instant::now() } else { job.began };
    let request = match request(job.outgoing, &attempt.endpoint().authority) {
        Ok(request) => request,
        Err(refusal) => return Tried::Over(Err(refusal)),
    };
    let elsewhere = Elsewhere::new(job, trail, target);
    let secure = || elsewhere.secure();
    let call = Call {
        worker: job.worker,
        trunks: &job.worker.trunks,
        endpoint: attempt.endpoint(),
        request,
        framing: job.outgoing.framing,
        to_head: job.question.head.method() == "HEAD",
        timeouts: attempt.service().spec.timeouts,
        patience: elsewhere.patience(replay).map(|after| Patience { after, secure: &secure }),
    };
    let at_hand = AtHand { framed: replay.body.clone(), complete: replay.complete };
    let tried = exchange(&call, at_hand, replay, timer).await;
    drop(call);
    let (secured, replayable) = (elsewhere.found.take(), replay.is_at_hand());
    let anywhere = if replayable { Retriable::Anywhere } else { Retriable::No };
    let (fault, reason, retriable) = match tried {
        Ok(mut answer) => {
            trail.upstream_us = Some(began.elapsed().as_micros() as u64);
            match grpc::is_call(job.question.head) && answer.expect_status() {
                true => attempt.answer_begun(answer.response.status),
                false => attempt.answer(answer.response.status, job.question),
            }
            let (trail, at) = (std::mem::take(trail), Instant::now());
            attempt.places = std::mem::take(places);
            return Tried::Over(Ok(Reply::Http2(Box::new(Answered2 { answer, attempt, trail, at }))));
        }
        Err(Lost::Client(refusal)) => return Tried::Over(Err(refusal)),
        // The endpoint does well; it only wants another connection.
        Err(Lost::Unprocessed { graceful: true, .. }) if replayable && !std::mem::replace(&mut trail.moved, true) => {
            return Tried::Next(target);
        }
        Err(Lost::Unconnected(reason)) => {
            (job.worker.hurry)(&attempt.endpoint().id.origin);
            (Fault::UpstreamConnect, reason, Retriable::Elsewhere)
        }
        Err(Lost::Unprocessed { reason, .. }) => {
            trail.sends += 1;
            (Fault::UpstreamAnswer, reason, anywhere)
        }
        Err(Lost::Sent { fault, reason, stale }) => {
            trail.sends += 1;
            let retriable = match replayable && fault != Fault::UpstreamTimeout && job.question.repeatable {
                _ if secured.is_some() => secured.map_or(Retriable::No, Retriable::At),
                false => Retriable::No,
                true if stale => Retriable::Anywhere,
                true => Retriable::Elsewhere,
            };
            (fault, reason, retriable)
        }
    };
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
