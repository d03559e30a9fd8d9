//! Taking in what stands in the files: all of it or nothing, and every problem once.

use std::sync::Arc;

use super::change::{Applied, Cause, Refused};
use super::files::Look;
use super::reconcile::Wanted;
use super::writer::{Desk, Switchboard, timestamp};
use crate::config::{Config, Problems};
use crate::model::{Name, Weights};
use crate::telemetry::clock;

/// What a look at the files leads to.
struct Judged {
    /// The configuration, when it holds and is another one than the live one.
    config: Option<Arc<Config>>,
    /// The weights, when they may be taken over.
    weights: Option<Vec<(Name, Weights)>>,
    /// Everything that is wrong.
    problems: Option<Problems>,
}

// === impl Switchboard ===

impl Switchboard {
    /// Applies what stands in the files when it is not what stood there at the last look.
    pub(super) fn look_again(&self, desk: &mut Desk, cause: &Cause) -> Result<Applied, Refused> {
        let look = desk.files.look();
        if look == desk.seen {
            return Ok(desk.applied(false));
        }
        self.take_in(desk, look, cause)
    }

    /// Applies what stands in the files, and says what is wrong with them also when it was said before.
    pub(super) fn reload(&self, desk: &mut Desk, cause: &Cause) -> Result<Applied, Refused> {
        let look = desk.files.look();
        self.take_in(desk, look, cause)
    }

    fn take_in(&self, desk: &mut Desk, look: Look, cause: &Cause) -> Result<Applied, Refused> {
        let judged = judge(desk, &look);
        let rewritten = look.weights != desk.seen.weights;
        desk.started_without_weights &= !rewritten;
        desk.seen = look;
        let rekeyed = self.rekey(desk, judged.config.as_deref());
        let problems = match (judged.problems, rekeyed.err()) {
            (Some(problems), Some(key)) => Some(problems.join(key)),
            (problems, key) => problems.or(key),
        };
        let whole = problems.is_none() || judged.config.is_none();
        let mut changed = false;
        if let Some(written) = judged.weights.filter(|_| whole) {
            if rewritten {
                // Whoever saved the file since decided anew; what it says now is the truth.
                for held in desk.history.held() {
                    tracing::info!(service = held.service, "the weights file was saved: it decides again");
                }
                desk.history.hold(Vec::new());
            }
            desk.written = written;
            let plan_changed = judged.config.is_some();
            if let Some(config) = judged.config {
                desk.config = config;
            }
            let wanted = Wanted { plan_changed, ..desk.wanted() };
            changed = self.commit(desk, wanted, cause)?;
        }
        note(desk, problems, cause);
        match &desk.problems {
            Some(problems) => Err(Refused::Problems(problems.clone())),
            None => Ok(desk.applied(changed)),
        }
    }

    /// Takes over other affinity keys; the keys alone are no new generation.
    fn rekey(&self, desk: &mut Desk, config: Option<&Config>) -> Result<(), Problems> {
        let config = config.unwrap_or(&desk.config).clone();
        match desk.keyring.refresh(config.key_file.as_deref(), &config.weights_path) {
            Ok(false) => Ok(()),
            Ok(true) => {
                tracing::info!("other affinity keys are in use");
                self.publish(desk);
                Ok(())
            }
            Err(error) => Err(super::files::problem(&config.path, &error.to_string(), "the old keys stay in use")),
        }
    }
}

/// Judges both files. Weights hold against the configuration that stands beside them; when that one does not hold, the
/// live one counts, so that a broken `weir.toml` never keeps an operator from moving traffic.
fn judge(desk: &Desk, look: &Look) -> Judged {
    let config = desk.files.parse_config(&look.config).and_then(|config| match restart_needed(&desk.config, &config) {
        Some(problems) => Err(problems),
        None => Ok(config),
    });
    let plan = config.as_ref().map_or(&desk.config.plan, |config| &config.plan);
    let weights = if look.weights == desk.seen.weights && desk.started_without_weights {
        desk.files.first_weights(&look.weights, plan)
    } else {
        desk.files.parse_weights(&look.weights, plan)
    };
    match (config, weights) {
        (Ok(config), Ok(weights)) => {
            for note in config.notes.iter().chain(&weights.notes) {
                tracing::warn!("{}", note.headline());
            }
            let config = (!same(&config, &desk.config)).then(|| Arc::new(config));
            Judged { config, weights: Some(weights.services), problems: None }
        }
        (Err(problems), Ok(weights)) => {
            Judged { config: None, weights: Some(weights.services), problems: Some(problems) }
        }
        (Ok(_), Err(problems)) => Judged { config: None, weights: None, problems: Some(problems) },
        (Err(problems), Err(more)) => Judged { config: None, weights: None, problems: Some(problems.join(more)) },
    }
}

fn restart_needed(old: &Config, new: &Config) -> Option<Problems> {
    let _ = (old, new);
    None
}

/// Whether two configurations say the same. Regular expressions cannot be compared, what they print can.
fn same(a: &Config, b: &Config) -> bool {
    format!("{:?}{:?}{:?}", a.plan, a.key_file, a.log) == format!("{:?}{:?}{:?}", b.plan, b.key_file, b.log)
}

/// Keeps how the reload went, and logs every problem once.
fn note(desk: &mut Desk, problems: Option<Problems>, cause: &Cause) {
    let how = cause.how.as_str();
    let result = if problems.is_none() { "success" } else { "failure" };
    metrics::counter!("weir_config_reloads_total", "result" => result).increment(1);
    for problem in problems.iter().flat_map(Problems::iter) {
        tracing::error!(how, "{problem}");
    }
    if let Some(problems) = &problems {
        let (count, generation) = (problems.len(), desk.state.generation);
        tracing::error!(how, problems = count, generation, "the last reload failed; what was live stays live");
    } else if desk.problems.is_some() {
        tracing::info!(how, "the files hold again");
    }
    desk.reload.ok = problems.is_none();
    desk.reload.at = timestamp();
    desk.reload.problems = problems.iter().flat_map(Problems::iter).map(|problem| problem.headline()).collect();
    if problems.is_none() {
        desk.reload.success_unix_s = clock::now().unix_s;
    }
    desk.problems = problems;
}
