//! A worker's idle connections to endpoints: last in, first out, bounded per endpoint, no lock.

use std::io::ErrorKind;

use tokio::net::TcpStream;

use super::exchange::Conn;
use crate::upstream::endpoint::Endpoint;

/// Idle connections by endpoint slot.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Which endpoint the slot belongs to now; see [`Endpoint::serial`].
    serial: u64,
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    until_ms: u64,
    /// See [`super::exchange::Conn::long`].
    long: bool,
}

// === impl Conns ===

impl Conns {
    /// The connection that was used last and is still whole, and whether its last answer was long.
    pub(crate) fn take(&mut self, endpoint: &Endpoint, now_ms: u64) -> Option<(TcpStream, bool)> {
        let slot = self.slots.get_mut(endpoint.slot as usize).filter(|slot| slot.serial == endpoint.serial)?;
        while let Some(idle) = slot.idle.pop() {
            if now_ms < idle.until_ms && is_quiet(&idle.stream) {
                return Some((idle.stream, idle.long));
            }
        }
        None
    }

    /// Keeps a connection until `until_ms`; over `idle_max` it is closed instead.
    pub(crate) fn put(&mut self, endpoint: &Endpoint, conn: Conn, until_ms: u64, idle_max: usize) {
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
            slot.idle.push(Idle { stream: conn.stream, until_ms, long: conn.long });
        }
    }

    /// Closes what has been idle too long or was closed by the endpoint.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        for slot in &mut self.slots {
            slot.idle.retain(|idle| now_ms < idle.until_ms && is_quiet(&idle.stream));
        }
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

/// Whether an idle connection has neither been closed nor said something unasked. Costs no system call unless the
/// reactor has seen an event.
fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}
