//! Attempts to endpoints that are not plain HTTP/1 over TCP: TLS, where the endpoint chooses the version of HTTP,
//! HTTP/2 by prior knowledge, sockets in the file system, and endpoints that are told whom a connection is opened for.
//!
//! What an endpoint chose last is what the next connection is opened for; one that turns out otherwise is not thrown
//! away but kept for those who can use it. A failed handshake is a failure to connect: nothing was sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::exchange::{Conn, Failure, connect};
use super::forward::{Attempt, Course, Job, Reply, Tried};
use super::h2up::attempt::over_http2;
use super::h2up::exchange::AtHand;
use super::h2up::trunk::{Dial, NO_ROOM};
use super::h2up::trunks::Trunks;
use super::http1;
use super::refusal::Refusal;
use super::secure::Secure;
use super::splice;
use super::timer::Timer;
use super::upload::Downstream;
use super::wire::{AnyMark, AnyWire};
use super::worker::Worker;
use crate::model::{Address, Http2Use, Protocol, ProxyVersion};
use crate::telemetry::uplink::UplinkFault;
use crate::tls::pool::PoolTls;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::preface::Ends;

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
        (Address::Ip(addr), _) => open_named(job, &attempt, *addr, course.fresh, timer).await,
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
        // A connection that is one client's carries no other's streams.
        _ if attempt.pool().proxy_protocol.is_some() => true,
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
    let mark = AnyMark { terms: Some(terms.number), named: named(job, attempt) };
    if let Some(conn) = idle(job, endpoint, mark, fresh) {
        return Ok(Opened::Http1(conn));
    }
    let config = if http1_only { &terms.requests.http1 } else { &terms.requests.any };
    let deadline = Instant::now() + attempt.service().spec.timeouts.connect;
    let first = mark.preface();
    let link = connect_tls(worker, endpoint, tls, config, &first, timer, deadline).await;
    let link = link.map_err(|reason| match reason {
        NO_ROOM => Failure::Client(Refusal::Full("weir".into())),
        reason => Failure::unconnected(reason),
    })?;
    Ok(match link.wants_http2() {
        true => Opened::Http2(link),
        false => Opened::Http1(new(AnyWire::Tls(link), mark)),
    })
}

/// Connects, says what stands `first`, and shakes hands before `deadline`; else why not, in a word.
pub(crate) async fn connect_tls(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    tls: &PoolTls,
    config: &Arc<ClientConfig>,
    first: &[u8],
    timer: &mut Timer,
    deadline: Instant,
) -> Result<Secure<ClientConnection>, &'static str> {
    let Address::Ip(addr) = endpoint.id.addr else { return Err("connect_failed") };
    let stream = match connect(addr, timer, deadline).await {
        Ok(stream) => stream,
        Err(Failure::Endpoint { reason, .. }) => return Err(reason),
        Err(Failure::Client(_)) => return Err(NO_ROOM),
    };
    let meter = endpoint.meter.of(worker.index);
    meter.connections.add(1);
    if !send_first(&stream, first, timer, deadline).await {
        return Err("connect_failed");
    }
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

/// A connection over TCP that begins with whom it is opened for.
async fn open_named(
    job: &Job<'_>,
    attempt: &Attempt,
    addr: SocketAddr,
    fresh: bool,
    timer: &mut Timer,
) -> Result<Conn<AnyWire>, Failure> {
    let (endpoint, mark) = (attempt.endpoint(), AnyMark { terms: None, named: named(job, attempt) });
    if let Some(conn) = idle(job, endpoint, mark, fresh) {
        return Ok(conn);
    }
    let deadline = Instant::now() + attempt.service().spec.timeouts.connect;
    let stream = connect(addr, timer, deadline).await?;
    endpoint.meter.of(job.worker.index).connections.add(1);
    match send_first(&stream, &mark.preface(), timer, deadline).await {
        true => Ok(new(AnyWire::Tcp(stream), mark)),
        false => Err(Failure::unconnected("connect_failed")),
    }
}

/// Whose connection it has to be, where the endpoints of the pool are told: the client's, as trusted proxies tell it.
fn named(job: &Job<'_>, attempt: &Attempt) -> Option<(ProxyVersion, Ends)> {
    let version = attempt.pool().proxy_protocol?;
    let client = job.question.client.to_canonical();
    let own = job.ends.filter(|ends| ends.source.ip().to_canonical() == client);
    let nowhere = match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let destination = job.ends.map_or(SocketAddr::new(nowhere, 0), |ends| ends.destination);
    // The port of a client behind another proxy is not known.
    let source = SocketAddr::new(client, own.map_or(0, |ends| ends.source.port()));
    Some((version, Ends { source, destination }))
}

/// Sends what stands first on a connection, together with what follows at once; false when the endpoint is gone.
async fn send_first(stream: &TcpStream, first: &[u8], timer: &mut Timer, deadline: Instant) -> bool {
    let mut sent = 0;
    while sent < first.len() {
        let sending = std::future::poll_fn(|cx| splice::poll_write_more(cx, stream, &first[sent..]));
        match timer.limit(deadline, sending).await {
            Ok(Ok(n)) if n > 0 => sent += n,
            _ => return false,
        }
    }
    true
}

/// A connection to a socket in the file system.
async fn open_unix(
    job: &Job<'_>,
    attempt: &Attempt,
    path: &Path,
    fresh: bool,
    timer: &mut Timer,
) -> Result<Conn<AnyWire>, Failure> {
    let (endpoint, mark) = (attempt.endpoint(), AnyMark { terms: None, named: named(job, attempt) });
    if let Some(conn) = idle(job, endpoint, mark, fresh) {
        return Ok(conn);
    }
    let first = mark.preface();
    let connecting = async {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::time::sleep(UNIX_PAUSE).await,
                Ok(mut stream) => {
                    stream.write_all(&first).await?;
                    return Ok(stream);
                }
                failed => return failed,
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
    let conn = new(AnyWire::Tls(link), AnyMark { terms: Some(terms), named: None });
    worker.any_conns.borrow_mut().put(endpoint, conn, until_ms, limits.upstream_idle_max);
}
