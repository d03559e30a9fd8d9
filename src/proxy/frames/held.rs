//! How much the heads of one connection's streams hold, unpacked. What they were on the wire is not asked.

use std::cell::Cell;

use crate::model::Limits;

/// What the heads of a connection's streams may take on average, when there are as many as may be: cookies are limited
/// to 4 KiB each by browsers, and few sites use several that are.
const HELD_BYTES_PER_STREAM: usize = 8 * 1024;

/// The heads that the streams of one connection hold, in bytes. Compressed, a head of many kilobytes is a few bytes on
/// the wire, so that their number says nothing of what they take here.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Cell<usize>,
    max: usize,
}

// === impl Held ===

impl Held {
    /// Room for what the limits allow.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { bytes: Cell::new(0), max: limits.head_bytes_max + limits.streams_max as usize * HELD_BYTES_PER_STREAM }
    }

    /// Takes in a head of so many bytes; false when there is no room for it.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let held = self.bytes.get() + bytes;
        if held <= self.max {
            self.bytes.set(held);
        }
        held <= self.max
    }

    /// Lets a head go.
    pub(crate) fn put(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }
}
