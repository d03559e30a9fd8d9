//! The tables, and how a file is opened, made or put aside.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode};

use super::JournalError;

/// Version of the tables.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS rollouts (
    id TEXT PRIMARY KEY, service TEXT NOT NULL, state TEXT NOT NULL, holds INTEGER NOT NULL,
    started_ms INTEGER NOT NULL, ended_ms INTEGER, document TEXT NOT NULL, beside BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS rollouts_by_service ON rollouts (service, started_ms);
CREATE TABLE IF NOT EXISTS ticks (
    rollout TEXT NOT NULL, n INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (rollout, n)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, document TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS locks (
    service TEXT PRIMARY KEY, rollout TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);
";

/// Opens `path` for writing. A file that SQLite cannot read is moved aside, and the second value says so.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<String>), JournalError> {
    match connect(path) {
        Ok(connection) => Ok((connection, None)),
        Err(JournalError::Store(error)) if is_broken(&error) => {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let aside = path.with_extension(format!("db.broken-{seconds}"));
            std::fs::rename(path, &aside)?;
            for tail in ["-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(tail);
                // They belong to the broken file; that they are not there is no news.
                let _ = std::fs::remove_file(name);
            }
            let found = format!("the journal was broken ({error}); it is kept as {}", aside.display());
            Ok((connect(path)?, Some(found)))
        }
        Err(error) => Err(error),
    }
}

fn connect(path: &Path) -> Result<Connection, JournalError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    // Write-ahead, so that readers never wait; every commit reaches the disk before it is answered.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA auto_vacuum = INCREMENTAL;")?;
    prepare(&connection)?;
    Ok(connection)
}

/// Makes what is missing.
pub(super) fn prepare(connection: &Connection) -> Result<(), JournalError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > VERSION {
        return Err(JournalError::Newer(version, VERSION));
    }
    connection.execute_batch(TABLES)?;
    connection.execute_batch(&format!("PRAGMA user_version = {VERSION};"))?;
    Ok(())
}

/// Whether nothing was ever kept in it.
pub(super) fn is_new(connection: &Connection) -> Result<bool, JournalError> {
    let kept =
        "SELECT EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM rollouts) OR EXISTS (SELECT 1 FROM audit)";
    Ok(!connection.query_row(kept, [], |row| row.get::<_, bool>(0))?)
}

fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
