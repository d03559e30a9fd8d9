//! Where people and programs come in: start, command, look. It can be cloned, and none of it waits for a runner longer
//! than it must: looking never does, and a rollback moves the traffic before it asks anybody.

mod command;
mod drill;
mod kill;
mod look;
pub mod notify;
mod rest;
mod start;
mod switch;

pub use switch::{Shown, Word};

use std::sync::Arc;

use serde_json::Value;

use super::journal::audit::Entry;
use super::machine::Command;
use super::runner::office::{Office, Seat, now_ms};
use super::windows;
use crate::model::rollout::RolloutPlan;
use crate::switchboard::change::Refused;
use crate::switchboard::writer::Switchboard;

/// Longest id of a rollout, in bytes.
const ID_BYTES_MAX: usize = 100;

/// The handle.
#[derive(Clone)]
pub struct Desk {
    switchboard: Arc<Switchboard>,
    office: Result<Arc<Office>, Arc<str>>,
}

/// Who asks, from where and why.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// A person or program, as far as it is known.
    pub who: String,
    /// A peer address.
    pub from: String,
    /// Why.
    pub reason: String,
    /// Whether it came by the command line.
    pub cli: bool,
}

/// A rollout that is asked for.
#[derive(Debug, Clone)]
pub struct Start {
    /// What it goes by.
    pub plan: RolloutPlan,
    /// What it is to be called; made up when none is given.
    pub id: Option<String>,
    /// Whether one that runs gives way, rather than this one be refused.
    pub supersede: bool,
    /// Whether a program starts it of its own accord: it then waits until a person has looked at what was rolled back.
    pub automatic: bool,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The engine does not run.
    #[error("{0}")]
    Unavailable(String),
    /// Another rollout holds the service, or has the id.
    #[error("{why}")]
    Conflict {
        /// The id of the rollout that runs.
        running: String,
        /// In words.
        why: String,
    },
    /// It cannot be done in this state.
    #[error("{0}")]
    Illegal(String),
    /// There is no such rollout.
    #[error("there is no rollout \"{0}\"")]
    Unknown(String),
    /// There is no such kill switch.
    #[error("there is no kill switch \"{0}\"")]
    UnknownSwitch(String),
    /// What was asked for does not hold.
    #[error("{0}")]
    Invalid(String),
    /// The switchboard refused it.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The traffic could not be moved.
    #[error("{0}")]
    NotMoved(String),
}

// === impl Desk ===

impl Desk {
    pub(super) fn of(office: Arc<Office>) -> Self {
        Self { switchboard: Arc::clone(&office.switchboard), office: Ok(office) }
    }

    /// A desk behind which nobody works; `why` is what everybody is told. The kill switch works all the same.
    pub fn closed(switchboard: Arc<Switchboard>, why: impl Into<Arc<str>>) -> Self {
        Self { switchboard, office: Err(why.into()) }
    }

    pub(super) fn office(&self) -> Result<&Arc<Office>, DeskError> {
        let office = self.office.as_ref().map_err(|why| DeskError::Unavailable(why.to_string()))?;
        if office.is_closed() {
            return Err(DeskError::Unavailable(
                "another process takes the rollouts over; ask again in a second".into(),
            ));
        }
        Ok(office)
    }

    /// Ends all work here and keeps what is to be kept, so that another process can go on with it.
    pub async fn close(&self) {
        if let Ok(office) = &self.office {
            office.close().await;
        }
    }

    /// Whether somebody works here.
    pub fn open(&self) -> Result<(), DeskError> {
        self.office().map(drop)
    }

    /// Why nobody works here, when that is so.
    pub fn why_closed(&self) -> Option<&str> {
        self.office.as_ref().err().map(AsRef::as_ref)
    }

    /// Notes what somebody did elsewhere.
    pub fn note(&self, by: &By, action: &str, service: &str, before: Value, after: Value) {
        if let Ok(office) = self.office() {
            office.note(Entry {
                at_ms: now_ms(),
                who: by.who.clone(),
                from: by.from.clone(),
                action: action.into(),
                service: service.into(),
                rollout_id: None,
                reason: by.reason.clone(),
                before,
                after,
            });
        }
    }

    /// Waits until the audit log has what was noted: a command that was answered must not be unseen after a crash.
    /// A disk that refuses, or does not answer, holds nobody up.
    async fn written(&self, office: &Office) {
        if office.keeper.health().failing.is_none() {
            office.keeper.flush().await;
        }
    }

    fn audit(&self, by: &By, action: &str, seat: &Seat, before: Value, after: Value) {
        if let Ok(office) = self.office() {
            office.note(Entry {
                at_ms: now_ms(),
                who: by.who.clone(),
                from: by.from.clone(),
                action: action.into(),
                service: seat.service.to_string(),
                rollout_id: Some(seat.id.clone()),
                reason: by.reason.clone(),
                before,
                after,
            });
        }
    }
}

/// The window in force that keeps a rollout from starting.
fn window(plan: &RolloutPlan) -> Option<String> {
    windows::closed(&plan.windows, now_ms())
}

fn named(by: &By) -> String {
    if by.who.is_empty() { "somebody".into() } else { by.who.clone() }
}

fn verb(command: &Command) -> &'static str {
    match command {
        Command::Pause => "pause",
        Command::Resume => "resume",
        Command::Advance { .. } => "advance",
        Command::Rollback => "rollback",
        Command::Approve { .. } => "approve",
        Command::Cancel => "cancel",
    }
}
