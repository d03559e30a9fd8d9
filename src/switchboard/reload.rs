//! Taking in what stands in the files: all of it or nothing, and every problem once.

use std::sync::Arc;
use std::time::Duration;

use super::change::{Applied, Cause, Change, How, Refused};
use super::desk::Desk;
use super::files::{Content, Files, Look, problem};
use super::reconcile::Wanted;
use super::writer::{Switchboard, timestamp};
use crate::config::watch::ContentHash;
use crate::config::{self, Config, Problem, Problems, WeightsFile};
use crate::telemetry::{clock, names};
use crate::tls::pools::PoolsTls;
use crate::upstream::names::Ahead;

/// Time that the first answers for new host names get before they are published: as at the start of the process.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// What is known of the configuration as it stands on disk.
#[derive(Debug, Clone)]
pub(super) enum OnDisk {
    /// It is what is live.
    Live,
    /// It holds, but not together with the weights file: it waits for that one.
    Waiting,
    /// It does not hold.
    Broken(Problems),
}

/// What a look at the files leads to.
struct Judged {
    /// The configuration, when it holds and is another one than the live one.
    config: Option<Arc<Config>>,
    /// The weights, when they may be taken over.
    weights: Option<WeightsFile>,
    /// Everything that is wrong.
    problems: Option<Problems>,
}

// === impl Switchboard ===

impl Switchboard {
    /// Has the host names looked up that a changed `weir.toml` brings; a pool would be published empty otherwise, and
    /// its share fail over until the first answer. Without the desk: weights move meanwhile.
    pub(super) fn look_ahead(&self, change: &Change) -> Option<Ahead<'_>> {
        let (Change::Reload | Change::FileChanged { config: Some(_), .. }) = change else { return None };
        let files = Files::of(&self.config());
        // What is wrong with it is said by the reload itself.
        let next = files.parse_config(&Content::of(&files.config)).ok()?;
        let pools = next.plan.services.iter().flat_map(|service| &service.pools);
        Some(self.upstreams.names().look_ahead(pools.flat_map(|pool| &pool.origins), FIRST_ANSWER))
    }

    /// Applies what the watcher read, so far as it still stands in the files.
    pub(super) fn take_changes(
        &self,
        desk: &mut Desk,
        config: Option<ContentHash>,
        weights: Option<ContentHash>,
        cause: &Cause,
    ) -> Result<Applied, Refused> {
        let look = desk.files.look_for(&desk.seen, config, weights);
        if look == desk.seen {
            return Ok(desk.applied(false));
        }
        self.take_in(desk, look, cause)
    }

    /// Applies what stands in the files, and says what is wrong with them also when it was said before.
    pub(super) fn reload(&self, desk: &mut Desk, cause: &Cause) -> Result<Applied, Refused> {
        let look = desk.files.look();
        // Read it anew whatever is known of it: the environment and token files that it names count as well.
        desk.on_disk = OnDisk::Waiting;
        self.take_in(desk, look, cause)
    }

    /// Takes in a weights file that was saved since the last look, so that an edit is never undone unseen. What stands
    /// in it now; if that does not hold it may be half written, and the watcher is the one to say so.
    pub(super) fn catch_up(&self, desk: &mut Desk) -> Content {
        let weights = Content::of(&desk.files.weights);
        if weights != desk.seen.weights && desk.files.parse_weights(&weights, &desk.config.plan).is_ok() {
            let look = Look { config: desk.seen.config.clone(), weights: weights.clone() };
            let cause = Cause::by(How::File).from(desk.files.weights.display().to_string());
            // It holds; what else may be wrong is on the desk already.
            let _ = self.take_in(desk, look, &cause);
        }
        weights
    }

    fn take_in(&self, desk: &mut Desk, mut look: Look, cause: &Cause) -> Result<Applied, Refused> {
        let judged = judge(desk, &mut look);
        let rewritten = look.weights != desk.seen.weights;
        desk.started_without_weights &= !rewritten;
        desk.seen = look;
        let problems = match (judged.problems, self.rekey(desk).err()) {
            (Some(problems), Some(key)) => Some(problems.join(key)),
            (problems, key) => problems.or(key),
        };
        // Before anything is live, so that who sees the new traffic also sees how the reload went.
        note(desk, problems, cause);
        let mut changed = false;
        if let Some(written) = judged.weights {
            if rewritten {
                // Whoever saved the file since decided anew; what it says now is the truth.
                for held in desk.history.held() {
                    tracing::info!(service = held.service, "the weights file was saved: it decides again");
                }
                desk.history.hold(Vec::new());
                desk.history.hold_kills(Vec::new());
            }
            desk.written = written.services;
            desk.kills = written.kills;
            let plan_changed = judged.config.is_some();
            if let Some(config) = judged.config {
                desk.files.weights = config.weights_path.clone();
                desk.tls = desk.next_tls.take().unwrap_or_default();
                desk.config = config;
            }
            let wanted = Wanted { plan_changed, ..desk.wanted() };
            changed = self.commit(desk, wanted, cause)?;
        }
        let result = match &desk.problems {
            Some(_) => "failure",
            None if changed => "success",
            None => "unchanged",
        };
        metrics::counter!(names::CONFIG_RELOADS.name, "result" => result).increment(1);
        match &desk.problems {
            Some(problems) => Err(Refused::Problems(problems.clone())),
            None => Ok(desk.applied(changed)),
        }
    }

    /// Takes over other affinity keys; the keys alone are no new generation.
    fn rekey(&self, desk: &mut Desk) -> Result<(), Problems> {
        match desk.keyring.refresh() {
            Ok(false) => Ok(()),
            Ok(true) => {
                tracing::info!("other affinity keys are in use");
                self.publish(desk);
                Ok(())
            }
            Err(error) => Err(problem(&desk.files.config, &error.to_string(), "the old keys stay in use")),
        }
    }
}

/// Judges both files. Weights hold against the configuration that stands beside them; when that one does not hold, the
/// live one counts, so that a broken `weir.toml` never keeps an operator from moving traffic.
fn judge(desk: &mut Desk, look: &mut Look) -> Judged {
    let config = match &desk.on_disk {
        OnDisk::Live if look.config == desk.seen.config => Ok(None),
        OnDisk::Broken(problems) if look.config == desk.seen.config => Err(problems.clone()),
        OnDisk::Live | OnDisk::Broken(_) | OnDisk::Waiting => read_config(desk, look),
    };
    let config = config.and_then(|config| {
        let open = |config: &Arc<Config>| open_tls(config, &desk.tls);
        desk.next_tls = config.as_ref().map(open).transpose()?;
        Ok(config)
    });
    let mut files = desk.files.clone();
    if let Ok(Some(config)) = &config
        && config.weights_path != files.weights
    {
        files.weights = config.weights_path.clone();
        look.weights = Content::of(&files.weights);
    }
    let plan = config.as_ref().ok().and_then(Option::as_ref).map_or(&desk.config.plan, |config| &config.plan);
    let weights = if look.weights == desk.seen.weights && desk.started_without_weights {
        files.first_weights(&look.weights, plan)
    } else {
        files.parse_weights(&look.weights, plan)
    };
    for note in weights.iter().flat_map(|file| &file.notes) {
        tracing::warn!("{}", note.headline());
    }
    let (on_disk, judged) = match (config, weights) {
        (Ok(config), Ok(weights)) => (OnDisk::Live, Judged { config, weights: Some(weights), problems: None }),
        (Err(problems), Ok(weights)) => {
            let judged = Judged { config: None, weights: Some(weights), problems: Some(problems.clone()) };
            (OnDisk::Broken(problems), judged)
        }
        (Ok(config), Err(problems)) => {
            let on_disk = if config.is_some() { OnDisk::Waiting } else { OnDisk::Live };
            (on_disk, Judged { config: None, weights: None, problems: Some(problems) })
        }
        (Err(problems), Err(more)) => {
            let all = problems.clone().join(more);
            (OnDisk::Broken(problems), Judged { config: None, weights: None, problems: Some(all) })
        }
    };
    desk.on_disk = on_disk;
    judged
}

/// The configuration on disk: none when it says what is live already.
fn read_config(desk: &Desk, look: &Look) -> Result<Option<Arc<Config>>, Problems> {
    let config = desk.files.parse_config(&look.config)?;
    let fields = config::restart_needed(&desk.config, &config);
    let help = "restart weir, or take the change back; nothing of the file is live before that";
    let refuse = |field: &String| problem(&desk.files.config, &format!("{field} needs a restart to change"), help);
    if let Some(problems) = fields.iter().map(refuse).reduce(Problems::join) {
        return Err(problems);
    }
    for note in &config.notes {
        tracing::warn!("{}", note.headline());
    }
    Ok((!same(&config, &desk.config)).then(|| Arc::new(config)))
}

/// Reads what pools speak TLS with, but for what is `known`.
pub(crate) fn open_tls(config: &Config, known: &PoolsTls) -> Result<PoolsTls, Problems> {
    PoolsTls::open(&config.plan.services, known).map_err(|problems| {
        let help = "mend the file, or name another one";
        let told = problems.iter().map(|told| problem(&config.path, &told.to_string(), help));
        told.reduce(Problems::join).expect("there is a problem where there is an error")
    })
}

/// Whether two configurations say the same. Regular expressions cannot be compared, what they print can.
fn same(a: &Config, b: &Config) -> bool {
    a.weights_path == b.weights_path
        && a.kill_switches == b.kill_switches
        && a.notifications == b.notifications
        && format!("{:?}", a.plan) == format!("{:?}", b.plan)
}

/// Keeps how the reload went, and logs every problem once.
pub(super) fn note(desk: &mut Desk, problems: Option<Problems>, cause: &Cause) {
    let how = cause.how.as_str();
    let known = |problem: &&Problem| desk.problems.iter().flat_map(Problems::iter).any(|known| known == *problem);
    for problem in problems.iter().flat_map(Problems::iter).filter(|problem| !known(problem)) {
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
