//! What a plan does beside moving traffic: actions, windows of time, sweeps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{CommandCheck, HttpCheck};

/// Something to do at a moment of the rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedAction {
    /// What it is called.
    pub name: String,
    /// When.
    pub at: Moment,
    /// What.
    pub act: Act,
    /// Time for it, or for one try of it. Default 30 s, and 60 s to drain.
    #[serde(with = "crate::model::time")]
    pub timeout: Duration,
    /// What its failure leads to.
    pub on_error: OnActionError,
}

/// A moment of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the first share; a failure keeps the rollout from starting.
    Start,
    /// After promotion.
    Promoted,
    /// On a rollback, in order; the traffic is moved first, whatever they do.
    Rollback,
    /// At the end, however it ended.
    End,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Act {
    /// No new request goes to the candidate. Always the first of a rollback.
    StopNewTraffic,
    /// Wait until nothing is in flight to the candidate.
    DrainConnections,
    /// A request.
    Webhook(HttpCheck),
    /// A command.
    Command(CommandCheck),
}

/// What a failed action leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnActionError {
    /// It is told, and the next one runs.
    Continue,
    /// The rest is left out and an alarm raised. At [`Moment::Start`] the rollout does not start.
    Stop,
}

/// A window of time in which a rollout may start or advance, or may not. It never blocks a rollback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Allowed or frozen.
    pub rule: WindowRule,
    /// Days of the week, 1 is Monday; empty: every day.
    pub days: Vec<u8>,
    /// Minutes after midnight at which it begins and ends; an end before the beginning is on the next day.
    pub from_minute: u16,
    /// See `from_minute`.
    pub to_minute: u16,
    /// IANA name of the time zone. Default `UTC`.
    pub zone: String,
    /// Why, for people.
    pub reason: String,
}

/// What a window says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowRule {
    /// Starting and advancing only within windows of this kind.
    Allow,
    /// Neither within it.
    Freeze,
}

/// Verification after promotion: one job for each target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// What it is called.
    pub name: String,
    /// Tenants, hosts, repositories: `{target}` in the job stands for each.
    pub targets: Vec<String>,
    /// The job.
    pub act: Act,
    /// Most jobs per minute. Default 10.
    pub per_minute: u32,
}
