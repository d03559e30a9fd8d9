//! What is copied to another pool, as the configuration says it. No counts, no clock.

use std::time::Duration;

use super::name::Name;

/// All requests, in the unit of [`MirrorSpec::parts`]: hundredths of a percent.
pub const MIRROR_WHOLE: u32 = 10_000;

/// One mirror: a part of the requests of some pools is copied to another pool of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSpec {
    /// The pools whose requests are copied; never `to`. At least one.
    pub from: Vec<Name>,
    /// The pool that gets the copies.
    pub to: Name,
    /// How many of [`MIRROR_WHOLE`] requests are copied.
    pub parts: u32,
    /// Methods that are copied, upper case.
    pub methods: Vec<String>,
    /// Largest body that is copied, in bytes as it is framed for HTTP/1.1. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Most copies that a worker has in hand at once: gathered, sent or waited for. Default 64 (peers' advice for a
    /// shadow of one service; 64 MiB at the default body).
    pub in_flight_max: u32,
    /// Time for a copy from its first byte to the end of its answer. Default 10 s.
    pub timeout: Duration,
}

// === impl MirrorSpec ===

impl MirrorSpec {
    /// How much is copied, in percent.
    pub fn percent(&self) -> f64 {
        f64::from(self.parts) * 100.0 / f64::from(MIRROR_WHOLE)
    }
}
