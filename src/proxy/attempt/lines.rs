//! A worker's connections to endpoints that wait for their next request, of every kind and for one purpose: clients'
//! requests have theirs, copies of requests have others.

use std::cell::RefCell;
use std::time::Instant;

use tokio::net::TcpStream;

use super::conns::Conns;
use super::wire::AnyWire;
use crate::proxy::h2up::trunks::Trunks;

/// Connections for one purpose.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Plain TCP.
    pub(crate) conns: RefCell<Conns<TcpStream>>,
    /// Other HTTP/1.
    pub(crate) any_conns: RefCell<Conns<AnyWire>>,
    /// HTTP/2; these carry requests as well.
    pub(crate) trunks: RefCell<Trunks>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Clients' requests.
    Clients,
    /// Copies of them.
    Copies,
}

// === impl Lines ===

impl Lines {
    /// Closes what has been idle too long or was closed by the endpoint.
    pub(crate) fn sweep(&self, now_ms: u64, now: Instant) {
        self.conns.borrow_mut().sweep(now_ms);
        self.any_conns.borrow_mut().sweep(now_ms);
        self.trunks.borrow_mut().sweep(now);
    }

    /// Closes the idle connections of every endpoint that `names` does not hold by (slot, serial).
    pub(crate) fn retain(&self, names: impl Fn(u32, u64) -> bool) {
        self.conns.borrow_mut().retain(&names);
        self.any_conns.borrow_mut().retain(&names);
        self.trunks.borrow_mut().retain(&names);
    }

    /// Closes all idle connections over HTTP/1; false when there was none.
    pub(crate) fn clear(&self) -> bool {
        // Each of these gives its buffers back when it is dropped.
        let mut any = std::mem::take(&mut *self.any_conns.borrow_mut());
        self.conns.borrow_mut().clear() | any.clear()
    }

    /// Closes idle connections over TLS, each of which holds the worker.
    pub(crate) fn let_go(&self) {
        let conns = std::mem::take(&mut *self.any_conns.borrow_mut());
        // Each gives its buffers back when it is dropped.
        drop(conns);
    }
}
