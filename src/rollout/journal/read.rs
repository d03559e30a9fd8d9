//! Reading the journal: beside a running weir, or without one. A row that cannot be understood is left out and told.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::de::DeserializeOwned;

use super::audit::{self, Chained, Entry, Verified};
use super::{FILE, JournalError, Kept, KeptTick};
use crate::rollout::event::Event;
use crate::rollout::machine::Rollout;

/// Most rows of one answer.
const ROWS_MAX: u64 = 200_000;

/// A connection that only reads.
#[derive(Debug)]
pub struct Reader(Connection);

// === impl Reader ===

impl Reader {
    /// Opens the journal of a state directory.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        Self::open_file(&directory.join(FILE))
    }

    /// Opens a journal by its file.
    pub fn open_file(path: &Path) -> Result<Self, JournalError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        Ok(Self(connection))
    }

    /// The rollouts that still hold their service.
    pub fn live(&self) -> Result<Vec<Kept>, JournalError> {
        self.rollouts_where("holds = 1", ROWS_MAX)
    }

    /// Id and service of the rollouts that still hold their service and cannot be understood.
    pub fn unreadable(&self) -> Result<Vec<(String, String)>, JournalError> {
        let mut statement = self.0.prepare_cached("SELECT id, service, document FROM rollouts WHERE holds = 1")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let wrong = rows.into_iter().filter(|(_, _, document)| understood::<Rollout>(document).is_none());
        Ok(wrong.map(|(id, service, _)| (id, service)).collect())
    }

    /// The newest rollouts, newest first.
    pub fn rollouts(&self, limit: u64) -> Result<Vec<Kept>, JournalError> {
        self.rollouts_where("1", limit)
    }

    /// One rollout.
    pub fn rollout(&self, id: &str) -> Result<Option<Kept>, JournalError> {
        let mut statement = self.0.prepare_cached("SELECT document, beside FROM rollouts WHERE id = ?1")?;
        let row = statement.query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)));
        Ok(row.optional()?.and_then(kept))
    }

    fn rollouts_where(&self, what: &str, limit: u64) -> Result<Vec<Kept>, JournalError> {
        let query = format!("SELECT document, beside FROM rollouts WHERE {what} ORDER BY started_ms DESC LIMIT ?1");
        let mut statement = self.0.prepare_cached(&query)?;
        let rows = statement.query_map([limit], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(kept).collect())
    }

    /// The ticks of a rollout after number `after`, in order.
    pub fn ticks(&self, id: &str, after: u64) -> Result<Vec<KeptTick>, JournalError> {
        let mut statement =
            self.0.prepare_cached("SELECT document FROM ticks WHERE rollout = ?1 AND n > ?2 ORDER BY n LIMIT ?3")?;
        let rows = statement.query_map(params![id, after, ROWS_MAX], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|text| understood(text)).collect())
    }

    /// The number of the newest tick of a rollout; 0 without one.
    pub fn last_tick(&self, id: &str) -> Result<u64, JournalError> {
        let mut statement = self.0.prepare_cached("SELECT COALESCE(MAX(n), 0) FROM ticks WHERE rollout = ?1")?;
        Ok(statement.query_row([id], |row| row.get(0))?)
    }

    /// Events after the number `after`, in order.
    pub fn events(&self, after: u64, limit: u64) -> Result<Vec<Event>, JournalError> {
        let mut statement = self.0.prepare_cached("SELECT document FROM events WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let rows = statement.query_map([after, limit.min(ROWS_MAX)], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|text| understood(text)).collect())
    }

    /// The newest events of a rollout before the number `before`, in order.
    pub fn events_of(&self, id: &str, before: u64, limit: u64) -> Result<Vec<Event>, JournalError> {
        // What is no JSON is asked for nothing.
        let mut statement = self.0.prepare_cached(
            "SELECT document FROM events WHERE id < ?2
             AND CASE WHEN json_valid(document) THEN json_extract(document, '$.rolloutId') = ?1 END
             ORDER BY id DESC LIMIT ?3",
        )?;
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![id, before, limit.min(ROWS_MAX)], |row| row.get::<_, String>(0))?;
        let mut events: Vec<Event> =
            rows.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|text| understood(text)).collect();
        events.reverse();
        Ok(events)
    }

    /// The number of the newest event; 0 without one.
    pub fn last_event(&self) -> Result<u64, JournalError> {
        Ok(self.0.query_row("SELECT COALESCE(MAX(id), 0) FROM events", [], |row| row.get(0))?)
    }

    /// The newest entries of the audit log, newest first.
    pub fn audit(&self, limit: u64) -> Result<Vec<Chained>, JournalError> {
        let mut statement =
            self.0.prepare_cached("SELECT seq, document, hash FROM audit ORDER BY seq DESC LIMIT ?1")?;
        let rows = statement.query_map([limit.min(ROWS_MAX)], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        let chained = |(seq, text, hash): (u64, String, String)| {
            understood::<Entry>(&text).map(|entry| Chained { seq, entry, hash })
        };
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(chained).collect())
    }

    /// Looks at every link of the audit log.
    pub fn verify_audit(&self) -> Result<Verified, JournalError> {
        Ok(audit::verify(&self.0)?)
    }

    /// A word that was kept under a key.
    pub fn note(&self, key: &str) -> Result<Option<String>, JournalError> {
        let mut statement = self.0.prepare_cached("SELECT value FROM notes WHERE key = ?1")?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }
}

fn kept((document, beside): (String, Vec<u8>)) -> Option<Kept> {
    understood::<Rollout>(&document).map(|rollout| Kept { rollout, beside })
}

fn understood<T: DeserializeOwned>(text: &str) -> Option<T> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, "a row of the journal cannot be understood and is left out");
            None
        }
    }
}
