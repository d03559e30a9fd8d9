//! What happened: per-worker counters and histograms, the access log, Prometheus text.
//!
//! Every hot counter is a shard that one worker writes and anybody may read, so that the request path does no
//! read-modify-write on a shared cache line.

pub mod clock;
pub mod count;
pub mod histogram;
pub mod meter;
