//! The thread that writes. Work is taken in batches, one transaction each; what the disk refuses is tried again.

use std::collections::{HashSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::oneshot;

use super::audit::{self, GENESIS};
use super::schema;
use super::{
    AUDIT_MAX, EVENTS_MAX, Health, Holder, JournalError, RETENTION, ROLLOUTS_MAX, ROLLOUTS_WITH_TICKS_MAX, TICKS_MAX,
    Work,
};

/// Work of one transaction.
const BATCH_MAX: usize = 256;

/// Work that is kept while the disk refuses it: half an hour of ticks of a service and all that matters more.
const WAITING_MAX: usize = 20_000;

/// Between two tries at a disk that refuses.
const AGAIN: Duration = Duration::from_secs(1);

/// Batches between two looks at what is too old.
const PRUNE_EVERY: u32 = 500;

/// Between two looks whether the file is still there.
const LOOK: Duration = Duration::from_secs(1);

/// The writer.
pub(super) struct Writer {
    connection: Connection,
    place: Option<Place>,
    health: Arc<Mutex<Health>>,
    waiting: VecDeque<Work>,
    batches: u32,
}

// === impl Writer ===

impl Writer {
    /// A writer of the file at `path`. With `wanted` it could not be opened, for this reason, and is tried again.
    pub(super) fn new(
        connection: Connection,
        path: Option<Arc<Path>>,
        wanted: Option<String>,
        health: Arc<Mutex<Health>>,
    ) -> Self {
        let place = path.map(|path| Place::new(path, wanted));
        Self { connection, place, health, waiting: VecDeque::new(), batches: 0 }
    }

    /// Works until every handle is gone.
    pub(super) fn run(mut self, queue: &Receiver<Work>) {
        loop {
            match queue.recv_timeout(AGAIN) {
                Ok(work) => self.waiting.push_back(work),
                Err(RecvTimeoutError::Timeout) if self.waiting.is_empty() => continue,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.waiting.extend(queue.try_iter().take(BATCH_MAX));
            self.write();
        }
        self.write();
    }

    /// Writes what waits; keeps it when the disk refuses.
    fn write(&mut self) {
        while !self.waiting.is_empty() {
            let batch = self.waiting.len().min(BATCH_MAX);
            match self.commit(batch) {
                // How it is, is shown before anybody is answered, who may look at once.
                Ok(()) => {
                    let written: Vec<Work> = self.waiting.drain(..batch).collect();
                    self.show(None);
                    written.into_iter().for_each(answer);
                }
                Err(error) => {
                    let wanted = self.place.as_ref().and_then(|place| place.wanted.clone());
                    let why = wanted.unwrap_or_else(|| error.to_string());
                    let refused: Vec<_> = self.waiting.iter_mut().filter_map(refuse).collect();
                    // What has nothing to write is done with.
                    let (done, kept): (VecDeque<Work>, _) = std::mem::take(&mut self.waiting)
                        .into_iter()
                        .partition(|work| matches!(work, Work::Lock { .. } | Work::Flush(_)));
                    self.waiting = kept;
                    self.forget_older();
                    self.shed();
                    self.show(Some(why.clone()));
                    refused.into_iter().for_each(|done| drop(done.send(Err(why.clone()))));
                    drop(done);
                    return;
                }
            }
        }
    }

    /// Sees to it that what is written can be found again: a file that was taken away would be written to its end by a
    /// process that has it open.
    fn see_to_the_file(&mut self) -> Result<(), JournalError> {
        let Some(place) = self.place.as_mut() else { return Ok(()) };
        if !place.is_lost() {
            return Ok(());
        }
        if let Some(directory) = place.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let (connection, _) = schema::open(&place.path)?;
        let found = match place.wanted {
            Some(_) if !schema::is_new(&connection)? => return Err(JournalError::Earlier),
            Some(_) => "the journal can be written now; a restart forgets nothing any more",
            None => "the journal was taken away while weir ran; a new one was begun, and what it knew before is lost",
        };
        self.connection = connection;
        (place.known, place.wanted) = (identity(&place.path), None);
        tracing::error!(path = %place.path.display(), "{found}");
        self.health.lock().unwrap_or_else(PoisonError::into_inner).found = Some(found.into());
        Ok(())
    }

    /// Of the states of a rollout that wait only the newest is of interest.
    fn forget_older(&mut self) {
        let mut newest = HashSet::new();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        while let Some(work) = self.waiting.pop_back() {
            let older = matches!(&work, Work::Rollout { rollout, .. } if !newest.insert(rollout.id.clone()));
            if !older {
                kept.push_front(work);
            }
        }
        self.waiting = kept;
    }

    fn commit(&mut self, batch: usize) -> Result<(), JournalError> {
        self.see_to_the_file()?;
        let transaction = self.connection.transaction()?;
        for work in self.waiting.iter_mut().take(batch) {
            apply(&transaction, work)?;
        }
        self.batches += 1;
        if self.batches % PRUNE_EVERY == 1 {
            prune(&transaction)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Forgets the least important of what waits: ticks first, then events; states and the audit log last.
    fn shed(&mut self) {
        let mut over = self.waiting.len().saturating_sub(WAITING_MAX);
        let mut lost = 0;
        let mut drop_where = |waiting: &mut VecDeque<Work>, least: fn(&Work) -> bool| {
            waiting.retain(|work| {
                let goes = over > 0 && least(work);
                over -= usize::from(goes);
                lost += u64::from(goes);
                !goes
            });
        };
        drop_where(&mut self.waiting, |work| matches!(work, Work::Tick { .. }));
        drop_where(&mut self.waiting, |work| matches!(work, Work::Event(_)));
        drop_where(&mut self.waiting, |_| true);
        self.health.lock().unwrap_or_else(PoisonError::into_inner).lost += lost;
    }

    fn show(&self, failing: Option<String>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = failing.as_ref().filter(|_| health.failing.is_none()) {
            tracing::error!(why, "the journal cannot be written; everything goes on in memory");
        } else if failing.is_none() && health.failing.is_some() {
            tracing::info!("the journal is written again");
        }
        health.failing = failing;
        health.waiting = self.waiting.len() as u64;
    }
}

/// Where the journal is, and which file it was there.
struct Place {
    path: Arc<Path>,
    known: Option<(u64, u64)>,
    /// Why it could not be opened at first; everything is in memory until it can.
    wanted: Option<String>,
    looked: Instant,
}

// === impl Place ===

impl Place {
    fn new(path: Arc<Path>, wanted: Option<String>) -> Self {
        let known = if wanted.is_none() { identity(&path) } else { None };
        Self { known, path, wanted, looked: Instant::now() }
    }

    /// Whether another file is there by now, or none; looks no more often than it must.
    fn is_lost(&mut self) -> bool {
        if self.known.is_some() && self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        if self.wanted.is_some() {
            return true;
        }
        let now = identity(&self.path);
        if now != self.known {
            self.known = None;
        }
        self.known.is_none()
    }
}

/// Device and number of a file; none when it is not there.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn apply(transaction: &Transaction<'_>, work: &mut Work) -> Result<(), JournalError> {
    match work {
        Work::Rollout { rollout, beside, .. } => {
            let document = serde_json::to_string(&**rollout).unwrap_or_default();
            transaction
                .prepare_cached(
                    "INSERT INTO rollouts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET \
                     state = ?3, holds = ?4, ended_ms = ?6, document = ?7, beside = ?8",
                )?
                .execute(params![
                    rollout.id,
                    rollout.plan.service.as_str(),
                    rollout.state.as_str(),
                    rollout.holds_service(),
                    rollout.started_at_ms,
                    rollout.ended_at_ms,
                    document,
                    &*beside,
                ])?;
        }
        Work::Tick { rollout, tick } if tick.n <= TICKS_MAX => {
            let document = serde_json::to_string(&**tick).unwrap_or_default();
            transaction
                .prepare_cached("INSERT OR REPLACE INTO ticks VALUES (?1, ?2, ?3)")?
                .execute(params![&*rollout, tick.n, document])?;
        }
        Work::Tick { .. } => {}
        Work::Event(event) => {
            let document = serde_json::to_string(event).unwrap_or_default();
            transaction
                .prepare_cached("INSERT OR REPLACE INTO events VALUES (?1, ?2)")?
                .execute(params![event.id, document])?;
        }
        Work::Audit(entry) => chain(transaction, &serde_json::to_string(entry).unwrap_or_default())?,
        Work::Note { key, value } => note(transaction, key, value)?,
        Work::Unlock { service, rollout } => {
            transaction
                .prepare_cached("DELETE FROM locks WHERE service = ?1 AND rollout = ?2")?
                .execute(params![&*service, &*rollout])?;
        }
        Work::Lock { service, rollout, force, done } => {
            let result = lock(transaction, service, rollout, *force);
            let (refused, answered) = match result {
                Ok(()) => (None, Ok(())),
                Err(held @ JournalError::Held { .. }) => (None, Err(held)),
                Err(error) => (Some(error), Ok(())),
            };
            if let Some(error) = refused {
                return Err(error);
            }
            let (unused, _) = tokio::sync::oneshot::channel();
            let _ = std::mem::replace(done, unused).send(answered);
        }
        Work::Flush(_) => {}
    }
    Ok(())
}

fn note(transaction: &Transaction<'_>, key: &str, value: &str) -> Result<(), JournalError> {
    transaction
        .prepare_cached("INSERT INTO notes VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
        .execute(params![key, value])?;
    Ok(())
}

/// Adds a text to the audit log.
fn chain(transaction: &Transaction<'_>, text: &str) -> Result<(), JournalError> {
    let head: Option<String> = transaction
        .prepare_cached("SELECT value FROM notes WHERE key = ?1")?
        .query_row([audit::HEAD], |row| row.get(0))
        .optional()?;
    let (seq, before) = head.map_or((0, GENESIS.to_owned()), |head| audit::split(&head));
    let hash = audit::link(&before, text);
    transaction.prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3)")?.execute(params![seq + 1, text, hash])?;
    note(transaction, audit::HEAD, &format!("{} {hash}", seq + 1))
}

fn lock(transaction: &Transaction<'_>, service: &str, rollout: &str, force: bool) -> Result<(), JournalError> {
    let held = transaction
        .prepare_cached("SELECT rollout, host, pid, born FROM locks WHERE service = ?1")?
        .query_row([service], |row| {
            let holder = Holder { host: row.get(1)?, pid: row.get(2)?, born: row.get(3)? };
            Ok((row.get::<_, String>(0)?, holder))
        })
        .optional()?;
    let own = super::holder();
    if let Some((other, holder)) = held
        && !force
        && other != rollout
        && holder != own
        && holder.lives()
    {
        return Err(JournalError::Held { rollout: other, host: holder.host, pid: holder.pid });
    }
    transaction
        .prepare_cached("INSERT OR REPLACE INTO locks VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![service, rollout, own.host, own.pid, own.born])?;
    Ok(())
}

/// Forgets rollouts that ended, their ticks and events when they are older than what is to be kept. The newest event
/// stays, since numbers go on after it, and so does the audit log.
fn forget_old(transaction: &Transaction<'_>) -> Result<(), JournalError> {
    let kept = "SELECT CAST(value AS INTEGER) FROM notes WHERE key = ?1";
    let kept_ms: Option<i64> = transaction.query_row(kept, [RETENTION], |row| row.get(0)).optional()?;
    let Some(kept_ms) = kept_ms.filter(|ms| *ms > 0) else { return Ok(()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let before = [now.saturating_sub(kept_ms)];
    transaction.execute("DELETE FROM rollouts WHERE holds = 0 AND ended_ms < ?1", before)?;
    transaction.execute("DELETE FROM ticks WHERE rollout NOT IN (SELECT id FROM rollouts)", [])?;
    transaction.execute(
        "DELETE FROM events WHERE json_extract(document, '$.atMs') < ?1 AND id < (SELECT MAX(id) FROM events)",
        before,
    )?;
    Ok(())
}

/// Forgets what is beyond the bounds, the oldest first.
fn prune(transaction: &Transaction<'_>) -> Result<(), JournalError> {
    forget_old(transaction)?;
    let newest = |table: &str| format!("(SELECT MAX(id) FROM {table})");
    transaction.execute(&format!("DELETE FROM events WHERE id <= {} - ?1", newest("events")), [EVENTS_MAX])?;
    transaction.execute(
        "DELETE FROM rollouts WHERE holds = 0 AND id NOT IN \
         (SELECT id FROM rollouts ORDER BY started_ms DESC LIMIT ?1)",
        [ROLLOUTS_MAX],
    )?;
    transaction.execute(
        "DELETE FROM ticks WHERE rollout IN \
         (SELECT id FROM rollouts ORDER BY holds DESC, started_ms DESC LIMIT -1 OFFSET ?1)",
        [ROLLOUTS_WITH_TICKS_MAX],
    )?;
    let last: Option<(u64, String)> = transaction
        .query_row(
            "SELECT seq, hash FROM audit WHERE seq <= (SELECT MAX(seq) FROM audit) - ?1 ORDER BY seq DESC LIMIT 1",
            [AUDIT_MAX],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    if let Some((seq, hash)) = last {
        note(transaction, audit::ANCHOR, &format!("{seq} {hash}"))?;
        transaction.execute("DELETE FROM audit WHERE seq <= ?1", [seq])?;
    }
    Ok(())
}

/// Tells whoever waited that it is done.
fn answer(work: Work) {
    match work {
        Work::Rollout { done: Some(done), .. } => drop(done.send(Ok(()))),
        Work::Flush(done) => drop(done.send(())),
        _ => {}
    }
}

/// Whoever waits for this, to be told that it is not done yet.
fn refuse(work: &mut Work) -> Option<oneshot::Sender<Result<(), String>>> {
    match work {
        Work::Rollout { done, .. } => done.take(),
        _ => None,
    }
}
