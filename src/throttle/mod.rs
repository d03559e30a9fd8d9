//! How much may come: rate limits by key, and caps on requests in flight. Both are shared by all workers and belong to
//! the name of a limit, pool or service, not to a snapshot.
//!
//! It decides whether there is room, not what a request without room is told: that is the data plane's.

pub mod book;
pub mod gate;
pub mod limit;
pub mod rate;

mod table;
