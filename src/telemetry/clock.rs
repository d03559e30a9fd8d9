//! The process clock: one epoch for every thread, so that milliseconds written by one are understood by all.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::Now;

static EPOCH: OnceLock<Instant> = OnceLock::new();

/// The moment `instant` as milliseconds since the process began; 1 at the earliest.
pub fn mono_ms(instant: Instant) -> u64 {
    let epoch = *EPOCH.get_or_init(|| instant);
    instant.saturating_duration_since(epoch).as_millis() as u64 + 1
}

/// Now, on both clocks.
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: mono_ms(Instant::now()), unix_s: unix.as_secs() }
}
