//! What is kept of rollouts, and how long anything may wait for it: never longer than a deadline, and moving traffic to
//! stable not at all. What the disk refuses is counted and shown; everything goes on in memory.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::super::event::Event;
use super::super::machine::Rollout;
use super::super::record::Record;

/// One rollout as it was kept.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Kept {
    pub(in crate::rollout) rollout: Rollout,
    /// What the runner kept beside it.
    pub(in crate::rollout) beside: Vec<u8>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// ms since the Unix epoch.
    pub at_ms: u64,
    /// Who, as far as it is known.
    pub who: String,
    /// Where from.
    pub from: String,
    /// What: `rollout.start`, `weights`, `kill`, …
    pub action: String,
    /// The service.
    pub service: String,
    /// The rollout, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_id: Option<String>,
    /// Why.
    pub reason: String,
    /// What was before and after.
    pub before: Value,
    /// See `before`.
    pub after: Value,
}

/// The keeper.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Keeper {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rollouts: Vec<Kept>,
    events: Vec<Event>,
    audit: Vec<Audit>,
}

impl Keeper {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::rollout) async fn persist(&self, rollout: &Rollout, beside: Vec<u8>) {
        let mut inner = self.inner();
        inner.rollouts.retain(|kept| kept.rollout.id != rollout.id);
        inner.rollouts.push(Kept { rollout: rollout.clone(), beside });
    }

    pub(in crate::rollout) fn tick(&self, _id: &str, _record: &Record) {}

    pub(in crate::rollout) fn event(&self, event: &Event) {
        self.inner().events.push(event.clone());
    }

    pub(in crate::rollout) fn audit_entries(&self, service: Option<&str>, most: usize) -> Vec<Audit> {
        let inner = self.inner();
        let fits = |entry: &&Audit| service.is_none_or(|service| entry.service == service);
        inner.audit.iter().rev().filter(fits).take(most).cloned().collect()
    }

    pub(in crate::rollout) fn audit(&self, entry: Audit) {
        self.inner().audit.push(entry);
    }
}
