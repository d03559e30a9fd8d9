//! The keys of the affinity cookies: from the file that the configuration names, or made once and kept beside the
//! weights file. The file is hot: another content is taken over at the next look.
//!
//! It signs and verifies nothing; that is [`crate::routing::cookie`].

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::routing::cookie::{InvalidKeys, KEY_BYTES, Key, Keys};

/// Name of the file with the generated key.
const GENERATED: &str = ".weir-affinity.key";

/// Largest key file that is read; two lines of hex are 130 bytes, the rest is for comments.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Keys and where they come from.
#[derive(Debug)]
pub(super) struct Keyring {
    source: Source,
    keys: Arc<Keys>,
    text: String,
}

/// Where keys come from.
#[derive(Debug)]
enum Source {
    /// The file that the configuration names.
    Named(PathBuf),
    /// The generated file.
    Generated(PathBuf),
}

/// Why there are no keys. It is shown in places that print no chain of causes, so each says its reason itself.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The file holds no keys.
    #[error("key file {path}: {reason}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: InvalidKeys,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

// === impl Keyring ===

impl Keyring {
    /// Reads `key_file`, or the generated key beside `weights`; makes that one when there is none.
    pub(super) fn open(key_file: Option<&Path>, weights: &Path) -> Result<Self, KeyError> {
        let source = Source::of(key_file, weights);
        if let Source::Named(path) = &source {
            let (text, keys) = load(path)?;
            return Ok(Self { source, keys: Arc::new(keys), text });
        }
        let path = source.path();
        match load(path) {
            Ok((text, keys)) => Ok(Self { keys: Arc::new(keys), text, source }),
            Err(KeyError::Read { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                let keys = generate(path)?;
                Ok(Self { text: keys.to_text(), keys: Arc::new(keys), source })
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, %error, "the kept key is of no use; a new one holds until the process ends");
                Ok(Self { keys: Arc::new(Keys::new(random()?)), text: String::new(), source })
            }
        }
    }

    /// The keys in use.
    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Looks again: true when the keys are others than before. On an error the old ones stay.
    pub(super) fn refresh(&mut self) -> Result<bool, KeyError> {
        match load(self.source.path()) {
            Ok((text, _)) if text == self.text => Ok(false),
            Ok((text, keys)) => {
                let changed = keys != *self.keys;
                self.text = text;
                self.keys = Arc::new(keys);
                Ok(changed)
            }
            // What was generated once holds for the life of the process, whatever becomes of its file.
            Err(_) if matches!(self.source, Source::Generated(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

// === impl Source ===

impl Source {
    fn of(key_file: Option<&Path>, weights: &Path) -> Self {
        match key_file {
            Some(path) => Source::Named(path.to_owned()),
            None => Source::Generated(weights.with_file_name(GENERATED)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Source::Named(path) | Source::Generated(path) => path,
        }
    }
}

/// Whether a key file that the configuration names is of use.
pub fn check(path: &Path) -> Result<(), KeyError> {
    load(path).map(drop)
}

fn load(path: &Path) -> Result<(String, Keys), KeyError> {
    let shown = || path.display().to_string();
    let read = || -> io::Result<String> {
        if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
        }
        std::fs::read_to_string(path)
    };
    let text = read().map_err(|reason| KeyError::Read { path: shown(), reason })?;
    let keys = Keys::parse(&text).map_err(|reason| KeyError::Invalid { path: shown(), reason })?;
    Ok((text, keys))
}

/// Makes a key and keeps it for its owner alone. Of two processes that start at once, the second takes the first's.
fn generate(path: &Path) -> Result<Keys, KeyError> {
    let keys = Keys::new(random()?);
    let kept = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(keys.to_text().as_bytes())?;
        file.sync_all()
    });
    match kept {
        Ok(()) => Ok(keys),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(path).map(|(_, keys)| keys).or(Ok(keys)),
        Err(error) => {
            let path = path.display();
            tracing::warn!(
                %path, %error,
                "the affinity key cannot be kept: clients lose their pool at a restart; name a key_file or make the \
                 directory writable"
            );
            Ok(keys)
        }
    }
}

fn random() -> Result<Key, KeyError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(Key::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::switchboard::testing::Dir;

    #[test]
    fn a_generated_key_is_kept_for_its_owner_alone_and_found_again() {
        let dir = Dir::new();
        let weights = dir.path().join("weights.toml");
        let first = Keyring::open(None, &weights).expect("keys");
        let second = Keyring::open(None, &weights).expect("keys");
        assert_eq!(first.keys(), second.keys());
        let mode = std::fs::metadata(dir.path().join(GENERATED)).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_cannot_be_written_gives_a_key_in_memory() {
        let keyring = Keyring::open(None, Path::new("/proc/weights.toml")).expect("keys");
        assert_eq!(keyring.keys().previous, None);
    }

    #[test]
    fn a_named_file_is_hot_and_a_broken_one_changes_nothing() {
        let dir = Dir::new();
        let (weights, file) = (dir.path().join("weights.toml"), dir.path().join("affinity.key"));
        let key = |digit: &str| format!("{}{}\n", digit.repeat(32), "0".repeat(32));
        std::fs::write(&file, key("a")).expect("written");
        let mut keyring = Keyring::open(Some(&file), &weights).expect("keys");
        let first = keyring.keys().clone();
        assert!(!keyring.refresh().expect("same"));
        std::fs::write(&file, key("b") + &key("a")).expect("written");
        assert!(keyring.refresh().expect("rotated"));
        assert_eq!(keyring.keys().previous.as_ref(), Some(&first.current));
        std::fs::write(&file, "what\n").expect("written");
        assert!(keyring.refresh().is_err());
        assert_eq!(keyring.keys().previous.as_ref(), Some(&first.current));
    }
}
