//! A connection to an endpoint from its opening to its end: connected, greeted, driven for as long as somebody holds
//! it. What streams it may carry is for [`super::trunk`].

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::pulse::Pulse;
use super::trunk::{HTTP1, NO_ROOM, STREAMS_MAX, Trunk};
use crate::model::{Address, Http2Use, Timeouts};
use crate::proxy::attempt::exchange::{Failure, connect};
use crate::proxy::attempt::lines::Purpose;
use crate::proxy::attempt::reach::{connect_tls, park};
use crate::proxy::frames::watched::{Watch, Watched};
use crate::proxy::h1::response::HEAD_BYTES_MAX;
use crate::proxy::http2::client::{self, Connection};
use crate::proxy::http2::settings::Config;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::telemetry::flood::{Flood, Side};
use crate::telemetry::uplink::UplinkFault;
use crate::tls::pool::{PoolTls, Terms};
use crate::upstream::endpoint::Endpoint;

/// Window of a stream: what a client that does not read keeps here.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Window of a connection: room for all its streams, so that none waits for another one's client.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;

/// How long sent bytes may stay unacknowledged, and a silent peer unasked by TCP.
const TCP_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection is opened for.
pub(super) struct Opening<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) trunk: &'a Weak<Trunk>,
    pub(super) timeouts: &'a Timeouts,
    pub(super) purpose: Purpose,
}

// === impl Opening ===

impl Opening<'_> {
    /// Opens the connection and drives it to its end; why it ended.
    pub(super) async fn live(&self, timer: &mut Timer) -> &'static str {
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
    pub(super) async fn live_tls(&self, tls: &PoolTls, terms: &Terms, timer: &mut Timer) -> &'static str {
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
    pub(super) async fn carry<S>(&self, stream: S, timer: &mut Timer) -> &'static str
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Self { trunk, timeouts, .. } = self;
        let config = Config {
            stream_window: STREAM_WINDOW_BYTES,
            connection_window: CONNECTION_WINDOW_BYTES,
            list_max: HEAD_BYTES_MAX as u32,
            streams_max: None,
            enable_connect: false,
            pending_resets_max: usize::MAX,
            purse: Rc::clone(&self.worker.purse),
            turns: None,
            excess: Rc::default(),
        };
        let (stream, watch) = Watched::endpoint(stream, self.worker.snapshot().limits.glitches_max);
        let Ok((sender, mut connection)) = client::handshake(stream, &config).await else { return "connect_failed" };
        let greeted = std::future::poll_fn(|cx| match connection.poll(cx) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending if sender.streams_max().is_none() => Poll::Pending,
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
        let mut pulse = Pulse::default();
        let why = std::future::poll_fn(|cx| drive(cx, &mut connection, trunk, &mut pulse, timer)).await;
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
pub(super) fn watch(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keep_alive = socket2::TcpKeepalive::new().with_time(TCP_TIMEOUT).with_interval(TCP_TIMEOUT / 4);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    let _ = socket.set_tcp_user_timeout(Some(TCP_TIMEOUT));
}

fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    connection: &mut Connection<S>,
    trunk: &Weak<Trunk>,
    pulse: &mut Pulse,
    timer: &mut Timer,
) -> Poll<&'static str> {
    if connection.poll(cx).is_ready() {
        return Poll::Ready("closed");
    }
    let Some(trunk) = trunk.upgrade() else { return Poll::Pending };
    if trunk.is_doubted() && pulse.poll(cx, connection, timer).is_ready() {
        match pulse.asked {
            // Dropped, it fails what is left on it.
            Some(_) => return Poll::Ready("silent"),
            None => trunk.trust(),
        }
        cx.waker().wake_by_ref();
    }
    trunk.keep(cx.waker());
    Poll::Pending
}
