//! What a plan asks outside of weir: requests, commands, queries. How they are asked is not said here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gate::{Operator, When};

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
