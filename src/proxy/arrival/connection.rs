//! The life of a client connection: wait for a request holding next to nothing, serve it, wait again.
//!
//! Between two requests a connection is a socket, a timer and this small future; everything that a request needs is
//! taken when its first byte is there and given back after its last, but for what the next one needs if it comes soon.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::futures::Notified;

use super::link::Link;
use super::via::Via;
use crate::model::Head;
use crate::proxy::attempt::exchange::poll_read;
use crate::proxy::clients::h2;
use crate::proxy::clients::serve::{After, send, serve, tell_unread};
use crate::proxy::h1::request::{self, Refused};
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::proxy::worker::visitor::offend;
use crate::throttle::visitors::Offence;

/// What an HTTP/2 client sends first (RFC 9113 §3.4); HTTP/1 parsers know it as a request with an impossible version.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection without a request stays open once draining has begun: a client that was about to send one
/// gets an answer instead of a reset.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_millis(500);

/// How long a connection keeps what it serves requests with (some 3 KB), for the next one: making that anew for each
/// cost 3 % of a request's instructions.
const SOON: Duration = Duration::from_secs(1);

/// Connections of a worker that do so at a time.
const READY_MAX: u32 = 512;

/// How long a connection has waited at least when it gives way to new clients: for its first request, for the rest of a
/// head or a handshake, and for a further request. One whose request is on its way this very moment should not be met
/// by the end, and a crowd that says nothing should not push clients out that are served.
pub(crate) const SILENT_ENOUGH: Duration = Duration::from_secs(1);
pub(crate) const IDLE_ENOUGH: Duration = Duration::from_secs(5);

/// How long and how much is read from a client after the last answer, so that a reset does not destroy the answer
/// before the client has read it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// How a burst of requests ended.
enum Burst {
    /// Nothing of a next request came since then.
    Idle(Instant),
    /// The connection is over.
    Over,
    /// It is over, and the last answer was cut.
    Cut,
    /// The client speaks HTTP/2; what has been read of it.
    Http2(Vec<u8>),
}

/// Serves one client connection until its end.
pub(crate) async fn run<L: Link>(worker: Rc<Worker>, mut stream: L, mut via: Via) {
    via.look(&worker, stream.socket());
    let mut timer = worker.timers.borrow_mut().take();
    let burst = {
        let mut drained = pin!(worker.drain.notified());
        let (mut first, mut since) = (true, Instant::now());
        loop {
            let rest = Rest { first, since, limit: Duration::MAX };
            match rest.wait(&worker, &mut stream, &mut timer, drained.as_mut()).await {
                Waited::Bytes => {}
                Waited::Over | Waited::Long => {
                    if first {
                        offend(&worker, &via, Offence::Nothing);
                    }
                    break Burst::Over;
                }
            }
            // The future of a request is large, so it lives only as long as there are some.
            match Box::pin(requests(&worker, &via, &mut stream, &mut timer, drained.as_mut(), first)).await {
                Burst::Idle(last) => (first, since) = (false, last),
                ended => break ended,
            }
        }
    };
    worker.timers.borrow_mut().put(timer);
    match burst {
        Burst::Http2(read) => Box::pin(h2::run(worker.clone(), stream, read, via)).await,
        Burst::Over => stream.bid_farewell(),
        Burst::Cut | Burst::Idle(_) => {}
    }
}

/// A wait for the first byte of a request.
struct Rest {
    /// Whether the connection had none before.
    first: bool,
    /// When it began.
    since: Instant,
    /// How long it lasts at most.
    limit: Duration,
}

/// What a wait ended with.
enum Waited {
    /// There is something to read.
    Bytes,
    /// The connection should be closed.
    Over,
    /// The limit was reached.
    Long,
}

impl Rest {
    async fn wait<'a, L: Link>(
        &self,
        worker: &'a Worker,
        stream: &mut L,
        timer: &mut Timer,
        mut drained: Pin<&mut Notified<'a>>,
    ) -> Waited {
        let Self { first, since, limit } = *self;
        let limits = worker.snapshot().limits;
        let patience = if first { limits.header_timeout } else { limits.keep_alive };
        let mut deadline = since + patience.min(limit);
        let mut draining = worker.draining().is_some();
        if draining {
            deadline = deadline.min(Instant::now() + DRAIN_IDLE);
        }
        loop {
            let readable = std::future::poll_fn(|cx| {
                if let Poll::Ready(readable) = stream.poll_readable(cx) {
                    return Poll::Ready(Some(readable));
                }
                if !draining && drained.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                Poll::Pending
            });
            match timer.limit(deadline, readable).await {
                Ok(Some(true)) => return Waited::Bytes,
                Ok(Some(false)) => return Waited::Over,
                // New clients need the place, and nobody needs this connection now.
                Ok(None) if worker.draining().is_none() => {
                    drained.set(worker.drain.notified());
                    let enough = if first { SILENT_ENOUGH } else { IDLE_ENOUGH };
                    if since.elapsed() >= enough && worker.gives_way(first) {
                        return Waited::Over;
                    }
                }
                Ok(None) => {
                    draining = true;
                    deadline = deadline.min(Instant::now() + DRAIN_IDLE);
                }
                Err(_) if limit < patience && !draining => return Waited::Long,
                Err(_) => return Waited::Over,
            }
        }
    }
}

/// Serves requests for as long as one follows the other soon.
async fn requests<'a, L: Link>(
    worker: &'a Rc<Worker>,
    via: &Via,
    stream: &mut L,
    timer: &mut Timer,
    mut drained: Pin<&mut Notified<'a>>,
    mut first: bool,
) -> Burst {
    let mut head = worker.take_head();
    head.bytes = worker.buffers.borrow_mut().take();
    let burst = loop {
        match read_head(worker, via, stream, &mut head, timer, drained.as_mut(), first).await {
            Ok(Some(parsed)) => {
                first = false;
                match serve(worker, via, stream, &mut head, parsed, timer).await {
                    After::Next if head.bytes.is_empty() => {
                        let Some(_ready) = Ready::new(worker) else { break Burst::Idle(Instant::now()) };
                        worker.buffers.borrow_mut().put(std::mem::take(&mut head.bytes));
                        let rest = Rest { first, since: Instant::now(), limit: SOON };
                        match rest.wait(worker, stream, timer, drained.as_mut()).await {
                            Waited::Bytes => head.bytes = worker.buffers.borrow_mut().take(),
                            Waited::Long => break Burst::Idle(rest.since),
                            Waited::Over => break Burst::Over,
                        }
                    }
                    After::Next => {}
                    After::Close => break Burst::Over,
                    After::Cut => break Burst::Cut,
                    After::Linger => {
                        linger(stream, timer).await;
                        break Burst::Over;
                    }
                }
            }
            Ok(None) => break Burst::Http2(std::mem::take(&mut head.bytes)),
            Err(()) => break Burst::Over,
        }
    };
    worker.put_head(head);
    burst
}

/// Reads until a head is complete. `Ok(None)`: it is HTTP/2. An error has been answered.
async fn read_head<'a, L: Link>(
    worker: &'a Worker,
    via: &Via,
    stream: &mut L,
    head: &mut Head,
    timer: &mut Timer,
    mut drained: Pin<&mut Notified<'a>>,
    first: bool,
) -> Result<Option<request::Parsed>, ()> {
    // When it had to be waited for.
    let began = Cell::new(None);
    let limits = worker.snapshot().limits;
    let mut scanned = 0;
    let mut fresh = !head.bytes.is_empty();
    let mut lingers = true;
    let refusal = loop {
        if std::mem::take(&mut fresh) {
            let shown = head.bytes.len().min(PREFACE.len());
            if first && head.bytes[..shown] == PREFACE[..shown] && shown > 3 {
                if shown == PREFACE.len() {
                    return Ok(None);
                }
            } else {
                match request::parse(head, &mut scanned, &limits) {
                    Ok(Some(parsed)) => return Ok(Some(parsed)),
                    Ok(None) => {}
                    Err(refused) => break Refusal::Head(refused),
                }
            }
        }
        let read = std::future::poll_fn(|cx| match poll_read(cx, stream, &mut head.bytes) {
            Poll::Pending => {
                let slow = || began.get().is_some_and(|began: Instant| began.elapsed() >= SILENT_ENOUGH);
                poll_crowded_out(cx, worker, drained.as_mut(), slow).map(|()| None)
            }
            read => read.map(Some),
        });
        let deadline = || {
            let since = began.get().unwrap_or_else(Instant::now);
            began.set(Some(since));
            since + limits.header_timeout
        };
        match timer.limit_from(deadline, read).await {
            Ok(Some(Ok(n))) if n > 0 => fresh = true,
            _ if head.bytes.is_empty() => {
                if first {
                    offend(worker, via, Offence::Nothing);
                }
                return Err(());
            }
            Ok(Some(Ok(_))) => break Refusal::Head(Refused::Malformed("the request ends within its head")),
            Ok(Some(Err(_))) => break Refusal::ClientGone,
            Ok(None) => {
                lingers = false;
                break Refusal::HeadTimeout;
            }
            Err(_) => break Refusal::HeadTimeout,
        }
    };
    tell_unread(worker, &worker.snapshot(), via, &refusal, began.get().unwrap_or_else(Instant::now));
    match refusal {
        Refusal::HeadTimeout
        | Refusal::Head(Refused::Malformed(_) | Refused::HeadTooLarge | Refused::TargetTooLong | Refused::Version) => {
            offend(worker, via, Offence::Garbage)
        }
        // A request that weir does not serve, such as CONNECT, or a client that left.
        _ => {}
    }
    if refusal != Refusal::ClientGone && send(stream, &refusal, None, false, timer).await && lingers {
        linger(stream, timer).await;
    }
    Err(())
}

/// Ready when new clients need the place of a connection that has been `slow` for long enough to give way.
fn poll_crowded_out<'a>(
    cx: &mut Context<'_>,
    worker: &'a Worker,
    mut asked: Pin<&mut Notified<'a>>,
    slow: impl Fn() -> bool,
) -> Poll<()> {
    while asked.as_mut().poll(cx).is_ready() {
        asked.set(worker.drain.notified());
        if worker.draining().is_none() && slow() && worker.gives_way(true) {
            return Poll::Ready(());
        }
    }
    Poll::Pending
}

/// Waits for something that a client should do soon after `since`; none when it did not, and gives way to others.
pub(crate) async fn unless_it_gives_way<F: Future>(worker: &Worker, since: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut asked) = (pin!(future), pin!(worker.drain.notified()));
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            let slow = || since.elapsed() >= SILENT_ENOUGH;
            poll_crowded_out(cx, worker, asked.as_mut(), slow).map(|()| None)
        }
    })
    .await
}

/// Says that nothing more comes, and reads what the client is still sending for a while.
pub(crate) async fn linger<L: Link>(stream: &mut L, timer: &mut Timer) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut waste = Vec::with_capacity(4096);
    let mut total = 0;
    while total < LINGER_BYTES_MAX {
        waste.clear();
        let read = std::future::poll_fn(|cx| poll_read(cx, stream, &mut waste));
        match timer.limit(deadline, read).await {
            Ok(Ok(n)) if n > 0 => total += n,
            _ => return,
        }
    }
}

/// One of the few that keep what they serve requests with, until it is dropped.
struct Ready<'a>(&'a Worker);

impl<'a> Ready<'a> {
    fn new(worker: &'a Worker) -> Option<Self> {
        let count = worker.ready.get();
        (count < READY_MAX).then(|| {
            worker.ready.set(count + 1);
            Self(worker)
        })
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.0.ready.set(self.0.ready.get() - 1);
    }
}

/// Counts a connection as open until it is dropped.
pub(crate) struct Open(Rc<Worker>);

impl Open {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        worker.shard().open.add(1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shard().open.sub(1);
        self.0.closed.notify_one();
    }
}
