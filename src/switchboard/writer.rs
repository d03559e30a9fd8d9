//! The one writer. Whoever wants anything changed hands in a [`Change`] with its [`Cause`] and gets an answer; when the
//! answer is there, workers that load the snapshot see the change.
//!
//! One lock makes the writers wait for each other, never a worker: a worker only loads the snapshot. What is decided is
//! in [`super::reconcile`]; this file does it. Reloads are in `reload`, weights in `weights`.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::change::{Applied, Cause, Change, How, LastCause, Refused};
use super::desk::{Desk, Said, Shown, wanted};
use super::files::{Content, Files};
use super::keyring::{KeyError, Keyring};
use super::publish::{self, Sources};
use super::reconcile::{self, Wanted};
use super::reload::{self, OnDisk};
use super::sample::Sampler;
use super::snapshot::{Pool, Service, Snapshot};
use super::status::Reload;
use super::store::Store;
use crate::config::watch::ContentHash;
use crate::config::{Config, Problems};
use crate::model::{Origin, Scope, Weights};
use crate::telemetry::clock;
use crate::throttle::book::Book;
use crate::tls::issuance::Issuance;
use crate::tls::pools::PoolsTls;
use crate::tls::site::Site;
use crate::upstream::probe::Target;
use crate::upstream::upstreams::{PoolTarget, Upstreams};

/// Publishes every snapshot of the process.
pub struct Switchboard {
    snapshot: Arc<ArcSwap<Snapshot>>,
    revision: watch::Sender<u64>,
    pub(super) upstreams: Arc<Upstreams>,
    throttles: Book,
    desk: Mutex<Desk>,
    shown: ArcSwap<Shown>,
    pub(super) sampler: Mutex<Sampler>,
    pub(super) birth: Birth,
    pub(super) sites: OnceLock<Vec<Arc<Site>>>,
    pub(super) issuance: OnceLock<Arc<Issuance>>,
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
        let files = Files::of(&config);
        let seen = files.look();
        let store = Store::beside(&config.weights_path);
        let mut history = store.load();
        let start = files.start(&seen.weights, &config.plan, &history, mode);
        let (written, problems) = start.map_err(StartError::Problems)?;
        for note in config.notes.iter().chain(&written.notes) {
            tracing::warn!("{}", note.headline());
        }
        let tls = reload::open_tls(&config, &PoolsTls::default()).map_err(StartError::Problems)?;
        let keyring = Keyring::open(config.key_file.as_deref(), &config.weights_path)?;
        let content = seen.weights.fingerprint();
        history.hold(history.held().iter().filter(|held| held.content == content).cloned().collect());
        let kills = history.held_kills().iter().filter(|held| held.content == content).cloned().collect();
        history.hold_kills(kills);
        let now = clock::now();
        let said = Said { written: &written.services, kills: &written.kills };
        let wanted = wanted(&config, said, &history, mode, true);
        let first = history.generation().map_or(1, |last| last + 1);
        let next = reconcile::reconcile(None, wanted, first, now)?;
        let mut desk = Desk {
            started_without_weights: problems.is_none() && files.parse_weights(&seen.weights, &config.plan).is_err(),
            files,
            seen,
            config: Arc::new(config),
            written: written.services,
            kills: written.kills,
            causes: Vec::new(),
            state: next.state.clone(),
            revision: 1,
            history,
            store,
            keyring,
            tls,
            next_tls: None,
            mode,
            // The caller read it a moment before the first look.
            on_disk: OnDisk::Waiting,
            problems: None,
            reload: Reload { ok: true, at: timestamp(), success_unix_s: now.unix_s, problems: Vec::new() },
            stale: None,
            rests: false,
            doing: None,
        };
        if problems.is_some() {
            desk.reload.success_unix_s = 0;
            reload::note(&mut desk, problems, &Cause::by(How::Start));
        }
        desk.note_causes(&next, &Cause::by(How::Start), 1);
        desk.record(next, &Cause::by(How::Start));
        let throttles = Book::new(workers);
        let snapshot = build(&desk, &upstreams, &throttles);
        let this = Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            revision: watch::channel(1).0,
            upstreams,
            throttles,
            shown: ArcSwap::from_pointee(desk.shown()),
            desk: Mutex::new(desk),
            sampler: Mutex::default(),
            sites: OnceLock::new(),
            issuance: OnceLock::new(),
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

    /// Who moved the weights of `service` last, or killed it or took that back. Whoever is told of a publication by
    /// [`Switchboard::subscribe`] finds its cause here.
    pub fn last_cause(&self, service: &str) -> Option<LastCause> {
        self.shown.load().causes.iter().find(|(name, _)| name.as_str() == service).map(|(_, last)| last.clone())
    }

    /// Why exactly that scope is killed, by the file or by what it does not say yet; none when it is not.
    pub fn killed_at(&self, scope: &Scope) -> Option<String> {
        self.shown.load().kills.at(scope).map(str::to_owned)
    }

    /// What answers 503 at exactly that scope, and why; none when nothing does.
    pub fn closed_at(&self, scope: &Scope) -> Option<String> {
        self.shown.load().kills.closed.at(scope).map(|closed| closed.reason.clone())
    }

    /// The weights that the file gives `service`; they do not count while it is killed.
    pub fn written(&self, service: &str) -> Option<Weights> {
        let shown = self.shown.load();
        shown.written.iter().find(|(name, _)| name.as_str() == service).map(|(_, weights)| weights.clone())
    }

    /// Applies one change. It may write a file and wait for the disk: call it from a thread that may block, within the
    /// control runtime (probes and lookups are spawned there). A reload that brings new host names waits for their
    /// first answers, up to a second, and other changes do not wait for that.
    /// With `expected`, a change that would go by an older generation is refused; a rollback and a kill never are.
    pub fn apply(&self, change: Change, cause: &Cause, expected: Option<u64>) -> Result<Applied, Refused> {
        let _ahead = self.look_ahead(&change);
        let mut desk = self.lock();
        desk.doing = change.word();
        let result = match change {
            change if desk.rests && change.can_wait() => Err(Refused::Resting),
            Change::Reload => self.reload(&mut desk, cause),
            Change::FileChanged { config, weights } => self.take_changes(&mut desk, config, weights, cause),
            Change::Weights { service, weights } => self.set(&mut desk, &service, weights, cause, expected),
            Change::Rollback { service } => self.rollback(&mut desk, &service, cause),
            Change::Undo { service } => self.undo(&mut desk, &service, cause, expected),
            Change::Kill { scope, reason } => self.kill(&mut desk, &scope, &reason, cause),
            Change::Unkill { scope, only } => self.unkill(&mut desk, &scope, only.as_deref(), cause),
            Change::Maintenance { scope, reason } => self.maintenance(&mut desk, &scope, reason.as_deref(), cause),
            Change::Cohort { service, cohort } => self.set_cohort(&mut desk, &service, cohort),
            Change::EndpointsChanged => {
                self.publish(&mut desk);
                Ok(desk.applied(true))
            }
        };
        desk.doing = None;
        self.shown.store(Arc::new(desk.shown()));
        if let Err(refused) = &result {
            tracing::debug!(%refused, how = cause.how.as_str(), "a change was refused");
        }
        result
    }

    /// Another process takes over: from here on nothing is written but what brings traffic to stable, and what the
    /// files say still goes live here. A change that is under way ends first.
    pub fn rest(&self) {
        self.lock().rests = true;
    }

    /// Nobody took over: everything is as before [`Switchboard::rest`].
    pub fn go_on(&self) {
        self.lock().rests = false;
    }

    /// A file can no longer be seen to change, for the reason and with the fix in `note`, which begins with its path.
    /// The watcher says so every 30 s, and so does the log.
    pub fn note_stale(&self, note: String) {
        tracing::error!("{note}");
        let mut desk = self.lock();
        desk.stale = Some(note);
        self.shown.store(Arc::new(desk.shown()));
    }

    /// Has `status` show what listeners speak TLS from; said once, when the process starts.
    pub fn show_sites(&self, sites: Vec<Arc<Site>>) {
        let _ = self.sites.set(sites);
    }

    /// The same with automatic certificates.
    pub fn show_issuance(&self, issuance: Arc<Issuance>) {
        let _ = self.issuance.set(issuance);
    }

    /// An edit of `path` arrived: it can be seen to change again.
    pub fn note_fresh(&self, path: &Path) {
        let mut desk = self.lock();
        if desk.stale.take_if(|note| note.starts_with(&*path.to_string_lossy())).is_some() {
            tracing::info!(path = %path.display(), "the file can be seen to change again");
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
        if self.write_what_is_held(desk) {
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
            // Who is told of the publication must find its cause.
            desk.note_causes(&next, cause, desk.revision + 1);
            self.publish(desk);
        }
        desk.record(next, cause);
        Ok(changed)
    }

    /// Publishes the state on the desk.
    pub(super) fn publish(&self, desk: &mut Desk) {
        desk.revision += 1;
        let snapshot = Arc::new(build(desk, &self.upstreams, &self.throttles));
        for service in &snapshot.services {
            let pools = service.pools.iter().enumerate().filter(|(i, _)| service.takes_traffic(*i));
            let endpoints = pools.flat_map(|(_, pool)| &pool.endpoints);
            self.upstreams.registry().trust_new_if_nothing_serves(endpoints);
        }
        self.snapshot.store(snapshot.clone());
        self.throttles.retain_limits(snapshot.rate_limits.iter().map(|limit| &limit.spec.name));
        self.throttles.retain_caps();
        // Before anybody is told: a worker that is told drops its idle connections to endpoints that are no longer
        // named, and one that is given back later is refused because its endpoint drains by then.
        self.announce(&snapshot);
        // Who is told can read what it is about.
        self.shown.store(Arc::new(desk.shown()));
        self.revision.send_replace(desk.revision);
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
            takes_traffic: service.takes_traffic(i),
            endpoints: pool
                .endpoints
                .iter()
                .map(|endpoint| Target {
                    endpoint: endpoint.clone(),
                    health: service.spec.health.clone(),
                    tls: pool.tls.clone(),
                    proxy: pool.proxy_protocol,
                })
                .collect(),
        };
        self.upstreams.set_targets(pools.map(target).collect());
    }
}

fn build(desk: &Desk, upstreams: &Upstreams, throttles: &Book) -> Snapshot {
    let resolve = |origin: &Origin| upstreams.names().answers(origin);
    let sources = Sources {
        registry: upstreams.registry(),
        throttles,
        resolve: &resolve,
        listeners: &desk.config.listeners,
        keys: desk.keyring.keys(),
        tls: &desk.tls,
    };
    publish::build(&desk.state, desk.revision, &sources)
}

/// Now, as people and programs read it.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
