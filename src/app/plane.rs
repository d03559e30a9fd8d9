//! The seam to the data plane: what a worker thread runs, and what explains a request. Two functions, no decisions.

use std::io;

use serde_json::Value;

use super::workers::{Berth, Phase};
use crate::admin::explain::Described;
use crate::switchboard::snapshot::Snapshot;

/// Runs one worker to its end, on the calling thread.
pub(super) fn work(mut berth: Berth) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        // The data plane is not joined to the composition root yet: sockets are held, nothing is accepted.
        let _ = berth.phase.wait_for(|phase| *phase != Phase::Serving).await;
    });
    Ok(())
}

/// What would become of a described request.
pub(super) fn explain(_snapshot: &Snapshot, _described: &Described) -> Result<Value, String> {
    Err("this build cannot explain requests".into())
}
