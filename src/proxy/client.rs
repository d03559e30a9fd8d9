//! The client's side of an HTTP/1 connection: its socket, its head, and the way up of its body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::body::{BodyReader, push_chunk, push_last_chunk};
use super::exchange::poll_read;
use super::h1::chunked::{BadChunk, Piece};
use super::h1::request::Framing;
use super::link::{Gone, Link};
use super::refusal::Refusal;
use super::upload::{Downstream, PIECE_BYTES};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

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
    /// `100 Continue` is owed before the body is read; bytes of it that are sent, then none.
    pub(crate) continue_sent: Option<usize>,
    /// Body bytes received.
    pub(crate) bytes_in: u64,
    /// Whether anything read behind the body says that the client is there and has more to ask.
    pub(crate) pipelined: bool,
}

// === impl Client ===

impl<'a, L: Link> Client<'a, L> {
    pub(crate) fn new(stream: &'a mut L, rest: Vec<u8>, framing: Framing, expects_continue: bool) -> Self {
        Self {
            stream,
            rest,
            used: 0,
            body: BodyReader::of_request(framing),
            chunked: framing == Framing::Chunked,
            continue_sent: expects_continue.then_some(0),
            bytes_in: 0,
            pipelined: false,
        }
    }

    /// Decodes what is in the buffer into `out`. True: the body is complete.
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
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
                        push_last_chunk(out);
                        self.chunked = false;
                    }
                    return Ok(true);
                }
            }
        }
        Ok(self.body.is_done() && !self.chunked)
    }

    /// Sends `100 Continue` when the client waits for it; the proxy answers for the endpoint, which is never asked.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while let Some(sent) = self.continue_sent {
            match ready!(Pin::new(&mut *self.stream).poll_write(cx, &CONTINUE[sent..])) {
                Ok(n) if n > 0 => self.continue_sent = Some(sent + n).filter(|&sent| sent < CONTINUE.len()),
                _ => return Poll::Ready(Err(Refusal::ClientGone)),
            }
        }
        Poll::Ready(Ok(()))
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
            self.continue_sent = None;
        }
        self.drain(out)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        ready!(self.poll_continue(cx))?;
        loop {
            let complete = self.drain(out)?;
            if complete || !out.is_empty() {
                return Poll::Ready(Ok(complete));
            }
            self.rest.drain(..self.used);
            self.used = 0;
            match ready!(poll_read(cx, self.stream, &mut self.rest)) {
                Ok(n) if n > 0 => {}
                _ => return Poll::Ready(Err(Refusal::ClientGone)),
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
}
