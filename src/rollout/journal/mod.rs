//! What is kept of rollouts: their state, every tick's counts, events and the audit log, in one SQLite file.
//!
//! One thread owns the writing connection (`writer`); everybody else hands it work through a bounded queue and waits,
//! where it waits at all, no longer than a deadline. A disk that is full or gone never keeps traffic from moving: what
//! could not be written stays in memory, within bounds, and is written when the disk is back; [`Health`] says so.
//! Readers open the file for themselves (`read`), also beside a running weir and without one.

pub mod audit;
pub mod holder;
pub mod read;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::audit::Entry;
use self::holder::Holder;
use super::event::Event;
use super::machine::Rollout;
use super::record::{Latencies, Record, SaidGate};
use super::tick::Tick;
use super::verdict::Verdict;

/// Name of the file in the state directory.
pub const FILE: &str = "weir.db";

/// Work that waits for the writer; at one tick a second of a hundred services it is ten seconds of a hanging disk.
const QUEUE_MAX: usize = 4_096;

/// Longest wait for something to be on disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Events that are kept.
pub const EVENTS_MAX: u64 = 10_000;

/// Rollouts that are kept.
pub const ROLLOUTS_MAX: u64 = 1_000;

/// Rollouts whose ticks are kept.
pub const ROLLOUTS_WITH_TICKS_MAX: u64 = 100;

/// Ticks of one rollout that are kept, the first ones: over a day at one a second.
pub const TICKS_MAX: u64 = 100_000;

/// Key of the note that says how many ms of the past are kept; 0: only bounds by number.
pub(super) const RETENTION: &str = "retention_ms";

/// Entries of the audit log that are kept; pruned ones leave their last hash behind.
pub const AUDIT_MAX: u64 = 1_000_000;

/// The journal. Dropped, it writes what it still has.
#[derive(Debug, Clone)]
pub struct Journal {
    path: Option<Arc<Path>>,
    work: SyncSender<Work>,
    health: Arc<Mutex<Health>>,
}

/// How the journal is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Why nothing can be written right now; none when all is well.
    pub failing: Option<String>,
    /// Pieces of work that were lost because too many waited.
    pub lost: u64,
    /// Pieces of work that wait for the disk.
    pub waiting: u64,
    /// What was found when it was opened: a broken file that was put aside.
    pub found: Option<String>,
}

/// A rollout as it was kept, and what the runner kept beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The rollout.
    pub rollout: Rollout,
    /// The judge's state and the like, as the runner wrote it.
    pub beside: Vec<u8>,
}

/// One tick as it was kept: what was counted and what was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptTick {
    /// Its number within the rollout, from 1.
    pub n: u64,
    /// When it ended, in ms since the Unix epoch.
    pub at_ms: u64,
    /// Index of the phase.
    pub phase: usize,
    /// What was counted.
    pub tick: Tick,
    /// What all gates said together.
    pub verdict: Verdict,
    /// What each said.
    pub gates: Vec<KeptGate>,
    /// Quantiles of candidate and control, in ms.
    #[serde(default)]
    pub latency: Latencies,
}

/// A gate's word at a tick, without its sentence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptGate {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Evidence against the candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e_value: Option<f64>,
    /// The limit of `e_value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Evidence that it is not worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_e_value: Option<f64>,
    /// The limit of `safe_e_value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_limit: Option<f64>,
    /// The smallest ratio that is excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
}

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite refused.
    #[error("the journal cannot be used")]
    Store(#[from] rusqlite::Error),
    /// The system refused.
    #[error("the state directory cannot be used")]
    Directory(#[from] std::io::Error),
    /// It is of a newer weir.
    #[error("the journal is of version {0}, this weir knows version {1}; start the newer weir")]
    Newer(i64, i64),
    /// It was not to be opened when the process began, and it is not empty.
    #[error("there is a journal of an earlier process; a restart goes on with it")]
    Earlier,
    /// It did not finish in time; it is done all the same when the disk is back.
    #[error("the journal did not answer within {} s", PATIENCE.as_secs())]
    Late,
    /// It cannot be written right now.
    #[error("the journal cannot be written: {0}")]
    Failing(String),
    /// Somebody else holds the service.
    #[error("rollout {rollout} of process {pid} on {host} holds the service")]
    Held {
        /// The rollout.
        rollout: String,
        /// The host.
        host: String,
        /// The process.
        pid: u32,
    },
}

/// What the writer is asked.
pub(super) enum Work {
    Rollout { rollout: Box<Rollout>, beside: Vec<u8>, done: Option<oneshot::Sender<Result<(), String>>> },
    Tick { rollout: String, tick: Box<KeptTick> },
    Event(Event),
    Audit(Entry),
    Note { key: String, value: String },
    Lock { service: String, rollout: String, force: bool, done: oneshot::Sender<Result<(), JournalError>> },
    Unlock { service: String, rollout: String },
    Flush(oneshot::Sender<()>),
}

// === impl Journal ===

impl Journal {
    /// Opens the journal in `directory`, which is made when it is not there. A file that is broken is put aside.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(FILE);
        let (connection, found) = schema::open(&path)?;
        Self::start(Some(path), connection, None, found)
    }

    /// A journal in memory that is written to `directory`, from its beginning, as soon as that can be; `why` it cannot
    /// be now.
    pub fn waiting_for(directory: &Path, why: String) -> Result<Self, JournalError> {
        let connection = rusqlite::Connection::open_in_memory()?;
        schema::prepare(&connection)?;
        Self::start(Some(directory.join(FILE)), connection, Some(why), None)
    }

    /// A journal that forgets everything with the process: where no disk can be had.
    pub fn in_memory() -> Result<Self, JournalError> {
        let connection = rusqlite::Connection::open_in_memory()?;
        schema::prepare(&connection)?;
        Self::start(None, connection, None, None)
    }

    fn start(
        path: Option<PathBuf>,
        connection: rusqlite::Connection,
        wanted: Option<String>,
        found: Option<String>,
    ) -> Result<Self, JournalError> {
        let (work, queue) = sync_channel(QUEUE_MAX);
        let health = Arc::new(Mutex::new(Health { failing: wanted.clone(), found, ..Health::default() }));
        let path: Option<Arc<Path>> = path.map(Into::into);
        let writer = writer::Writer::new(connection, path.clone(), wanted, Arc::clone(&health));
        std::thread::Builder::new().name("weir-journal".into()).spawn(move || writer.run(&queue))?;
        Ok(Self { path, work, health })
    }

    /// The file; none when it is kept in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the state of a rollout and waits until it is on disk, no longer than two seconds. Whatever the answer is,
    /// it is written as soon as it can be.
    pub async fn persist(&self, rollout: &Rollout, beside: Vec<u8>) -> Result<(), JournalError> {
        let (done, answer) = oneshot::channel();
        self.hand_in(Work::Rollout { rollout: Box::new(rollout.clone()), beside, done: Some(done) });
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(JournalError::Failing(why)),
            Ok(Err(_)) | Err(_) => Err(JournalError::Late),
        }
    }

    /// Keeps what the judge knows beside a rollout without waiting.
    pub fn keep(&self, rollout: &Rollout, beside: Vec<u8>) {
        self.hand_in(Work::Rollout { rollout: Box::new(rollout.clone()), beside, done: None });
    }

    /// Keeps a tick.
    pub fn tick(&self, rollout: &str, record: &Record) {
        let gate = |gate: &SaidGate| KeptGate {
            name: gate.name.clone(),
            verdict: gate.verdict,
            e_value: gate.e_value,
            limit: gate.limit,
            safe_e_value: gate.safe_e_value,
            safe_limit: gate.safe_limit,
            bound: gate.bound,
        };
        let Record { n, at_ms, phase, tick, latency, judgement } = record;
        let tick = Box::new(KeptTick {
            n: *n,
            at_ms: *at_ms,
            phase: *phase,
            tick: tick.clone(),
            verdict: judgement.verdict,
            gates: judgement.gates.iter().map(gate).collect(),
            latency: *latency,
        });
        self.hand_in(Work::Tick { rollout: rollout.to_owned(), tick });
    }

    /// Keeps an event.
    pub fn event(&self, event: &Event) {
        self.hand_in(Work::Event(event.clone()));
    }

    /// Keeps an entry of the audit log.
    pub fn audit(&self, entry: Entry) {
        self.hand_in(Work::Audit(entry));
    }

    /// Keeps a word under a key, such as the state of a kill switch.
    pub fn note(&self, key: &str, value: &str) {
        self.hand_in(Work::Note { key: key.to_owned(), value: value.to_owned() });
    }

    /// From now on forgets rollouts that ended, their ticks and events when they are older than `time`; none: only by
    /// number.
    pub fn retain(&self, time: Option<Duration>) {
        let ms = time.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        self.note(RETENTION, &ms.to_string());
    }

    /// Takes a service for a rollout. One whose holder is gone is taken over; with `force`, any.
    pub async fn lock(&self, service: &str, rollout: &str, force: bool) -> Result<(), JournalError> {
        let (done, answer) = oneshot::channel();
        self.hand_in(Work::Lock { service: service.to_owned(), rollout: rollout.to_owned(), force, done });
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(JournalError::Late),
        }
    }

    /// Lets a service go.
    pub fn unlock(&self, service: &str, rollout: &str) {
        self.hand_in(Work::Unlock { service: service.to_owned(), rollout: rollout.to_owned() });
    }

    /// Waits until everything handed in before is written or given up, no longer than two seconds.
    pub async fn flush(&self) {
        let (done, answer) = oneshot::channel();
        self.hand_in(Work::Flush(done));
        let _ = tokio::time::timeout(PATIENCE, answer).await;
    }

    fn hand_in(&self, work: Work) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.work.try_send(work) {
            self.health.lock().unwrap_or_else(PoisonError::into_inner).lost += 1;
        }
    }
}

/// The process that holds locks here.
pub(super) fn holder() -> Holder {
    Holder::own()
}

#[cfg(test)]
mod tests;
