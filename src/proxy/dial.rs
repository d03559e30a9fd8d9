//! Attempts to endpoints that are not plain HTTP/1 over TCP: TLS, where the endpoint chooses the version of HTTP,
//! HTTP/2 by prior knowledge, and sockets in the file system.
//!
//! What an endpoint chose last is what the next connection is opened for; one that turns out otherwise is not thrown
//! away but kept for those who can use it. A failed handshake is a failure to connect: nothing was sent.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};
use tokio::net::UnixStream;

use super::exchange::{Conn, Failure, connect};
use super::forward::{Attempt, Course, Job, Reply, Tried};
use super::h2up::attempt::over_http2;
use super::h2up::exchange::AtHand;
use super::h2up::trunk::Dial;
use super::h2up::trunks::Trunks;
use super::http1;
use super::secure::Secure;
use super::timer::Timer;
use super::upload::Downstream;
use super::wire::{AnyMark, AnyWire};
use super::worker::Worker;
use crate::model::{Address, Http2Use, Protocol};
use crate::telemetry::uplink::UplinkFault;
use crate::tls::pool::PoolTls;
use crate::upstream::endpoint::Endpoint;

/// How often an endpoint may choose another version of HTTP than it did a moment before, within one attempt.
const TURNS_MAX: usize = 3;

/// How long to wait until a socket whose queue is full is asked again; Linux says so at once (connect(2), `EAGAIN`).
const UNIX_PAUSE: Duration = Duration::from_millis(2);

/// One attempt.
pub(crate) async fn attempt<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    body: AtHand<'_>,
    down: &mut D,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Reply> {
    let endpoint = attempt.endpoint();
    let opened = match (&endpoint.id.addr, endpoint.id.origin.protocol) {
        (Address::Ip(_), Protocol::H2c) => {
            let dial = Dial { timeouts: attempt.service().spec.timeouts, tls: None };
            return match over_http2(job, attempt, dial, body, down, timer, course).await {
                Ok(tried) => tried.map(Reply::Http2),
                Err((attempt, course)) => unusable(job, attempt, body, down, timer, course).await,
            };
        }
        (Address::Ip(_), Protocol::Https) => return over_tls(job, attempt, body, down, timer, course).await,
        (Address::Ip(_), _) => Err(Failure::unconnected("connect_failed")),
        (Address::Unix(path), _) => open_unix(job, &attempt, path, course.fresh, timer).await,
    };
    let tried = http1::attempt(job, attempt, opened, body, down, timer, course).await;
    tried.map(|answered| Reply::Any(Box::new(answered)))
}

/// One attempt over TLS: the endpoint chooses the version of HTTP (ALPN), as far as the pool leaves it the choice.
async fn over_tls<D: Downstream>(
    job: &Job<'_>,
    mut attempt: Attempt,
    body: AtHand<'_>,
    down: &mut D,
    timer: &mut Timer,
    mut course: Course<'_>,
) -> Tried<Reply> {
    let Some(tls) = attempt.pool().tls.clone() else {
        return unusable(job, attempt, body, down, timer, course).await;
    };
    let timeouts = attempt.service().spec.timeouts;
    // An upgrade is HTTP/1.1 (RFC 9110 §7.8).
    let http1_only = match tls.spec.http2 {
        Http2Use::Off => true,
        Http2Use::Auto => job.outgoing.upgrade,
        Http2Use::Only => false,
    };
    for _ in 0..TURNS_MAX {
        let by_choice = || job.worker.trunks.borrow_mut().chose_http1(attempt.endpoint());
        if http1_only || tls.spec.http2 == Http2Use::Auto && by_choice() {
            let opened = match open_tls(job, &attempt, &tls, http1_only, course.fresh, timer).await {
                Ok(Opened::Http1(conn)) => Ok(conn),
                Ok(Opened::Http2(link)) => {
                    Trunks::adopt(job.worker, attempt.endpoint(), link, Dial { timeouts, tls: Some(Arc::clone(&tls)) });
                    continue;
                }
                Err(failure) => Err(failure),
            };
            let tried = http1::attempt(job, attempt, opened, body, down, timer, course).await;
            return tried.map(|answered| Reply::Any(Box::new(answered)));
        }
        let dial = Dial { timeouts, tls: Some(Arc::clone(&tls)) };
        match over_http2(job, attempt, dial, body, down, timer, course).await {
            Ok(tried) => return tried.map(Reply::Http2),
            // It chose HTTP/1.1, and nothing was sent.
            Err(back) => (attempt, course) = back,
        }
    }
    unusable(job, attempt, body, down, timer, course).await
}

/// An endpoint that nothing can be agreed with.
async fn unusable<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    body: AtHand<'_>,
    down: &mut D,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Reply> {
    let refused: Result<Conn<AnyWire>, Failure> = Err(Failure::unconnected(UplinkFault::Unlike.as_str()));
    let tried = http1::attempt(job, attempt, refused, body, down, timer, course).await;
    tried.map(|answered| Reply::Any(Box::new(answered)))
}

/// A connection over TLS, and what the endpoint chose for it.
enum Opened {
    Http1(Conn<AnyWire>),
    Http2(Secure<ClientConnection>),
}

/// A connection for HTTP/1: one that was idle unless it has to be `fresh`, else a new one.
async fn open_tls(
    job: &Job<'_>,
    attempt: &Attempt,
    tls: &PoolTls,
    http1_only: bool,
    fresh: bool,
    timer: &mut Timer,
) -> Result<Opened, Failure> {
    let (worker, endpoint) = (job.worker, attempt.endpoint());
    let terms = tls.terms();
    let mark = AnyMark { terms: Some(terms.number) };
    if let Some(conn) = idle(job, endpoint, mark, fresh) {
        return Ok(Opened::Http1(conn));
    }
    let config = if http1_only { &terms.http1 } else { &terms.any };
    let deadline = Instant::now() + attempt.service().spec.timeouts.connect;
    let link = connect_tls(worker, endpoint, tls, config, timer, deadline).await.map_err(Failure::unconnected)?;
    Ok(match link.wants_http2() {
        true => Opened::Http2(link),
        false => Opened::Http1(new(AnyWire::Tls(link), mark)),
    })
}

/// Connects and shakes hands before `deadline`; else why not, in a word.
pub(crate) async fn connect_tls(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    tls: &PoolTls,
    config: &Arc<ClientConfig>,
    timer: &mut Timer,
    deadline: Instant,
) -> Result<Secure<ClientConnection>, &'static str> {
    let Address::Ip(addr) = endpoint.id.addr else { return Err("connect_failed") };
    let stream = match connect(addr, timer, deadline).await {
        Ok(stream) => stream,
        Err(Failure::Endpoint { reason, .. }) => return Err(reason),
        Err(Failure::Client(_)) => return Err("connect_failed"),
    };
    let meter = endpoint.meter.of(worker.index);
    meter.connections.add(1);
    let shaken = match tls.server_name(&endpoint.id.origin.host) {
        Ok(name) => {
            let shaking = Box::pin(Secure::connect(worker, stream, Arc::clone(config), name));
            timer.limit(deadline, shaking).await.unwrap_or(Err(UplinkFault::Timeout))
        }
        Err(_) => Err(UplinkFault::Name),
    };
    match shaken {
        Ok(link) => {
            meter.tls.done(link.is_resumed());
            Ok(link)
        }
        Err(fault) => {
            meter.tls.failed(fault);
            Err(fault.as_str())
        }
    }
}

/// A connection to a socket in the file system.
async fn open_unix(
    job: &Job<'_>,
    attempt: &Attempt,
    path: &Path,
    fresh: bool,
    timer: &mut Timer,
) -> Result<Conn<AnyWire>, Failure> {
    let (endpoint, mark) = (attempt.endpoint(), AnyMark::default());
    if let Some(conn) = idle(job, endpoint, mark, fresh) {
        return Ok(conn);
    }
    let connecting = async {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::time::sleep(UNIX_PAUSE).await,
                connected => return connected,
            }
        }
    };
    let deadline = Instant::now() + attempt.service().spec.timeouts.connect;
    let reason = match timer.limit(deadline, connecting).await {
        Ok(Ok(stream)) => {
            endpoint.meter.of(job.worker.index).connections.add(1);
            return Ok(new(AnyWire::Unix(stream), mark));
        }
        Ok(Err(error)) => match error.kind() {
            std::io::ErrorKind::NotFound => "socket_missing",
            std::io::ErrorKind::PermissionDenied => "socket_denied",
            std::io::ErrorKind::ConnectionRefused => "connect_refused",
            _ => "connect_failed",
        },
        Err(_) => "connect_timeout",
    };
    Err(Failure::unconnected(reason))
}

fn idle(job: &Job<'_>, endpoint: &Endpoint, mark: AnyMark, fresh: bool) -> Option<Conn<AnyWire>> {
    if fresh {
        return None;
    }
    let (stream, long) = job.worker.any_conns.borrow_mut().take(endpoint, mark, job.question.now.mono_ms)?;
    Some(Conn { stream, mark, buf: Vec::new(), reused: true, long })
}

fn new(stream: AnyWire, mark: AnyMark) -> Conn<AnyWire> {
    Conn { stream, mark, buf: Vec::new(), reused: false, long: false }
}

/// Keeps a connection over TLS that nobody has used yet, for whoever speaks HTTP/1 next.
pub(crate) fn park(worker: &Rc<Worker>, endpoint: &Endpoint, link: Secure<ClientConnection>, terms: u64) {
    let limits = worker.snapshot().limits;
    let now_ms = worker.now(Instant::now()).mono_ms;
    let until_ms = now_ms.saturating_add(limits.upstream_keep_alive.as_millis() as u64);
    let conn = new(AnyWire::Tls(link), AnyMark { terms: Some(terms) });
    worker.any_conns.borrow_mut().put(endpoint, conn, until_ms, limits.upstream_idle_max);
}
