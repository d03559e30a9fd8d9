//! How a plan weighs evidence, and what it does with the verdict.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::HttpCheck;

/// How evidence is weighed; the defaults are those of the research that stands in the README.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidencePolicy {
    /// α: chance that a healthy candidate is rolled back, over the whole rollout. Default 0.01.
    pub false_rollback: f64,
    /// β: chance to advance although the candidate is at least `excludes` times worse. Default 0.05.
    pub false_advance: f64,
    /// Time and requests of a new instance whose latency does not count. Default 30 s and 50.
    #[serde(with = "crate::model::time")]
    pub warm_up: Duration,
    /// See `warm_up`.
    pub warm_up_requests: u64,
    /// Time after a change of weights that does not count; at least stable's p99. Default 5 s.
    #[serde(with = "crate::model::time")]
    pub settle: Duration,
    /// Between restarts of the test, for regressions that begin late. Default 5 min.
    #[serde(with = "crate::model::time")]
    pub epoch: Duration,
    /// E2 on the candidate: the highest rate of errors, as a ratio. Default 0.2.
    pub guard: f64,
    /// The whole service against its rate before: beyond this many times, the environment is degraded. Default 2.
    pub degraded: f64,
    /// Time without a single request of the candidate after which there is said to be no traffic. Default 60 s.
    #[serde(with = "crate::model::time")]
    pub no_traffic: Duration,
}

/// What a failed gate leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Back to stable.
    Rollback,
    /// The share stays and a person decides; alarms go on.
    Pause,
    /// The share stays, the rollout goes on watching and never advances by itself.
    Hold,
}

/// What an inconclusive phase leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInconclusive {
    /// Wait another `max_duration`, again and again until the deadline.
    Extend,
    /// A person decides.
    Pause,
    /// The next phase.
    Advance,
    /// Back to stable.
    Rollback,
}

/// What an outside gate that cannot be asked leads to. Never a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnProviderError {
    /// Told, and the gate does not stand in the way.
    Warn,
    /// The phase waits until it can be asked again.
    Hold,
}

/// How traffic goes back, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackPolicy {
    /// In which steps.
    pub strategy: RollbackStrategy,
    /// Time from one step to the next, for `gradual` and `phased`. Default 10 s.
    #[serde(with = "crate::model::time")]
    pub step: Duration,
    /// Time between an automatic decision by a plain rule and the rollback, in which a person may cancel it. Default 0.
    #[serde(with = "crate::model::time")]
    pub delay: Duration,
    /// After an automatic rollback no rollout of that service starts by itself. Default 5 min.
    #[serde(with = "crate::model::time")]
    pub cooldown: Duration,
    /// Automatic rollbacks of a service after which only a person starts one. Default 3.
    pub max_automatic: u32,
    /// Time for everything of it, after which an alarm is raised. Default 5 min.
    #[serde(with = "crate::model::time")]
    pub max_duration: Duration,
    /// What is checked afterwards.
    pub verify: VerifyPolicy,
}

/// The steps of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackStrategy {
    /// 0 at once.
    Immediate,
    /// Halved step by step, then 0.
    Gradual,
    /// Back through the phases.
    Phased,
    /// 0 at once, with the candidate kept ready.
    BlueGreen,
}

/// What is checked after a rollback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyPolicy {
    /// A request to stable, beside its own probes; none by default.
    pub http: Option<HttpCheck>,
    /// Time for it to hold. Default 30 s.
    #[serde(with = "crate::model::time")]
    pub timeout: Duration,
    /// Further rounds, and the time between them. Default 3 and 10 s.
    pub retries: u32,
    /// See `retries`.
    #[serde(with = "crate::model::time")]
    pub retry_delay: Duration,
}

impl Default for EvidencePolicy {
    fn default() -> Self {
        Self {
            false_rollback: 0.01,
            false_advance: 0.05,
            warm_up: Duration::from_secs(30),
            warm_up_requests: 50,
            settle: Duration::from_secs(5),
            epoch: Duration::from_secs(300),
            guard: 0.2,
            degraded: 2.0,
            no_traffic: Duration::from_secs(60),
        }
    }
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self {
            strategy: RollbackStrategy::Immediate,
            step: Duration::from_secs(10),
            delay: Duration::ZERO,
            cooldown: Duration::from_secs(300),
            max_automatic: 3,
            max_duration: Duration::from_secs(300),
            verify: VerifyPolicy::default(),
        }
    }
}

impl Default for VerifyPolicy {
    fn default() -> Self {
        Self { http: None, timeout: Duration::from_secs(30), retries: 3, retry_delay: Duration::from_secs(10) }
    }
}
