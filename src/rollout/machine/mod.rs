//! The pure machine of one rollout: (state, now, input) → (state, effects). It reads no clock, no file and no socket.
//!
//! The runner hands in what happened and does what comes out, in order: persist the intent first, then apply, then
//! hand in the outcome. After a crash the kept state goes through [`Input::Recovered`] on the same path.

use serde::{Deserialize, Serialize};

use super::event::{Kind, Severity};
use super::verdict::{Judgement, Verdict};
use crate::model::rollout::{Moment, RolloutPlan, Share};

/// What a rollout is doing, as everybody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Created; gates and actions before the first share run, or an approval or a window is waited for.
    Pending,
    /// Traffic moves.
    RollingOut,
    /// The share stays; evidence and alarms go on; a person decides.
    Paused,
    /// The candidate has everything.
    Completed,
    /// Stable has everything.
    RolledBack,
}

/// One rollout: everything that must survive a crash, but for the evidence, which the judge keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Unique; also the salt of its report.
    pub id: String,
    /// What it goes by, as it was when it began.
    pub plan: RolloutPlan,
    /// Who started it, and why.
    pub started_by: String,
    /// See `started_by`.
    pub reason: String,
    /// ms since the Unix epoch.
    pub started_at_ms: u64,
    /// ms since the Unix epoch; when it came to an end.
    pub ended_at_ms: Option<u64>,
    /// What it is doing.
    pub state: State,
    /// Index of the phase; state, never inferred from a weight.
    pub phase: usize,
    /// What the candidate has now, as far as the machine knows.
    pub share: Share,
    /// What the candidate had before it began; and the one that was intended last (write-ahead).
    pub share_before: Share,
    /// See `share_before`.
    pub intended: Share,
    /// Time watched since the start, in ms; stands still while nobody watches.
    pub watched_ms: u64,
    /// Time watched in this phase, pauses not counted.
    pub phase_ms: u64,
    /// The newest verdict.
    pub verdict: Verdict,
    /// Why it paused, failed or was rolled back.
    pub because: String,
    /// What only the machine reads: retries, extensions, approvals, the steps of a rollback.
    #[serde(default)]
    pub inner: Inner,
}

/// What only the machine reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inner {}

/// A command of a person or program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Keep the share.
    Pause,
    /// Go on.
    Resume,
    /// To the next phase; with `force` also past a gate that does not hold (never past one that fails without it).
    Advance {
        /// See above.
        force: bool,
    },
    /// Everything to stable, now.
    Rollback,
    /// An approval by `by`.
    Approve {
        /// Who.
        by: String,
    },
    /// A pending automatic rollback (during its delay) or kill (during its grace) does not happen.
    Cancel,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The runner took it up for the first time.
    Start,
    /// The process began anew and this rollout was under way; `live` is what the weights say now.
    Recovered {
        /// The candidate's live share.
        live: Share,
    },
    /// Time went by, and this is what the gates say. `window_closed` names the freeze in force, if any.
    Tick {
        /// Time since the last input, in ms.
        elapsed_ms: u64,
        /// What the judge says.
        judgement: Box<Judgement>,
        /// The freeze window in force, in words.
        window_closed: Option<String>,
    },
    /// A command, by whom and why.
    Command {
        /// What.
        command: Command,
        /// Who.
        who: String,
        /// Why; may be empty.
        reason: String,
    },
    /// The weights that an effect asked for are live.
    Applied {
        /// The candidate's live share.
        share: Share,
    },
    /// They could not be set.
    Refused {
        /// What was asked for.
        share: Share,
        /// Why.
        why: String,
    },
    /// Somebody else changed the weights of the service.
    HandEdit {
        /// The candidate's live share.
        share: Share,
        /// Who, as far as it is known.
        who: String,
    },
    /// The service was killed.
    Killed {
        /// Why.
        reason: String,
    },
    /// The kill is over.
    Unkilled,
    /// The actions of a moment ran.
    Acted {
        /// Which.
        moment: Moment,
        /// Whether none that stops failed, and what happened, in words.
        ok: bool,
        /// See `ok`.
        detail: String,
    },
    /// The verification after a rollback came to an end.
    Verified {
        /// Whether stable is well, no request went to the candidate and errors are back to normal.
        ok: bool,
        /// In words.
        detail: String,
    },
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Keep the state before anything after this is done.
    Persist,
    /// Give the candidate this share: to be written to the weights file and live. To stable it is never refused.
    SetShare {
        /// The share.
        share: Share,
        /// Why, for the history.
        reason: String,
    },
    /// Send these requests to the candidate (empty: none); part of the phase that just began.
    SetCohort {
        /// The phase's index.
        phase: Option<usize>,
    },
    /// The judge begins this phase: thresholds are frozen, gates are those of the phase. Evidence is carried on.
    BeginPhase {
        /// Its index.
        phase: usize,
    },
    /// Run the actions of this moment, in order.
    Act {
        /// Which.
        moment: Moment,
    },
    /// Check what a rollback left behind.
    Verify,
    /// Run the sweeps.
    Sweep,
    /// Tell it.
    Announce {
        /// What.
        kind: Kind,
        /// How much it matters.
        severity: Severity,
        /// Who caused it.
        who: String,
        /// In words.
        message: String,
    },
    /// The rollout is over: release the service.
    Release,
}

/// Why a command is illegal now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Illegal(pub String);

// === impl State ===

impl State {
    /// Whether it still holds its service.
    pub fn is_live(self) -> bool {
        matches!(self, State::Pending | State::RollingOut | State::Paused)
    }
}
