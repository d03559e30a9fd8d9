//! What a further try needs: the request's body so far, as long as it is short, and when a try is given up for another.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::proxy::bodies::upload::Downstream;
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::response::Response;
use crate::proxy::mirror::Aside;
use crate::proxy::refusal::Refusal;

/// Most that is kept of a body for another try, framed as it is sent (Linkerd's 64 KiB).
pub(crate) const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// The client's side of all tries of a request.
pub(crate) struct Replay<'a, D> {
    pub(crate) down: &'a mut D,
    /// The body so far, framed for the endpoint.
    pub(crate) body: Vec<u8>,
    /// Whether that is all of it.
    pub(crate) complete: bool,
    /// Whether `body` is everything that was taken from the client.
    at_hand: bool,
    /// Whether what comes is not kept: it is known to be too long, or of no use.
    long: bool,
    /// Whether its length is known.
    known: bool,
}

/// How long a try may keep the client waiting once it is sent, if it can be made elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    /// From the last byte sent to the head of the answer.
    pub(crate) after: Duration,
    /// Whether another try may be made instead; it is paid for when it may. Asked once.
    pub(crate) secure: &'a dyn Fn() -> bool,
}

// === impl Replay ===

impl<'a, D: Downstream> Replay<'a, D> {
    /// A request of which `body` has arrived. `keep`: what comes after that is kept too, for another try.
    pub(crate) fn new(down: &'a mut D, framing: Framing, body: Vec<u8>, complete: bool, keep: bool) -> Self {
        let long = !keep || matches!(framing, Framing::Length(length) if length > REPLAY_BYTES_MAX as u64);
        Self { down, body, complete, at_hand: true, long, known: framing != Framing::Chunked }
    }

    /// Whether the request can be sent once more.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.at_hand
    }

    /// Whether that will be so to its end.
    pub(crate) fn stays_at_hand(&self) -> bool {
        self.is_whole() || self.at_hand && self.known && !self.long
    }

    /// Whether it has come whole, and can be sent once more.
    pub(crate) fn is_whole(&self) -> bool {
        self.at_hand && self.complete
    }
}

impl<D: Downstream> Downstream for Replay<'_, D> {
    fn buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        self.down.buffered(out)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        let before = out.len();
        let complete = ready!(self.down.poll_body(cx, out))?;
        let piece = &out[before..];
        if self.at_hand && !self.long && self.body.len() + piece.len() <= REPLAY_BYTES_MAX {
            self.body.extend_from_slice(piece);
            self.complete = complete;
        } else {
            self.at_hand = false;
            self.body = Vec::new();
        }
        Poll::Ready(Ok(complete))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.down.poll_gone(cx)
    }

    fn awaits_continue(&self) -> bool {
        self.down.awaits_continue()
    }

    fn patience(&self) -> Option<Duration> {
        self.down.patience()
    }

    fn interim(&mut self, cx: &mut Context<'_>, interim: &Response, bytes: &[u8]) {
        self.down.interim(cx, interim, bytes);
    }

    fn set_aside(&mut self, aside: Box<Aside>) {
        self.down.set_aside(aside);
    }
}
