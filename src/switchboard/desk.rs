//! What the writer has before it: the files as last read, the configuration, the weights, what is remembered. It
//! changes nothing outside itself but the history on disk.

use std::sync::Arc;

use super::change::{Applied, Cause, LastCause, Refused};
use super::files::{Content, Files, Look};
use super::history::{Entry, Held, HeldKill, History, Record, SaidKill};
use super::keyring::Keyring;
use super::reconcile::{Next, State, Wanted, all_to_stable};
use super::reload::OnDisk;
use super::status::Reload;
use super::store::Store;
use super::writer::{Mode, timestamp};
use crate::config::{Config, Problems};
use crate::model::{Killed, Kills, Name, Scope, ServiceSpec, Weights};
use crate::tls::pools::PoolsTls;

/// Everything that the writer's lock guards.
pub(super) struct Desk {
    pub(super) files: Files,
    /// Both files as they were at the last look.
    pub(super) seen: Look,
    pub(super) config: Arc<Config>,
    /// What the weights file said when it last held.
    pub(super) written: Vec<(Name, Weights)>,
    /// What the weights file said of kills when it last held.
    pub(super) kills: Kills,
    /// What moved each service last.
    pub(super) causes: Vec<(Name, LastCause)>,
    pub(super) state: State,
    pub(super) revision: u64,
    pub(super) history: History,
    pub(super) store: Store,
    pub(super) keyring: Keyring,
    /// What pools speak TLS with.
    pub(super) tls: PoolsTls,
    /// The same for a configuration that is about to be live.
    pub(super) next_tls: Option<PoolsTls>,
    pub(super) mode: Mode,
    /// There was no weights file at the start and none was saved since.
    pub(super) started_without_weights: bool,
    /// What is known of `weir.toml` as it was at the last look.
    pub(super) on_disk: OnDisk,
    /// What is wrong with the files as they are on disk.
    pub(super) problems: Option<Problems>,
    pub(super) reload: Reload,
    pub(super) stale: Option<String>,
    /// Another process takes over: nothing is written any more but what brings traffic to stable.
    pub(super) rests: bool,
    /// What is being done, for the history.
    pub(super) doing: Option<String>,
}

/// What readers may see of the desk without its lock.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) config: Arc<Config>,
    pub(super) history: History,
    pub(super) causes: Vec<(Name, LastCause)>,
    /// What the weights file says of every service's weights, which do not count while it is killed.
    pub(super) written: Vec<(Name, Weights)>,
    /// What is killed, by the file or by what it does not say yet.
    pub(super) kills: Kills,
    pub(super) mode: Mode,
    pub(super) reload: Reload,
    pub(super) stale: Option<String>,
}

// === impl Desk ===

impl Desk {
    /// The service of that name in the configuration that is live.
    pub(super) fn spec(&self, service: &Name) -> Result<ServiceSpec, Refused> {
        let spec = self.config.plan.services.iter().find(|spec| spec.name == *service);
        spec.cloned().ok_or_else(|| Refused::UnknownService(service.to_string()))
    }

    /// The weights that are live.
    pub(super) fn live(&self) -> Vec<(Name, Weights)> {
        let names = self.state.plan.services.iter().map(|spec| spec.name.clone());
        names.zip(self.state.services.iter().map(|service| service.weights.clone())).collect()
    }

    /// What the files and the rollbacks that they do not say yet ask for.
    pub(super) fn wanted(&self) -> Wanted {
        let said = Said { written: &self.written, kills: &self.kills };
        wanted(&self.config, said, &self.history, self.mode, false)
    }

    pub(super) fn applied(&self, changed: bool) -> Applied {
        Applied { generation: self.state.generation, revision: self.revision, changed, pending: None }
    }

    /// Puts the history on disk.
    pub(super) fn keep(&mut self) {
        if !self.rests {
            self.store.save(&self.history);
        }
    }

    /// Replaces what is held of `service`.
    pub(super) fn hold(&mut self, service: &Name, held: Option<Held>) {
        let others = self.history.held().iter().filter(|held| held.service != service.as_str()).cloned();
        self.history.hold(others.chain(held).collect());
    }

    /// Replaces what is held of a kill.
    pub(super) fn hold_kill(&mut self, scope: &Scope, held: Option<HeldKill>) {
        let others = self.history.held_kills().iter().filter(|held| scope_of(held) != *scope).cloned();
        self.history.hold_kills(others.chain(held).collect());
    }

    /// A text of the weights file with the kills that it does not say yet.
    pub(super) fn with_held_kills(&self, content: Content) -> Result<Content, Refused> {
        self.history.held_kills().iter().try_fold(content, |content, held| {
            self.files.edited_kill(&content, &scope_of(held), Some(&held.reason), &self.written)
        })
    }

    /// Why a service is killed.
    pub(super) fn killed(&self, service: &Name) -> Option<Killed> {
        self.kills_now().of(service)
    }

    /// What is killed, by the file or by what it does not say yet.
    pub(super) fn kills_now(&self) -> Kills {
        kills(&self.kills, &self.history)
    }

    /// Keeps who moved which service, before `next` is published as `revision`.
    pub(super) fn note_causes(&mut self, next: &Next, cause: &Cause, revision: u64) {
        let state = &next.state;
        self.causes.retain(|(name, _)| state.plan.services.iter().any(|spec| spec.name == *name));
        for (spec, live) in state.plan.services.iter().zip(&state.services) {
            let known = self.causes.iter().position(|(name, _)| *name == spec.name);
            let same = |at: usize| {
                let last = &self.causes[at].1;
                (&last.weights, &last.killed) == (&live.weights, &live.killed)
            };
            if known.is_some_and(same) {
                continue;
            }
            let (weights, killed) = (live.weights.clone(), live.killed.clone());
            let last = LastCause { generation: state.generation, revision, weights, killed, cause: cause.clone() };
            match known {
                Some(at) => self.causes[at].1 = last,
                None => self.causes.push((spec.name.clone(), last)),
            }
        }
    }

    /// Logs a generation and keeps it.
    pub(super) fn record(&mut self, mut next: Next, cause: &Cause) {
        // The first generation of a process goes on from the last one of the process before it.
        for change in &mut next.changes {
            let last = || self.history.live(&change.service).cloned().map(Record);
            change.before = change.before.take().or_else(last);
        }
        next.changes.retain(|change| change.before.as_ref() != Some(&change.after));
        if next.changed {
            log(self.state.generation, &next, cause);
        }
        let plan = &self.state.plan;
        self.history.keep_services(|service| plan.services.iter().any(|spec| spec.name.as_str() == service));
        if self.mode == Mode::Safe {
            // Nobody decided these weights: they must not be what a later `undo` goes by.
            next.changes.clear();
        } else {
            self.note_own();
        }
        if next.changed {
            let (generation, cause, what) = (self.state.generation, cause.clone(), self.doing.clone());
            self.history.push(Entry { generation, at: timestamp(), cause, what, changes: next.changes });
        }
        self.keep();
    }

    /// Keeps what each service has without what is above its weights, and what is killed.
    fn note_own(&mut self) {
        let wanted = self.wanted().weights;
        for spec in &self.state.plan.services {
            let own = wanted.iter().find(|(name, _)| *name == spec.name).map(|(_, weights)| weights.clone());
            self.history.note(&spec.name, &own.unwrap_or_else(|| all_to_stable(spec)));
        }
        let system = self.kills.system.iter().map(|reason| SaidKill { service: None, reason: reason.clone() });
        let one = |(name, reason): &(Name, String)| SaidKill { service: Some(name.clone()), reason: reason.clone() };
        let said = system.chain(self.kills.services.iter().map(one)).collect();
        self.history.say_kills(said);
    }

    pub(super) fn shown(&self) -> Shown {
        Shown {
            config: self.config.clone(),
            history: self.history.clone(),
            causes: self.causes.clone(),
            written: self.written.clone(),
            kills: self.kills_now(),
            mode: self.mode,
            reload: self.reload.clone(),
            stale: self.stale.clone(),
        }
    }
}

fn log(generation: u64, next: &Next, cause: &Cause) {
    let (how, who, from, reason) = (cause.how.as_str(), &*cause.who, &*cause.from, &*cause.reason);
    if next.changes.is_empty() {
        tracing::info!(generation, how, who, from, reason, "the configuration is live");
    }
    for change in &next.changes {
        let before = change.before.as_ref().map(ToString::to_string).unwrap_or_default();
        let (service, after) = (&*change.service, change.after.to_string());
        tracing::info!(generation, how, who, from, reason, service, before, after, "weights are live");
    }
}

/// What the weights file said when it last held.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) written: &'a [(Name, Weights)],
    pub(super) kills: &'a Kills,
}

fn scope_of(held: &HeldKill) -> Scope {
    held.service.clone().map_or(Scope::System, Scope::Service)
}

/// What these ask for.
pub(super) fn wanted(config: &Config, said: Said<'_>, history: &History, mode: Mode, plan_changed: bool) -> Wanted {
    let held = |service: &Name| history.held().iter().any(|held| held.service == service.as_str());
    // A service that is left out sends everything to stable.
    let weights = said.written.iter().filter(|(name, _)| mode == Mode::Normal && !held(name)).cloned().collect();
    let kills = kills(said.kills, history);
    Wanted { plan: config.plan.clone(), weights, kills, plan_changed, evict: None }
}

fn kills(said: &Kills, history: &History) -> Kills {
    let mut kills = said.clone();
    for held in history.held_kills() {
        kills.put(&scope_of(held), Some(held.reason.clone()));
    }
    kills
}
