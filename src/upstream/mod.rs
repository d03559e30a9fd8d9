//! The other side: endpoints by identity with their live state, names, probes, ejection and the pool breaker.
//!
//! Live state belongs to identity (service, pool, origin, address), never to a snapshot, and survives every reload.
//! Connections to endpoints belong to the workers and live in `proxy`.

pub mod endpoint;
mod gate;
pub mod pool;
pub mod registry;
mod slots;
