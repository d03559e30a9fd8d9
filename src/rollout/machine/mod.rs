//! The pure machine of one rollout: (state, now, input) → (state, effects). It reads no clock, no file and no socket.
//!
//! The runner hands in what happened and does what comes out, in order: persist the intent first, then apply, then
//! hand in the outcome. After a crash the kept state goes through [`Input::Recovered`] on the same path.

mod command;
mod phase;
mod retreat;
mod step;

use serde::{Deserialize, Serialize};

use super::event::{Kind, Severity};
use super::verdict::{Judgement, Outcome, Verdict};
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
#[serde(rename_all = "camelCase", default)]
pub struct Inner {
    /// Why it is paused.
    pub paused: Option<Pause>,
    /// Whether the actions before the first share ran.
    pub prepared: bool,
    /// Whether the first share was given.
    pub begun: bool,
    /// Whether the service is killed.
    pub killed: bool,
    /// Whether a failed gate keeps it from advancing (`on_failure = "hold"`).
    pub held: bool,
    /// `phase_ms` at the last extension.
    pub extended_ms: u64,
    /// Who approved, since the phase began.
    pub approvals: Vec<String>,
    /// A rollback that waits, and may be cancelled.
    pub delay: Option<Delay>,
    /// A rollback under way.
    pub retreat: Option<Retreat>,
    /// The freeze in force at the last tick, in words.
    pub window: Option<String>,
    /// How long stable has been well again, while paused for its sake.
    pub well_ms: u64,
    /// The last words of each gate, so that changes are told once.
    pub gates: std::collections::BTreeMap<String, Verdict>,
    /// Whether the end of the canary was told.
    pub canary_told: bool,
    /// Whether weir rolled it back rather than a person.
    pub rolled_back_by_weir: bool,
}

/// Why a rollout is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// A person wanted it.
    Person,
    /// Stable itself is bad; it goes on by itself when that is over.
    Degraded,
    /// Somebody changed the weights by hand.
    HandEdit,
    /// The service was killed.
    Killed,
    /// A gate failed, and the plan says to pause.
    Failed,
    /// The evidence was not enough in time.
    Inconclusive,
    /// The weights could not be set.
    Refused,
}

/// An automatic rollback that waits for the plan's delay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delay {
    /// Time left, in ms.
    pub left_ms: u64,
    /// Why.
    pub because: String,
}

/// A rollback under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retreat {
    /// Shares still to be set; the last is 0.
    pub steps: Vec<Share>,
    /// Time since the last step was asked for, in ms.
    pub step_ms: u64,
    /// Time since it began, in ms.
    pub since_ms: u64,
    /// Whether weir began it rather than a person.
    pub automatic: bool,
    /// What is waited for.
    pub stage: Stage,
    /// Whether it was told that it takes too long.
    pub overdue: bool,
}

/// How far a rollback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Traffic moves.
    Moving,
    /// Its actions run.
    Acting,
    /// What it left behind is checked.
    Verifying,
}

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
    Start {
        /// The freeze window in force, in words.
        window_closed: Option<String>,
    },
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
    /// Whether it moves on towards the candidate, or could.
    pub fn is_live(self) -> bool {
        matches!(self, State::Pending | State::RollingOut | State::Paused)
    }

    /// The word in files, API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::RollingOut => "rolling_out",
            State::Paused => "paused",
            State::Completed => "completed",
            State::RolledBack => "rolled_back",
        }
    }
}

// === impl Rollout ===

impl Rollout {
    /// A rollout that has not begun. `share_before` is what the candidate has now.
    pub fn new(id: String, plan: RolloutPlan, who: String, reason: String, at_ms: u64, share_before: Share) -> Self {
        Self {
            id,
            plan,
            started_by: who,
            reason,
            started_at_ms: at_ms,
            ended_at_ms: None,
            state: State::Pending,
            phase: 0,
            share: share_before,
            share_before,
            intended: share_before,
            watched_ms: 0,
            phase_ms: 0,
            verdict: Verdict::Inconclusive,
            because: String::new(),
            inner: Inner::default(),
        }
    }

    /// Whether it holds its service: it is live, or its rollback is not over yet.
    pub fn holds_service(&self) -> bool {
        self.state.is_live() || self.inner.retreat.is_some()
    }

    /// What an approval gate says now.
    pub fn approval(&self, approvers: &[String], count: u32) -> Outcome {
        let given: Vec<&String> =
            self.inner.approvals.iter().filter(|by| approvers.is_empty() || approvers.contains(by)).collect();
        let names = given.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        if given.len() >= count as usize {
            return Outcome::Passed { detail: format!("approved by {names}"), value: None };
        }
        let from = if approvers.is_empty() { String::new() } else { format!(" of {}", approvers.join(", ")) };
        let so_far = if names.is_empty() { String::new() } else { format!("; so far {names}") };
        Outcome::Waiting { detail: format!("waits for {count} approval(s){from}{so_far}") }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
