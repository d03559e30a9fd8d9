//! One HTTP/2 connection to an endpoint, shared by streams of one worker: opening, carrying, doubting, ending.
//!
//! A task of its own drives it for as long as somebody holds it. Peers that vanish are found by TCP; whether a
//! peer that let a request time out is there at all is asked by PING, and until it says so it gets no new stream. There
//! are no other PINGs: gRPC servers end a connection for a third one without data in five minutes (gRFC A8).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::super::exchange::{Failure, connect};
use super::super::frames::watched::{Watch, Watched};
use super::super::h1::response::HEAD_BYTES_MAX;
use super::super::lines::Purpose;
use super::super::reach::{connect_tls, park};
use super::super::secure::Secure;
use super::super::timer::Timer;
use super::super::worker::Worker;
use super::pulse::Pulse;
use crate::model::{Address, Http2Use, Timeouts};
use crate::telemetry::flood::{Flood, Side};
use crate::telemetry::uplink::UplinkFault;
use crate::tls::pool::{PoolTls, Terms};
use crate::upstream::endpoint::Endpoint;

/// Streams that one connection carries, if the peer allows as many (RFC 9113 §6.5.2 advises against fewer than 100).
pub(crate) const STREAMS_MAX: usize = 128;

/// Why a connection did not come about for want of something in this process.
pub(crate) const NO_ROOM: &str = "no_room";

/// Window of a stream: what a client that does not read keeps here.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Window of a connection: room for all its streams, so that none waits for another one's client.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;

/// What h2 takes for the number of streams that a peer allows until its SETTINGS say so. No stream begins before: with
/// more than the peer allows, all above would be refused.
const UNSAID: usize = usize::MAX - 1;

/// Why a connection is over that takes no more streams.
pub(crate) const RETIRED: &str = "goaway";

/// Why a connection carries no streams for which the endpoint chose HTTP/1.1.
pub(crate) const HTTP1: &str = "http1";

/// How long sent bytes may stay unacknowledged, and a silent peer unasked by TCP.
const TCP_TIMEOUT: Duration = Duration::from_secs(20);

/// How a connection is opened.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) timeouts: Timeouts,
    /// What TLS is spoken with; none: without TLS.
    pub(crate) tls: Option<Arc<PoolTls>>,
    /// What it is for.
    pub(crate) purpose: Purpose,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Trunk {
    /// The terms of its TLS; see [`Terms::number`].
    pub(crate) terms: Option<u64>,
    state: RefCell<State>,
    /// Streams that it carries, and requests that wait for it to open.
    streams: Cell<usize>,
    /// Since when it carries none.
    idle_since: Cell<Instant>,
    /// Told when it is no longer opening.
    settled: Notify,
    /// Whether it is doubted that the peer is there.
    doubted: Cell<bool>,
    /// Wakes its task.
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug)]
enum State {
    Opening,
    Open(SendRequest<Bytes>),
    /// No more streams begin, and why.
    Over(&'static str),
}

/// A request's place on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    trunk: Rc<Trunk>,
    /// Whether it was open before.
    pub(crate) reused: bool,
}

// === impl Trunk ===

impl Trunk {
    /// One that is about to open; its task is started. `link`: what it goes over, if that is there already.
    pub(crate) fn open(
        worker: &Rc<Worker>,
        endpoint: &Arc<Endpoint>,
        dial: Dial,
        terms: Option<Arc<Terms>>,
        link: Option<Secure<ClientConnection>>,
    ) -> Rc<Self> {
        let trunk = Rc::new(Self {
            terms: terms.as_ref().map(|terms| terms.number),
            state: RefCell::new(State::Opening),
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            settled: Notify::new(),
            doubted: Cell::new(false),
            waker: RefCell::new(None),
        });
        let (worker, endpoint, weak) = (Rc::clone(worker), Arc::clone(endpoint), Rc::downgrade(&trunk));
        spawn_local(Box::pin(async move {
            let mut timer = worker.timers.borrow_mut().take();
            let opening = Opening {
                worker: &worker,
                endpoint: &endpoint,
                trunk: &weak,
                timeouts: &dial.timeouts,
                purpose: dial.purpose,
            };
            let why = match (link, dial.tls.as_ref().zip(terms)) {
                (Some(link), _) => {
                    watch(link.tcp());
                    opening.carry(link, &mut timer).await
                }
                (None, Some((tls, terms))) => opening.live_tls(tls, &terms, &mut timer).await,
                (None, None) => opening.live(&mut timer).await,
            };
            worker.timers.borrow_mut().put(timer);
            if let Some(trunk) = weak.upgrade() {
                trunk.end(why);
            }
        }));
        trunk
    }

    /// Whether one more stream may begin now.
    pub(crate) fn has_room(&self) -> bool {
        let most = match &*self.state.borrow() {
            // What the peer allows is not known yet. Who turns out to be too many goes on to another connection.
            State::Opening => STREAMS_MAX,
            State::Open(sender) => sender.current_max_send_streams(),
            State::Over(_) => return false,
        };
        !self.doubted.get() && self.streams.get() < most.min(STREAMS_MAX)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over(_))
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.get()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Since when it carries nothing.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// A place on it.
    pub(crate) fn place(self: &Rc<Self>) -> Place {
        self.streams.set(self.streams.get() + 1);
        Place { trunk: Rc::clone(self), reused: matches!(*self.state.borrow(), State::Open(_)) }
    }

    /// Whether more streams are placed on it than the peer allows.
    fn is_crowded(&self) -> bool {
        let state = self.state.borrow();
        matches!(&*state, State::Open(sender) if self.streams.get() > sender.current_max_send_streams())
    }

    /// No more streams begin; those that have begun go on.
    pub(crate) fn end(&self, why: &'static str) {
        *self.state.borrow_mut() = State::Over(why);
        self.settled.notify_waiters();
    }

    fn settle(&self, sender: SendRequest<Bytes>) {
        *self.state.borrow_mut() = State::Open(sender);
        self.settled.notify_waiters();
    }
}

// === impl Place ===

impl Place {
    /// What opens a stream, once the connection is there; else why it is not.
    pub(crate) async fn sender(&self) -> Result<SendRequest<Bytes>, &'static str> {
        loop {
            // Made before the look, so that what is said between the two is heard.
            let settled = self.trunk.settled.notified();
            match &*self.trunk.state.borrow() {
                State::Open(sender) => return Ok(sender.clone()),
                State::Over(why) => return Err(why),
                State::Opening => {}
            }
            settled.await;
        }
    }

    /// Whether the peer allows fewer streams than are placed there.
    pub(crate) fn is_crowded(&self) -> bool {
        self.trunk.is_crowded()
    }

    /// It takes no more streams.
    pub(crate) fn retire(&self) {
        self.trunk.end(RETIRED);
    }

    /// A request timed out on it: perhaps nobody is there.
    pub(crate) fn doubt(&self) {
        self.trunk.doubted.set(true);
        if let Some(waker) = self.trunk.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.trunk.streams.get().saturating_sub(1);
        self.trunk.streams.set(left);
        if left == 0 {
            self.trunk.idle_since.set(Instant::now());
        }
    }
}

// === impl Dial ===

impl Dial {
    /// The terms of TLS as they are now.
    pub(crate) fn terms(&self) -> Option<Arc<Terms>> {
        self.tls.as_ref().map(|tls| tls.terms())
    }
}

/// What a connection is opened for.
struct Opening<'a> {
    worker: &'a Rc<Worker>,
    endpoint: &'a Arc<Endpoint>,
    trunk: &'a Weak<Trunk>,
    timeouts: &'a Timeouts,
    purpose: Purpose,
}

// === impl Opening ===

impl Opening<'_> {
    /// Opens the connection and drives it to its end; why it ended.
    async fn live(&self, timer: &mut Timer) -> &'static str {
        let Address::Ip(addr) = self.endpoint.id.addr else { return "connect_failed" };
        let stream = match connect(addr, timer, Instant::now() + self.timeouts.connect).await {
            Ok(stream) => stream,
            Err(Failure::Endpoint { reason, .. }) => return reason,
            Err(Failure::Client(_)) => return NO_ROOM,
        };
        self.endpoint.meter.of(self.worker.index).connections.add(1);
        watch(&stream);
        self.carry(stream, timer).await
    }

    /// The same over TLS. One for which the endpoint chooses HTTP/1.1 goes to those who speak that.
    async fn live_tls(&self, tls: &PoolTls, terms: &Terms, timer: &mut Timer) -> &'static str {
        let deadline = Instant::now() + self.timeouts.connect;
        let link = match connect_tls(self.worker, self.endpoint, tls, &terms.requests.any, &[], timer, deadline).await {
            Ok(link) => link,
            Err(reason) => return reason,
        };
        if link.wants_http2() {
            watch(link.tcp());
            return self.carry(link, timer).await;
        }
        if tls.spec.http2 == Http2Use::Only {
            self.endpoint.meter.of(self.worker.index).tls.failed(UplinkFault::Unlike);
            return UplinkFault::Unlike.as_str();
        }
        self.worker.lines_for(self.purpose).trunks.borrow_mut().note_http1(self.endpoint);
        park(self.worker, self.purpose, self.endpoint, link, terms.number);
        HTTP1
    }

    /// Drives a connection over `stream` to its end; why it ended.
    async fn carry<S>(&self, stream: S, timer: &mut Timer) -> &'static str
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Self { trunk, timeouts, .. } = self;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(UNSAID)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (stream, watch) = Watched::endpoint(stream, self.worker.snapshot().limits.glitches_max);
        let Ok((sender, mut connection)) = builder.handshake::<_, Bytes>(stream).await else { return "connect_failed" };
        let greeted = std::future::poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending if sender.current_max_send_streams() == UNSAID => Poll::Pending,
            Poll::Pending => Poll::Ready(true),
        });
        match timer.limit(Instant::now() + timeouts.connect, greeted).await {
            Ok(true) => {}
            Ok(false) => return self.end_of(&watch, "not_http2"),
            Err(_) => return "connect_timeout",
        }
        match trunk.upgrade() {
            Some(trunk) => trunk.settle(sender),
            None => return "closed",
        }
        let mut pulse = Pulse { pings: connection.ping_pong(), asked: None };
        let why = std::future::poll_fn(|cx| drive(cx, (&mut connection, &watch), trunk, &mut pulse, timer)).await;
        self.end_of(&watch, why)
    }

    /// Why a connection ended; what the peer did is counted and logged.
    fn end_of(&self, watch: &Watch, why: &'static str) -> &'static str {
        let Some(flood) = watch.flood() else { return why };
        self.worker.shard().floods.ended(Side::Endpoint, flood);
        let (endpoint, kind) = (&self.endpoint.id.addr, flood.as_str());
        tracing::warn!(%endpoint, kind, "an HTTP/2 connection was ended for what the endpoint did");
        // What breaks the rules from its first byte on is likely to be another protocol.
        if flood == Flood::Protocol { why } else { "flood" }
    }
}

/// Has TCP find out about a peer that vanished without a word.
fn watch(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keep_alive = socket2::TcpKeepalive::new().with_time(TCP_TIMEOUT).with_interval(TCP_TIMEOUT / 4);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    let _ = socket.set_tcp_user_timeout(Some(TCP_TIMEOUT));
}

fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    (connection, watch): (&mut Connection<S, Bytes>, &Watch),
    trunk: &Weak<Trunk>,
    pulse: &mut Pulse,
    timer: &mut Timer,
) -> Poll<&'static str> {
    if Pin::new(&mut *connection).poll(cx).is_ready() {
        return Poll::Ready("closed");
    }
    let Some(trunk) = trunk.upgrade() else { return Poll::Pending };
    if watch.is_worn() && !trunk.is_over() {
        trunk.end(RETIRED);
    }
    if trunk.doubted.get() && pulse.poll(cx, timer).is_ready() {
        match pulse.asked {
            // Dropped, it fails what is left on it.
            Some(_) => return Poll::Ready("silent"),
            None => trunk.doubted.set(false),
        }
        // What was asked of h2 is written when it is polled.
        cx.waker().wake_by_ref();
    }
    let mut kept = trunk.waker.borrow_mut();
    if kept.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
        *kept = Some(cx.waker().clone());
    }
    Poll::Pending
}
