//! A worker's idle connections to endpoints: last in, first out, bounded per endpoint, no lock.

use super::exchange::Conn;
use super::wire::Wire;
use crate::upstream::endpoint::Endpoint;

/// Idle connections by endpoint slot.
#[derive(Debug)]
pub(crate) struct Conns<W: Wire> {
    slots: Vec<Slot<W>>,
}

#[derive(Debug)]
struct Slot<W: Wire> {
    /// Which endpoint the slot belongs to now; see [`Endpoint::serial`].
    serial: u64,
    idle: Vec<Idle<W>>,
}

#[derive(Debug)]
struct Idle<W: Wire> {
    stream: W,
    mark: W::Mark,
    until_ms: u64,
    /// See [`super::exchange::Conn::long`].
    long: bool,
}

// === impl Conns ===

impl<W: Wire> Conns<W> {
    /// The connection with that mark that was used last and is still whole, and whether its last answer was long.
    pub(crate) fn take(&mut self, endpoint: &Endpoint, mark: W::Mark, now_ms: u64) -> Option<(W, bool)> {
        let slot = self.slots.get_mut(endpoint.slot as usize).filter(|slot| slot.serial == endpoint.serial)?;
        while let Some(at) = slot.idle.iter().rposition(|idle| idle.mark == mark) {
            let mut idle = slot.idle.swap_remove(at);
            if now_ms < idle.until_ms && idle.stream.is_quiet() {
                return Some((idle.stream, idle.long));
            }
        }
        None
    }

    /// Keeps a connection until `until_ms`; over `idle_max` it is closed instead.
    pub(crate) fn put(&mut self, endpoint: &Endpoint, conn: Conn<W>, until_ms: u64, idle_max: usize) {
        let index = endpoint.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        if slot.serial > endpoint.serial {
            return;
        }
        if slot.serial < endpoint.serial {
            slot.serial = endpoint.serial;
            slot.idle.clear();
        }
        if slot.idle.len() < idle_max {
            slot.idle.push(Idle { stream: conn.stream, mark: conn.mark, until_ms, long: conn.long });
        }
    }

    /// Closes what has been idle too long or was closed by the endpoint.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        for slot in &mut self.slots {
            slot.idle.retain_mut(|idle| now_ms < idle.until_ms && idle.stream.is_quiet());
        }
    }

    /// Closes everything; false when there was nothing.
    pub(crate) fn clear(&mut self) -> bool {
        let any = self.slots.iter().any(|slot| !slot.idle.is_empty());
        self.slots.iter_mut().for_each(|slot| slot.idle.clear());
        any
    }

    /// Closes the idle connections of every endpoint that `names` does not hold by (slot, serial).
    pub(crate) fn retain(&mut self, names: impl Fn(u32, u64) -> bool) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !names(index as u32, slot.serial) {
                slot.idle.clear();
                slot.idle.shrink_to_fit();
            }
        }
    }
}

impl<W: Wire> Default for Conns<W> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<W: Wire> Default for Slot<W> {
    fn default() -> Self {
        Self { serial: 0, idle: Vec::new() }
    }
}
