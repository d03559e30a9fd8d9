//! A worker's HTTP/2 connections to endpoints: the first with room is taken, so that as few are open as are needed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use super::trunk::{Dial, Place, Trunk};
use crate::proxy::arrival::secure::Secure;
use crate::proxy::worker::Worker;
use crate::upstream::endpoint::Endpoint;

/// Connections to one endpoint per worker. When all are full, streams wait their turn on the one with the fewest.
pub(crate) const TRUNKS_MAX: usize = 16;

/// How long a connection without streams stays open. Longer than for HTTP/1: who ends an HTTP/2 connection says which
/// streams it has not looked at, so that nothing is lost in between.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Connections by endpoint slot.
#[derive(Debug, Default)]
pub(crate) struct Trunks {
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Which endpoint the slot belongs to now; see [`Endpoint::serial`].
    serial: u64,
    trunks: Vec<Rc<Trunk>>,
    /// Whether the endpoint chose HTTP/1.1 for the last connection over TLS.
    http1: bool,
}

// === impl Trunks ===

impl Trunks {
    /// A place on a connection to the endpoint; one is opened when none has room.
    pub(crate) fn take(worker: &Rc<Worker>, endpoint: &Arc<Endpoint>, dial: &Dial) -> Place {
        let mut trunks = worker.lines_for(dial.purpose).trunks.borrow_mut();
        let terms = dial.terms();
        let open = || Trunk::open(worker, endpoint, dial.clone(), terms.clone(), None);
        match trunks.slot(endpoint) {
            Some(slot) => slot.take(terms.as_ref().map(|terms| terms.number), open),
            // The slot is another endpoint's by now; this one lasts for a request.
            None => open().place(),
        }
    }

    /// Takes a connection over that was opened for HTTP/1, and for which the endpoint chose HTTP/2.
    pub(crate) fn adopt(worker: &Rc<Worker>, endpoint: &Arc<Endpoint>, link: Secure<ClientConnection>, dial: Dial) {
        let mut trunks = worker.lines_for(dial.purpose).trunks.borrow_mut();
        if let Some(slot) = trunks.slot(endpoint) {
            slot.http1 = false;
            let terms = dial.terms();
            let number = terms.as_ref().map(|terms| terms.number);
            // Of many that found out at the same time one is enough.
            if !slot.trunks.iter().any(|trunk| trunk.terms == number && trunk.has_room()) {
                slot.trunks.push(Trunk::open(worker, endpoint, dial, terms, Some(link)));
            }
        }
    }

    /// Whether the endpoint chose HTTP/1.1 for the last connection over TLS.
    pub(crate) fn chose_http1(&mut self, endpoint: &Endpoint) -> bool {
        self.slot(endpoint).is_some_and(|slot| slot.http1)
    }

    /// The endpoint chose HTTP/1.1.
    pub(crate) fn note_http1(&mut self, endpoint: &Endpoint) {
        if let Some(slot) = self.slot(endpoint) {
            slot.http1 = true;
        }
    }

    fn slot(&mut self, endpoint: &Endpoint) -> Option<&mut Slot> {
        let index = endpoint.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        if slot.serial < endpoint.serial {
            slot.serial = endpoint.serial;
            slot.trunks.clear();
            slot.http1 = false;
        }
        (slot.serial == endpoint.serial).then_some(slot)
    }

    /// Lets go of what has been idle too long or is over. A connection that nobody holds ends when its streams have.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let stale = |since: Instant| now.saturating_duration_since(since) >= IDLE_MAX;
        for slot in &mut self.slots {
            slot.trunks.retain(|trunk| !trunk.is_over() && !trunk.idle_since(now).is_some_and(stale));
        }
    }

    /// Lets go of the connections of every endpoint that `names` does not hold by (slot, serial).
    pub(crate) fn retain(&mut self, names: impl Fn(u32, u64) -> bool) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !names(index as u32, slot.serial) {
                slot.trunks.clear();
            }
        }
    }
}

// === impl Slot ===

impl Slot {
    fn take(&mut self, terms: Option<u64>, open: impl FnOnce() -> Rc<Trunk>) -> Place {
        if let Some(trunk) = self.trunks.iter().find(|trunk| trunk.terms == terms && trunk.has_room()) {
            return trunk.place();
        }
        // What was opened on other terms ends with its streams.
        self.trunks.retain(|trunk| !trunk.is_over() && trunk.terms == terms);
        let sound = self.trunks.iter().filter(|trunk| !trunk.is_doubted());
        match sound.min_by_key(|trunk| trunk.streams()).filter(|_| self.trunks.len() >= TRUNKS_MAX) {
            Some(least) => least.place(),
            None => {
                let trunk = open();
                let place = trunk.place();
                // More than the bound are open only while peers are asked whether they are there.
                self.trunks.push(trunk);
                place
            }
        }
    }
}
