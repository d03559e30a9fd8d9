//! One attempt over HTTP/1 as the attempts of a request see it: an answer, or what it cost and where to go next. The
//! rules are those of `again`; the bytes are those of `exchange`.

use std::time::Instant;

use super::again::{Elsewhere, Retriable, fail, give_back, retriable};
use super::exchange::{Conn, Failure, Terms, exchange};
use super::forward::{Answered, Attempt, Course, Job, Trail, Tried};
use super::hedge;
use super::replay::{Patience, Replay};
use super::wire::Wire;
use crate::proxy::bodies::upload::{Downstream, Upload};
use crate::proxy::h1::response::Response;
use crate::proxy::worker::timer::Timer;

/// A request on its way to an endpoint.
pub(in crate::proxy) struct Sent<W: Wire> {
    pub(in crate::proxy) attempt: Attempt,
    pub(in crate::proxy) conn: Conn<W>,
    pub(in crate::proxy) upload: Upload,
}

/// One attempt over the connection that was opened for it, if it was.
pub(crate) async fn attempt<W: Wire, D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    opened: Result<Conn<W>, Failure>,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Box<Answered<W>>> {
    let loaded = opened.and_then(|conn| Ok((conn, load(job, &attempt, &replay.body, replay.complete)?)));
    let (conn, upload) = match loaded {
        Ok(loaded) => loaded,
        Err(failure) => {
            if matches!(failure, Failure::Endpoint { .. }) {
                (job.worker.hurry)(&attempt.endpoint().id.origin);
            }
            return failed(job, &attempt, &failure, Retriable::Elsewhere, course);
        }
    };
    let (mut sent, began, mut found) = (Sent { attempt, conn, upload }, course.began, None);
    let policy = &job.snapshot.services[job.decision.service].spec.retry;
    let careful = policy.hedge.is_some() || policy.per_try_timeout.is_some();
    let done = {
        let terms = Terms {
            timeouts: &job.snapshot.services[job.decision.service].spec.timeouts,
            began: if sent.conn.reused { began } else { Instant::now() },
            to_head: job.question.head.method_bytes() == b"HEAD",
            buffers: &job.worker.buffers,
            patience: None,
        };
        match careful {
            false => exchange(&mut sent.conn, &mut sent.upload, replay, timer, &terms).await,
            true => {
                let tried;
                (tried, found) = Box::pin(carefully(job, &mut sent, replay, timer, terms, course.trail)).await;
                tried
            }
        }
    };
    match done {
        Ok(response) => {
            let (trail, at) = (course.trail, Instant::now());
            let upstream_us = at.saturating_duration_since(began).as_micros() as u64;
            trail.upstream_us = Some(upstream_us);
            // What was looked for in vain.
            found.into_iter().for_each(|next| give_back(job, next));
            if careful {
                hedge::note(job, upstream_us);
                trail.last = Some((sent.attempt.pool, sent.attempt.endpoint));
            }
            sent.attempt.answer(response.status, job.question);
            trail.cache = sent.attempt.cached(&response, &sent.conn.buf);
            sent.attempt.places = std::mem::take(course.places);
            let Sent { attempt, conn, upload } = sent;
            let trail = std::mem::take(trail);
            Tried::Over(Ok(Box::new(Answered { conn, response, upload, attempt, trail, at })))
        }
        Err(failure) => {
            course.trail.sends += u32::from(matches!(failure, Failure::Endpoint { .. }));
            let retriable = match found {
                Some(next) => Retriable::At(next),
                None => retriable(job, &sent.conn, &sent.upload, replay.is_at_hand(), &failure),
            };
            failed(job, &sent.attempt, &failure, retriable, course)
        }
    }
}

/// The same where a try has a time of its own, or another one runs beside it. With it the target of the next one, if
/// that has been paid for.
async fn carefully<W: Wire, D: Downstream>(
    job: &Job<'_>,
    sent: &mut Sent<W>,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    terms: Terms<'_>,
    trail: &mut Trail,
) -> (Result<Response, Failure>, Option<(usize, usize)>) {
    let elsewhere = Elsewhere::new(job, trail, (sent.attempt.pool, sent.attempt.endpoint));
    let secure = || elsewhere.secure();
    let patience = elsewhere.patience(replay).map(|after| Patience { after, secure: &secure });
    let terms = Terms { patience, ..terms };
    let done = match hedge::delay(job, replay) {
        None => exchange(&mut sent.conn, &mut sent.upload, replay, timer, &terms).await,
        Some(delay) => {
            let (done, hedged) = hedge::race(job, sent, replay, timer, &terms, delay).await;
            trail.tried.extend(hedged.map(|endpoint| (sent.attempt.pool, endpoint)));
            done
        }
    };
    (done, elsewhere.found.take())
}

/// What a failed attempt costs, and where to go next.
pub(in crate::proxy) fn failed<A>(
    job: &Job<'_>,
    attempt: &Attempt,
    failure: &Failure,
    retriable: Retriable,
    course: Course<'_>,
) -> Tried<A> {
    let (fault, reason) = match failure {
        Failure::Client(refusal) => return Tried::Over(Err(refusal.clone())),
        Failure::Endpoint { fault, reason, .. } => (*fault, *reason),
    };
    fail(job, attempt, course, (fault, reason), retriable)
}

/// The bytes to send: the head, and the body so far.
pub(in crate::proxy) fn load(job: &Job<'_>, attempt: &Attempt, body: &[u8], complete: bool) -> Result<Upload, Failure> {
    let mut out = job.worker.buffers.borrow_mut().take();
    job.outgoing.write(&attempt.endpoint().authority, &mut out).map_err(Failure::Client)?;
    out.extend_from_slice(body);
    Ok(Upload::new(out, complete))
}
