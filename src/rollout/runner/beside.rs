//! What the runner keeps of a rollout beside the machine's state: the evidence, and the sums that people see.

use serde::{Deserialize, Serialize};

use super::super::judge::Judge;
use super::super::view::Figures;

/// As it is kept.
#[derive(Debug, Deserialize)]
pub(super) struct Beside {
    pub(super) judge: Judge,
    pub(super) figures: Figures,
}

#[derive(Serialize)]
struct Written<'a> {
    judge: &'a Judge,
    figures: &'a Figures,
}

// === impl Beside ===

impl Beside {
    /// Nothing when there is nothing, or when it was written by another version: the evidence then begins anew, which
    /// takes longer and is never wrong.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        match serde_json::from_slice(bytes) {
            Ok(beside) => Some(beside),
            Err(error) => {
                tracing::warn!(%error, "the evidence that was kept cannot be read and begins anew");
                None
            }
        }
    }

    pub(super) fn write(judge: &Judge, figures: &Figures) -> Vec<u8> {
        serde_json::to_vec(&Written { judge, figures }).unwrap_or_default()
    }
}
