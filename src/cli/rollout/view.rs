//! One rollout as the admin API tells it, read leniently: a member that an older or newer weir does not send is none,
//! so that an operator always sees what there is. Times of the API are RFC 3339, lengths milliseconds.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::super::screen::printable;

/// A rollout.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct View {
    pub(in crate::cli) rollout_id: String,
    pub(in crate::cli) plan: Value,
    pub(in crate::cli) service: String,
    pub(in crate::cli) candidate: String,
    pub(in crate::cli) control: Option<String>,
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) state: String,
    /// Index of the phase, from 0.
    pub(in crate::cli) phase: usize,
    /// What the phases are; with a state of their own when they began.
    pub(in crate::cli) phases: Vec<PhaseView>,
    /// What the candidate should have now, in percent.
    pub(in crate::cli) current_percentage: f64,
    /// What it has of the requests that were counted, in percent.
    pub(in crate::cli) realised_percentage: Option<f64>,
    pub(in crate::cli) started_at: Option<String>,
    #[serde(alias = "completedAt")]
    pub(in crate::cli) ended_at: Option<String>,
    pub(in crate::cli) started_by: String,
    pub(in crate::cli) reason: String,
    /// Time watched in this phase.
    pub(in crate::cli) phase_ms: u64,
    /// Time watched since the start.
    pub(in crate::cli) watched_ms: u64,
    pub(in crate::cli) dry_run: bool,
    pub(in crate::cli) on_inconclusive: Option<String>,
    pub(in crate::cli) verdict: String,
    /// Why the verdict is what it is.
    pub(in crate::cli) detail: String,
    /// Why it paused, failed or was rolled back.
    /// Whether the candidate ever got a share; none: an older weir does not say.
    pub(in crate::cli) begun: Option<bool>,
    pub(in crate::cli) because: String,
    /// What it waits for.
    pub(in crate::cli) waiting_for: Option<String>,
    pub(in crate::cli) gates: Vec<GateView>,
    pub(in crate::cli) bound: Option<f64>,
    pub(in crate::cli) self_test: Option<f64>,
    pub(in crate::cli) sample_ratio: Option<f64>,
    /// Whether the composition still settles after a change of weights.
    pub(in crate::cli) settling: bool,
    /// The two pools that are compared: candidate, control.
    pub(in crate::cli) arms: Vec<ArmView>,
    /// Newest last.
    pub(in crate::cli) events: Vec<EventView>,
    /// The freeze window in force.
    pub(in crate::cli) window_closed: Option<String>,
    /// What is wrong with the rollout's own machinery.
    pub(in crate::cli) trouble: Option<String>,
    /// Set when the service or the system is killed.
    pub(in crate::cli) killed: Option<String>,
}

/// A phase.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct PhaseView {
    pub(in crate::cli) name: String,
    pub(in crate::cli) percent: f64,
    pub(in crate::cli) min_duration_ms: u64,
    pub(in crate::cli) max_duration_ms: u64,
    pub(in crate::cli) holdback: f64,
}

/// A gate.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct GateView {
    pub(in crate::cli) name: String,
    pub(in crate::cli) kind: String,
    pub(in crate::cli) verdict: String,
    pub(in crate::cli) dry_run: bool,
    /// Whether its failure only keeps the rollout where it is.
    pub(in crate::cli) waits: bool,
    pub(in crate::cli) e_value: Option<f64>,
    pub(in crate::cli) limit: Option<f64>,
    pub(in crate::cli) safe_e_value: Option<f64>,
    pub(in crate::cli) safe_limit: Option<f64>,
    pub(in crate::cli) bound: Option<f64>,
    pub(in crate::cli) ratio: Option<f64>,
    pub(in crate::cli) candidate: Option<f64>,
    pub(in crate::cli) control: Option<f64>,
    pub(in crate::cli) detail: String,
}

/// What one of the compared pools did.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct ArmView {
    pub(in crate::cli) pool: String,
    /// Counted since the rollout began.
    pub(in crate::cli) requests: Option<u64>,
    pub(in crate::cli) errors: Option<u64>,
    /// Of about the last minute.
    pub(in crate::cli) requests_per_s: Option<f64>,
    pub(in crate::cli) p50_ms: Option<f64>,
    pub(in crate::cli) p95_ms: Option<f64>,
    pub(in crate::cli) p99_ms: Option<f64>,
}

/// An event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct EventView {
    pub(in crate::cli) id: u64,
    pub(in crate::cli) at_ms: u64,
    pub(in crate::cli) kind: String,
    pub(in crate::cli) severity: String,
    pub(in crate::cli) service: String,
    pub(in crate::cli) rollout_id: Option<String>,
    pub(in crate::cli) who: String,
    pub(in crate::cli) message: String,
}

/// How a rollout stands, as an exit code and a banner say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Standing {
    /// The candidate has everything, or was shown safe.
    Passed,
    /// Traffic went back, or a gate fails.
    Failed,
    /// Neither.
    Inconclusive,
}

// === impl View ===

impl View {
    /// Reads an answer of the API; none when it is no rollout.
    pub(in crate::cli) fn read(document: &Value) -> Option<Self> {
        let view: Self = serde_json::from_value(document.clone()).ok()?;
        (!view.rollout_id.is_empty()).then_some(view)
    }

    /// Whether it still holds its service.
    pub(in crate::cli) fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "rolling_out" | "paused")
    }

    /// The plan's name, whether the API sends a name or the whole plan.
    pub(in crate::cli) fn plan(&self) -> String {
        let name = self.plan.as_str().or_else(|| self.plan["name"].as_str());
        name.map(printable).unwrap_or_default()
    }

    /// The pool that the candidate is compared with.
    pub(in crate::cli) fn control(&self) -> String {
        let arm = self.arms.get(1).map(|arm| arm.pool.clone()).filter(|pool| !pool.is_empty());
        printable(&self.control.clone().or(arm).unwrap_or_else(|| "stable".into()))
    }

    /// When it ended by the API, in ms since the Unix epoch.
    pub(in crate::cli) fn started_ms(&self) -> Option<i64> {
        self.started_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()).map(Timestamp::as_millisecond)
    }

    /// How it ended; of one that goes on: nothing was decided yet.
    pub(in crate::cli) fn standing(&self) -> Standing {
        match self.state.as_str() {
            "completed" => Standing::Passed,
            "rolled_back" => Standing::Failed,
            _ => Standing::Inconclusive,
        }
    }

    /// How it stands by what its gates say now, ended or not.
    pub(in crate::cli) fn standing_now(&self) -> Standing {
        match (self.standing(), self.verdict.as_str()) {
            (Standing::Inconclusive, "fail") => Standing::Failed,
            (Standing::Inconclusive, "shown_safe") => Standing::Passed,
            (standing, _) => standing,
        }
    }

    /// What it does, as people say it: one that ended before its first share went nowhere, so it did not come back.
    pub(in crate::cli) fn state_word(&self) -> String {
        if self.never_began() { "not begun".into() } else { word(&self.state) }
    }

    /// Whether it ended before the candidate got anything.
    pub(in crate::cli) fn never_began(&self) -> bool {
        self.state == "rolled_back" && self.begun == Some(false)
    }

    /// Why it is where it is, in one sentence.
    pub(in crate::cli) fn why(&self) -> String {
        let reasons = [&self.because, &self.detail, &self.reason];
        let ended = !self.is_live();
        let reason = reasons.into_iter().take(if ended { 2 } else { 3 }).find(|reason| !reason.is_empty());
        reason.map(|reason| printable(reason)).unwrap_or_default()
    }
}

// === impl Standing ===

impl Standing {
    /// The exit code of `wait`.
    pub(in crate::cli) fn code(self) -> u8 {
        match self {
            Standing::Passed => 0,
            Standing::Failed => 1,
            Standing::Inconclusive => 2,
        }
    }
}

/// A word of the API as people read it: `rolling_out` is `rolling out`.
pub(in crate::cli) fn word(text: &str) -> String {
    printable(&text.replace('_', " "))
}
