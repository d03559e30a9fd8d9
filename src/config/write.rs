//! Puts an edited weights file on disk: a reader sees the old text or the new one, never half of either, and the new
//! one is on the disk before anybody is told that it is.
//!
//! Where the directory forbids a rename over the file (a bind mount of the single file: `EBUSY`, another file system:
//! `EXDEV`, a directory that may not be written), it is written in place. That can be seen half done by a reader,
//! which is why the watcher waits for the end of the write.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Mode of a weights file that did not exist: everybody may read it, it holds no secret.
const MODE_NEW: u32 = 0o644;

/// Why the file was not written; it still holds the old text, except after [`WriteError::Torn`].
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file or its file system is read-only for this process.
    #[error("{} is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else went wrong before the file was touched: a full disk, a missing directory.
    #[error("{} cannot be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The write in place failed half way: the file may hold a part of the new text.
    #[error("{} was only written in part", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

// === impl WriteError ===

impl WriteError {
    /// What the system said.
    pub fn reason(&self) -> &io::Error {
        match self {
            WriteError::ReadOnly { source, .. } | WriteError::Io { source, .. } | WriteError::Torn { source, .. } => {
                source
            }
        }
    }
}

/// How the file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A new file was moved over the old one.
    Renamed,
    /// The file was written in place, because it could not be replaced.
    InPlace,
}

/// Replaces the text of the file that `path` leads to (through symbolic links), keeping its mode and owner.
/// When it returns, the text is on the disk.
pub fn write_weights(path: impl AsRef<Path>, text: &str) -> Result<Written, WriteError> {
    let path = path.as_ref();
    // The link stays a link; what it leads to is replaced.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |source: io::Error| refuse(path, source);
    let old = match std::fs::metadata(&target) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if old.is_some() {
        // A file that its owner made read-only must not be replaced through its directory. Opening tells the truth
        // for root and for read-only mounts as well, where the mode does not.
        OpenOptions::new().write(true).open(&target).map_err(failed)?;
        if old.as_ref().is_some_and(|old| old.permissions().readonly()) {
            return Err(failed(io::ErrorKind::PermissionDenied.into()));
        }
    }
    match replace(&target, text, old.as_ref()) {
        Ok(()) => Ok(Written::Renamed),
        Err(error) if old.is_some() && forbids_replacing(&error) => {
            overwrite(&target, text).map_err(|source| match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => failed(source),
                _ => WriteError::Torn { path: path.to_owned(), source },
            })?;
            Ok(Written::InPlace)
        }
        Err(error) => Err(failed(error)),
    }
}

fn refuse(path: &Path, source: io::Error) -> WriteError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => WriteError::ReadOnly { path, source },
        _ => WriteError::Io { path, source },
    }
}

/// Errors of the directory, not of the file. The disk being full is not among them: in place it would lose the text.
fn forbids_replacing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EXDEV | libc::EACCES | libc::EPERM | libc::EROFS | libc::ETXTBSY)
    )
}

fn replace(target: &Path, text: &str, old: Option<&std::fs::Metadata>) -> io::Result<()> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!(".{name}.{}-{serial}.tmp", std::process::id()));
    let result = fill(&temporary, text, old).and_then(|()| std::fs::rename(&temporary, target));
    if result.is_err() {
        // The first error is the one to report; a left-over file is harmless.
        let _ = std::fs::remove_file(&temporary);
        return result;
    }
    // The rename itself is only safe on disk with its directory. Some file systems cannot sync one.
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(())
}

fn fill(temporary: &Path, text: &str, old: Option<&std::fs::Metadata>) -> io::Result<()> {
    // A file of that name is left over from a process that died with our number; nobody else makes one.
    let _ = std::fs::remove_file(temporary);
    let mode = old.map_or(MODE_NEW, |old| old.permissions().mode() & 0o7777);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(text.as_bytes())?;
    if let Some(old) = old {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Only root may give a file away. Without that, replacing would lock the owner out: write in place.
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// The new text first, then the cut: a reader never sees an empty file.
fn overwrite(target: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(target)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}
