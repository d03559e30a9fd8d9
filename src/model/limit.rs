//! What limits the traffic that comes, as the configuration says it: rate limits by key. No buckets, no clock.

use std::time::Duration;

use super::name::Name;

/// One rate limit: a token bucket for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitSpec {
    /// Its name: in metrics, and what finds its buckets again after a reload.
    pub name: Name,
    /// The service whose requests it counts; none: every service's.
    pub service: Option<Name>,
    /// The route whose requests it counts, by name; none: every route's.
    pub route: Option<String>,
    /// What requests of one bucket have in common; empty: one bucket for all.
    pub key: Vec<KeyPart>,
    /// Requests that come into a bucket in each `per`.
    pub rate: u64,
    /// The time of `rate`.
    pub per: Duration,
    /// Requests that a bucket holds when it is full; at least 1.
    pub burst: u64,
    /// Most keys that are kept.
    pub keys_max: usize,
    /// Whether it only counts what it would refuse.
    pub shadow: bool,
}

/// A part of what tells one bucket from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address, as trusted proxies tell it (IPv6: its /64).
    Client,
    /// The value of a header, by its lower-case name.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The path, byte for byte, without the query.
    Path,
}
