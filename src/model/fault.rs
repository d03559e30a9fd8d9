//! Whose fault a failed request or attempt is, and why a request went where it went.

use serde::Serialize;

/// The five kinds of error. Only the three upstream kinds feed health, breakers and the metrics that judge a canary:
/// what a client causes never counts against a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The client sent something that cannot be served, or went away.
    Client,
    /// The proxy itself refused: no route, nothing serving, a limit.
    Proxy,
    /// No connection to the endpoint could be made.
    UpstreamConnect,
    /// The endpoint's answer was missing, broken, cut short or a 502, 503 or 504.
    UpstreamAnswer,
    /// The endpoint did not answer in time.
    UpstreamTimeout,
}

/// Why a request was sent to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The splitter drew the pool by the weights.
    Weight,
    /// The bucket of the client's affinity cookie.
    Bucket,
    /// The bucket of an affinity header.
    Header,
    /// The bucket of the client's address.
    ClientIp,
    /// A bound client that stays on a pool at weight 0 until the drain ends.
    Drain,
    /// A route that names its pool.
    Route,
    /// A direct path such as `/canary/…`.
    Path,
    /// A listener that reaches one pool.
    Listener,
    /// The override header.
    Override,
    /// A header of the rollout's cohort.
    Cohort,
    /// The service is killed: everything goes to stable.
    Kill,
    /// The chosen pool had nothing to serve with.
    Failover,
    /// The chosen pool had as many requests in flight as it may have.
    Spill,
    /// The first attempt failed and the request was tried again elsewhere.
    Retry,
}

// === impl Fault ===

impl Fault {
    /// Every kind, in the order of [`Fault::index`].
    pub const ALL: [Fault; 5] =
        [Fault::Client, Fault::Proxy, Fault::UpstreamConnect, Fault::UpstreamAnswer, Fault::UpstreamTimeout];

    /// Position in [`Fault::ALL`], for counter arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether the pool is to blame.
    pub fn blames_pool(self) -> bool {
        matches!(self, Fault::UpstreamConnect | Fault::UpstreamAnswer | Fault::UpstreamTimeout)
    }

    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Client => "client",
            Fault::Proxy => "proxy",
            Fault::UpstreamConnect => "upstream_connect",
            Fault::UpstreamAnswer => "upstream_answer",
            Fault::UpstreamTimeout => "upstream_timeout",
        }
    }
}

// === impl Why ===

impl Why {
    /// The word used in logs, `explain` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Weight => "weight",
            Why::Bucket => "bucket",
            Why::Header => "header",
            Why::ClientIp => "client_ip",
            Why::Drain => "drain",
            Why::Route => "route",
            Why::Path => "path",
            Why::Listener => "listener",
            Why::Override => "override",
            Why::Cohort => "cohort",
            Why::Kill => "kill",
            Why::Failover => "failover",
            Why::Spill => "spill",
            Why::Retry => "retry",
        }
    }
}
