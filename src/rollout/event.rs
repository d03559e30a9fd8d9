//! What happened to rollouts and kill switches, for streams, notifications and the audit log.

use serde::{Deserialize, Serialize};

/// A kind of event; the name is what streams and notifications call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A pool answers with another version than before.
    NewVersionDetected,
    /// A rollout was created.
    RolloutInitiated,
    /// The candidate gets its first share.
    CanaryStarted,
    /// The last phase below 100 % was passed, or failed.
    CanaryCompleted,
    /// A phase began.
    PhaseStarted,
    /// A phase was passed.
    PhaseCompleted,
    /// The verdict of a gate changed.
    GateChanged,
    /// The rollout waits.
    RolloutPaused,
    /// It goes on.
    RolloutResumed,
    /// The candidate has everything.
    RolloutCompleted,
    /// Traffic goes back.
    RollbackInitiated,
    /// Traffic is back, and what was checked afterwards.
    RollbackCompleted,
    /// Something needs a person.
    Alarm,
    /// An approval was given or is waited for.
    Approval,
    /// An action ran, or a sweep went on.
    Action,
    /// A kill switch was pulled.
    Killed,
    /// A kill switch was let go.
    Unkilled,
    /// A kill switch counts down or tries to recover.
    KillSwitch,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// News.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must look.
    Critical,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Rises by one; what `Last-Event-ID` names.
    pub id: u64,
    /// When, in ms since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// The service.
    pub service: String,
    /// The rollout, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_id: Option<String>,
    /// Who caused it: a person, `gate NAME`, `weir`.
    pub who: String,
    /// One sentence for people.
    pub message: String,
    /// Numbers and names, by kind.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

// === impl Kind ===

impl Kind {
    /// The name that streams, notifications and logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NewVersionDetected => "new_version_detected",
            Kind::RolloutInitiated => "rollout_initiated",
            Kind::CanaryStarted => "canary_started",
            Kind::CanaryCompleted => "canary_completed",
            Kind::PhaseStarted => "phase_started",
            Kind::PhaseCompleted => "phase_completed",
            Kind::GateChanged => "gate_changed",
            Kind::RolloutPaused => "rollout_paused",
            Kind::RolloutResumed => "rollout_resumed",
            Kind::RolloutCompleted => "rollout_completed",
            Kind::RollbackInitiated => "rollback_initiated",
            Kind::RollbackCompleted => "rollback_completed",
            Kind::Alarm => "alarm",
            Kind::Approval => "approval",
            Kind::Action => "action",
            Kind::Killed => "killed",
            Kind::Unkilled => "unkilled",
            Kind::KillSwitch => "kill_switch",
        }
    }
}
