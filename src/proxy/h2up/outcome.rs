//! What an error of an HTTP/2 stream means for the attempt: whose fault, and whether the request may have been worked
//! on.

use crate::model::Fault;
use crate::proxy::http2::error::{By, Error, Reason};
use crate::proxy::refusal::Refusal;

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
    if error.unsent() {
        let reason = if matches!(error, Error::GoAway(..)) { "goaway" } else { "refused_stream" };
        return Lost::Unprocessed { reason, graceful: matches!(error, Error::GoAway(Reason::NO_ERROR, _)) };
    }
    let (reason, stale) = match *error {
        Error::Io(_) => ("closed", stale),
        Error::Reset(_, By::Peer) | Error::GoAway(_, By::Peer) => ("reset", false),
        Error::Reset(_, By::Us) | Error::GoAway(_, By::Us) | Error::User => ("malformed_answer", false),
    };
    Lost::Sent { fault: Fault::UpstreamAnswer, reason, stale }
}
