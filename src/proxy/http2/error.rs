//! How streams and connections end otherwise than by their end, and by whose word.

use std::fmt;
use std::io;

/// An error code (RFC 9113 §7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) u32);

impl Reason {
    pub(crate) const NO_ERROR: Self = Self(0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(1);
    pub(crate) const INTERNAL_ERROR: Self = Self(2);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(3);
    pub(crate) const STREAM_CLOSED: Self = Self(5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(6);
    pub(crate) const REFUSED_STREAM: Self = Self(7);
    pub(crate) const CANCEL: Self = Self(8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(9);
    pub(crate) const CONNECT_ERROR: Self = Self(10);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(11);

    /// The code's name in RFC 9113 §7; none for one that it does not know.
    fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied()
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Reason({})", self.0),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whose word it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Peer,
    Us,
}

/// Why a stream, or a connection, is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The stream was reset.
    #[error("stream reset by {1:?}: {0}")]
    Reset(Reason, By),
    /// The connection was ended. By the peer: it has not looked at the stream, which is above the last one that it has.
    #[error("connection ended by {1:?}: {0}")]
    GoAway(Reason, By),
    /// The connection broke, or was closed.
    #[error("connection lost: {0}")]
    Io(io::ErrorKind),
    /// The handle cannot do that, now or any more; nothing was sent.
    #[error("not possible in this state")]
    User,
}

// === impl Error ===

impl Error {
    /// The code that was given, if one was.
    pub(crate) fn reason(self) -> Option<Reason> {
        match self {
            Self::Reset(reason, _) | Self::GoAway(reason, _) => Some(reason),
            Self::Io(_) | Self::User => None,
        }
    }

    /// Whether the peer said that it has not looked at the request (RFC 9113 §8.7).
    pub(crate) fn unsent(self) -> bool {
        matches!(self, Self::Reset(Reason::REFUSED_STREAM, By::Peer) | Self::GoAway(_, By::Peer))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(kind) => kind.into(),
            Error::Reset(..) | Error::GoAway(..) => Self::new(io::ErrorKind::ConnectionReset, error),
            Error::User => Self::new(io::ErrorKind::BrokenPipe, error),
        }
    }
}
