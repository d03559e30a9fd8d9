//! What an error of an HTTP/2 stream means for the attempt: whose fault, and whether the request may have been worked
//! on.

use super::super::http2::error::{By, Error, Reason};
use super::super::refusal::Refusal;
use crate::model::Fault;

/// Why an attempt ended without an answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The client's doing; the endpoint is not to blame.
    Client(Refusal),
    /// The endpoint chose HTTP/1.1 for the connection, so nothing was sent.
    Http1,
    /// No connection, so nothing was sent.
    Unconnected(&'static str),
    /// The peer said that it has not looked at the request (RFC 9113 §8.7).
    Unprocessed {
        /// In a few words.
        reason: &'static str,
        /// Whether it only ends its connection, as servers do from time to time: nobody's failure.
        graceful: bool,
    },
    /// It may have been worked on.
    Sent {
        /// The kind.
        fault: Fault,
        /// In a few words, for log and client.
        reason: &'static str,
        /// Whether the connection may just have been closed: it was open before, and nothing was answered.
        stale: bool,
    },
}

/// What an error before the answer's head means. `stale`: see [`Lost::Sent`].
pub(crate) fn lost(error: &Error, stale: bool) -> Lost {
    let sent = |reason, stale| Lost::Sent { fault: Fault::UpstreamAnswer, reason, stale };
    match *error {
        Error::Reset(Reason::REFUSED_STREAM, By::Peer) => {
            Lost::Unprocessed { reason: "refused_stream", graceful: false }
        }
        // Streams above the last one that the peer has looked at are told of it so, and no others.
        Error::GoAway(reason, By::Peer) => Lost::Unprocessed { reason: "goaway", graceful: reason == Reason::NO_ERROR },
        Error::Reset(_, By::Peer) => sent("reset", false),
        Error::Io(_) => sent("closed", stale),
        Error::Reset(_, By::Us) | Error::GoAway(_, By::Us) | Error::User => sent("malformed_answer", false),
    }
}
