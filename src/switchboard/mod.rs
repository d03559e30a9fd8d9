//! The one writer: `Change` → reconcile (pure) → publish. Only this room publishes a snapshot.

pub mod snapshot;
