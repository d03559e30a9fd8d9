//! What is counted for a pool and for an endpoint, per worker.

use super::blame::RouteErrors;
use super::count::{Count, Sharded};
use super::flood::FloodShard;
use super::handshake::HandshakeShard;
use super::histogram::{Histogram, Summary};
use super::lane::LaneShard;
use super::uplink::UplinkShard;
use crate::model::Fault;

/// One worker's counts for a pool.
#[derive(Debug, Default)]
pub struct PoolShard {
    /// Requests that were sent to this pool first, whatever became of them.
    pub requests: Count,
    /// Attempts, the retries from other pools included.
    pub attempts: Count,
    /// Attempts that failed, by kind; only the three upstream kinds judge a pool.
    pub faults: [Count; 5],
    /// Retries that left this pool for another endpoint or pool.
    pub retries: Count,
    /// Hedges whose answer was used, and those that came too late or failed.
    pub hedges_won: Count,
    /// See there.
    pub hedges_lost: Count,
    /// Requests by [`crate::model::Why`], in declaration order.
    pub why: [Count; 14],
    /// Requests now between their head and the end of their response.
    pub in_flight: Count,
    /// Attempts that ended, by [`super::lane::Lane`]: their time, and what went wrong.
    pub lanes: [LaneShard; 3],
    /// Errors by route.
    pub routes: RouteErrors,
    /// Body bytes received from clients and sent to them.
    pub bytes_in: Count,
    /// Body bytes sent to clients.
    pub bytes_out: Count,
    /// Long streams that run now, by [`crate::model::StreamKind`].
    pub streams: [StreamGauge; 5],
    /// Long streams that were closed because the weight went to 0.
    pub streams_closed: Count,
}

/// One worker's long streams of one kind; written about once a second.
#[derive(Debug, Default)]
pub struct StreamGauge {
    /// How many run.
    pub running: Count,
    /// How many of them are about to be closed.
    pub draining: Count,
    /// When the oldest began, on the monotonic clock of [`crate::model::Now`]; 0 when none runs.
    pub oldest_ms: Count,
}

/// One worker's counts for an endpoint.
#[derive(Debug)]
pub struct EndpointShard {
    /// Answers by status code, index `code - 100`, for 100..=599; others are counted in 599.
    pub codes: Box<[Count]>,
    /// Failed attempts, by kind.
    pub faults: [Count; 5],
    /// Attempts now in flight: what least-request compares.
    pub in_flight: Count,
    /// Connections opened.
    pub connections: Count,
    /// TLS handshakes.
    pub tls: UplinkShard,
}

/// One worker's counts that belong to no pool.
#[derive(Debug, Default)]
pub struct WorkerShard {
    /// Rises while the worker's event loop turns, about ten times a second.
    pub beats: Count,
    /// Client connections accepted.
    pub accepted: Count,
    /// Client connections open now.
    pub open: Count,
    /// Connections that were closed because they did not begin as they must, by [`Unannounced`].
    pub unannounced: [Count; Unannounced::ALL.len()],
    /// Requests that weir answered itself, by fault (client or proxy).
    pub refused: [Count; 5],
    /// Access log lines dropped because the reader is slow.
    pub log_dropped: Count,
    /// Handshakes, by listener; empty where no listener speaks TLS.
    pub handshakes: Box<[HandshakeShard]>,
    /// HTTP/2 connections that were ended for what the peer did.
    pub floods: FloodShard,
    /// How late the event loop was, each time that it was looked.
    pub delay: Histogram,
    /// The share of requests that are turned away for that now, of 65 536.
    pub shed_share: Count,
    /// Requests that were.
    pub shed: Count,
    /// Connections closed at once for what their address has or did: it is crowded, or rests.
    pub turned: [Count; 2],
    /// How often an address was sent to rest.
    pub rests: Count,
}

/// Why a connection had no header of the PROXY protocol, which it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unannounced {
    /// The sender left.
    Gone,
    /// It took too long.
    Timeout,
    /// What came is no header, or breaks its rules.
    Malformed,
}

/// Counters of a pool.
pub type PoolMeter = Sharded<PoolShard>;

/// Counters of an endpoint.
pub type EndpointMeter = Sharded<EndpointShard>;

/// Time from request head to the end of the response, of every request whose last attempt went to this pool.
pub fn latency(meter: &PoolMeter) -> Summary {
    Summary::of(meter.iter().flat_map(|shard| &shard.lanes).map(|lane| &lane.latency))
}

impl Default for EndpointShard {
    fn default() -> Self {
        Self {
            codes: (0..500).map(|_| Count::default()).collect(),
            faults: Default::default(),
            in_flight: Count::default(),
            connections: Count::default(),
            tls: UplinkShard::default(),
        }
    }
}

// === impl PoolShard ===

impl PoolShard {
    /// Counts a failed attempt.
    pub fn fault(&self, fault: Fault) {
        self.faults[fault.index()].add(1);
    }
}

// === impl Unannounced ===

impl Unannounced {
    /// All of them, in declaration order.
    pub const ALL: [Self; 3] = [Self::Gone, Self::Timeout, Self::Malformed];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }
}

// === impl WorkerShard ===

impl WorkerShard {
    /// The counts of a process with so many listeners.
    pub fn for_listeners(listeners: usize) -> Self {
        Self { handshakes: (0..listeners).map(|_| HandshakeShard::default()).collect(), ..Self::default() }
    }
}

// === impl EndpointShard ===

impl EndpointShard {
    /// Counts an answer.
    #[inline]
    pub fn code(&self, status: u16) {
        let index = usize::from(status.saturating_sub(100)).min(499);
        self.codes[index].add(1);
    }
}
