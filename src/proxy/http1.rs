//! One attempt over HTTP/1 as the attempts of a request see it: an answer, or what it cost and where to go next. The
//! rules are those of `forward`; the bytes are those of `exchange`.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpStream;

use super::exchange::{Conn, Failure, Terms, connect, exchange};
use super::forward::{Answered, Attempt, Course, Job, Retriable, Tried, again, lane_of, lose};
use super::h2up::exchange::AtHand;
use super::refusal::Refusal;
use super::timer::Timer;
use super::upload::{Downstream, Upload};
use super::wire::Wire;
use crate::model::Fault;

/// A plain connection: one that was idle unless it has to be `fresh`, else a new one.
pub(crate) async fn open_tcp(
    job: &Job<'_>,
    attempt: &Attempt,
    addr: SocketAddr,
    fresh: bool,
    timer: &mut Timer,
) -> Result<Conn<TcpStream>, Failure> {
    let endpoint = attempt.endpoint();
    let idle = match fresh {
        true => None,
        false => job.worker.conns.borrow_mut().take(endpoint, (), job.question.now.mono_ms),
    };
    match idle {
        Some((stream, long)) => Ok(Conn { stream, mark: (), buf: Vec::new(), reused: true, long }),
        None => {
            let deadline = Instant::now() + attempt.service().spec.timeouts.connect;
            let stream = match connect(addr, timer, deadline).await {
                // Out of descriptors: connections that nobody uses give way.
                Err(Failure::Client(_)) if job.worker.make_room() => connect(addr, timer, deadline).await?,
                connected => connected?,
            };
            endpoint.meter.of(job.worker.index).connections.add(1);
            Ok(Conn { stream, mark: (), buf: Vec::new(), reused: false, long: false })
        }
    }
}

/// One attempt over the connection that was opened for it, if it was.
pub(crate) async fn attempt<W: Wire, D: Downstream>(
    job: &Job<'_>,
    mut attempt: Attempt,
    opened: Result<Conn<W>, Failure>,
    body: AtHand<'_>,
    down: &mut D,
    timer: &mut Timer,
    Course { began, trail, places, .. }: Course<'_>,
) -> Tried<Answered<W>> {
    let target = (attempt.pool, attempt.endpoint);
    let (mut conn, mut upload) = match opened.and_then(|conn| Ok((conn, load(job, &attempt, body)?))) {
        Ok(prepared) => prepared,
        Err(Failure::Client(refusal)) => return Tried::Over(Err(refusal)),
        Err(Failure::Endpoint { fault, reason, .. }) => {
            (job.worker.hurry)(&attempt.endpoint().id.origin);
            attempt.fail(fault, job.question);
            let lane = lane_of(job, trail);
            return match again(job, trail, places, (target, reason), Retriable::Elsewhere) {
                Some(next) => {
                    lose(job, target.0, lane, began);
                    Tried::Next(next)
                }
                None => Tried::Over(Err(Refusal::Upstream { fault, reason })),
            };
        }
    };
    let exchanged = {
        let terms = Terms {
            timeouts: &attempt.service().spec.timeouts,
            began: if conn.reused { began } else { Instant::now() },
            to_head: job.question.head.method() == "HEAD",
            buffers: &job.worker.buffers,
        };
        exchange(&mut conn, &mut upload, down, timer, &terms).await
    };
    match exchanged {
        Ok(response) => {
            let at = Instant::now();
            trail.upstream_us = Some(at.saturating_duration_since(began).as_micros() as u64);
            attempt.answer(response.status, job.question);
            attempt.places = std::mem::take(places);
            Tried::Over(Ok(Answered { conn, response, upload, attempt, trail: std::mem::take(trail), at }))
        }
        Err(Failure::Client(refusal)) => Tried::Over(Err(refusal)),
        Err(Failure::Endpoint { fault, reason, answered }) => {
            attempt.fail(fault, job.question);
            trail.sends += 1;
            let retriable = retriable(job, &conn, &upload, (fault, answered));
            let lane = lane_of(job, trail);
            match again(job, trail, places, (target, reason), retriable) {
                Some(next) => {
                    lose(job, target.0, lane, began);
                    Tried::Next(next)
                }
                None => Tried::Over(Err(Refusal::Upstream { fault, reason })),
            }
        }
    }
}

/// The bytes to send.
fn load(job: &Job<'_>, attempt: &Attempt, body: AtHand<'_>) -> Result<Upload, Failure> {
    let mut out = job.worker.buffers.borrow_mut().take();
    job.outgoing.write(&attempt.endpoint().authority, &mut out).map_err(Failure::Client)?;
    out.extend_from_slice(body.framed);
    Ok(Upload::new(out, body.complete))
}

/// Whether an attempt of which something may have been sent can be made again.
fn retriable<W: Wire>(job: &Job<'_>, conn: &Conn<W>, upload: &Upload, (fault, answered): (Fault, bool)) -> Retriable {
    let repeatable = job.question.repeatable || upload.is_unsent();
    match upload.is_replayable() && fault != Fault::UpstreamTimeout && repeatable {
        false => Retriable::No,
        // A connection that was idle may have been closed just as we wrote, so the endpoint is worth a second try where
        // there is no other.
        true if conn.reused && !answered => Retriable::Anywhere,
        true => Retriable::Elsewhere,
    }
}
