//! What gates say, one by one and together. Ordered so that the worst wins.

use serde::{Deserialize, Serialize};

/// A verdict. *Not enough data* is a verdict of its own and never a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shown not to be worse than what must be excluded, or simply holding (outside gates, plain rules).
    ShownSafe,
    /// One of the two has everything, or the candidate nothing: there is nothing to compare, and nothing is shown. Such
    /// a gate stands in nobody's way.
    NotCompared,
    /// Neither shown safe nor shown bad.
    Inconclusive,
    /// The candidate had no request to be judged by.
    NoTraffic,
    /// It could not be asked.
    Error,
    /// The control itself is bad: nothing can be said about the candidate; never a rollback.
    EnvironmentDegraded,
    /// Shown bad.
    Fail,
}

/// What came of asking something outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It holds.
    Passed {
        /// In words.
        detail: String,
        /// A number that it gave, if any.
        value: Option<f64>,
    },
    /// It does not hold.
    Failed {
        /// In words.
        detail: String,
        /// A number that it gave, if any.
        value: Option<f64>,
    },
    /// It could not be asked: never a failure of the candidate.
    Unavailable {
        /// In words.
        detail: String,
    },
    /// It waits for a person or for its time.
    Waiting {
        /// In words.
        detail: String,
    },
}

/// What one gate says now; the same in API, report and on screens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateVerdict {
    /// Its name in the plan.
    pub name: String,
    /// Its kind: `error_rate`, `latency`, `guard`, `cache_hit`, `plain`, `http`, …
    pub kind: String,
    /// What it says.
    pub verdict: Verdict,
    /// Whether it is only shown.
    pub dry_run: bool,
    /// Whether its failure only keeps the rollout where it is, for as long as it lasts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// Evidence against the candidate, of an evidence gate.
    pub e_value: Option<f64>,
    /// The gate fails when `e_value` reaches this.
    pub limit: Option<f64>,
    /// Evidence that it is not worse.
    pub safe_e_value: Option<f64>,
    /// The phase may advance when `safe_e_value` reaches this.
    pub safe_limit: Option<f64>,
    /// The smallest ratio (candidate to control) that this phase excludes: "regressions of 2.4× or more".
    pub bound: Option<f64>,
    /// Estimated ratio of the rates.
    pub ratio: Option<f64>,
    /// What the candidate shows, in the gate's unit (a ratio of requests, ms, a query's value).
    pub candidate: Option<f64>,
    /// What the control shows, in the same unit.
    pub control: Option<f64>,
    /// One sentence for people: the numbers, the limit, what is missing.
    pub detail: String,
}

/// What all gates say together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// The worst of the gates that are not dry runs.
    pub verdict: Verdict,
    /// Every gate of the phase, in the plan's order; the always-on ones last.
    pub gates: Vec<GateVerdict>,
    /// The largest of the gates' bounds.
    pub bound: Option<f64>,
    /// Why the verdict is what it is, for people.
    pub reason: String,
    /// Whether the failure may wait for the plan's rollback delay: plain rules may, evidence may not.
    pub may_wait: bool,
    /// Whether nothing fails but gates whose failure only keeps the rollout where it is.
    #[serde(default)]
    pub only_waits: bool,
    /// e-value of the A/A monitor (stable against itself) and whether it is beyond its limit.
    pub self_test: Option<f64>,
    /// e-value of the sample-ratio check.
    pub sample_ratio: Option<f64>,
}

// === impl Verdict ===

impl Verdict {
    /// Whether it stands in the way of nothing.
    pub fn holds(self) -> bool {
        matches!(self, Verdict::ShownSafe | Verdict::NotCompared)
    }
}
