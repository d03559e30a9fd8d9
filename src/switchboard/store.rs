//! What the switchboard keeps beside the weights file: the history, so that a restart keeps `undo`. Best effort: a
//! record that cannot be read or written is a warning and never stops traffic or a change.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::history::History;

/// Largest record that is read back; twenty entries with a hundred pools each are far below it.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// Where the history is kept.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    warned: bool,
}

// === impl Store ===

impl Store {
    /// Beside `weights`, as `.NAME.history.json`.
    pub(super) fn beside(weights: &Path) -> Self {
        let name = weights.file_name().unwrap_or_default().to_string_lossy();
        Self { path: weights.with_file_name(format!(".{name}.history.json")), warned: false }
    }

    /// What was kept; nothing when there is no record or it cannot be read.
    pub(super) fn load(&self) -> History {
        match read(&self.path) {
            Ok(history) => history,
            Err(error) if error.kind() == io::ErrorKind::NotFound => History::default(),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the history cannot be read and starts anew");
                History::default()
            }
        }
    }

    /// Keeps `history`; warns once when that is not possible.
    pub(super) fn save(&mut self, history: &History) {
        let text = serde_json::to_vec_pretty(history).map_err(io::Error::other);
        let result = text.and_then(|text| replace(&self.path, &text, 0o644));
        match result {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(
                    path = %self.path.display(), %error,
                    "the history cannot be kept on disk; undo works until the process ends"
                );
            }
            Err(_) => {}
        }
    }
}

fn read(path: &Path) -> io::Result<History> {
    if std::fs::metadata(path)?.len() > RECORD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the record is too large"));
    }
    serde_json::from_slice(&std::fs::read(path)?).map_err(io::Error::other)
}

/// Puts `bytes` in the place of `path` by a rename, so that a reader sees the old text or the new one and nothing else.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!("{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        // The draft is of no use to anybody; that it may not be there is no news.
        let _ = std::fs::remove_file(&draft);
    }
    written
}
