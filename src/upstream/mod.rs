//! The other side: endpoints by identity with their live state, names, probes, ejection and the pool breaker.
//!
//! Live state belongs to identity (service, pool, origin, address), never to a snapshot, and survives every reload.
//! Connections to endpoints belong to the workers and live in `proxy`; nothing here publishes a snapshot.
//!
//! In reading order: [`endpoint`] (what workers ask and report; its transitions are pure in `gate`), [`pool`] (the
//! breaker), [`registry`] (state by identity), [`units`] (which units of a service failed), [`culprits`] (where errors
//! come from), [`names`] (what an origin stands for; the rules are pure in `book`, a lookup is in `dns`),
//! [`discovery`] (containers by their labels), [`probe`]
//! (schedules; one probe is in `check` and `check_h2`), [`preface`] (whom a connection is opened for, as its first
//! bytes), [`upstreams`] (the owner of it all).
//!
//! What happens when things go wrong:
//!
//! | fault | what is done |
//! |---|---|
//! | an endpoint fails its answers | ejected after `failures` in a row, 1 s doubling to 60 s, then one real request tries it |
//! | an endpoint fails its probes | down after `fall` in a row; up after `rise`; a new one after its first pass |
//! | every endpoint of a service fails its answers | the last live one is never ejected; if that happens in a race, one is let back within 250 ms |
//! | every endpoint fails its probes | the pool is down; the first that passes serves |
//! | half of a pool's requests fail | the pool rests and recovers in a line, so long as another sound pool can serve |
//! | names: no reply, SERVFAIL | the last good addresses are kept for as long as it lasts |
//! | names: no such name, empty answer | kept for 30 s, then gone |
//! | the Docker engine is away | the containers that were found last are kept |
//! | an address leaves the answer | its endpoint drains: see [`endpoint::Endpoint::is_draining`] |

mod book;
pub(crate) mod check;
mod check_h2;
pub mod culprits;
pub mod discovery;
mod dns;
pub mod endpoint;
mod gate;
pub mod handed;
pub mod names;
pub mod pool;
pub mod preface;
pub mod probe;
pub mod registry;
mod slots;
#[cfg(test)]
mod testing;
pub mod units;
pub mod upstreams;
