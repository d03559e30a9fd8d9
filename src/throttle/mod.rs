//! How much may come: rate limits by key. Buckets are shared by all workers and belong to the name of a limit, not to a
//! snapshot.
//!
//! It decides whether there is room, not what a request without room is told: that is the data plane's.

pub mod book;
pub mod limit;
pub mod rate;

mod table;
