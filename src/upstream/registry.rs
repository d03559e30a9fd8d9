//! Finds or makes live state by identity, and forgets what is no longer named.

use std::sync::Arc;

use super::endpoint::{Endpoint, EndpointId};
use super::pool::PoolState;
use crate::model::Name;

/// Every pool and endpoint that is named now. Control side only; workers see the `Arc`s in the snapshot.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
}

// === impl Registry ===

impl Registry {
    /// An empty registry for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { workers }
    }

    /// The pool's state, made when it is new.
    pub fn pool(&self, _service: &Name, _pool: &Name) -> Arc<PoolState> {
        todo!("owner of this room; {} workers", self.workers)
    }

    /// The endpoint's state, made when it is new.
    pub fn endpoint(&self, _id: &EndpointId) -> Arc<Endpoint> {
        todo!("owner of this room")
    }
}
