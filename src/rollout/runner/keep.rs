//! What is kept of rollouts, and how long anything may wait for it: never longer than a deadline, and moving traffic to
//! stable not at all. What the disk refuses is shown; everything goes on in memory.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::super::event::Event;
use super::super::journal::audit::{Chained, Entry, Verified};
use super::super::journal::read::Reader;
use super::super::journal::{Health, Journal, JournalError, Kept, KeptTick};
use super::super::machine::Rollout;
use super::super::record::Record;
use super::locked;

/// Longest wait for something to be read.
const READ: Duration = Duration::from_secs(3);

/// Entries of the audit log that are kept in memory, for when there is no file.
const AUDIT_MAX: usize = 1_000;

/// The keeper.
#[derive(Debug)]
pub(in crate::rollout) struct Keeper {
    journal: Journal,
    path: Option<PathBuf>,
    errors: AtomicU64,
    audit: Mutex<std::collections::VecDeque<Entry>>,
}

// === impl Keeper ===

impl Keeper {
    pub(in crate::rollout) fn new(journal: Journal) -> Self {
        let path = journal.path().map(Into::into);
        Self { journal, path, errors: AtomicU64::new(0), audit: Mutex::default() }
    }

    /// Keeps a rollout and waits for it, within a deadline. That it failed is counted and no reason to stop.
    pub(in crate::rollout) async fn persist(&self, rollout: &Rollout, beside: Vec<u8>) {
        if let Err(error) = self.journal.persist(rollout, beside).await {
            self.errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(rollout = rollout.id, %error, "a rollout is not on disk; it goes on in memory");
        }
    }

    /// Keeps a rollout and waits for nothing.
    pub(in crate::rollout) fn keep(&self, rollout: &Rollout, beside: Vec<u8>) {
        self.journal.keep(rollout, beside);
    }

    pub(in crate::rollout) fn tick(&self, id: &str, record: &Record) {
        self.journal.tick(id, record);
    }

    pub(in crate::rollout) fn event(&self, event: &Event) {
        self.journal.event(event);
    }

    pub(in crate::rollout) fn audit(&self, entry: Entry) {
        {
            let mut audit = locked(&self.audit);
            audit.push_front(entry.clone());
            audit.truncate(AUDIT_MAX);
        }
        self.journal.audit(entry);
    }

    /// Takes a service; `Err` names who holds it. A journal that does not answer holds nobody up.
    pub(in crate::rollout) async fn lock(&self, service: &str, rollout: &str, force: bool) -> Result<(), JournalError> {
        match self.journal.lock(service, rollout, force).await {
            Err(held @ JournalError::Held { .. }) => Err(held),
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(service, %error, "the lock of a service is not on disk");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    pub(in crate::rollout) fn unlock(&self, service: &str, rollout: &str) {
        self.journal.unlock(service, rollout);
    }

    /// Keeps a word under a key.
    pub(in crate::rollout) fn word(&self, key: &str, value: &str) {
        self.journal.note(key, value);
    }

    pub(in crate::rollout) fn retain(&self, time: Option<Duration>) {
        self.journal.retain(time);
    }

    pub(in crate::rollout) async fn flush(&self) {
        self.journal.flush().await;
    }

    pub(in crate::rollout) fn health(&self) -> Health {
        self.journal.health()
    }

    /// How often something could not be kept in time.
    pub(in crate::rollout) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed) + self.health().lost
    }

    pub(in crate::rollout) async fn rollout(&self, id: &str) -> Option<Kept> {
        let id = id.to_owned();
        self.read(move |reader| reader.rollout(&id)).await.flatten()
    }

    pub(in crate::rollout) async fn rollouts(&self, most: u64) -> Vec<Kept> {
        self.read(move |reader| reader.rollouts(most)).await.unwrap_or_default()
    }

    pub(in crate::rollout) async fn live(&self) -> Vec<Kept> {
        self.read(Reader::live).await.unwrap_or_default()
    }

    pub(in crate::rollout) async fn unreadable(&self) -> Vec<(String, String)> {
        self.read(Reader::unreadable).await.unwrap_or_default()
    }

    pub(in crate::rollout) async fn ticks(&self, id: &str) -> Vec<KeptTick> {
        let id = id.to_owned();
        self.read(move |reader| reader.ticks(&id, 0)).await.unwrap_or_default()
    }

    pub(in crate::rollout) async fn events(&self, after: u64, most: u64) -> Option<Vec<Event>> {
        self.read(move |reader| reader.events(after, most)).await
    }

    /// The newest events of a rollout before the number `before`, oldest first.
    pub(in crate::rollout) async fn events_of(&self, id: &str, before: u64, most: u64) -> Vec<Event> {
        let id = id.to_owned();
        self.read(move |reader| reader.events_of(&id, before, most)).await.unwrap_or_default()
    }

    pub(in crate::rollout) async fn last_event(&self) -> u64 {
        self.read(Reader::last_event).await.unwrap_or(0)
    }

    /// A word that was kept under a key.
    pub(in crate::rollout) async fn kept_word(&self, key: &str) -> Option<String> {
        let key = key.to_owned();
        self.read(move |reader| reader.note(&key)).await.flatten()
    }

    /// The newest entries of the audit log, newest first; without a file those in memory, which are in no chain.
    pub(in crate::rollout) async fn audit_log(&self, most: u64) -> Vec<Chained> {
        let kept = self.read(move |reader| reader.audit(most)).await;
        kept.unwrap_or_else(|| {
            let memory = locked(&self.audit);
            let entries = memory.iter().take(usize::try_from(most).unwrap_or(usize::MAX));
            entries.map(|entry| Chained { seq: 0, entry: entry.clone(), hash: String::new() }).collect()
        })
    }

    /// Looks at every link of the audit log; none when it cannot be read.
    pub(in crate::rollout) async fn verify_audit(&self) -> Option<Verified> {
        self.flush().await;
        self.read(Reader::verify_audit).await
    }

    /// Reads on a thread that may wait for the disk, within a deadline; none when there is nothing to read from.
    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Reader) -> Result<T, JournalError> + Send + 'static,
    ) -> Option<T> {
        let path = self.path.clone()?;
        let waits = self.health().failing.is_some();
        let work = tokio::task::spawn_blocking(move || {
            // One that was never begun is no news at every look.
            if waits && !path.exists() {
                return Ok(None);
            }
            what(&Reader::open_file(&path)?).map(Some)
        });
        match timeout(READ, work).await {
            Ok(Ok(Ok(value))) => value,
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the journal cannot be read");
                None
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the journal does not answer");
                None
            }
        }
    }
}
