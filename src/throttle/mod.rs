//! How much may come: rate limits by key, caps on requests in flight, connections by address. All are shared by all
//! workers and belong to a limit, pool, service or address, not to a snapshot.
//!
//! It decides whether there is room, not what a request without room is told: that is the data plane's.

pub mod adaptive;
pub mod book;
pub mod gate;
pub mod gradient;
pub mod handed;
pub mod limit;
pub mod rate;
pub mod secret;
pub mod shed;
pub mod visitors;

mod table;
