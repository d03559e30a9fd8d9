//! Who may come in, by address, and what its connections were ended for: the data plane's side of
//! [`visitors`](crate::throttle::visitors), which knows the rules. Where nothing is bounded by address, nothing is
//! looked up.

use std::net::IpAddr;
use std::time::Instant;

use super::Worker;
use crate::proxy::arrival::via::Via;
use crate::routing::matcher::contains;
use crate::telemetry::clock;
use crate::throttle::visitors::{Offence, Visit};

/// Whose a connection is.
#[derive(Debug)]
pub(in crate::proxy) struct Guest {
    /// The address at its other end.
    pub(in crate::proxy) peer: IpAddr,
    /// Index of the listener that it came in by.
    pub(in crate::proxy) listener: usize,
    /// Its place among the connections of that address, where they are counted.
    pub(in crate::proxy) visit: Option<Visit>,
}

/// The connection is to be closed without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct TurnedAway;

/// Lets a connection from `peer` in: its place, if connections are counted by address. Trusted proxies speak for
/// others, so theirs are not.
#[inline]
pub(in crate::proxy) fn let_in(worker: &Worker, peer: IpAddr) -> Result<Option<Visit>, TurnedAway> {
    let snapshot = worker.snapshot();
    let Some(guarded) = &snapshot.guarded else { return Ok(None) };
    if contains(&snapshot.trusted_proxies, peer) {
        return Ok(None);
    }
    guarded.enter(peer, clock::mono_ms(Instant::now())).map_err(|turned| {
        worker.shard().turned[turned as usize].add(1);
        TurnedAway
    })
}

/// Notes what a connection was ended for, if it is counted: others speak for more than their address. A connection that
/// ends while weir does is nobody's offence.
#[cold]
pub(crate) fn offend(worker: &Worker, via: &Via, offence: Offence) {
    let snapshot = worker.snapshot();
    let Some(guarded) = snapshot.guarded.as_ref().filter(|_| via.counted && worker.draining().is_none()) else {
        return;
    };
    if guarded.offend(via.peer, offence, clock::mono_ms(Instant::now())) {
        worker.shard().rests.add(1);
        tracing::debug!(client = %via.peer, ?offence, "an address is turned away for a while");
    }
}
