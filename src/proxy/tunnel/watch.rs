//! Whether an answer on its way down has to end because the weight of its pool went to 0. One of known length never: it
//! ends by itself.

use std::task::{Context, Poll};

use super::streams::Stay;
use crate::model::StreamKind;
use crate::proxy::attempt::forward::Attempt;
use crate::proxy::h1::response::{Response, ResponseFraming};

/// An answer's place among the streams, taken when it has to be waited for.
pub(crate) enum Watch {
    /// It needs none.
    Off,
    /// It takes one as soon as it waits.
    Ahead(StreamKind),
    /// It has one.
    On(Stay),
}

// === impl Watch ===

impl Watch {
    /// For the answer whose head lies in `bytes`.
    #[inline]
    pub(crate) fn of(response: &Response, bytes: &[u8]) -> Self {
        match response.framing {
            ResponseFraming::None | ResponseFraming::Length(_) => Self::Off,
            ResponseFraming::Chunked | ResponseFraming::Close => Self::Ahead(kind(response, bytes)),
        }
    }

    /// Ready when the answer is to end. Asked when there is nothing to do but wait.
    #[inline]
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>, attempt: &Attempt) -> Poll<()> {
        match self {
            Self::Off => Poll::Pending,
            Self::On(stay) => stay.poll_over(cx),
            Self::Ahead(kind) => {
                let stay = attempt.stay(*kind);
                let over = stay.poll_over(cx);
                *self = Self::On(stay);
                over
            }
        }
    }
}

/// What kind of stream an answer is, by its `content-type`.
fn kind(response: &Response, bytes: &[u8]) -> StreamKind {
    let mut lines = response.lines.iter();
    let found = lines.find(|line| bytes[line.name.range()].eq_ignore_ascii_case(b"content-type"));
    let begins = |kind: &[u8]| {
        found.is_some_and(|line| {
            bytes[line.value.range()].get(..kind.len()).is_some_and(|v| v.eq_ignore_ascii_case(kind))
        })
    };
    match () {
        () if begins(b"text/event-stream") => StreamKind::Events,
        () if begins(b"application/grpc") => StreamKind::Grpc,
        () => StreamKind::Other,
    }
}
