//! The attempts of one request: a connection, an exchange, and where it may be tried once more (`again`), the next one.
//! An attempt that made no connection sent nothing, so it leaves the retries to be used. Every failed attempt counts
//! against the pool that failed, whatever the client sees.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::admit::{self, Places};
use super::again::{Elsewhere, Retriable, again, lane_of, lose, pause, retriable};
use super::balance;
use super::decide::{Decision, Question};
use super::exchange::{Conn, Failure, Terms, connect, exchange};
use super::h1::response::Response;
use super::h2up::attempt::{Answered2, over_http2};
use super::hedge;
use super::mirror;
use super::outgoing::Outgoing;
use super::refusal::Refusal;
use super::replay::{Patience, Replay};
use super::timer::Timer;
use super::upload::{Downstream, Upload};
use super::worker::{Lease, Worker};
use crate::model::{Fault, Protocol};
use crate::switchboard::snapshot::{Pool, Service};
use crate::upstream::endpoint::{Endpoint, Outcome};

/// What is forwarded.
pub(crate) struct Job<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) snapshot: &'a Rc<Lease>,
    pub(crate) question: &'a Question<'a>,
    pub(crate) outgoing: &'a Outgoing<'a>,
    pub(crate) decision: &'a Decision,
    /// When the request's head was read.
    pub(crate) began: Instant,
}

/// An answer, as far as its head.
pub(crate) struct Answered {
    pub(crate) conn: Conn,
    pub(crate) response: Response,
    pub(crate) upload: Upload,
    pub(crate) attempt: Attempt,
    pub(crate) trail: Trail,
    /// When its head was there.
    pub(crate) at: Instant,
}

/// An answer, by the protocol that it came in.
#[expect(clippy::large_enum_variant, reason = "a box for the smaller one only: most answers come over HTTP/1")]
pub(crate) enum Reply {
    Http1(Answered),
    Http2(Box<Answered2>),
}

/// What became of the attempts, for telemetry.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// `canary:connect_refused,` for each failed attempt; empty when the first went well.
    pub(crate) failed: String,
    /// Whether another attempt followed the first.
    pub(crate) retried: bool,
    /// From sending to the answer's head.
    pub(crate) upstream_us: Option<u64>,
    /// How a gRPC call ended.
    pub(crate) grpc_status: Option<u32>,
    /// Whether the endpoint reset the tunnel.
    pub(crate) reset: bool,
    /// The (pool, endpoint) of the last attempt.
    pub(crate) last: Option<(usize, usize)>,
    /// The (pool, endpoint) of each failed attempt.
    pub(super) tried: Vec<(usize, usize)>,
    /// Attempts of which bytes went out.
    pub(crate) sends: u32,
    /// Tries that followed a failed one, and those of them that were waited for.
    pub(super) pauses: u32,
    pub(super) paused: u32,
    /// Whether it was moved from a connection that its peer was about to end.
    pub(crate) moved: bool,
}

/// An attempt under way: counts as in flight until it is dropped.
pub(crate) struct Attempt {
    worker: Rc<Worker>,
    snapshot: Rc<Lease>,
    service: usize,
    pub(crate) pool: usize,
    pub(crate) endpoint: usize,
    /// Its places, where something is capped; held to the end of the answer.
    pub(crate) places: Places,
    /// Whether the endpoint has been told how it went; a trial that was not is given back.
    reported: Cell<bool>,
}

/// Forwards until there is an answer or no permitted attempt is left.
pub(crate) async fn forward<D: Downstream>(
    job: &Job<'_>,
    mut places: Places,
    down: &mut D,
    timer: &mut Timer,
) -> Result<Reply, (Refusal, Trail)> {
    let mut trail = Trail::default();
    let service = &job.snapshot.services[job.decision.service];
    job.worker.budgets.borrow_mut().deposit(service.slot, &service.spec.retry);
    mirror::begin(job, down);
    let (body, complete) = match at_hand(job, down) {
        Ok(at_hand) => at_hand,
        Err(refusal) => return Err((refusal, trail)),
    };
    let mut replay = Replay::new(down, job.outgoing.framing, body, complete);
    let mut target = (job.decision.pool, job.decision.endpoint);
    loop {
        let attempt = Attempt::begin(job, target);
        let so_far = (&mut trail, &mut places);
        let tried = match attempt.endpoint().id.origin.protocol {
            Protocol::Http1 => over_http1(job, attempt, &mut replay, timer, so_far).await,
            Protocol::H2c => Box::pin(over_http2(job, attempt, &mut replay, timer, so_far)).await,
        };
        match tried {
            Tried::Next(next) => target = next,
            Tried::Over(over) => return over.map_err(|refusal| (refusal, trail)),
        }
        if let Err(refusal) = pause(job, &mut trail, &mut replay, timer).await {
            return Err((refusal, trail));
        }
    }
}

/// What became of one attempt.
#[expect(clippy::large_enum_variant, reason = "most attempts are answered, and an answer moves once")]
pub(crate) enum Tried {
    /// It failed, and another may be made there.
    Next((usize, usize)),
    /// There is an answer, or no other attempt.
    Over(Result<Reply, Refusal>),
}

/// One attempt over HTTP/1.
async fn over_http1<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    (trail, places): (&mut Trail, &mut Places),
) -> Tried {
    let target = (attempt.pool, attempt.endpoint);
    // A second try over another idle connection could meet the same fate as the first.
    let fresh = trail.last.replace(target).is_some();
    let began = if trail.retried { Instant::now() } else { job.began };
    let elsewhere = Elsewhere::new(job, trail, target);
    let secure = || elsewhere.secure();
    let (attempt, failure, retriable) =
        match prepare(job, &attempt, fresh, (&replay.body, replay.complete), timer).await {
            Ok((conn, upload)) => {
                let terms = Terms {
                    timeouts: &job.snapshot.services[job.decision.service].spec.timeouts,
                    began: if conn.reused { began } else { Instant::now() },
                    to_head: job.question.head.method() == "HEAD",
                    buffers: &job.worker.buffers,
                    patience: elsewhere.patience(replay).map(|after| Patience { after, secure: &secure }),
                };
                let mut sent = Sent { attempt, conn, upload };
                let done = match hedge::delay(job, replay) {
                    None => exchange(&mut sent.conn, &mut sent.upload, replay, timer, &terms).await,
                    Some(delay) => Box::pin(hedge::race(job, &mut sent, replay, timer, &terms, delay)).await,
                };
                match done {
                    Ok(response) => {
                        let at = Instant::now();
                        let upstream_us = at.saturating_duration_since(began).as_micros() as u64;
                        hedge::note(job, upstream_us);
                        (trail.upstream_us, trail.last) = (Some(upstream_us), Some((target.0, sent.attempt.endpoint)));
                        sent.attempt.answer(response.status, job.question);
                        sent.attempt.places = std::mem::take(places);
                        let Sent { attempt, conn, upload } = sent;
                        let trail = std::mem::take(trail);
                        return Tried::Over(Ok(Reply::Http1(Answered { conn, response, upload, attempt, trail, at })));
                    }
                    Err(failure) => {
                        trail.sends += 1;
                        let retriable = retriable(job, &sent.conn, &sent.upload, replay.is_at_hand(), &failure);
                        (sent.attempt, failure, elsewhere.found.take().map_or(retriable, Retriable::At))
                    }
                }
            }
            Err(failure) => {
                if matches!(failure, Failure::Endpoint { .. }) {
                    (job.worker.hurry)(&attempt.endpoint().id.origin);
                }
                (attempt, failure, Retriable::Elsewhere)
            }
        };
    let (fault, reason) = match failure {
        Failure::Client(refusal) => return Tried::Over(Err(refusal)),
        Failure::Endpoint { fault, reason, .. } => (fault, reason),
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

/// A request on its way to an endpoint over HTTP/1.
pub(super) struct Sent {
    pub(super) attempt: Attempt,
    pub(super) conn: Conn,
    pub(super) upload: Upload,
}

/// What has arrived of the body, and whether that is all of it.
fn at_hand<D: Downstream>(job: &Job<'_>, down: &mut D) -> Result<(Vec<u8>, bool), Refusal> {
    let mut body = Vec::new();
    match down.buffered(&mut body) {
        Ok(complete) => Ok((body, complete)),
        Err(refusal) => {
            admit::leave(job.question, job.decision);
            Err(refusal)
        }
    }
}

/// A connection and the bytes to send over it.
pub(super) async fn prepare(
    job: &Job<'_>,
    attempt: &Attempt,
    fresh: bool,
    (body, complete): (&[u8], bool),
    timer: &mut Timer,
) -> Result<(Conn, Upload), Failure> {
    let worker = job.worker;
    let endpoint = attempt.endpoint();
    let idle = match fresh {
        true => None,
        false => worker.conns.borrow_mut().take(endpoint, job.question.now.mono_ms),
    };
    let reused = idle.is_some();
    let (stream, long) = match idle {
        Some(kept) => kept,
        None => {
            let stream = connect(endpoint.id.addr, timer, &attempt.service().spec.timeouts).await?;
            endpoint.meter.of(worker.index).connections.add(1);
            (stream, false)
        }
    };
    let mut out = worker.buffers.borrow_mut().take();
    job.outgoing.write(&endpoint.authority, &mut out).map_err(Failure::Client)?;
    out.extend_from_slice(body);
    Ok((Conn { stream, buf: Vec::new(), reused, long }, Upload::new(out, complete)))
}

// === impl Attempt ===

impl Attempt {
    pub(super) fn begin(job: &Job<'_>, (pool, endpoint): (usize, usize)) -> Self {
        let attempt = Self {
            worker: Rc::clone(job.worker),
            snapshot: Rc::clone(job.snapshot),
            service: job.decision.service,
            pool,
            endpoint,
            places: Places::default(),
            reported: Cell::new(false),
        };
        let worker = job.worker.index;
        let shard = attempt.pool().state.meter.of(worker);
        shard.attempts.add(1);
        shard.in_flight.add(1);
        attempt.endpoint().meter.of(worker).in_flight.add(1);
        attempt
    }

    pub(crate) fn service(&self) -> &Service {
        &self.snapshot.services[self.service]
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.service().pools[self.pool]
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.pool().endpoints[self.endpoint]
    }

    /// An answer's head came. 502, 503 and 504 are the endpoint saying that it cannot serve.
    pub(crate) fn answer(&self, status: u16, question: &Question<'_>) {
        self.endpoint().meter.of(self.worker.index).code(status);
        if matches!(status, 502..=504) {
            self.fail(Fault::UpstreamAnswer, question);
        } else {
            self.report(Outcome::Answered, question);
        }
    }

    /// An answer's head came of which only the end tells how it went.
    pub(crate) fn answer_begun(&self, status: u16) {
        self.endpoint().meter.of(self.worker.index).code(status);
    }

    /// The end came, and it went well.
    pub(crate) fn answered_well(&self, question: &Question<'_>) {
        self.report(Outcome::Answered, question);
    }

    /// Counts a failure against pool and endpoint, at the moment that it is seen: an attempt may have taken long.
    pub(crate) fn fail(&self, fault: Fault, question: &Question<'_>) {
        let worker = self.worker.index;
        self.pool().state.meter.of(worker).fault(fault);
        self.endpoint().meter.of(worker).faults[fault.index()].add(1);
        let now = self.worker.now(Instant::now());
        self.report(Outcome::Failed, &Question { now, ..*question });
    }

    fn report(&self, outcome: Outcome, question: &Question<'_>) {
        let service = self.service();
        self.reported.set(true);
        let last_live = || balance::is_last_live(service, self.pool, self.endpoint, question.now);
        self.endpoint().report(outcome, question.now.mono_ms, &service.spec.breaker, last_live);
    }

    /// Keeps the connection for the next request, or closes it.
    pub(crate) fn give_back(&self, mut conn: Conn, upload: Upload, response: &Response, whole: bool, now_ms: u64) {
        let reusable = whole && response.keep_alive && upload.is_whole() && conn.buf.is_empty();
        let mut buffers = self.worker.buffers.borrow_mut();
        buffers.put(std::mem::take(&mut conn.buf));
        buffers.put(upload.into_buffer());
        if reusable && !self.endpoint().is_draining() {
            let limits = &self.snapshot.limits;
            let ours_ms = limits.upstream_keep_alive.as_millis() as u64;
            // A second less than the endpoint says, so that it does not close just as we write.
            let theirs_ms = response.keep_alive_s.map_or(u64::MAX, |s| s.saturating_sub(1).saturating_mul(1000));
            let until_ms = now_ms.saturating_add(ours_ms.min(theirs_ms));
            self.worker.conns.borrow_mut().put(self.endpoint(), conn, until_ms, limits.upstream_idle_max);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let worker = self.worker.index;
        self.pool().state.meter.of(worker).in_flight.sub(1);
        let endpoint = self.endpoint();
        endpoint.meter.of(worker).in_flight.sub(1);
        if !self.reported.get() {
            endpoint.give_back_trial(self.worker.now(Instant::now()).mono_ms);
        }
    }
}
