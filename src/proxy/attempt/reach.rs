//! How an endpoint is reached: a connection that is idle, or a new one, over whatever carries bytes there. A failed
//! handshake is a failure to connect: nothing was sent.
//!
//! Whether an attempt is made, and what becomes of it, is for [`super::http1`] and [`super::dial`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::exchange::{Conn, Failure, connect};
use super::forward::Job;
use super::lines::{Lines, Purpose};
use super::wire::{AnyMark, AnyWire, Wire};
use crate::model::{Address, Http2Use, Protocol, ProxyVersion};
use crate::proxy::arrival::secure::Secure;
use crate::proxy::bodies::splice;
use crate::proxy::h2up::trunk::NO_ROOM;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::switchboard::snapshot::Pool;
use crate::telemetry::uplink::UplinkFault;
use crate::tls::pool::PoolTls;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::preface::Ends;

/// How long to wait until a socket whose queue is full is asked again; Linux says so at once (connect(2), `EAGAIN`).
const UNIX_PAUSE: Duration = Duration::from_millis(2);

/// Which endpoint is to be reached, for what, and on what terms.
pub(crate) struct Reach<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) purpose: Purpose,
    pub(crate) pool: &'a Pool,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// How long that may take.
    pub(crate) connect: Duration,
    pub(crate) now_ms: u64,
    /// Whose connection it has to be, where the endpoints of the pool are told.
    pub(crate) named: Option<(ProxyVersion, Ends)>,
    /// Whether no idle connection will do.
    pub(crate) fresh: bool,
}

/// A connection over TLS, and what the endpoint chose for it.
pub(crate) enum Opened {
    Http1(Conn<AnyWire>),
    Http2(Secure<ClientConnection>),
}

/// Whether an endpoint speaks HTTP/1 over TCP and nothing stands before it.
#[inline]
pub(crate) fn is_plain(pool: &Pool, endpoint: &Endpoint) -> bool {
    matches!(endpoint.id.addr, Address::Ip(_))
        && endpoint.id.origin.protocol == Protocol::Http1
        && pool.proxy_protocol.is_none()
}

/// Whether an endpoint is spoken to in HTTP/2 and nothing else.
pub(crate) fn is_http2_only(pool: &Pool, endpoint: &Endpoint) -> bool {
    match (endpoint.id.origin.protocol, &pool.tls) {
        (Protocol::H2c, _) => matches!(endpoint.id.addr, Address::Ip(_)),
        (Protocol::Https, Some(tls)) => tls.spec.http2 == Http2Use::Only && pool.proxy_protocol.is_none(),
        _ => false,
    }
}

/// Whose connection it has to be, where the endpoints of the pool are told: the client's, as trusted proxies tell it.
#[inline]
pub(crate) fn named(job: &Job<'_>, pool: &Pool) -> Option<(ProxyVersion, Ends)> {
    pool.proxy_protocol.map(|version| (version, ends(job)))
}

fn ends(job: &Job<'_>) -> Ends {
    let client = job.question.client.to_canonical();
    let own = job.ends.filter(|ends| ends.source.ip().to_canonical() == client);
    let nowhere = match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let destination = job.ends.map_or(SocketAddr::new(nowhere, 0), |ends| ends.destination);
    // The port of a client behind another proxy is not known.
    let source = SocketAddr::new(client, own.map_or(0, |ends| ends.source.port()));
    Ends { source, destination }
}

/// A plain connection: one that was idle, else a new one.
pub(crate) async fn open_tcp(reach: &Reach<'_>, timer: &mut Timer) -> Result<Conn<TcpStream>, Failure> {
    if let Some(conn) = reach.idle(()) {
        return Ok(conn);
    }
    let Address::Ip(addr) = reach.endpoint.id.addr else { return Err(Failure::unconnected("connect_failed")) };
    let deadline = Instant::now() + reach.connect;
    let stream = match connect(addr, timer, deadline).await {
        // Out of descriptors: connections that nobody uses give way.
        Err(Failure::Client(_)) if reach.worker.make_room() => connect(addr, timer, deadline).await?,
        connected => connected?,
    };
    reach.count();
    Ok(new(stream, ()))
}

/// A connection of any other kind that speaks HTTP/1.
pub(crate) async fn open_any(reach: &Reach<'_>, timer: &mut Timer) -> Result<Conn<AnyWire>, Failure> {
    match (&reach.endpoint.id.addr, &reach.pool.tls) {
        (Address::Ip(_), Some(tls)) if reach.endpoint.id.origin.protocol == Protocol::Https => {
            match open_tls(reach, tls, true, timer).await? {
                Opened::Http1(conn) => Ok(conn),
                Opened::Http2(_) => Err(Failure::unconnected(UplinkFault::Unlike.as_str())),
            }
        }
        (Address::Ip(addr), _) => open_named(reach, *addr, timer).await,
        (Address::Unix(path), _) => open_unix(reach, path, timer).await,
    }
}

/// A connection over TLS: one for HTTP/1 that was idle, else a new one.
pub(crate) async fn open_tls(
    reach: &Reach<'_>,
    tls: &PoolTls,
    http1_only: bool,
    timer: &mut Timer,
) -> Result<Opened, Failure> {
    let terms = tls.terms();
    let mark = AnyMark { terms: Some(terms.number), named: reach.named };
    if let Some(conn) = reach.idle(mark) {
        return Ok(Opened::Http1(conn));
    }
    let config = if http1_only { &terms.requests.http1 } else { &terms.requests.any };
    let deadline = Instant::now() + reach.connect;
    let first = mark.preface();
    let link = connect_tls(reach.worker, reach.endpoint, tls, config, &first, timer, deadline).await;
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
async fn open_named(reach: &Reach<'_>, addr: SocketAddr, timer: &mut Timer) -> Result<Conn<AnyWire>, Failure> {
    let mark = AnyMark { terms: None, named: reach.named };
    if let Some(conn) = reach.idle(mark) {
        return Ok(conn);
    }
    let deadline = Instant::now() + reach.connect;
    let stream = connect(addr, timer, deadline).await?;
    reach.count();
    match send_first(&stream, &mark.preface(), timer, deadline).await {
        true => Ok(new(AnyWire::Tcp(stream), mark)),
        false => Err(Failure::unconnected("connect_failed")),
    }
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
async fn open_unix(reach: &Reach<'_>, path: &Path, timer: &mut Timer) -> Result<Conn<AnyWire>, Failure> {
    let mark = AnyMark { terms: None, named: reach.named };
    if let Some(conn) = reach.idle(mark) {
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
    let reason = match timer.limit(Instant::now() + reach.connect, connecting).await {
        Ok(Ok(stream)) => {
            reach.count();
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

fn new<W: Wire>(stream: W, mark: W::Mark) -> Conn<W> {
    Conn { stream, mark, buf: Vec::new(), reused: false, long: false }
}

/// Keeps a connection over TLS that nobody has used yet, for whoever speaks HTTP/1 next.
pub(crate) fn park(
    worker: &Rc<Worker>,
    purpose: Purpose,
    endpoint: &Endpoint,
    link: Secure<ClientConnection>,
    terms: u64,
) {
    let limits = worker.snapshot().limits;
    let now_ms = worker.now(Instant::now()).mono_ms;
    let until_ms = now_ms.saturating_add(limits.upstream_keep_alive.as_millis() as u64);
    let conn = new(AnyWire::Tls(link), AnyMark { terms: Some(terms), named: None });
    worker.lines_for(purpose).any_conns.borrow_mut().put(endpoint, conn, until_ms, limits.upstream_idle_max);
}

// === impl Reach ===

impl<'a> Reach<'a> {
    /// The worker's connections for the same purpose.
    #[inline]
    pub(crate) fn lines(&self) -> &'a Lines {
        self.worker.lines_for(self.purpose)
    }

    /// A connection with that mark that waits for a request.
    fn idle<W: Wire>(&self, mark: W::Mark) -> Option<Conn<W>> {
        if self.fresh {
            return None;
        }
        let (stream, long) = W::idle(self.lines()).borrow_mut().take(self.endpoint, mark, self.now_ms)?;
        Some(Conn { stream, mark, buf: Vec::new(), reused: true, long })
    }

    fn count(&self) {
        self.endpoint.meter.of(self.worker.index).connections.add(1);
    }
}
