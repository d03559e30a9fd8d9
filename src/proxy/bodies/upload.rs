//! The way up: the request head and body on their way to an endpoint, whatever protocol the client speaks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::proxy::attempt::wire::Wire;
use crate::proxy::h1::response::Response;
use crate::proxy::mirror::Aside;
use crate::proxy::refusal::Refusal;

/// Body bytes that are written to an endpoint at once.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// The client's side of one exchange.
pub(crate) trait Downstream {
    /// Appends what has already arrived of the body, framed for the endpoint, without waiting. True: it is complete.
    fn buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal>;

    /// Appends more of the body, framed for the endpoint. Ready(true): it is complete.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>>;

    /// Ready when the client has gone, asked only when its body is complete.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the client waits for a `100 Continue` before it sends its body.
    fn awaits_continue(&self) -> bool;

    /// How long the client may take for its next byte while nothing but that is waited for; none: that is not bounded.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Sends the client an interim answer (1xx but 101), as far as it knows any and takes it.
    fn interim(&mut self, cx: &mut Context<'_>, interim: &Response, bytes: &[u8]);

    /// From here on the body is copied as well. To be called before any of it is taken.
    fn set_aside(&mut self, aside: Box<Aside>);
}

/// Nobody: behind a copy, and behind a hedge, whose client is asked by the first attempt. The request is whole, and
/// nobody hears of what comes before its answer.
pub(crate) struct Nobody;

/// One request on its way to one endpoint.
#[derive(Debug)]
pub(crate) struct Upload {
    out: Vec<u8>,
    sent: usize,
    /// The last body byte is in `out`.
    complete: bool,
    /// The endpoint takes no more; an answer may still come.
    broken: bool,
    /// Whether all that `out` held at first was sent, and more.
    streamed: bool,
    /// Bytes written so far.
    moved: u64,
    /// Whether all was sent and the buffer given back.
    released: bool,
}

// === impl Upload ===

impl Upload {
    /// An upload of `out`: the head, and the body so far.
    pub(crate) fn new(out: Vec<u8>, complete: bool) -> Self {
        Self { out, sent: 0, complete, broken: false, streamed: false, moved: 0, released: false }
    }

    /// Whether the endpoint has been handed everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.complete && !self.broken && self.sent == self.out.len()
    }

    /// Whether nothing more is to come from the client.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether it waits for the endpoint to take bytes, and not for the client to send them.
    pub(crate) fn waits_for_endpoint(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Whether not a single byte went out.
    pub(crate) fn is_unsent(&self) -> bool {
        self.sent == 0 && !self.streamed && !self.released
    }

    /// A measure that grows with every byte that moves.
    pub(crate) fn mark(&self) -> u64 {
        self.moved
    }

    /// Whether it waits for nothing but the client's next byte.
    pub(crate) fn waits_for_client(&self) -> bool {
        !self.complete && !self.waits_for_endpoint()
    }

    /// Sends what there is and what comes. Ready: all is sent, or the endpoint takes no more.
    pub(crate) fn poll<W: Wire, D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
        down: &mut D,
    ) -> Poll<Result<(), Refusal>> {
        loop {
            while !self.broken && self.sent < self.out.len() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, &self.out[self.sent..])) {
                    Ok(n) if n > 0 => {
                        self.sent += n;
                        self.moved += n as u64;
                    }
                    _ => self.broken = true,
                }
            }
            if !W::IS_TCP && !self.broken && stream.is_laden() {
                self.broken = ready!(Pin::new(&mut *stream).poll_flush(cx)).is_err();
            }
            if self.complete || self.broken {
                return Poll::Ready(Ok(()));
            }
            self.out.clear();
            (self.sent, self.streamed) = (0, true);
            self.complete = ready!(down.poll_body(cx, &mut self.out))?;
        }
    }

    /// The buffer, once all is sent: an endpoint that takes its time to answer holds none.
    pub(crate) fn release(&mut self) -> Option<Vec<u8>> {
        if self.released || !self.is_whole() {
            return None;
        }
        self.released = true;
        self.sent = 0;
        Some(std::mem::take(&mut self.out))
    }

    /// Gives the buffer back.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.out
    }
}

// === impl Nobody ===

impl Downstream for Nobody {
    fn buffered(&mut self, _: &mut Vec<u8>) -> Result<bool, Refusal> {
        Ok(true)
    }

    fn poll_body(&mut self, _: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        Poll::Ready(Ok(true))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn awaits_continue(&self) -> bool {
        false
    }

    fn interim(&mut self, _: &mut Context<'_>, _: &Response, _: &[u8]) {}

    fn set_aside(&mut self, _: Box<Aside>) {}
}
