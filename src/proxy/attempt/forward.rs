//! The attempts of one request: a connection, an exchange, and where it may be tried once more (`again`), the next one.
//! An attempt that made no connection sent nothing, so it leaves the retries to be used. Every failed attempt counts
//! against the pool that failed, whatever the client sees.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use super::again::pause;
use super::dial;
use super::exchange::Conn;
use super::http1;
use super::lines::Purpose;
use super::reach::{self, Reach, is_http2_only};
use super::replay::Replay;
use super::wire::{AnyWire, Wire};
use crate::model::{Fault, StreamKind};
use crate::proxy::bodies::upload::{Downstream, Upload};
use crate::proxy::decide::admit::{self, Places};
use crate::proxy::decide::balance;
use crate::proxy::decide::{Decision, Question};
use crate::proxy::h1::response::Response;
use crate::proxy::h2up::attempt::Answered2;
use crate::proxy::heads::cached;
use crate::proxy::heads::outgoing::Outgoing;
use crate::proxy::mirror;
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::connect::{self, Opened};
use crate::proxy::tunnel::streams::Stay;
use crate::proxy::worker::timer::Timer;
use crate::proxy::worker::{Lease, Worker};
use crate::switchboard::snapshot::{Pool, Service};
use crate::telemetry::lane::CacheAnswer;
use crate::upstream::endpoint::{Admission, Endpoint, Outcome};
use crate::upstream::preface::Ends;

/// What is forwarded.
pub(crate) struct Job<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) snapshot: &'a Rc<Lease>,
    pub(crate) question: &'a Question<'a>,
    pub(crate) outgoing: &'a Outgoing<'a>,
    pub(crate) decision: &'a Decision,
    /// The ends of the client's connection, as far as they are known.
    pub(crate) ends: Option<Ends>,
    /// When the request's head was read.
    pub(crate) began: Instant,
}

/// An answer, as far as its head.
pub(crate) struct Answered<W: Wire> {
    pub(crate) conn: Conn<W>,
    pub(crate) response: Response,
    pub(crate) upload: Upload,
    pub(crate) attempt: Attempt,
    pub(crate) trail: Trail,
    /// When its head was there.
    pub(crate) at: Instant,
}

/// An answer, by the protocol that it came in.
pub(crate) enum Reply {
    /// HTTP/1 over TCP.
    Http1(Box<Answered<TcpStream>>),
    /// HTTP/1 over anything else.
    Any(Box<Answered<AnyWire>>),
    Http2(Box<Answered2>),
    /// A connection for what a CONNECT asked for.
    Tunnel(Box<Opened>),
}

/// What became of one attempt.
pub(crate) enum Tried<A> {
    /// It failed, and another may be made there.
    Next((usize, usize)),
    /// There is an answer, or no other attempt.
    Over(Result<A, Refusal>),
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
    /// What the answer said of the caches that it came through.
    pub(crate) cache: Option<CacheAnswer>,
    /// How a gRPC call ended.
    pub(crate) grpc_status: Option<u32>,
    /// Whether the endpoint reset the tunnel.
    pub(crate) reset: bool,
    /// The (pool, endpoint) of the last attempt.
    pub(crate) last: Option<(usize, usize)>,
    /// The (pool, endpoint) of each failed attempt.
    pub(in crate::proxy) tried: Vec<(usize, usize)>,
    /// Attempts of which bytes went out.
    pub(crate) sends: u32,
    /// Tries that followed a failed one, and those of them that were waited for.
    pub(in crate::proxy) pauses: u32,
    pub(in crate::proxy) paused: u32,
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

/// What an attempt knows of those before it.
pub(crate) struct Course<'a> {
    /// Whether it goes over a connection that is opened for it.
    pub(crate) fresh: bool,
    /// When it began.
    pub(crate) began: Instant,
    pub(crate) trail: &'a mut Trail,
    pub(crate) places: &'a mut Places,
}

/// Forwards until there is an answer or no permitted attempt is left.
pub(crate) async fn forward<D: Downstream>(
    job: &Job<'_>,
    mut places: Places,
    down: &mut D,
    timer: &mut Timer,
) -> Result<Reply, (Refusal, Trail)> {
    if job.question.head.is_connect() {
        return Box::pin(connect::open(job, places, down, timer)).await;
    }
    let mut trail = Trail::default();
    let service = &job.snapshot.services[job.decision.service];
    job.worker.budgets.borrow_mut().deposit(service.slot, &service.spec.retry);
    mirror::begin(job, down);
    let (body, complete) = match at_hand(job, down) {
        Ok(at_hand) => at_hand,
        Err(refusal) => return Err((refusal, trail)),
    };
    // Over HTTP/1 what is not idempotent is never sent again once a piece of its body went out.
    let first = &service.pools[job.decision.pool];
    let plain = || TcpStream::carries(first, &first.endpoints[job.decision.endpoint]);
    let keep = service.spec.retry.attempts > 0 && (job.question.repeatable || !plain());
    let mut replay = Replay::new(down, job.outgoing.framing, body, complete, keep);
    let mut target = (job.decision.pool, job.decision.endpoint);
    loop {
        let attempt = Attempt::begin(job, target);
        // A second try over another idle connection could meet the same fate as the first.
        let fresh = trail.last.replace(target).is_some();
        let began = if trail.retried { Instant::now() } else { job.began };
        let course = Course { fresh, began, trail: &mut trail, places: &mut places };
        let tried = match TcpStream::carries(attempt.pool(), attempt.endpoint()) {
            true => {
                let opened = TcpStream::open(&attempt.reach(job, fresh), timer).await;
                http1::attempt(job, attempt, opened, &mut replay, timer, course).await.map(Reply::Http1)
            }
            false if is_http2_only(attempt.pool(), attempt.endpoint()) && attempt.pool().tls.is_none() => {
                Box::pin(dial::over_h2c(job, attempt, &mut replay, timer, course)).await
            }
            false => Box::pin(dial::attempt(job, attempt, &mut replay, timer, course)).await,
        };
        match tried {
            Tried::Next(next) => target = next,
            Tried::Over(over) => return over.map_err(|refusal| (refusal, trail)),
        }
        if trail.pauses != trail.paused
            && let Err(refusal) = Box::pin(pause(job, &mut trail, &mut replay, timer)).await
        {
            return Err((refusal, trail));
        }
    }
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

// === impl Answered ===

impl<W: Wire> Answered<W> {
    /// See [`Attempt::give_back`].
    pub(crate) fn give_back(self, whole: bool, now_ms: u64) {
        let Self { conn, mut response, upload, attempt, .. } = self;
        attempt.give_back(conn, upload, &mut response, whole, now_ms);
    }

    /// It switches to a protocol that nobody asked for.
    pub(crate) fn unasked(self, question: &Question<'_>) -> (Refusal, Trail) {
        self.attempt.fail(Fault::UpstreamAnswer, question);
        (Refusal::Upstream { fault: Fault::UpstreamAnswer, reason: "unasked_upgrade" }, self.trail)
    }
}

// === impl Tried ===

impl<A> Tried<A> {
    /// The same with another kind of answer.
    pub(crate) fn map<B>(self, answer: impl FnOnce(A) -> B) -> Tried<B> {
        match self {
            Self::Next(next) => Tried::Next(next),
            Self::Over(over) => Tried::Over(over.map(answer)),
        }
    }
}

// === impl Attempt ===

impl Attempt {
    pub(in crate::proxy) fn begin(job: &Job<'_>, (pool, endpoint): (usize, usize)) -> Self {
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

    /// Whether its endpoint is out, so that this can only be its trial.
    pub(crate) fn is_trial(&self, question: &Question<'_>) -> bool {
        self.endpoint().admission(question.now.mono_ms) != Admission::Serving
    }

    /// How its endpoint is reached. `fresh`: over a connection that is opened for it.
    pub(crate) fn reach(&self, job: &Job<'_>, fresh: bool) -> Reach<'_> {
        Reach {
            worker: &self.worker,
            purpose: Purpose::Clients,
            pool: self.pool(),
            endpoint: self.endpoint(),
            connect: self.service().spec.timeouts.connect,
            now_ms: job.question.now.mono_ms,
            named: reach::named(job, self.pool()),
            fresh,
        }
    }

    /// Takes a place among the streams that may last.
    pub(crate) fn stay(&self, kind: StreamKind) -> Stay {
        Stay::new(&self.worker, self.pool(), kind)
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

    /// What the answer says of the caches that it came through.
    #[inline]
    pub(crate) fn cached(&self, response: &Response, bytes: &[u8]) -> Option<CacheAnswer> {
        cached::look(&self.service().spec, response, bytes)
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
    pub(crate) fn give_back<W: Wire>(
        &self,
        mut conn: Conn<W>,
        upload: Upload,
        response: &mut Response,
        whole: bool,
        now_ms: u64,
    ) {
        let reusable =
            whole && response.keep_alive && upload.is_whole() && conn.buf.is_empty() && !conn.stream.is_laden();
        let mut buffers = self.worker.buffers.borrow_mut();
        buffers.put(std::mem::take(&mut conn.buf));
        buffers.put(upload.into_buffer());
        buffers.put_lines(std::mem::take(&mut response.lines));
        if reusable && !self.endpoint().is_draining() {
            let limits = &self.snapshot.limits;
            let ours_ms = limits.upstream_keep_alive.as_millis() as u64;
            // A second less than the endpoint says, so that it does not close just as we write.
            let theirs_ms = response.keep_alive_s.map_or(u64::MAX, |s| s.saturating_sub(1).saturating_mul(1000));
            let until_ms = now_ms.saturating_add(ours_ms.min(theirs_ms));
            W::idle(&self.worker.lines).borrow_mut().put(self.endpoint(), conn, until_ms, limits.upstream_idle_max);
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
