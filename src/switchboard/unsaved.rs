//! What is live beside what is saved: what a reload would change, and what it could not. Changes nothing.

use super::change::Refused;
use super::files::{Content, Files};
use super::writer::Switchboard;
use crate::config::{WeightsFile, diff, restart_needed};

/// How the files as they stand on disk differ from what is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaved {
    /// What a reload would change, one line each.
    pub changes: Vec<String>,
    /// Keys that a running weir refuses to change.
    pub restart: Vec<String>,
}

// === impl Switchboard ===

impl Switchboard {
    /// Compares. Reads both files: call it from a thread that may wait for a disk.
    ///
    /// # Errors
    ///
    /// [`Refused::Problems`] when the files do not hold.
    pub fn unsaved(&self) -> Result<Unsaved, Refused> {
        let (shown, snapshot) = (self.shown(), self.snapshot().load_full());
        let files = Files::of(&shown.config);
        let saved = files.parse_config(&Content::of(&files.config)).map_err(Refused::Problems)?;
        // What a kill covers is not what the file is compared with.
        let own =
            |name: &str| snapshot.services.iter().find(|service| service.name == *name && service.killed.is_none());
        let mut before = WeightsFile::all_to_stable(&shown.config.plan);
        for (name, written) in &shown.written {
            before.set(name, own(name).map_or_else(|| written.clone(), |service| service.weights.clone()));
        }
        let files = Files { weights: saved.weights_path.clone(), ..files };
        let after = match Content::of(&files.weights) {
            // One that is gone changes nothing.
            Content::Missing => before.clone(),
            content => files.parse_weights(&content, &saved.plan).map_err(Refused::Problems)?,
        };
        let restart = restart_needed(&shown.config, &saved);
        Ok(Unsaved { changes: diff(&shown.config, &before, &saved, &after), restart })
    }
}
