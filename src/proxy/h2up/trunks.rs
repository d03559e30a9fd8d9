//! A worker's HTTP/2 connections to endpoints: the first with room is taken, so that as few are open as are needed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::worker::Worker;
use super::trunk::{Place, Trunk};
use crate::model::Timeouts;
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
}

// === impl Trunks ===

impl Trunks {
    /// A place on a connection to the endpoint; one is opened when none has room.
    pub(crate) fn take(
        trunks: &RefCell<Self>,
        worker: &Rc<Worker>,
        endpoint: &Arc<Endpoint>,
        timeouts: Timeouts,
    ) -> Place {
        let mut trunks = trunks.borrow_mut();
        let open = || Trunk::open(worker, endpoint, timeouts);
        match trunks.slot(endpoint) {
            Some(slot) => slot.take(open),
            // The slot is another endpoint's by now; this one lasts for a request.
            None => open().place(),
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
        }
        (slot.serial == endpoint.serial).then_some(slot)
    }

    /// Lets go of what has been idle too long or is over. A connection that nobody holds ends when its streams have.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let stale = |since: Instant| now.saturating_duration_since(since) >= IDLE_MAX;
        for slot in &mut self.slots {
            slot.trunks.retain(|trunk| !trunk.is_over() && !trunk.idle_since().is_some_and(stale));
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
    fn take(&mut self, open: impl FnOnce() -> Rc<Trunk>) -> Place {
        if let Some(trunk) = self.trunks.iter().find(|trunk| trunk.has_room()) {
            return trunk.place();
        }
        self.trunks.retain(|trunk| !trunk.is_over());
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
