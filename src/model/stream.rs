//! Streams that last: what they are called, and what becomes of them when the weight of their pool goes to 0.

use std::time::Duration;

/// What kind of stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// A tunnel that began as an upgrade to WebSocket.
    WebSocket,
    /// Server-sent events: an answer of type `text/event-stream`.
    Events,
    /// An answer to a gRPC call.
    Grpc,
    /// Any other answer of unknown length.
    Other,
    /// A tunnel that a CONNECT asked for.
    Connect,
}

/// What becomes of the streams of a pool when its own weight goes to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnZeroStreams {
    /// They go on until they end.
    Keep,
    /// They are closed, spread evenly over this time. Default: over 30 s, so that clients which come back at once
    /// (RFC 6455 §7.2.3 has them wait after a failure, not after a Close) do so without a rush.
    Drain(Duration),
    /// They are closed at once.
    Close,
}

// === impl StreamKind ===

impl StreamKind {
    /// Every kind, in the order of [`StreamKind::index`].
    pub const ALL: [StreamKind; 5] =
        [StreamKind::WebSocket, StreamKind::Events, StreamKind::Grpc, StreamKind::Other, StreamKind::Connect];

    /// Position in [`StreamKind::ALL`], for counter arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamKind::WebSocket => "websocket",
            StreamKind::Events => "events",
            StreamKind::Grpc => "grpc",
            StreamKind::Other => "other",
            StreamKind::Connect => "connect",
        }
    }

    /// How long one has to run until it is a long stream: others than these may be about to end by themselves.
    pub fn long_after(self) -> Duration {
        match self {
            StreamKind::WebSocket | StreamKind::Events | StreamKind::Connect => Duration::ZERO,
            StreamKind::Grpc | StreamKind::Other => Duration::from_secs(5),
        }
    }
}

// === impl OnZeroStreams ===

impl Default for OnZeroStreams {
    fn default() -> Self {
        Self::Drain(Duration::from_secs(30))
    }
}
