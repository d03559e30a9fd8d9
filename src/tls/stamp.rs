//! What a file looks like from outside, so that it is read again only when it changed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What stat(2) says of what a path leads to. Symbolic links are followed: Kubernetes and certbot renew by switching
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

// === impl Stamp ===

impl Stamp {
    /// None when there is nothing, or nothing that may be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let it = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (it.dev(), it.ino()),
            len: it.len(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }
}
