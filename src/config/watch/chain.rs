//! The way to a file: every directory entry that decides what its path leads to. A Kubernetes volume reaches
//! `weights.toml` through a link to `..data/weights.toml`, where `..data` is a link that is swapped; each of these
//! entries is in a directory that must be watched.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Directory entries on the way to a file, each as (directory, name).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Chain(Vec<(PathBuf, OsString)>);

/// The way that `path` goes now. A missing file still has the directory that it would be in.
pub(super) fn chain(path: &Path) -> Chain {
    let mut entries = Vec::new();
    let mut current = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS_MAX {
        let Some((link, rest)) = first_link(&current) else { break };
        let (Some(directory), Some(name)) = (link.parent(), link.file_name()) else { break };
        entries.push((directory.to_owned(), name.to_owned()));
        let Ok(target) = std::fs::read_link(&link) else { break };
        current = directory.join(target);
        current.extend(rest.components());
    }
    if let (Some(directory), Some(name)) = (current.parent(), current.file_name()) {
        entries.push((directory.to_owned(), name.to_owned()));
    }
    Chain(entries)
}

/// The first component that is a link, and what comes after it.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut so_far = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        so_far.push(component);
        let is_link = || std::fs::symlink_metadata(&so_far).is_ok_and(|metadata| metadata.is_symlink());
        if matches!(component, Component::Normal(_)) && is_link() {
            return Some((so_far, components.as_path().to_owned()));
        }
    }
    None
}

/// Device and inode of a directory.
pub(super) fn identity(directory: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(directory).ok().filter(std::fs::Metadata::is_dir).map(|found| (found.dev(), found.ino()))
}

// === impl Chain ===

impl Chain {
    /// The names of the entries.
    pub(super) fn names(&self) -> Vec<OsString> {
        self.0.iter().map(|(_, name)| name.clone()).collect()
    }

    /// The directories of the entries.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(directory, _)| directory.as_path())
    }
}
