//! What a plan asks before it goes on: gates and plain rules; checks outside are in [`super::check`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{CommandCheck, HttpCheck, PrometheusCheck};

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Unique within its plan; the kind by default, with a number when there are several.
    pub name: String,
    /// Decided and shown, but never acted upon.
    pub dry_run: bool,
    /// What is asked.
    pub ask: Ask,
}

/// What a gate asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask {
    /// The candidate's rate of bad events is shown not to be worse than the control's (delivery statistics E1). It also
    /// decides advancing, by the symmetric test.
    ErrorRate {
        /// Which events are bad.
        event: Event,
        /// Margin r₀: the candidate may be this many times worse. Default 1.25.
        max_ratio: f64,
        /// R₁: what must be excluded before the phase advances. Default 2.
        excludes: f64,
        /// A rate of the candidate that is good enough to advance, as a ratio of requests: where hardly anything fails,
        /// no ratio can be shown. Default 0.01.
        safe_rate: f64,
        /// Smallest difference of rates that matters, as a ratio of requests. Default 0.001.
        min_difference: f64,
        /// Bad events of the candidate below which it is never called bad; default 5, and 2 when the control had none.
        min_events: u64,
    },
    /// The candidate's latency tail beyond a margin is not heavier than the control's (L1).
    Latency {
        /// The quantiles whose tails are compared, with their weights in the average of e-values; one by default.
        quantiles: Vec<QuantileWeight>,
        /// Margin δ, as a ratio. Default 0.1.
        margin: f64,
        /// Margin d. Default 5 ms.
        margin_ms: f64,
        /// R₁ of the tail. Default 2.
        excludes: f64,
    },
    /// The candidate's rate of bad events is at most `max` (E2), with a stated chance of a false alarm.
    Guard {
        /// Which events are bad.
        event: Event,
        /// π, as a ratio.
        max: f64,
    },
    /// No event at all.
    ZeroTolerance {
        /// Which.
        event: Event,
    },
    /// The candidate's part of answers that no cache had is shown not to be larger than the control's. Answers that say
    /// nothing of a cache count as neither; the service must count them.
    CacheHit {
        /// Margin r₀: the candidate may have this many times as many misses. Default 1.25.
        max_ratio: f64,
        /// R₁: what must be excluded before the phase advances. Default 1.5.
        excludes: f64,
        /// A rate of misses that is good enough to advance, as a ratio of answers. Default 0.01.
        safe_rate: f64,
        /// Smallest difference of rates that matters, as a ratio of answers. Default 0.01.
        min_difference: f64,
        /// Misses of the candidate below which it is never called bad. Default 5.
        min_events: u64,
        /// Time from the candidate's first request on that does not count, since its cache is cold. Default 5 min.
        #[serde(with = "crate::model::time")]
        warm_up: Duration,
        /// Whether a failure only keeps the rollout where it is, for as long as it lasts; else it is what `on_failure`
        /// of the plan says. Default: yes, since caches that are cold warm up.
        waits: bool,
    },
    /// A plain rule over a window, with exactly the meaning of thresholds elsewhere.
    Plain(PlainRule),
    /// The candidate pool has something to serve with. Always on, whether named or not.
    Serving {
        /// How long it may be without.
        #[serde(with = "crate::model::time")]
        within: Duration,
    },
    /// An HTTP request answers as expected (a smoke test).
    Http(HttpCheck),
    /// A command exits with 0.
    Command(CommandCheck),
    /// Several HTTP requests to the candidate, with a pass rate and timings.
    Suite {
        /// The requests.
        requests: Vec<HttpCheck>,
        /// Least part that must pass. Default 1.
        min_pass_rate: f64,
        /// Between two asks. Default 60 s.
        #[serde(default = "minute")]
        #[serde(with = "crate::model::time")]
        interval: Duration,
        /// When it is asked.
        when: When,
    },
    /// A Prometheus query.
    Prometheus(PrometheusCheck),
    /// A file exists.
    Signoff {
        /// The file; a relative path is one from the directory of the main file on.
        file: String,
        /// When it is asked.
        #[serde(default)]
        when: When,
    },
    /// People approve.
    Approval {
        /// Who may; empty: anybody with the role.
        approvers: Vec<String>,
        /// How many must. Default 1.
        count: u32,
        /// When it is asked: before the first share, or anew before each phase ends.
        when: When,
    },
}

/// A kind of bad event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An attempt that failed: no connection, no or a broken answer, a timeout, or a status of 500 or above.
    Error,
    /// An answer with a status of 400 to 499.
    ClientError,
    /// An answer that was cut short by the endpoint, or a tunnel that it closed abnormally.
    Disconnect,
    /// A unit with at least one failed attempt (a failed session).
    FailedUnit,
}

/// A quantile and its weight in an average of e-values; the weights of a gate sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuantileWeight {
    /// `0.0..1.0`.
    pub quantile: f64,
    /// `0.0..=1.0`.
    pub weight: f64,
}

/// A plain rule: a number over a window, compared with a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlainRule {
    /// The number.
    pub metric: PlainMetric,
    /// How it is compared; the rule is violated when the comparison holds (or, for `must`, when it does not).
    pub operator: Operator,
    /// With what, in the unit of the metric.
    pub threshold: f64,
    /// Violated when the comparison fails (a success criterion) rather than when it holds (a rollback threshold).
    pub must: bool,
    /// Length of the window. Default 60 s.
    #[serde(with = "crate::model::time")]
    pub window: Duration,
    /// How long the comparison must have held without a break before it counts.
    #[serde(with = "crate::model::time")]
    pub hold: Duration,
    /// Violated looks in a row that fail the gate. Default 1.
    pub consecutive_failures: u32,
    /// Violated looks in all that fail the gate; none: any number.
    pub total_failures: Option<u32>,
    /// Requests (or units) in the window below which nothing is judged.
    pub min_samples: u64,
    /// A violation is told and does not fail the gate.
    pub warn_only: bool,
}

/// What a plain rule looks at. Rates and deltas are in percent, latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainMetric {
    /// Percent of attempts that failed.
    ErrorRate,
    /// Percent of attempts that did not fail.
    Availability,
    /// A latency quantile in ms.
    Latency {
        /// `0.0..1.0`.
        quantile: f64,
    },
    /// Mean latency in ms.
    ResponseTime,
    /// Requests per second.
    Throughput,
    /// Percent of answers cut short.
    DisconnectRate,
    /// Percent of units with a failed attempt.
    FailedUnitRate,
    /// Relative difference of the error rates of candidate and control, in percent.
    ErrorRateDelta,
    /// Difference of a latency quantile of candidate and control, in ms.
    LatencyDelta {
        /// `0.0..1.0`.
        quantile: f64,
    },
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// `>`
    GreaterThan,
    /// `>=`
    AtLeast,
    /// `<`
    LessThan,
    /// `<=`
    AtMost,
    /// `==`
    Equals,
}

/// When an outside gate is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Once, before the first share; a gate of a later phase alone when that begins.
    #[default]
    Start,
    /// Before each phase ends: when its least time is over and the other gates hold, or its most time is nearly over.
    Phase,
    /// Again and again while the rollout runs.
    Always,
}

// === impl Ask ===

impl Ask {
    /// The word for it in files, API and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Ask::ErrorRate { .. } => "error_rate",
            Ask::Latency { .. } => "latency",
            Ask::Guard { .. } => "guard",
            Ask::ZeroTolerance { .. } => "zero_tolerance",
            Ask::CacheHit { .. } => "cache_hit",
            Ask::Plain(_) => "plain",
            Ask::Serving { .. } => "serving",
            Ask::Http(_) => "http",
            Ask::Command(_) => "command",
            Ask::Suite { .. } => "suite",
            Ask::Prometheus(_) => "prometheus",
            Ask::Signoff { .. } => "signoff",
            Ask::Approval { .. } => "approval",
        }
    }

    /// Whether it is asked outside rather than counted.
    pub fn is_outside(&self) -> bool {
        matches!(
            self,
            Ask::Http(_)
                | Ask::Command(_)
                | Ask::Suite { .. }
                | Ask::Prometheus(_)
                | Ask::Signoff { .. }
                | Ask::Approval { .. }
        )
    }

    /// When it is asked outside; a query is asked again and again.
    pub fn when(&self) -> When {
        match self {
            Ask::Http(check) => check.when,
            Ask::Command(check) => check.when,
            Ask::Suite { when, .. } | Ask::Signoff { when, .. } | Ask::Approval { when, .. } => *when,
            Ask::Prometheus(_) => When::Always,
            Ask::ErrorRate { .. }
            | Ask::Latency { .. }
            | Ask::Guard { .. }
            | Ask::ZeroTolerance { .. }
            | Ask::CacheHit { .. }
            | Ask::Plain(_)
            | Ask::Serving { .. } => When::Always,
        }
    }

    /// The least time between two asks; nothing for what only needs a look.
    pub fn interval(&self) -> Duration {
        match self {
            Ask::Http(check) => check.interval,
            Ask::Command(check) => check.interval,
            Ask::Suite { interval, .. } => *interval,
            Ask::Prometheus(check) => check.interval,
            _ => Duration::ZERO,
        }
    }

    /// The longest time that one ask can take, its further tries included.
    pub fn takes(&self) -> Duration {
        match self {
            Ask::Http(check) => check.takes(),
            Ask::Command(check) => check.takes(),
            Ask::Suite { requests, .. } => requests.iter().map(HttpCheck::takes).sum(),
            Ask::Prometheus(check) => check.timeout,
            _ => Duration::ZERO,
        }
    }
}

fn minute() -> Duration {
    Duration::from_secs(60)
}
