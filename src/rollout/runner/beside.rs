//! What the runner keeps of a rollout beside the machine's state: the evidence, and the sums that people see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::judge::Judge;
use super::super::rules::Rules;
use super::super::verdict::Judgement;
use super::super::view::Figures;
use super::asks::Memory;

/// Failed units that are kept over a restart; beyond it some would be counted twice, which only delays a verdict.
pub(super) const UNITS_MAX: usize = 20_000;

/// As it is kept.
#[derive(Debug, Deserialize)]
pub(super) struct Beside {
    pub(super) judge: Judge,
    pub(super) rules: Rules,
    pub(super) figures: Figures,
    pub(super) judgement: Option<Judgement>,
    #[serde(default)]
    pub(super) failed_units: Vec<u32>,
    #[serde(default)]
    pub(super) asked: BTreeMap<String, Memory>,
}

/// The same, to be written.
#[derive(Debug, Serialize)]
pub(super) struct Written<'a> {
    pub(super) judge: &'a Judge,
    pub(super) rules: &'a Rules,
    pub(super) figures: &'a Figures,
    pub(super) judgement: &'a Option<Judgement>,
    pub(super) failed_units: Vec<u32>,
    pub(super) asked: &'a BTreeMap<String, Memory>,
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
}

// === impl Written ===

impl Written<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
