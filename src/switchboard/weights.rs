//! Moving one service's traffic: write the weights file, apply, answer. Rollback moves the traffic first and asks
//! questions later.

use super::change::{Applied, Cause, Refused};
use super::desk::Desk;
use super::files::Content;
use super::history::Held;
use super::reconcile::{Wanted, all_to_stable, check_pools};
use super::writer::{Mode, Switchboard};
use crate::model::{Killed, Name, ServiceSpec, Weight, Weights};

// === impl Switchboard ===

impl Switchboard {
    /// New weights for `service`, in the file and live.
    pub(super) fn set(
        &self,
        desk: &mut Desk,
        service: &Name,
        weights: Weights,
        cause: &Cause,
        expected: Option<u64>,
    ) -> Result<Applied, Refused> {
        let disk = self.catch_up(desk);
        check_generation(desk, expected)?;
        let spec = desk.spec(service)?;
        if desk.mode == Mode::Safe {
            return Err(Refused::SafeMode);
        }
        if let Some(killed) = desk.killed(service) {
            let Killed { system, reason } = killed;
            return Err(Refused::Killed { service: service.clone(), system, reason });
        }
        check_pools(&spec, &weights)?;
        let weights = complete(&spec, weights)?;
        let said = desk.written.iter().any(|(name, written)| name == service && *written == weights);
        // A file that went missing or broke since must not be answered with "done".
        if !said || disk != desk.seen.weights || desk.problems.is_some() || disk == Content::Missing {
            let content = desk.files.edited(&disk, service, &weights, &desk.live())?;
            // A kill that could not be written before can be now.
            let content = desk.with_held_kills(content)?;
            let file = desk.files.parse_weights(&content, &desk.config.plan).map_err(Refused::FileBroken)?;
            desk.files.write(&content)?;
            desk.seen.weights = content;
            desk.written = file.services;
            desk.kills = file.kills;
            desk.history.hold_kills(Vec::new());
        }
        desk.hold(service, None);
        let changed = self.commit(desk, desk.wanted(), cause)?;
        if desk.problems.is_some() {
            // The file that was written may have mended what was wrong; what is still wrong is noted again.
            let _ = self.reload(desk, cause);
        }
        Ok(desk.applied(changed))
    }

    /// Everything of `service` to its stable pool: live first, then in the file. What cannot be written is held until
    /// somebody saves the file.
    pub(super) fn rollback(&self, desk: &mut Desk, service: &Name, cause: &Cause) -> Result<Applied, Refused> {
        let disk = self.catch_up(desk);
        let spec = desk.spec(service)?;
        let weights = all_to_stable(&spec);
        let held = |note: String| {
            let content = disk.fingerprint();
            Held { service: service.to_string(), content, note }
        };
        desk.hold(service, Some(held(String::new())));
        let changed = self.commit(desk, Wanted { evict: Some(service.clone()), ..desk.wanted() }, cause)?;
        match self.write_rollback(desk, &disk, service, &weights) {
            Ok(()) => {
                desk.hold(service, None);
                if desk.problems.is_some() {
                    let _ = self.reload(desk, cause);
                }
                desk.keep();
                Ok(desk.applied(changed))
            }
            Err(refused) => {
                let path = desk.files.weights.display();
                let note = format!(
                    "the rollback of {service} is live, but {path} does not say so ({}): \
                     save it with {} for [{service}]",
                    cause_of(&refused),
                    weights,
                );
                tracing::warn!(service = service.as_str(), "{note}");
                desk.hold(service, Some(held(note.clone())));
                desk.keep();
                Ok(Applied { pending: Some(note), ..desk.applied(changed) })
            }
        }
    }

    /// Back to the weights before the last change of `service`.
    pub(super) fn undo(
        &self,
        desk: &mut Desk,
        service: &Name,
        cause: &Cause,
        expected: Option<u64>,
    ) -> Result<Applied, Refused> {
        self.catch_up(desk);
        check_generation(desk, expected)?;
        desk.spec(service)?;
        let before = desk.history.before(service).cloned();
        let before = before.ok_or_else(|| Refused::NothingToUndo(service.clone()))?;
        self.set(desk, service, before, cause, None)
    }

    /// Writes a rollback, also into a file that does not hold as a whole so long as it can be edited.
    pub(super) fn write_rollback(
        &self,
        desk: &mut Desk,
        disk: &Content,
        service: &Name,
        weights: &Weights,
    ) -> Result<(), Refused> {
        let said = desk.written.iter().any(|(name, written)| name == service && written == weights);
        if said && *disk == desk.seen.weights && desk.problems.is_none() && *disk != Content::Missing {
            return Ok(());
        }
        let content = desk.files.edited(disk, service, weights, &desk.live())?;
        desk.files.write(&content)?;
        desk.seen.weights = content;
        for (_, written) in desk.written.iter_mut().filter(|(name, _)| name == service) {
            *written = weights.clone();
        }
        Ok(())
    }
}

/// With 0 for every pool that is not named, as the weights file means it too.
pub(super) fn complete(spec: &ServiceSpec, weights: Weights) -> Result<Weights, Refused> {
    let percent = weights.iter().any(|(_, weight)| matches!(weight, Weight::Percent(_)));
    let zero = if percent { Weight::Percent(0) } else { Weight::Relative(0) };
    let mut entries: Vec<(Name, Weight)> = weights.iter().map(|(name, weight)| (name.clone(), weight)).collect();
    for pool in &spec.pools {
        if !entries.iter().any(|(name, _)| *name == pool.name) {
            entries.push((pool.name.clone(), zero));
        }
    }
    Weights::new(entries).map_err(Refused::Weights)
}

fn check_generation(desk: &Desk, expected: Option<u64>) -> Result<(), Refused> {
    let current = desk.state.generation;
    match expected {
        Some(expected) if expected != current => Err(Refused::Conflict { expected, current }),
        _ => Ok(()),
    }
}

/// The reason alone, for a note that names the file already.
pub(super) fn cause_of(refused: &Refused) -> String {
    match refused {
        Refused::ReadOnly { .. } => "it is read-only for weir".into(),
        Refused::Write { source, .. } => source.reason().to_string(),
        Refused::FileBroken(_) => "it does not hold and cannot be edited".into(),
        other => other.to_string(),
    }
}
