//! One address of a pool and its live state: health, ejection, in-flight.

use std::net::SocketAddr;

use crate::model::{Breaker, Name, Origin};
use crate::telemetry::meter::EndpointMeter;

/// Which endpoint it is; live state is found by this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointId {
    /// The service.
    pub service: Name,
    /// The pool.
    pub pool: Name,
    /// The origin that it was found at.
    pub origin: Origin,
    /// Its address.
    pub addr: SocketAddr,
}

/// An endpoint. Read by every worker per request, written only when its state changes.
#[derive(Debug)]
pub struct Endpoint {
    /// Which one it is.
    pub id: EndpointId,
    /// `host:port` of the origin, for `Host` when the client's is not preserved.
    pub authority: String,
    /// Dense index, reused after the endpoint is gone; workers keep their connections by it.
    pub slot: u32,
    /// Never reused; tells two endpoints of one slot apart.
    pub serial: u64,
    /// Counters.
    pub meter: EndpointMeter,
    // health, ejection: private atomics, the owner of this room defines them
}

/// Whether an endpoint takes a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It serves.
    Serving,
    /// Its ejection is over and nobody has tried it yet: one request may, after [`Endpoint::take_trial`].
    Trial,
    /// It is down, ejected or not probed yet.
    Refused,
}

/// What a worker reports of one attempt that reached its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer below 500, or a 5xx that is not 502, 503 or 504.
    Answered,
    /// A connect error, reset, timeout, broken answer, or 502, 503, 504.
    Failed,
}

// === impl Endpoint ===

impl Endpoint {
    /// Whether it takes a request at `now_ms` (monotonic). One relaxed load when it serves.
    #[inline]
    pub fn admission(&self, _now_ms: u64) -> Admission {
        Admission::Serving
    }

    /// Claims the one trial request of an ejected endpoint; false when another worker was first.
    pub fn take_trial(&self, _now_ms: u64) -> bool {
        true
    }

    /// Takes note of an attempt. `last_live` is asked only before an ejection: the last live endpoint of a service is
    /// never ejected. A success of a serving endpoint writes nothing when there was no failure before it.
    #[inline]
    pub fn report(&self, _outcome: Outcome, _now_ms: u64, _policy: &Breaker, _last_live: impl FnOnce() -> bool) {}
}
