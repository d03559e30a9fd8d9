//! The other side: endpoints by identity with their live state, names, probes, ejection and the pool breaker.
//!
//! Live state belongs to identity (service, pool, origin, address), never to a snapshot, and survives every reload.
//! Connections to endpoints belong to the workers and live in `proxy`.

mod book;
mod check;
mod dns;
pub mod endpoint;
mod gate;
pub mod names;
pub mod pool;
pub mod probe;
pub mod registry;
mod slots;
pub mod upstreams;
