//! What follows a 101, or the 200 to a CONNECT: bytes both ways until both sides are done, untouched.
//!
//! A tunnel holds no buffer while nothing moves. Half of one may end before the other; the half that is left is given
//! the idle time of a body. When it has to end because the weight of its pool went to 0, each side of a WebSocket is
//! sent a Close frame between two frames of its own (see [`self::socket_frames`]), has a moment to answer, and is
//! closed in order; what is no WebSocket is just closed, and what a CONNECT opened is cut, so that it does not look
//! whole.
//! What opens one: [`crate::proxy::clients::serve`], [`self::connect`].

pub(in crate::proxy) mod connect;
pub(in crate::proxy) mod duplex;
pub(in crate::proxy) mod socket;
pub(in crate::proxy) mod socket_frames;
pub(in crate::proxy) mod streams;
pub(in crate::proxy) mod watch;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::socket_frames::{Frames, close_frame};
use self::streams::Stay;
use crate::model::{StreamKind, Timeouts};
use crate::proxy::arrival::link::Link;
use crate::proxy::attempt::exchange::{Conn, poll_read};
use crate::proxy::attempt::forward::{Attempt, Trail};
use crate::proxy::attempt::wire::Wire;
use crate::proxy::clients::client::Client;
use crate::proxy::clients::serve::Told;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;

/// How long both sides have to answer a Close frame, and frames under way to end. RFC 6455 §7.1.1 leaves it open; ws
/// waits for 30 s, Python's websockets for 10 s. Whoever does not answer within this has been told all the same.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a tunnel ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Bytes towards the endpoint.
    pub(crate) up: u64,
    /// Bytes towards the client.
    pub(crate) down: u64,
    /// Whether the client's side broke, rather than being closed.
    pub(crate) client_reset: bool,
    /// Whether the endpoint's side broke.
    pub(crate) endpoint_reset: bool,
    /// Whether both sides ended it, each in order.
    pub(crate) whole: bool,
}

/// One tunnel.
pub(crate) struct Tunnel<'a> {
    worker: &'a Worker,
    stay: Stay,
    timeouts: Timeouts,
    up: Way,
    down: Way,
    /// Nothing is known of its bytes: it has no order in which it could be closed but that of its ends.
    raw: bool,
    /// It has to end.
    closing: bool,
    /// It is no WebSocket, so that nobody is told why.
    plain: bool,
    moved: Instant,
}

/// One direction.
struct Way {
    /// What has been read and not been written, from `at` on.
    held: Vec<u8>,
    at: usize,
    frames: Frames,
    /// The mask of a Close frame, where it needs one.
    mask: Option<[u8; 4]>,
    /// A Close frame stands behind what is held: what is read from here on goes nowhere.
    said: bool,
    /// Nothing more comes from where it comes from.
    ended: bool,
    /// Nothing more goes to where it goes, and that has been said.
    shut: bool,
    /// Where it goes was found broken by writing to it, and where it comes from by writing the other way. The system
    /// says so once: who reads after that sees an end that looks like one in order.
    to_broke: bool,
    from_broke: bool,
    bytes: u64,
}

// === impl Tunnel ===

impl<'a> Tunnel<'a> {
    /// A WebSocket that begins with what has been read already, of the client and of the endpoint.
    pub(crate) fn new(worker: &'a Worker, attempt: &Attempt, early_up: &[u8], early_down: &[u8]) -> Self {
        let [a, b, c, d, ..] = worker.chance.borrow_mut().rng.draw().to_be_bytes();
        let up = Way::new(early_up, Frames::new(true), Some([a, b, c, d]));
        let down = Way::new(early_down, Frames::new(false), None);
        Self::of(worker, attempt, StreamKind::WebSocket, [up, down])
    }

    /// Bytes of which nothing is known, that begin with what has been read of the client.
    pub(crate) fn raw(worker: &'a Worker, attempt: &Attempt, early_up: &[u8]) -> Self {
        let way = |early| Way::new(early, Frames::none(), None);
        Self::of(worker, attempt, StreamKind::Connect, [way(early_up), way(&[])])
    }

    fn of(worker: &'a Worker, attempt: &Attempt, kind: StreamKind, [up, down]: [Way; 2]) -> Self {
        Self {
            worker,
            stay: attempt.stay(kind),
            timeouts: attempt.service().spec.timeouts,
            up,
            down,
            raw: kind == StreamKind::Connect,
            closing: false,
            plain: false,
            moved: Instant::now(),
        }
    }

    /// Carries it to its end.
    pub(crate) async fn run<C, E>(mut self, client: &mut C, endpoint: &mut E, timer: &mut Timer) -> Ended
    where
        C: AsyncRead + AsyncWrite + Unpin,
        E: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ended = Ended::default();
        std::future::poll_fn(|cx| self.poll(cx, client, endpoint, timer, &mut ended)).await;
        let broken = ended.client_reset || ended.endpoint_reset;
        ended.whole = !broken && self.up.shut && self.down.shut && !self.closing;
        for way in [self.up, self.down] {
            self.worker.buffers.borrow_mut().put(way.held);
        }
        ended
    }

    fn poll<C, E>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        endpoint: &mut E,
        timer: &mut Timer,
        ended: &mut Ended,
    ) -> Poll<()>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        E: AsyncRead + AsyncWrite + Unpin,
    {
        if !self.closing && self.stay.poll_over(cx).is_ready() {
            self.closing = true;
            if self.raw {
                return Poll::Ready(());
            }
            self.moved = Instant::now();
            // What is no WebSocket in one direction is none in the other.
            let lost = self.up.frames.is_lost() || self.down.frames.is_lost();
            (self.up.said, self.down.said, self.plain) = (lost, lost, lost);
        }
        let mark = (self.up.bytes, self.down.bytes);
        let up = self.up.poll(cx, client, endpoint, self.worker, self.closing);
        self.down.from_broke = self.up.to_broke;
        let down = self.down.poll(cx, endpoint, client, self.worker, self.closing);
        self.up.from_broke = self.down.to_broke;
        (ended.up, ended.down) = (self.up.bytes, self.down.bytes);
        (ended.client_reset, ended.endpoint_reset) =
            (matches!(up, Poll::Ready(Err(_))), matches!(down, Poll::Ready(Err(_))));
        if ended.client_reset || ended.endpoint_reset || self.up.shut && self.down.shut {
            return Poll::Ready(());
        }
        if self.closing {
            return self.poll_farewell(cx, client, endpoint, timer);
        }
        if mark != (ended.up, ended.down) {
            self.moved = Instant::now();
        }
        let half = self.up.shut || self.down.shut;
        match if half { Some(self.timeouts.idle) } else { self.timeouts.tunnel_idle } {
            Some(idle) => timer.poll_elapsed(cx, self.moved + idle),
            None => Poll::Pending,
        }
    }

    /// Ready when both sides have answered or had their time: then nothing more goes to either.
    fn poll_farewell<C, E>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        endpoint: &mut E,
        timer: &mut Timer,
    ) -> Poll<()>
    where
        C: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        if !(self.plain || self.up.is_over() && self.down.is_over()) {
            ready!(timer.poll_elapsed(cx, self.moved + FAREWELL));
        }
        // Who does not take the end now has not taken what stands before it either.
        let _ = Pin::new(client).poll_shutdown(cx);
        let _ = Pin::new(endpoint).poll_shutdown(cx);
        Poll::Ready(())
    }
}

// === impl Way ===

impl Way {
    fn new(early: &[u8], mut frames: Frames, mask: Option<[u8; 4]>) -> Self {
        frames.pass(early);
        let bytes = early.len() as u64;
        let held = early.to_vec();
        let (said, ended, shut) = (false, false, false);
        Self { held, at: 0, frames, mask, said, ended, shut, to_broke: false, from_broke: false, bytes }
    }

    /// Moves what can be moved. Ready: nothing more goes this way, or what it comes from broke.
    fn poll<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        worker: &Worker,
        closing: bool,
    ) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            while self.at < self.held.len() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.held[self.at..])) {
                    Ok(n) if n > 0 => self.at += n,
                    // It takes no more; what it has to say still comes the other way.
                    taken => {
                        self.to_broke = taken.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
                        self.held.clear();
                        self.shut = true;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            self.held.clear();
            self.at = 0;
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if self.ended && !self.said {
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            if closing && !self.said && self.say() {
                continue;
            }
            if self.ended {
                return Poll::Pending;
            }
            if self.held.capacity() == 0 {
                self.held = worker.buffers.borrow_mut().take();
            }
            match poll_read(cx, from, &mut self.held) {
                Poll::Ready(Ok(0)) if self.from_broke => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => self.see(closing),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    worker.buffers.borrow_mut().put(std::mem::take(&mut self.held));
                    // What was written may wait within TLS.
                    let _ = Pin::new(&mut *to).poll_flush(cx)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes note of what has just been read.
    fn see(&mut self, closing: bool) {
        if self.said {
            self.frames.pass(&self.held);
            self.held.clear();
            return;
        }
        if closing && !self.frames.is_lost() {
            let end = self.frames.pass_frame(&self.held);
            if self.frames.is_between() {
                let rest = self.held.split_off(end);
                self.say();
                self.frames.pass(&rest);
            }
        } else {
            self.frames.pass(&self.held);
        }
        self.bytes += self.held.len() as u64;
    }

    /// Puts the Close frame behind what is held, if it can stand there. True: nothing more is passed on.
    fn say(&mut self) -> bool {
        let (between, lost) = (self.frames.is_between(), self.frames.is_lost());
        if between && !self.frames.is_closed() {
            close_frame(self.mask, &mut self.held);
        }
        self.said = between || lost;
        self.said
    }

    /// Whether nothing is to be waited for in this direction any more.
    fn is_over(&self) -> bool {
        self.shut
            || self.said
                && self.at == self.held.len()
                && (self.ended || self.frames.is_closed() || self.frames.is_lost())
    }
}

// === impl Told ===

impl Told<'_> {
    /// Carries what follows a 101; the bytes that went to the client.
    pub(crate) async fn tunnel<L: Link, W: Wire>(
        &self,
        client: &mut Client<'_, L>,
        conn: &mut Conn<W>,
        attempt: &Attempt,
        trail: &mut Trail,
        timer: &mut Timer,
    ) -> u64 {
        let _no_turns = self.request.worker.turns.leave();
        keep_alive(client.stream.socket());
        conn.stream.tcp().into_iter().for_each(keep_alive);
        let tunnel = Tunnel::new(self.request.worker, attempt, client.unused(), &std::mem::take(&mut conn.buf));
        let ended = tunnel.run(client.stream, &mut conn.stream, timer).await;
        trail.reset = ended.endpoint_reset;
        client.bytes_in += ended.up;
        if ended.client_reset {
            // It broke off, and so does this.
            conn.stream.tcp().into_iter().for_each(reset);
        }
        ended.down
    }
}

/// Has a connection end with a reset, once it is closed.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Probes a silent peer after a minute, so that one that has vanished does not hold the tunnel for ever.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let policy = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&policy);
}
