//! Dense numbers for endpoints: the lowest free one is taken, and comes back when the last holder lets go.
//!
//! Workers index their connections by slot. A slot is never held by two endpoints at a time; that it had another
//! endpoint before is told by the serial.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

/// The free slots, and how many there have ever been.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    free: BinaryHeap<Reverse<u32>>,
    made: u32,
}

// === impl Slots ===

impl Slots {
    /// The lowest free slot.
    pub(crate) fn take(&self) -> u32 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Reverse(slot)) = inner.free.pop() {
            return slot;
        }
        inner.made += 1;
        inner.made - 1
    }

    /// A slot whose endpoint is gone. Called by whoever drops it last, perhaps a worker: one push under a short lock.
    pub(crate) fn give_back(&self, slot: u32) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).free.push(Reverse(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_reused() {
        let slots = Slots::default();
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 2]);
        slots.give_back(1);
        slots.give_back(0);
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 3]);
    }
}
