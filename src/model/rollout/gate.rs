//! What a plan asks before it goes on: gates, plain rules and checks outside.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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

/// A request that must be answered as expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// `http://…` or `https://…`; or a path such as `/healthz`, which goes to an endpoint of the candidate.
    pub url: String,
    /// Default `GET`.
    pub method: String,
    /// Headers; values may be secret and are never shown.
    pub headers: BTreeMap<String, String>,
    /// Body; none by default.
    pub body: Option<String>,
    /// Statuses that pass, inclusive. Default 200 to 299.
    pub expect: (u16, u16),
    /// Text that the body must contain.
    pub contains: Option<String>,
    /// Time for one try. Default 10 s.
    #[serde(with = "crate::model::time")]
    pub timeout: Duration,
    /// Further tries. Default 0.
    pub retries: u32,
    /// Between tries, and between asks while it does not pass or with `when = "always"`. Default 10 s.
    #[serde(with = "crate::model::time")]
    pub interval: Duration,
    /// When it is asked.
    pub when: When,
}

/// A command that must exit with 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandCheck {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Variables beside `WEIR_*`, which are always set.
    pub env: BTreeMap<String, String>,
    /// Time for it. Default 180 s.
    #[serde(with = "crate::model::time")]
    pub timeout: Duration,
    /// Further tries. Default 0.
    pub retries: u32,
    /// Between tries, and between asks while it does not pass or with `when = "always"`. Default 60 s.
    #[serde(with = "crate::model::time")]
    pub interval: Duration,
    /// When it is asked.
    pub when: When,
}

/// A Prometheus instant query whose value must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrometheusCheck {
    /// The server, such as `http://127.0.0.1:9090`.
    pub url: String,
    /// The query; one sample must come back.
    pub query: String,
    /// Headers, such as a token; values may be secret and are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How the value is compared; the gate fails when it does not hold.
    pub operator: Operator,
    /// With what. With `delta`, with the percent or absolute change since the rollout began.
    pub threshold: f64,
    /// Whether the change since the start is compared rather than the value.
    pub delta: Delta,
    /// Between two queries. Default 15 s.
    #[serde(with = "crate::model::time")]
    pub interval: Duration,
    /// Time for one. Default 10 s.
    #[serde(with = "crate::model::time")]
    pub timeout: Duration,
    /// Failed looks in a row that fail the gate. Default 1.
    pub consecutive_failures: u32,
}

/// What of a queried number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// The value.
    Value,
    /// The difference to the value when the rollout began.
    Absolute,
    /// That difference in percent of the first value.
    Percent,
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

// === impl HttpCheck ===

impl HttpCheck {
    /// The longest time that it can take, its further tries included.
    pub fn takes(&self) -> Duration {
        tries(self.timeout, self.interval, self.retries)
    }
}

// === impl CommandCheck ===

impl CommandCheck {
    /// See [`HttpCheck::takes`].
    pub fn takes(&self) -> Duration {
        tries(self.timeout, self.interval, self.retries)
    }
}

fn tries(timeout: Duration, interval: Duration, retries: u32) -> Duration {
    timeout.saturating_add(timeout.saturating_add(interval).saturating_mul(retries))
}

fn minute() -> Duration {
    Duration::from_secs(60)
}
