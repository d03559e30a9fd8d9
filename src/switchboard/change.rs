//! What may be asked of the switchboard, by whom and why, and how it may refuse.
//!
//! Everything that moves traffic is a [`Change`]; nothing here decides or does anything.

use serde::{Deserialize, Serialize};

use crate::config::watch::ContentHash;
use crate::config::{Problems, WriteError};
use crate::model::rollout::CohortMatch;
use crate::model::{InvalidWeights, Killed, Name, Scope, Weights};

/// Something that is asked of the switchboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Read both files and apply what they say, also when they look the same.
    Reload,
    /// The watcher read another content: apply it, so far as it still stands in the file. What changed again since is
    /// reported again, and what was written here is known already.
    FileChanged {
        /// Hash of `weir.toml`, when it changed.
        config: Option<ContentHash>,
        /// Hash of the weights file, when it changed.
        weights: Option<ContentHash>,
    },
    /// New weights of one service, written to the weights file.
    Weights {
        /// The service.
        service: Name,
        /// Its new weights.
        weights: Weights,
    },
    /// Everything of one service to its stable pool. Never refused for anything but an unknown service.
    Rollback {
        /// The service.
        service: Name,
    },
    /// Back to the weights before the last change of that service.
    Undo {
        /// The service.
        service: Name,
    },
    /// Requests of these go to a pool whatever its weight; none ends that. In memory: a restart forgets it, and whoever
    /// asked asks again.
    Cohort {
        /// The service.
        service: Name,
        /// Who goes where.
        cohort: Option<Cohort>,
    },
    /// Everything to stable, by whatever way it comes, until [`Change::Unkill`]. Written to the weights file, and never
    /// refused for anything but an unknown service. One by [`How::Rollout`] never replaces the words of one that
    /// stands.
    Kill {
        /// What is killed.
        scope: Scope,
        /// Why, for people.
        reason: String,
    },
    /// Takes back exactly that kill; a service stays killed so long as the system is.
    Unkill {
        /// What is no longer killed.
        scope: Scope,
        /// Only a kill with exactly this reason: any other stays, and nothing changes. None: whatever stands.
        only: Option<String>,
    },
    /// Has the scope answer 503 until it ends. Written to the weights file, then live.
    Maintenance {
        /// What answers 503.
        scope: Scope,
        /// What clients are told (may be empty); none ends it.
        reason: Option<String>,
    },
    /// Names resolved to other addresses, or a drain came to its end; neither is a new generation.
    EndpointsChanged,
}

/// Requests that go to one pool whatever its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cohort {
    /// The pool.
    pub pool: Name,
    /// Headers that a request must have, all of them; at least one.
    pub matches: Vec<CohortMatch>,
}

/// What moved a service's weights last, or killed it or took that back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCause {
    /// The generation that it made.
    pub generation: u64,
    /// The revision that it made.
    pub revision: u64,
    /// The weights since: those that are live, so all to stable while the service is killed.
    pub weights: Weights,
    /// Why the service is killed since; none when it is not.
    pub killed: Option<Killed>,
    /// Who, how and why.
    pub cause: Cause,
}

/// Who asked for a change, from where, how and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A person or program, as far as it is known; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// Where it came from: a peer address, a file path, a signal name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// By which way.
    pub how: How,
    /// The reason that was given; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The way by which a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The process started.
    Start,
    /// A file was saved.
    File,
    /// The admin API.
    Api,
    /// The command line.
    Cli,
    /// A signal.
    Signal,
    /// Names resolved to other addresses.
    Dns,
    /// A rollout.
    Rollout,
}

/// What an applied change led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The generation that is live now.
    pub generation: u64,
    /// The revision that is live now.
    pub revision: u64,
    /// Whether anything changed; a change to what is live already leaves the generation as it was.
    pub changed: bool,
    /// The traffic moved but the weights file does not say so: what still has to be done.
    pub pending: Option<String>,
}

/// Why a change was refused. Whatever the reason, what was live stays live.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody else was first; read again and decide anew.
    #[error("the generation is {current} now, not {expected}")]
    Conflict {
        /// The generation that was expected.
        expected: u64,
        /// The generation that is live.
        current: u64,
    },
    /// No service of that name.
    #[error("there is no service \"{0}\"")]
    UnknownService(String),
    /// A pool that the service does not have.
    #[error("service \"{service}\" has no pool \"{pool}\"; it has {known}")]
    UnknownPool {
        /// The service.
        service: Name,
        /// The pool that was named.
        pool: Name,
        /// The pools that there are, separated by commas.
        known: String,
    },
    /// The weights themselves do not hold.
    #[error(transparent)]
    Weights(#[from] InvalidWeights),
    /// A cohort without a header would be everybody.
    #[error("a cohort names no header; use weights to send everybody to a pool")]
    EmptyCohort,
    /// The service is killed; its weights do not move before that is taken back.
    #[error("{service} is killed{}: `weir unkill {}` first", because(reason), if *system { "--all" } else { service })]
    Killed {
        /// The service.
        service: Name,
        /// Whether every service is.
        system: bool,
        /// The reason that was given; may be empty.
        reason: String,
    },
    /// No change of that service is on record.
    #[error("no change of service \"{0}\" is on record")]
    NothingToUndo(Name),
    /// The weights file cannot be written here.
    #[error("the weights file {path} is read-only for weir; edit it on the host")]
    ReadOnly {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: WriteError,
    },
    /// Writing the weights file failed for another reason.
    #[error("cannot write the weights file {path}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: WriteError,
    },
    /// The files do not hold; every problem is listed.
    #[error("{0}")]
    Problems(Problems),
    /// The weights file on disk does not hold, so it cannot be edited safely.
    #[error("the weights file on disk does not hold; mend it first: {0}")]
    FileBroken(Problems),
    /// The process runs in safe mode: everything goes to stable.
    #[error("weir runs in safe mode, everything goes to stable; start it without --safe-mode to move traffic")]
    SafeMode,
    /// Another process is about to take over; it takes the change.
    #[error("weir hands over to a new process; ask again in a second")]
    Resting,
}

// === impl Change ===

impl Change {
    /// What the history calls it; none for what is told well enough by the weights that it moved.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Change::Rollback { .. } => Some("rollback".into()),
            Change::Undo { .. } => Some("undo".into()),
            Change::Kill { scope, .. } => Some(format!("kill of {scope}")),
            Change::Unkill { scope, .. } => Some(format!("unkill of {scope}")),
            Change::Maintenance { scope, reason: Some(_) } => Some(format!("maintenance of {scope}")),
            Change::Maintenance { scope, reason: None } => Some(format!("end of maintenance of {scope}")),
            _ => None,
        }
    }

    /// Whether it may wait for the process that takes over. What brings traffic to stable never does, and what files
    /// and names say goes live in both.
    pub(super) fn can_wait(&self) -> bool {
        match self {
            Change::Weights { .. } | Change::Undo { .. } | Change::Unkill { .. } => true,
            Change::Cohort { .. } | Change::Maintenance { .. } => true,
            Change::Rollback { .. } | Change::Kill { .. } => false,
            Change::Reload | Change::FileChanged { .. } | Change::EndpointsChanged => false,
        }
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

// === impl Cause ===

impl Cause {
    /// A cause with nothing but its way.
    pub fn by(how: How) -> Self {
        Self { who: String::new(), from: String::new(), how, reason: String::new() }
    }

    /// With a place that it came from.
    pub fn from(mut self, from: impl Into<String>) -> Self {
        self.from = from.into();
        self
    }
}

// === impl How ===

impl How {
    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            How::Start => "start",
            How::File => "file",
            How::Api => "api",
            How::Cli => "cli",
            How::Signal => "signal",
            How::Dns => "dns",
            How::Rollout => "rollout",
        }
    }
}
