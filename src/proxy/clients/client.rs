//! The client's side of an HTTP/1 connection: its socket, its head, and the way up of its body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::interim::push_interim;
use crate::model::Timeouts;
use crate::proxy::arrival::link::{Gone, Link};
use crate::proxy::attempt::exchange::poll_read;
use crate::proxy::bodies::body::{BodyReader, push_chunk, push_last_chunk};
use crate::proxy::bodies::pace::Pace;
use crate::proxy::bodies::upload::{Downstream, PIECE_BYTES};
use crate::proxy::h1::chunked::{BadChunk, Piece};
use crate::proxy::h1::request::{Framing, Parsed};
use crate::proxy::h1::response::Response;
use crate::proxy::mirror::Aside;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::timer::Timer;

/// How long a client may take for interim answers that stand before a refusal: as long as for the refusal itself.
const SETTLE: Duration = Duration::from_secs(1);

/// One request of an HTTP/1 client, while it is served.
pub(crate) struct Client<'a, L> {
    pub(crate) stream: &'a mut L,
    /// What has been read behind the head.
    pub(crate) rest: Vec<u8>,
    /// First byte of `rest` that has not been used.
    used: usize,
    /// The body.
    pub(crate) body: BodyReader,
    /// Whether the body goes up in chunks.
    pub(crate) chunked: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    waits: bool,
    /// HTTP/1.0, which knows no interim answers.
    http10: bool,
    /// Interim answers that it has not taken yet.
    owed: Vec<u8>,
    /// Body bytes received.
    pub(crate) bytes_in: u64,
    /// Whether anything read behind the body says that the client is there and has more to ask.
    pub(crate) pipelined: bool,
    /// What stands beside a request that is copied.
    pub(crate) aside: Option<Box<Aside>>,
    /// Whether the body comes fast enough, where it has to.
    pace: Option<Pace>,
}

// === impl Client ===

impl<'a, L: Link> Client<'a, L> {
    pub(crate) fn new(stream: &'a mut L, rest: Vec<u8>, parsed: &Parsed) -> Self {
        Self {
            stream,
            rest,
            used: 0,
            body: BodyReader::of_request(parsed.framing),
            chunked: parsed.framing == Framing::Chunked,
            waits: parsed.expects_continue,
            http10: parsed.http10,
            owed: Vec::new(),
            bytes_in: 0,
            pipelined: false,
            aside: None,
            pace: None,
        }
    }

    /// From here on the rest of the body, if there is any, has to come as fast as these say.
    #[inline]
    pub(crate) fn keep_pace(&mut self, timeouts: &Timeouts) {
        if !self.is_read() {
            self.pace = Pace::of(timeouts);
        }
    }

    /// Takes what is in the buffer into `out`, and where it is copied, into the copy. True: the body is complete.
    #[inline]
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        let before = out.len();
        let complete = self.decode(out)?;
        if let Some(aside) = &mut self.aside {
            aside.tee(&out[before..], complete);
        }
        Ok(complete)
    }

    /// Decodes what is in the buffer into `out`. True: the body is complete.
    fn decode(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        while out.len() < PIECE_BYTES {
            let input = &self.rest[self.used..];
            let (n, piece) = self.body.next(input).map_err(|BadChunk(why)| Refusal::Body(why))?;
            if let Piece::Data(range) = &piece {
                self.bytes_in += range.len() as u64;
                match self.chunked {
                    true => push_chunk(out, &input[range.clone()]),
                    false => out.extend_from_slice(&input[range.clone()]),
                }
            }
            self.used += n;
            match piece {
                Piece::Data(_) => {}
                Piece::More => break,
                Piece::End => {
                    if self.chunked {
                        push_last_chunk(out, &self.body.take_trailers());
                        self.chunked = false;
                    }
                    return Ok(true);
                }
            }
        }
        Ok(self.body.is_done() && !self.chunked)
    }

    /// Writes the interim answers that are owed, as far as the client takes them.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while !self.owed.is_empty() {
            match ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.owed)) {
                Ok(n) if n > 0 => drop(self.owed.drain(..n)),
                _ => return Poll::Ready(Err(Refusal::ClientGone)),
            }
        }
        if !L::IS_PLAIN && self.stream.is_laden() {
            let flushed = ready!(Pin::new(&mut *self.stream).poll_flush(cx));
            return Poll::Ready(flushed.map_err(|_| Refusal::ClientGone));
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is owed; false when the client does not take it.
    pub(crate) async fn settle(&mut self, timer: &mut Timer) -> bool {
        let deadline = Instant::now() + SETTLE;
        self.owed.is_empty()
            || matches!(timer.limit(deadline, std::future::poll_fn(|cx| self.poll_owed(cx))).await, Ok(Ok(())))
    }

    /// `out`, begun with what is owed still: it goes before the head of the final answer.
    pub(crate) fn behind_owed(&mut self, mut out: Vec<u8>) -> Vec<u8> {
        out.append(&mut self.owed);
        out
    }

    /// What has been read and belongs to the next request, once this one is read.
    pub(crate) fn unused(&self) -> &[u8] {
        &self.rest[self.used..]
    }

    /// Whether the whole request has been read.
    pub(crate) fn is_read(&self) -> bool {
        self.body.is_done() && !self.chunked
    }
}

impl<L: Link> Downstream for Client<'_, L> {
    fn buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        if !self.unused().is_empty() && !self.body.is_done() {
            // The body is on its way already: nobody waits for a 100.
            self.waits = false;
        }
        self.drain(out)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        if let Poll::Ready(Err(gone)) = self.poll_owed(cx) {
            return Poll::Ready(Err(gone));
        }
        loop {
            let complete = self.drain(out)?;
            if complete || !out.is_empty() {
                return Poll::Ready(Ok(complete));
            }
            self.rest.drain(..self.used);
            self.used = 0;
            let read = poll_read(cx, self.stream, &mut self.rest);
            if let Some(pace) = &mut self.pace {
                match &read {
                    Poll::Ready(Ok(n)) => pace.came(*n),
                    _ => pace.wait(),
                }
            }
            match ready!(read) {
                Ok(n) if n > 0 => self.waits = false,
                _ => return Poll::Ready(Err(Refusal::ClientGone)),
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_owed(cx) {
            return Poll::Ready(());
        }
        if self.pipelined {
            return Poll::Pending;
        }
        match ready!(self.stream.poll_gone(cx)) {
            Gone::Sent => {
                // The next request is waiting; from here on only writing can tell whether the client is there.
                self.pipelined = true;
                Poll::Pending
            }
            Gone::Yes => Poll::Ready(()),
        }
    }

    fn awaits_continue(&self) -> bool {
        self.waits
    }

    fn patience(&self) -> Option<Duration> {
        self.pace.as_ref().map(Pace::patience)
    }

    fn interim(&mut self, cx: &mut Context<'_>, interim: &Response, bytes: &[u8]) {
        // A client that does not take one is sent no other but the one that it waits for, so that little is kept.
        let awaited = interim.status == 100 && std::mem::take(&mut self.waits);
        if self.http10 || !(self.owed.is_empty() || awaited) {
            return;
        }
        push_interim(interim, bytes, &mut self.owed);
        // A client that has gone shows when its body or its leaving is asked for.
        let _ = self.poll_owed(cx);
    }

    fn set_aside(&mut self, aside: Box<Aside>) {
        self.aside = Some(aside);
    }
}
