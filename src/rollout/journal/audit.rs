//! The audit log: who did what, when, from where and why, chained by hashes so that a change of the past shows.
//!
//! The hash of an entry is SHA-256 over the hash of the entry before it and the entry's own text. The newest hash is
//! kept beside the log, and `weir audit verify` prints it: noted elsewhere, it also shows a log that was cut off.

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Key of the newest number and hash among the notes.
pub(super) const HEAD: &str = "audit.head";

/// Key of the last number and hash that were pruned.
pub(super) const ANCHOR: &str = "audit.anchor";

/// One entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// ms since the Unix epoch.
    pub at_ms: u64,
    /// Who, as far as it is known.
    pub who: String,
    /// Where from.
    pub from: String,
    /// What: `rollout.start`, `weights`, `kill`, …
    pub action: String,
    /// The service.
    pub service: String,
    /// The rollout, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_id: Option<String>,
    /// Why.
    pub reason: String,
    /// What was before.
    pub before: Value,
    /// What is after it.
    pub after: Value,
}

/// An entry with its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chained {
    /// Its number, from 1.
    pub seq: u64,
    /// What it says.
    #[serde(flatten)]
    pub entry: Entry,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// What a look at the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Whether every link holds.
    pub ok: bool,
    /// Entries that were looked at.
    pub entries: u64,
    /// The newest number and hash.
    pub head: String,
    /// The first link that is broken, and how.
    pub broken: Option<String>,
}

/// The hash of a text after `before`.
pub(super) fn link(before: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update([b'\n']);
    hash.update(text.as_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks at every link.
pub fn verify(connection: &Connection) -> Result<Verified, rusqlite::Error> {
    let note = |key: &str| {
        let found =
            connection.query_row("SELECT value FROM notes WHERE key = ?1", [key], |row| row.get::<_, String>(0));
        found.optional()
    };
    let anchor = note(ANCHOR)?.unwrap_or_else(|| format!("0 {GENESIS}"));
    let (mut seq, mut hash) = split(&anchor);
    let mut entries = 0;
    let mut statement = connection.prepare("SELECT seq, document, hash FROM audit ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut broken = None;
    while let Some(row) = rows.next()? {
        let (number, text, kept): (u64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        entries += 1;
        if number != seq + 1 {
            broken = Some(format!("entry {} is missing before entry {number}", seq + 1));
        } else if link(&hash, &text) != kept {
            broken = Some(format!("entry {number} was changed, or the one before it"));
        }
        if broken.is_some() {
            break;
        }
        (seq, hash) = (number, kept);
    }
    let head = format!("{seq} {hash}");
    if broken.is_none() && note(HEAD)?.is_some_and(|kept| kept != head) {
        broken = Some(format!("the log ends at entry {seq}, but a later one was written"));
    }
    Ok(Verified { ok: broken.is_none(), entries, head, broken })
}

/// The number and hash of a note.
pub(super) fn split(note: &str) -> (u64, String) {
    let (seq, hash) = note.split_once(' ').unwrap_or(("0", GENESIS));
    (seq.parse().unwrap_or(0), hash.to_owned())
}
