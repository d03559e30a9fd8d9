//! The life of a client connection: wait for a request holding next to nothing, serve it, wait again.
//!
//! Between two requests a connection is a socket, a timer and this small future; everything that a request needs is
//! taken when its first byte is there and given back after its last.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::exchange::poll_read;
use super::h1::request::{self, Refused};
use super::h2;
use super::link::Link;
use super::refusal::Refusal;
use super::serve::{After, send, serve, tell_unread};
use super::timer::Timer;
use super::via::Via;
use super::worker::Worker;
use crate::model::Head;

/// What an HTTP/2 client sends first (RFC 9113 §3.4); HTTP/1 parsers know it as a request with an impossible version.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection without a request stays open once draining has begun: a client that was about to send one
/// gets an answer instead of a reset.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_millis(500);

/// How long a connection has waited at least when it gives way to new clients: for its first request, and for a further
/// one. One whose request is on its way this very moment should not be met by the end, and a crowd that says nothing
/// should not push clients out that are served.
const SILENT_ENOUGH: Duration = Duration::from_secs(1);
const IDLE_ENOUGH: Duration = Duration::from_secs(5);

/// How long and how much is read from a client after the last answer, so that a reset does not destroy the answer
/// before the client has read it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// How a burst of requests ended.
enum Burst {
    /// Nothing of a next request is there yet.
    Idle,
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
    let mut first = true;
    let burst = {
        let mut drained = pin!(worker.drain.notified());
        loop {
            if !wait(&worker, &mut stream, &mut timer, first, drained.as_mut()).await {
                break Burst::Over;
            }
            // The future of a request is large, so it lives only as long as there is one.
            match Box::pin(requests(&worker, &via, &mut stream, &mut timer, first)).await {
                Burst::Idle => first = false,
                ended => break ended,
            }
        }
    };
    worker.timers.borrow_mut().put(timer);
    match burst {
        Burst::Http2(read) => Box::pin(h2::run(worker.clone(), stream, read, via)).await,
        Burst::Over => stream.bid_farewell(),
        Burst::Cut | Burst::Idle => {}
    }
}

/// Waits for the first byte of a request; false when the connection should be closed.
async fn wait<'a, L: Link>(
    worker: &'a Worker,
    stream: &mut L,
    timer: &mut Timer,
    first: bool,
    mut drained: Pin<&mut tokio::sync::futures::Notified<'a>>,
) -> bool {
    let limits = worker.snapshot().limits;
    let began = Instant::now();
    let mut deadline = began + if first { limits.header_timeout } else { limits.keep_alive };
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
            Ok(Some(readable)) => return readable,
            // New clients need the place, and nobody needs this connection now.
            Ok(None) if worker.draining().is_none() => {
                drained.set(worker.drain.notified());
                if began.elapsed() >= (if first { SILENT_ENOUGH } else { IDLE_ENOUGH }) && worker.gives_way(first) {
                    return false;
                }
            }
            Ok(None) => {
                draining = true;
                deadline = deadline.min(Instant::now() + DRAIN_IDLE);
            }
            Err(_) => return false,
        }
    }
}

/// Serves requests for as long as more of them is at hand.
async fn requests<L: Link>(
    worker: &Rc<Worker>,
    via: &Via,
    stream: &mut L,
    timer: &mut Timer,
    mut first: bool,
) -> Burst {
    let mut head = worker.take_head();
    head.bytes = worker.buffers.borrow_mut().take();
    let burst = loop {
        match read_head(worker, via, stream, &mut head, timer, first).await {
            Ok(Some(parsed)) => {
                first = false;
                match serve(worker, via, stream, &mut head, parsed, timer).await {
                    After::Next if head.bytes.is_empty() => break Burst::Idle,
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
async fn read_head<L: Link>(
    worker: &Worker,
    via: &Via,
    stream: &mut L,
    head: &mut Head,
    timer: &mut Timer,
    first: bool,
) -> Result<Option<request::Parsed>, ()> {
    let began = Instant::now();
    let limits = worker.snapshot().limits;
    let mut scanned = 0;
    let mut fresh = !head.bytes.is_empty();
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
        let read = std::future::poll_fn(|cx| poll_read(cx, stream, &mut head.bytes));
        match timer.limit(began + limits.header_timeout, read).await {
            Ok(Ok(n)) if n > 0 => fresh = true,
            Ok(_) if head.bytes.is_empty() => return Err(()),
            Ok(Ok(_)) => break Refusal::Head(Refused::Malformed("the request ends within its head")),
            Ok(Err(_)) => break Refusal::ClientGone,
            Err(_) if head.bytes.is_empty() => return Err(()),
            Err(_) => break Refusal::HeadTimeout,
        }
    };
    tell_unread(worker, &worker.snapshot(), via, &refusal, began);
    if refusal != Refusal::ClientGone && send(stream, &refusal, None, false, timer).await {
        linger(stream, timer).await;
    }
    Err(())
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
