//! Sweeps: after a promotion one job for each target, no more of them in a minute than the plan says. They hold no
//! service, a restart goes on where they were, and a rollback of what they verify ends them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::super::event::Severity;
use super::super::machine::{Rollout, State};
use super::super::outside::act::{act, for_target};
use super::actions::tell;
use super::context::context;
use super::locked;
use super::office::Office;
use crate::model::rollout::Sweep;

/// Rollouts whose sweeps run at once; many times what a person keeps an eye on.
const SWEEPS_MAX: usize = 64;

/// Targets that failed and are named at the end.
const NAMED_MAX: usize = 20;

/// Targets that failed and have an event of their own: what is told of others must not be pushed out.
const TOLD_MAX: usize = 100;

/// Under which word the journal keeps where they are.
const WORD: &str = "sweeps";

/// The sweeps of the process.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Sweeps {
    /// Where they are, by rollout.
    list: Mutex<BTreeMap<String, Progress>>,
    tasks: Mutex<JoinSet<()>>,
}

/// Where the sweeps of a rollout are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Progress {
    /// Index of the sweep.
    sweep: usize,
    /// Index of the next target.
    next: usize,
    /// Targets of this sweep whose job failed.
    failed: usize,
    /// The first of them.
    named: Vec<String>,
}

// === impl Sweeps ===

impl Sweeps {
    /// How many rollouts have sweeps under way.
    pub(in crate::rollout) fn count(&self) -> usize {
        locked(&self.list).len()
    }

    /// Whether there is room for those of one more rollout.
    fn enter(&self, id: &str, progress: Progress) -> bool {
        let mut list = locked(&self.list);
        let room = list.len() < SWEEPS_MAX && !list.contains_key(id);
        if room {
            list.insert(id.to_owned(), progress);
        }
        room
    }
}

/// Begins the sweeps of a rollout that was promoted.
pub(super) fn begin(office: &Arc<Office>, rollout: &Rollout) {
    let jobs: usize = rollout.plan.sweeps.iter().map(|sweep| sweep.targets.len()).sum();
    if rollout.plan.dry_run {
        let message = format!("{jobs} jobs of sweeps are left out, this is a dry run");
        return tell(office, rollout, Severity::Info, message, json!({ "jobs": jobs }));
    }
    go_on(office, rollout.clone(), Progress::default());
}

/// Goes on with the sweeps of the process before this one.
pub(in crate::rollout) async fn take_up(office: &Arc<Office>) {
    let Some(word) = office.keeper.kept_word(WORD).await else { return };
    let kept: BTreeMap<String, Progress> = serde_json::from_str(&word).unwrap_or_default();
    for (id, progress) in kept {
        match office.keeper.rollout(&id).await {
            Some(kept) if kept.rollout.state == State::Completed => go_on(office, kept.rollout, progress),
            Some(_) | None => {
                tracing::warn!(rollout = id, "a sweep is not taken up: its rollout is no longer promoted")
            }
        }
    }
}

fn go_on(office: &Arc<Office>, rollout: Rollout, progress: Progress) {
    if !office.sweeps.enter(&rollout.id, progress.clone()) {
        let message = "its sweeps are left out: too many others are under way".to_owned();
        return tell(office, &rollout, Severity::Warning, message, serde_json::Value::Null);
    }
    let mut tasks = locked(&office.sweeps.tasks);
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(%error, "a sweep failed inside weir");
        }
    }
    let office = Arc::clone(office);
    tasks.spawn(async move {
        sweep_all(&office, &rollout, progress).await;
        locked(&office.sweeps.list).remove(&rollout.id);
        save(&office);
    });
}

async fn sweep_all(office: &Arc<Office>, rollout: &Rollout, mut progress: Progress) {
    while let Some(sweep) = rollout.plan.sweeps.get(progress.sweep) {
        if !sweep_one(office, rollout, sweep, &mut progress).await {
            let message = format!(
                "{}: ends after {} of {}, the rollout went back",
                sweep.name,
                progress.next,
                sweep.targets.len()
            );
            return tell(office, rollout, Severity::Warning, message, json!({ "sweep": sweep.name }));
        }
        let (total, failed) = (sweep.targets.len(), progress.failed);
        let data = json!({ "sweep": sweep.name, "targets": total, "failed": failed, "named": progress.named });
        let (severity, message) = match failed {
            0 => (Severity::Info, format!("{}: all {total} targets passed", sweep.name)),
            _ => {
                let more = if failed > progress.named.len() { " and others" } else { "" };
                let named = progress.named.join(", ");
                (Severity::Warning, format!("{}: {failed} of {total} targets failed: {named}{more}", sweep.name))
            }
        };
        tell(office, rollout, severity, message, data);
        progress = Progress { sweep: progress.sweep + 1, ..Progress::default() };
        keep(office, rollout, &progress);
    }
}

/// Whether it came to its end; it does not when the rollout went back meanwhile.
async fn sweep_one(office: &Arc<Office>, rollout: &Rollout, sweep: &Sweep, progress: &mut Progress) -> bool {
    let mut slots = interval(Duration::from_secs(60) / sweep.per_minute.max(1));
    slots.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(target) = sweep.targets.get(progress.next) {
        slots.tick().await;
        if !promoted(office, &rollout.id) {
            return false;
        }
        let mut context = context(office, rollout, format!("sweep {}", sweep.name));
        context.turn = progress.next;
        if let Err(why) = act(&for_target(&sweep.act, target), &context).await {
            progress.failed += 1;
            if progress.named.len() < NAMED_MAX {
                progress.named.push(target.clone());
            }
            if progress.failed <= TOLD_MAX {
                let data = json!({ "sweep": sweep.name, "target": target, "ok": false });
                tell(office, rollout, Severity::Warning, format!("{}: {target}: {why}", sweep.name), data);
            }
        }
        progress.next += 1;
        keep(office, rollout, progress);
    }
    true
}

/// Whether the rollout is still completed, as far as this process knows.
fn promoted(office: &Office, id: &str) -> bool {
    let seat = office.seat(id).map(|seat| seat.view.load_full());
    let view = seat.or_else(|| office.ended().iter().find(|view| view.rollout.id == id).cloned());
    view.is_none_or(|view| view.rollout.state == State::Completed)
}

fn keep(office: &Office, rollout: &Rollout, progress: &Progress) {
    if let Some(kept) = locked(&office.sweeps.list).get_mut(&rollout.id) {
        kept.clone_from(progress);
    }
    save(office);
}

fn save(office: &Office) {
    let list = serde_json::to_string(&*locked(&office.sweeps.list)).unwrap_or_default();
    office.keeper.word(WORD, &list);
}
