//! What happened: per-worker counters and histograms, the access log, Prometheus text.
//!
//! Every hot counter is a shard that one worker writes and anybody may read, so that the request path does no
//! read-modify-write on a shared cache line. This room knows no services: whoever holds them renders them.

pub mod access_log;
pub mod blame;
pub mod clock;
pub mod control;
pub mod count;
pub mod flood;
pub mod handshake;
pub mod histogram;
pub mod lane;
pub mod meter;
pub mod mirror;
pub mod names;
pub mod pair;
pub mod process;
pub mod reading;
pub mod spans;
pub mod text;
pub mod uplink;
