//! A connection of HTTP/2 as [`http2`](crate::proxy::http2) sees it, with a look at the frames that pass both ways.
//!
//! A client that overdoes it, or breaks a rule, is told so from there (GOAWAY), and nothing more is read from it but to
//! let that arrive. An endpoint is told by a frame written here, and is left.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::glitches::Glitches;
use super::rules::broken;
use super::scanner::{Frame, GOAWAY, Scanner};
use crate::proxy::arrival::connection::PREFACE;
use crate::proxy::http2::error::Reason;
use crate::proxy::worker::timer::Timer;
use crate::telemetry::flood::{Flood, Side};

/// How long and how much is read from a client after an error was said, so that a reset does not destroy what was said
/// before it is read (RFC 9112 §9.6, which is as true here).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// What is read at once from a client that has used up much of its account, before others have their turn: a flood of
/// PINGs is 60 of them, some 100 µs of work.
const WARY_BYTES: usize = 1024;

/// What is known of a connection, shared with whoever drives it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Why it is to end.
    flood: Cell<Option<Flood>>,
    /// The error for it, if that is another one than ENHANCE_YOUR_CALM.
    reason: Cell<Option<Reason>>,
    /// Whether that has been said.
    said: Cell<bool>,
    /// Whether the peer has yet to take what was last written.
    stuck: Cell<bool>,
    /// Since when a header block is incomplete.
    block_since: Cell<Option<Instant>>,
    /// When it is dropped, whatever the peer has read.
    dropped_at: Cell<Option<Instant>>,
    /// Bytes that the peer's heads unpacked to in excess, and that are not booked. Put here by who unpacks them.
    pub(crate) excess: Rc<Cell<usize>>,
}

/// What is to be done about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is to be told that this is the end, and why.
    Tell(Reason),
    /// It has been told for long enough.
    Over,
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    side: Side,
    /// What had been read before; from `at` on it has not been handed on.
    read: Vec<u8>,
    at: usize,
    incoming: Scanner,
    outgoing: Scanner,
    glitches: Glitches,
    watch: Rc<Watch>,
    /// Whether others have had their turn since the last read.
    rested: bool,
    /// Whether the peer's first frame has been seen.
    greeted: bool,
    /// Bytes read since the end was said.
    lingered: usize,
}

// === impl Watch ===

impl Watch {
    /// Why the connection was ended, if it was for what the peer did.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Ready when something is to be done. `patience`: for a header block.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, timer: &mut Timer, patience: Duration) -> Poll<Verdict> {
        if self.flood.get().is_none() {
            let Some(since) = self.block_since.get() else { return Poll::Pending };
            ready!(timer.poll_elapsed(cx, since + patience));
            self.flood.set(Some(Flood::SlowHead));
        }
        if let Some(dropped_at) = self.dropped_at.get() {
            return timer.poll_elapsed(cx, dropped_at).map(|()| Verdict::Over);
        }
        let dropped_at = Instant::now() + LINGER;
        self.dropped_at.set(Some(dropped_at));
        match self.said.get() {
            false => Poll::Ready(Verdict::Tell(self.reason())),
            true => timer.poll_elapsed(cx, dropped_at).map(|()| Verdict::Over),
        }
    }

    /// `http2` has ended the connection for this, and says so if it can be said.
    pub(crate) fn note(&self, (reason, why): (Reason, &str)) {
        if let Some(flood) = flood_of(reason, why.as_bytes()) {
            self.accuse(flood);
        }
    }

    /// Whether the peer has yet to take what was last written.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.get()
    }

    fn reason(&self) -> Reason {
        self.reason.get().unwrap_or(Reason::ENHANCE_YOUR_CALM)
    }

    fn accuse(&self, flood: Flood) {
        if self.flood.get().is_none() {
            self.flood.set(Some(flood));
        }
    }
}

// === impl Watched ===

impl<S> Watched<S> {
    /// The connection of a client, of which `read` has been read: the preface, or nothing.
    pub(crate) fn client(stream: S, read: Vec<u8>, glitches_max: u32) -> (Self, Rc<Watch>) {
        Self::new(stream, Side::Client, read, glitches_max)
    }

    /// The connection to an endpoint.
    pub(crate) fn endpoint(stream: S, glitches_max: u32) -> (Self, Rc<Watch>) {
        Self::new(stream, Side::Endpoint, Vec::new(), glitches_max)
    }

    fn new(stream: S, side: Side, read: Vec<u8>, glitches_max: u32) -> (Self, Rc<Watch>) {
        let watch = Rc::new(Watch::default());
        // Who opens the connection sends the preface first.
        let (incoming, outgoing) = match side {
            Side::Client => (PREFACE.len(), 0),
            Side::Endpoint => (0, PREFACE.len()),
        };
        let watched = Self {
            stream,
            side,
            read,
            at: 0,
            incoming: Scanner::after(incoming),
            outgoing: Scanner::after(outgoing),
            glitches: Glitches::new(if glitches_max == 0 { u32::MAX } else { glitches_max }, Instant::now()),
            watch: Rc::clone(&watch),
            rested: false,
            greeted: false,
            lingered: 0,
        };
        (watched, watch)
    }

    /// Looks at what came.
    #[inline]
    fn received(&mut self, bytes: &[u8]) {
        let (glitches, watch, greeted) = (&mut self.glitches, &self.watch, &mut self.greeted);
        self.incoming.scan(bytes, |frame| {
            if let Some(reason) = broken(&frame, !std::mem::replace(greeted, true)) {
                if watch.flood.get().is_none() {
                    watch.reason.set(Some(reason));
                }
                watch.accuse(Flood::Protocol);
            }
            if let Some(flood) = glitches.received(&frame, Instant::now) {
                watch.accuse(flood);
            }
        });
        match (self.incoming.is_in_block(), self.watch.block_since.get()) {
            (false, None) | (true, Some(_)) => {}
            (true, None) => self.watch.block_since.set(Some(Instant::now())),
            (false, Some(_)) => self.watch.block_since.set(None),
        }
    }

    /// Looks at what went out.
    #[inline]
    fn sent(&mut self, bytes: &[u8]) {
        let (glitches, watch) = (&mut self.glitches, &self.watch);
        self.outgoing.scan(bytes, |frame| {
            if let Some(flood) = glitches.sent(&frame, Instant::now) {
                watch.accuse(flood);
            }
            if let Some(flood) = accusation(&frame) {
                watch.said.set(true);
                watch.accuse(flood);
            }
        });
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// An endpoint hears that this is the end, if that can be said at once, and who drives it that it is over.
    fn leave(&mut self, cx: &mut Context<'_>) -> io::Error {
        if self.outgoing.is_between_frames() && !self.watch.said.replace(true) {
            let code = self.watch.reason().0.to_be_bytes();
            // No stream of its own was processed.
            let mut goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            goaway[13..].copy_from_slice(&code);
            let _ = Pin::new(&mut self.stream).poll_write(cx, &goaway);
        }
        io::Error::other("the endpoint abuses its connection")
    }

    /// Reads little, after others have had their turn.
    #[cold]
    fn poll_warily(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.rested, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut little = [0; WARY_BYTES];
        let mut part = ReadBuf::new(&mut little[..buf.remaining().min(WARY_BYTES)]);
        ready!(self.poll_more(cx, &mut part))?;
        buf.put_slice(part.filled());
        self.rested = false;
        Poll::Ready(Ok(()))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at < self.read.len() {
            let n = buf.remaining().min(self.read.len() - self.at);
            buf.put_slice(&self.read[self.at..self.at + n]);
            self.at += n;
            if self.at == self.read.len() {
                (self.read, self.at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.watch.flood.get().is_none() {
            let excess = this.watch.excess.take();
            if excess > 0 && this.glitches.unpacked(excess, Instant::now) {
                this.watch.accuse(Flood::HeadSize);
                return Poll::Pending;
            }
            match this.glitches.is_wary(Instant::now) {
                false => ready!(this.poll_more(cx, buf))?,
                true => ready!(this.poll_warily(cx, buf))?,
            }
            this.received(&buf.filled()[before..]);
        }
        match (this.watch.flood.get(), this.side) {
            (None, _) => Poll::Ready(Ok(())),
            // Who drives the connection looks at the watch right after.
            (Some(_), Side::Client) => {
                buf.set_filled(before);
                Poll::Pending
            }
            (Some(_), Side::Endpoint) => {
                buf.set_filled(before);
                Poll::Ready(Err(this.leave(cx)))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch.stuck.set(written.is_pending());
        let n = ready!(written)?;
        self.sent(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch.stuck.set(written.is_pending());
        let n = ready!(written)?;
        let mut left = n;
        for piece in pieces {
            let taken = left.min(piece.len());
            self.sent(&piece[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch.stuck.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if this.side == Side::Endpoint || !this.watch.said.get() {
            return Poll::Ready(Ok(()));
        }
        // Who drives the connection ends this in time.
        let mut waste = [0; 4096];
        while this.lingered < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => this.lingered += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a GOAWAY of weir's own says that the peer did.
fn accusation(frame: &Frame<'_>) -> Option<Flood> {
    if frame.kind != GOAWAY {
        return None;
    }
    let (code, why) = frame.begins.get(4..)?.split_first_chunk::<4>()?;
    flood_of(Reason(u32::from_be_bytes(*code)), why)
}

/// What the peer did, when `http2` ends a connection for this reason, in its words. INTERNAL_ERROR accuses nobody.
fn flood_of(reason: Reason, why: &[u8]) -> Option<Flood> {
    match reason {
        Reason::NO_ERROR | Reason::INTERNAL_ERROR => None,
        Reason::ENHANCE_YOUR_CALM => Some(match why {
            b"too_many_resets" => Flood::Reset,
            b"too_many_internal_resets" => Flood::Error,
            b"too_many_data_frames" => Flood::Data,
            b"too_many_continuations" => Flood::Continuation,
            _ => Flood::HeadSize,
        }),
        _ => Some(Flood::Protocol),
    }
}
