//! How a connection ends: by an error, by a word of either side, or because nobody wants it any more; and the PINGs
//! that go with that.

use std::io;
use std::task::{Context, Poll};

use super::core::{Core, Farewell, Question};
use super::error::{By, Error, Reason};
use super::frame::{self, ACK};
use super::streams::keep;

/// Payloads of PINGs: one asks whether the peer is there, and one waits for what is under way (RFC 9113 §6.8).
const ASK: [u8; 8] = *b"weir-ask";
const LAST: [u8; 8] = *b"weir-end";

/// The last stream of a GOAWAY that is only a warning (§6.8).
const ANY_STREAM: u32 = 0x7fff_ffff;

// === impl Core ===

impl Core {
    /// All streams end.
    fn cut_all(&mut self, error: Error) {
        for key in self.streams.keys() {
            self.cut(key, error);
        }
        for key in std::mem::take(&mut self.accept) {
            self.streams[key].pending = false;
            self.let_go(key);
        }
        self.wake_openers();
        if let Some(asker) = self.asker.take() {
            asker.wake();
        }
    }

    /// An error of the connection (§5.4.1). `why`: for people who read along, and for the watch below.
    pub(super) fn fail(&mut self, reason: Reason, why: &'static str) {
        if self.ended.is_none() {
            self.breach = Some((reason, why));
            frame::push_goaway(&mut self.out.buf, self.last_taken, reason, why);
            self.end(Err(Error::GoAway(reason, By::Us)));
        }
    }

    /// The connection is over. What waits may still be written.
    pub(super) fn end(&mut self, how: Result<(), Error>) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(how);
        self.cut_all(how.err().unwrap_or(Error::Io(io::ErrorKind::BrokenPipe)));
        self.wake_driver();
    }

    /// Whether it ends with its streams.
    pub(super) fn is_leaving(&self) -> bool {
        self.goaway.is_some() || matches!(self.farewell, Farewell::Last(_))
    }

    /// Whether there are requests to be taken; else what may go by now is framed.
    #[inline]
    pub(super) fn has_requests(&mut self) -> bool {
        let has = self.ended.is_none() && !self.accept.is_empty();
        if !has {
            self.go_on();
        }
        has
    }

    /// Ends a connection that has nothing left to do. `wanted`: whether streams may still begin here.
    pub(super) fn end_if_done(&mut self, wanted: bool) {
        let done = self.is_leaving() || (self.is_client && !wanted);
        if !done || self.streams.linked() > 0 || !self.accept.is_empty() || self.ended.is_some() {
            return;
        }
        if !matches!(self.farewell, Farewell::Last(_)) {
            frame::push_goaway(&mut self.out.buf, self.last_taken, Reason::NO_ERROR, "");
        }
        self.end(match self.goaway {
            Some((_, reason)) if reason != Reason::NO_ERROR => Err(Error::GoAway(reason, By::Peer)),
            _ => Ok(()),
        });
    }

    /// The first of two steps to the end.
    pub(super) fn warn(&mut self) {
        if self.farewell == Farewell::None && self.ended.is_none() {
            self.farewell = Farewell::Warned;
            frame::push_goaway(&mut self.out.buf, ANY_STREAM, Reason::NO_ERROR, "");
            frame::push_ping(&mut self.out.buf, 0, LAST);
            self.wake_driver();
        }
    }

    /// Ends it now.
    pub(super) fn leave(&mut self, reason: Reason) {
        if self.ended.is_none() {
            frame::push_goaway(&mut self.out.buf, self.last_taken, reason, "");
            self.ended = Some(Ok(()));
            self.cut_all(Error::GoAway(reason, By::Us));
            self.wake_driver();
        }
    }

    /// A PING came (§6.7).
    pub(super) fn recv_ping(&mut self, flags: u8, payload: [u8; 8]) {
        if flags & ACK == 0 {
            frame::push_ping(&mut self.out.buf, ACK, payload);
        } else if payload == LAST && self.farewell == Farewell::Warned {
            self.farewell = Farewell::Last(self.last_taken);
            frame::push_goaway(&mut self.out.buf, self.last_taken, Reason::NO_ERROR, "");
        } else if payload == ASK && self.question == Question::Asked {
            self.question = Question::Answered;
            if let Some(asker) = self.asker.take() {
                asker.wake();
            }
        }
    }

    /// Asks whether the peer is there; false when it is asked already, or gone.
    pub(super) fn ask(&mut self) -> bool {
        let asks = self.question == Question::None && self.ended.is_none();
        if asks {
            self.question = Question::Asked;
            frame::push_ping(&mut self.out.buf, 0, ASK);
            self.wake_driver();
        }
        asks
    }

    /// Ready when it has answered.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.question == Question::Answered {
            self.question = Question::None;
            return Poll::Ready(Ok(()));
        }
        if let Some(ended) = self.ended {
            return Poll::Ready(Err(ended.err().unwrap_or(Error::Io(io::ErrorKind::BrokenPipe))));
        }
        keep(&mut self.asker, cx.waker());
        Poll::Pending
    }
}
