//! The one writer. Whoever wants anything changed hands in a [`Change`] with its [`Cause`] and gets an answer; when the
//! answer is there, workers that load the snapshot see the change.
//!
//! One lock makes the writers wait for each other, never a worker: a worker only loads the snapshot. What is decided is
//! in [`super::reconcile`]; this file does it. Reloads are in [`super::reload`], weights in [`super::weights`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::change::{Applied, Cause, Change, How, Refused};
use super::files::{Content, Files, Look};
use super::history::{Entry, Held, History, Record};
use super::keyring::{KeyError, Keyring};
use super::publish::{self, Sources};
use super::reconcile::{self, Next, State, Wanted};
use super::sample::Sampler;
use super::snapshot::{Pool, Service, Snapshot};
use super::status::Reload;
use super::store::Store;
use crate::config::watch::ContentHash;
use crate::config::{Config, Problems};
use crate::model::{Name, Origin, ServiceSpec, Weights};
use crate::telemetry::clock;
use crate::upstream::probe::Target;
use crate::upstream::upstreams::{PoolTarget, Upstreams};

/// Publishes every snapshot of the process.
pub struct Switchboard {
    snapshot: Arc<ArcSwap<Snapshot>>,
    revision: watch::Sender<u64>,
    upstreams: Arc<Upstreams>,
    desk: Mutex<Desk>,
    shown: ArcSwap<Shown>,
    pub(super) sampler: Mutex<Sampler>,
    pub(super) birth: Birth,
}

/// How the process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The weights file says where traffic goes.
    Normal,
    /// Everything goes to stable, whatever the weights file says.
    Safe,
}

/// What does not change while the process runs.
#[derive(Debug, Clone)]
pub(super) struct Birth {
    pub(super) at: String,
    pub(super) mono_ms: u64,
    pub(super) workers: usize,
}

/// What the writer has before it; behind the lock.
pub(super) struct Desk {
    pub(super) files: Files,
    /// Both files as they were at the last look.
    pub(super) seen: Look,
    pub(super) config: Arc<Config>,
    /// What the weights file said when it last held.
    pub(super) written: Vec<(Name, Weights)>,
    pub(super) state: State,
    pub(super) revision: u64,
    pub(super) history: History,
    pub(super) store: Store,
    pub(super) keyring: Keyring,
    pub(super) mode: Mode,
    /// There was no weights file at the start and none was saved since.
    pub(super) started_without_weights: bool,
    /// What is wrong with the files as they are on disk.
    pub(super) problems: Option<Problems>,
    pub(super) reload: Reload,
    pub(super) stale: Option<String>,
}

/// What readers may see of the desk without its lock.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) config: Arc<Config>,
    pub(super) history: History,
    pub(super) mode: Mode,
    pub(super) reload: Reload,
    pub(super) stale: Option<String>,
}

/// Why there is nothing to start with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files do not hold.
    #[error("{0}")]
    Problems(Problems),
    /// There are no keys for the affinity cookies.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The weights do not fit the plan.
    #[error(transparent)]
    Refused(#[from] Refused),
}

// === impl Switchboard ===

impl Switchboard {
    /// Reads both files and builds the first snapshot. `config` is what `path` said when the process began.
    pub fn open(config: Config, mode: Mode, workers: usize, upstreams: Arc<Upstreams>) -> Result<Self, StartError> {
        let files = Files { config: config.path.clone(), weights: config.weights_path.clone() };
        let seen = files.look();
        let written = files.first_weights(&seen.weights, &config.plan).map_err(StartError::Problems)?;
        for note in config.notes.iter().chain(&written.notes) {
            tracing::warn!("{}", note.headline());
        }
        let keyring = Keyring::open(config.key_file.as_deref(), &config.weights_path)?;
        let store = Store::beside(&config.weights_path);
        let mut history = store.load();
        let content = seen.weights.fingerprint();
        history.hold(history.held().iter().filter(|held| held.content == content).cloned().collect());
        let now = clock::now();
        let wanted = wanted(&config, &written.services, &history, mode, true);
        let first = history.generation().map_or(1, |last| last + 1);
        let next = reconcile::reconcile(None, wanted, first, now)?;
        let mut desk = Desk {
            started_without_weights: files.parse_weights(&seen.weights, &config.plan).is_err(),
            files,
            seen,
            config: Arc::new(config),
            written: written.services,
            state: next.state.clone(),
            revision: 1,
            history,
            store,
            keyring,
            mode,
            problems: None,
            reload: Reload { ok: true, at: timestamp(), success_unix_s: now.unix_s, problems: Vec::new() },
            stale: None,
        };
        desk.record(next, &Cause::by(How::Start));
        let snapshot = build(&desk, &upstreams);
        let this = Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            revision: watch::channel(1).0,
            upstreams,
            shown: ArcSwap::from_pointee(desk.shown()),
            desk: Mutex::new(desk),
            sampler: Mutex::default(),
            birth: Birth { at: timestamp(), mono_ms: now.mono_ms, workers },
        };
        this.announce(&this.snapshot.load_full());
        Ok(this)
    }

    /// The snapshot, for workers to load.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        self.snapshot.clone()
    }

    /// The configuration that is live.
    pub fn config(&self) -> Arc<Config> {
        self.shown.load().config.clone()
    }

    /// Hashes of `weir.toml` and the weights file as they were last read; none for a file that is missing.
    pub fn known(&self) -> (Option<ContentHash>, Option<ContentHash>) {
        let desk = self.lock();
        let hash = |content: &Content| (*content != Content::Missing).then(|| content.hash());
        (hash(&desk.seen.config), hash(&desk.seen.weights))
    }

    /// The number of the newest publication; changes after the snapshot is live.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Applies one change. It may write a file and wait for the disk: call it from a thread that may block, within the
    /// control runtime (probes and lookups are spawned there).
    /// With `expected`, a change that would go by an older generation is refused; a rollback never is.
    pub fn apply(&self, change: Change, cause: &Cause, expected: Option<u64>) -> Result<Applied, Refused> {
        let mut desk = self.lock();
        let result = match change {
            Change::Reload => self.reload(&mut desk, cause),
            Change::FileChanged { config, weights } => self.take_changes(&mut desk, config, weights, cause),
            Change::Weights { service, weights } => self.set(&mut desk, &service, weights, cause, expected),
            Change::Rollback { service } => self.rollback(&mut desk, &service, cause),
            Change::Undo { service } => self.undo(&mut desk, &service, cause, expected),
            Change::EndpointsChanged => {
                self.publish(&mut desk);
                Ok(desk.applied(true))
            }
        };
        self.shown.store(Arc::new(desk.shown()));
        if let Err(refused) = &result {
            tracing::debug!(%refused, how = cause.how.as_str(), "a change was refused");
        }
        result
    }

    /// A file can no longer be seen to change, or can again. Logged here once per change of the note.
    pub fn note_stale(&self, note: Option<String>) {
        let mut desk = self.lock();
        if desk.stale != note {
            match &note {
                Some(note) => tracing::error!("{note}"),
                None => tracing::info!("the files can be seen to change again"),
            }
            desk.stale = note;
            self.shown.store(Arc::new(desk.shown()));
        }
    }

    /// What has to be done every second: a sample of the counters, the end of drains, another affinity key.
    pub fn tick(&self) {
        let now_ms = clock::now().mono_ms;
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner).take(&self.snapshot.load(), now_ms);
        let mut desk = self.lock();
        let desk = &mut *desk;
        let rekeyed = match desk.keyring.refresh() {
            Ok(rekeyed) => rekeyed,
            Err(error) => {
                tracing::debug!(%error, "the affinity keys stay as they are");
                false
            }
        };
        let drains = desk
            .state
            .services
            .iter_mut()
            .filter_map(|service| service.drain.take_if(|drain| drain.until_ms <= now_ms));
        if drains.count() > 0 || rekeyed {
            tracing::info!(rekeyed, "a drain or a key came to its end");
            self.publish(desk);
            self.shown.store(Arc::new(desk.shown()));
        }
    }

    pub(super) fn shown(&self) -> Arc<Shown> {
        self.shown.load_full()
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        // A panic while the desk was held leaves it as it was between two steps; the next change goes on from there.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `wanted` live: reconcile, one store, then everybody who has to know.
    pub(super) fn commit(&self, desk: &mut Desk, wanted: Wanted, cause: &Cause) -> Result<bool, Refused> {
        let next = reconcile::reconcile(Some(&desk.state), wanted, 1, clock::now())?;
        let changed = next.changed;
        if changed {
            desk.state = next.state.clone();
            self.publish(desk);
        }
        desk.record(next, cause);
        Ok(changed)
    }

    /// Publishes the state on the desk.
    pub(super) fn publish(&self, desk: &mut Desk) {
        desk.revision += 1;
        let snapshot = Arc::new(build(desk, &self.upstreams));
        self.snapshot.store(snapshot.clone());
        // Before anybody is told, so that who is told can read what it is about.
        self.shown.store(Arc::new(desk.shown()));
        self.revision.send_replace(desk.revision);
        self.announce(&snapshot);
    }

    /// Says on the other side what is published now.
    fn announce(&self, snapshot: &Snapshot) {
        let services = snapshot.services.iter();
        let origins = services.clone().flat_map(|service| service.spec.pools.iter().flat_map(|pool| &pool.origins));
        self.upstreams.names().follow(origins);
        let pools =
            services.flat_map(|service| service.pools.iter().enumerate().map(move |(i, pool)| (service, i, pool)));
        let target = |(service, i, pool): (&Service, usize, &Pool)| PoolTarget {
            pool: pool.state.clone(),
            breaker: service.spec.breaker.clone(),
            takes_traffic: pool.weight > 0 || i == service.stable,
            endpoints: pool
                .endpoints
                .iter()
                .map(|endpoint| Target { endpoint: endpoint.clone(), health: service.spec.health.clone() })
                .collect(),
        };
        self.upstreams.set_targets(pools.map(target).collect());
    }
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
        wanted(&self.config, &self.written, &self.history, self.mode, false)
    }

    pub(super) fn applied(&self, changed: bool) -> Applied {
        Applied { generation: self.state.generation, revision: self.revision, changed, pending: None }
    }

    /// Puts the history on disk.
    pub(super) fn keep(&mut self) {
        self.store.save(&self.history);
    }

    /// Replaces what is held of `service`.
    pub(super) fn hold(&mut self, service: &Name, held: Option<Held>) {
        let others = self.history.held().iter().filter(|held| held.service != service.as_str()).cloned();
        self.history.hold(others.chain(held).collect());
    }

    /// Logs a generation and keeps it.
    fn record(&mut self, mut next: Next, cause: &Cause) {
        if next.changed {
            // The first generation of a process goes on from the last one of the process before it.
            for change in &mut next.changes {
                let last = || self.history.live(&change.service).cloned().map(Record);
                change.before = change.before.take().or_else(last);
            }
            next.changes.retain(|change| change.before.as_ref() != Some(&change.after));
            let generation = self.state.generation;
            log(generation, &next, cause);
            let named = |service: &str| self.state.plan.services.iter().any(|spec| spec.name.as_str() == service);
            self.history.keep_services(named);
            let cause = cause.clone();
            self.history.push(Entry { generation, at: timestamp(), cause, changes: next.changes });
        }
        self.keep();
    }

    pub(super) fn shown(&self) -> Shown {
        Shown {
            config: self.config.clone(),
            history: self.history.clone(),
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

fn wanted(config: &Config, written: &[(Name, Weights)], history: &History, mode: Mode, plan_changed: bool) -> Wanted {
    let held = |service: &Name| history.held().iter().any(|held| held.service == service.as_str());
    // A service that is left out sends everything to stable.
    let weights = written.iter().filter(|(name, _)| mode == Mode::Normal && !held(name)).cloned().collect();
    Wanted { plan: config.plan.clone(), weights, plan_changed, evict: None }
}

fn build(desk: &Desk, upstreams: &Upstreams) -> Snapshot {
    let resolve = |origin: &Origin| upstreams.names().answers(origin);
    let sources = Sources {
        registry: upstreams.registry(),
        resolve: &resolve,
        listeners: &desk.config.listeners,
        keys: desk.keyring.keys(),
    };
    publish::build(&desk.state, desk.revision, &sources)
}

/// Now, as people and programs read it.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
