//! What a rollout plan says, checked: phases, gates, evidence, rollback, and what happens around them. No live state.
//!
//! A plan is the same whether it came from `rollouts/NAME.toml`, as JSON over the API or from a built-in profile; it is
//! kept with its rollout, so that a report can be recomputed although the file has changed since.

mod act;
mod check;
mod gate;
mod policy;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use act::{Act, Moment, OnActionError, PlannedAction, Sweep, Window, WindowRule};
pub use check::{CommandCheck, Delta, HttpCheck, PrometheusCheck};
pub use gate::{Ask, Event, Gate, Operator, PlainMetric, PlainRule, QuantileWeight, When};
pub use policy::{
    EvidencePolicy, OnFailure, OnInconclusive, OnProviderError, RollbackPolicy, RollbackStrategy, VerifyPolicy,
};

use super::name::Name;
use super::weights::BUCKETS;

/// Most phases of a plan.
pub const PHASES_MAX: usize = 100;

/// Most gates of a plan, those of its phases included.
pub const GATES_MAX: usize = 64;

/// Most actions of a plan, and most sweeps.
pub const ACTIONS_MAX: usize = 64;

/// Most targets of the sweeps of a plan, and most requests of its suites; a plan is kept whole with every rollout.
pub const TARGETS_MAX: usize = 1_000;

/// A share of traffic in ten-thousandths of a percent, `0..=1_000_000`: one unit is one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u32);

/// A plan that moves a service's weights by phases and gates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// What it is called: the file's name without `.toml`, or what the caller chose.
    pub name: Name,
    /// The service.
    pub service: Name,
    /// The pool that gets the traffic.
    pub candidate: Name,
    /// The pool that it is compared with, when it is not the service's stable pool: it runs the stable version and gets
    /// the same share as the candidate.
    pub baseline: Option<Name>,
    /// Version or build of the candidate, for people and reports.
    pub version: Option<String>,
    /// How the phases came to be; for display, since `phases` holds what it stands for.
    pub strategy: Strategy,
    /// The phases in order; at least one.
    pub phases: Vec<Phase>,
    /// The gates that hold in every phase.
    pub gates: Vec<Gate>,
    /// How evidence is weighed.
    pub evidence: EvidencePolicy,
    /// What a failed gate leads to.
    pub on_failure: OnFailure,
    /// What a phase leads to whose evidence is not enough when `max_duration` is over.
    pub on_inconclusive: OnInconclusive,
    /// What an outside gate that cannot be asked leads to.
    pub on_provider_error: OnProviderError,
    /// How long the whole rollout may take; then `on_inconclusive`.
    #[serde(with = "crate::model::time::option", default)]
    pub deadline: Option<Duration>,
    /// Whether phases advance by themselves; else each waits for a person.
    pub auto_advance: bool,
    /// Whether a failed gate acts by itself (`on_failure`); else it only pauses and alarms.
    pub auto_rollback: bool,
    /// Everything is decided and told, no weight is touched.
    pub dry_run: bool,
    /// How traffic goes back.
    pub rollback: RollbackPolicy,
    /// Actions before traffic moves at all, after promotion, and at other moments.
    pub actions: Vec<PlannedAction>,
    /// Windows of time.
    pub windows: Vec<Window>,
    /// Verification after promotion, one job per target.
    pub sweeps: Vec<Sweep>,
    /// How long the previous version stays ready for an instant way back after promotion.
    #[serde(with = "crate::model::time")]
    pub keep_previous: Duration,
    /// Labels, for people and notifications.
    pub labels: BTreeMap<String, String>,
}

/// How the phases of a plan were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The phases that the plan names.
    Phased,
    /// Equal steps from `from` to 100.
    Linear,
    /// Everything at once.
    Immediate,
    /// Gates at 0, then everything at once, with the way back kept.
    BlueGreen,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What it is called; `phase-N` counted from 1 by default.
    pub name: String,
    /// What the candidate gets.
    pub share: Share,
    /// What stable keeps when `share` is 100: the candidate then gets the rest. 0 by default.
    pub holdback: Share,
    /// Requests with these headers go to the candidate, whatever its share; all must hold.
    pub cohort: Vec<CohortMatch>,
    /// The least time in this phase.
    #[serde(with = "crate::model::time")]
    pub min_duration: Duration,
    /// The most time that is waited for evidence.
    #[serde(with = "crate::model::time")]
    pub max_duration: Duration,
    /// Gates of this phase alone, beside those of the plan.
    pub gates: Vec<Gate>,
}

/// A header that a request of the cohort has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortMatch {
    /// Header name, lower case.
    pub header: String,
    /// Its value; none: any.
    pub value: Option<String>,
}

// === impl Share ===

impl Share {
    /// Nothing.
    pub const ZERO: Share = Share(0);

    /// Everything.
    pub const ALL: Share = Share(BUCKETS);

    /// From a percentage; none when it is not within 0 and 100 or finer than 0.0001.
    pub fn from_percent(percent: f64) -> Option<Self> {
        let units = (percent * 10_000.0).round();
        let exact = (units - percent * 10_000.0).abs() < 1e-6;
        ((0.0..=f64::from(BUCKETS)).contains(&units) && exact).then_some(Self(units as u32))
    }

    /// From ten-thousandths of a percent, at most all.
    pub fn from_buckets(buckets: u32) -> Self {
        Self(buckets.min(BUCKETS))
    }

    /// In percent, `0.0..=100.0`.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// In ten-thousandths of a percent.
    pub fn buckets(self) -> u32 {
        self.0
    }

    /// As a ratio, `0.0..=1.0`.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(BUCKETS)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        super::weights::Weight::Percent(self.0).fmt(f)
    }
}

// === impl Phase ===

impl Phase {
    /// What the candidate really gets: its share, less what stable keeps.
    pub fn live_share(&self) -> Share {
        Share(self.share.0.min(BUCKETS - self.holdback.0.min(BUCKETS)))
    }
}

// === impl RolloutPlan ===

impl RolloutPlan {
    /// Whether it runs programs on the machine of weir.
    pub fn runs_commands(&self) -> bool {
        let gates = self.gates.iter().chain(self.phases.iter().flat_map(|phase| &phase.gates));
        let acts = self.actions.iter().map(|action| &action.act).chain(self.sweeps.iter().map(|sweep| &sweep.act));
        gates.into_iter().any(|gate| matches!(gate.ask, Ask::Command(_)))
            || acts.into_iter().any(|act| matches!(act, Act::Command(_)))
    }

    /// The gates that hold in phase `index`: those of the plan, then its own.
    pub fn gates_of(&self, index: usize) -> impl Iterator<Item = &Gate> {
        self.gates.iter().chain(self.phases.get(index).map(|phase| phase.gates.as_slice()).unwrap_or_default())
    }
}
