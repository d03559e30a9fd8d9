//! What an operator may know of the running process, as plain data: the answer of `GET /api/v1/status`, and what
//! `weir status` prints. Every field is part of the contract of that API; fields may be added, never renamed.

use serde::{Deserialize, Serialize};

use super::history::{Entry, Record};

/// The whole state of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of weir.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When the process started, RFC 3339 in UTC.
    pub started_at: String,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Worker threads.
    pub workers: usize,
    /// The generation that is live; rises with every change of configuration or weights.
    pub generation: u64,
    /// Rises with every publication, also when only endpoints changed.
    pub revision: u64,
    /// Whether everything goes to stable whatever the weights file says.
    pub safe_mode: bool,
    /// Path of the configuration.
    pub config_file: String,
    /// Path of the weights file.
    pub weights_file: String,
    /// Why a file can no longer be seen to change, and what helps; none when all is well.
    pub stale: Option<String>,
    /// Why nothing of rollouts and kill switches can be kept, and what helps; none when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// How the last reload went.
    pub last_reload: Reload,
    /// The services, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// The last generations, newest first.
    pub history: Vec<Entry>,
    /// Listeners that speak TLS, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<TlsStatus>,
    /// Names whose certificates are ordered, in the order of the alphabet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acme: Vec<AcmeStatus>,
    /// Pools with `https` endpoints, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream_tls: Vec<UpstreamTlsStatus>,
    /// Addresses that are turned away for what their connections were ended for; none while there is no such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting: Option<RestingStatus>,
}

/// Addresses that are turned away for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingStatus {
    /// How many there are.
    pub addresses: u64,
    /// Those that are turned away longest, at most twenty.
    pub longest: Vec<RestingAddress>,
}

/// An address that is turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingAddress {
    /// The address; of IPv6 the first of its /64.
    pub address: String,
    /// How much longer.
    pub seconds_left: u64,
}

/// A pool whose endpoints speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTlsStatus {
    /// The service.
    pub service: String,
    /// The pool.
    pub pool: String,
    /// Whether anybody checks who the endpoints are: not with `insecure_skip_verify`.
    pub verified: bool,
    /// What weir shows to endpoints that ask for a certificate.
    pub certificate: Option<CertificateStatus>,
    /// What is wrong with the files as they are now: what was in use before is in use still.
    pub failed: Vec<String>,
}

/// A listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsStatus {
    /// The listener.
    pub listener: String,
    /// What is served; the first is the default.
    pub certificates: Vec<CertificateStatus>,
    /// What is wrong with the files as they are now: what was served before is served still.
    pub failed: Vec<String>,
}

/// A certificate that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its first name.
    pub name: String,
    /// All names that it is for.
    pub names: Vec<String>,
    /// The file that it was read from.
    pub file: String,
    /// When it expires, RFC 3339 in UTC.
    pub expires: String,
    /// The same in Unix seconds.
    pub expires_unix_s: i64,
}

/// A name whose certificate is ordered and renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeStatus {
    /// The name.
    pub name: String,
    /// `missing`: there is no certificate that is valid; `ordering`: one is being ordered; `held`: there is one.
    pub state: String,
    /// Orders in a row that failed.
    pub failures: u32,
    /// Why the last one failed; none when it did not.
    pub error: Option<String>,
    /// When the next order is due, RFC 3339 in UTC; it may be past.
    pub next: String,
    /// The same in Unix seconds.
    pub next_unix_s: u64,
}

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether the files as they are now are live.
    pub ok: bool,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// When files were last taken over, in Unix seconds.
    pub success_unix_s: u64,
    /// Every problem, as `file:line:column: …`; empty when it went well.
    pub problems: Vec<String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The pool that rollback and failover go to.
    pub stable: String,
    /// The weights that are live.
    pub weights: Record,
    /// Why it is killed: everything goes to stable whatever the weights file says of its weights; none when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed: Option<KillStatus>,
    /// What of it answers 503; none when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceStatus>,
    /// The traffic was moved but the weights file does not say so: what still has to be done.
    pub pending: Option<String>,
    /// The weights that `undo` would bring back.
    pub undo: Option<Record>,
    /// Pools at 0 whose bound clients may stay.
    pub draining: Option<DrainStatus>,
    /// Its pools, in the order of the configuration.
    pub pools: Vec<PoolStatus>,
}

/// A kill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillStatus {
    /// What is killed: `service`, or `system` for every service.
    pub scope: String,
    /// The reason that was given; may be empty.
    pub reason: String,
}

/// A maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceStatus {
    /// What answers 503: `service`, `system` for every service, or `pools`.
    pub scope: String,
    /// The pools, with the scope `pools`.
    pub pools: Vec<String>,
    /// The reason that was given; may be empty.
    pub reason: String,
    /// `Retry-After`, in seconds.
    pub retry_after_s: u64,
}

/// A drain in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// The pools.
    pub pools: Vec<String>,
    /// Seconds until it is over.
    pub seconds_left: u64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// The part of new requests that the weights give it, `0.0..=1.0`.
    pub configured_share: f64,
    /// What its breaker does: `serving`, `resting` or `recovering`.
    pub state: String,
    /// Requests between their head and the end of their response.
    pub in_flight: u64,
    /// The last minute; none before the first second is over.
    pub last_minute: Option<Minute>,
    /// Its long streams by kind, as of about a second ago; kinds without any are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamStatus>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// Long streams of one kind in one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// `websocket`, `events` (server-sent), `grpc` or `other`.
    pub kind: String,
    /// How many run.
    pub running: u64,
    /// How many of them are about to be closed, because the weight of the pool went to 0.
    pub draining: u64,
    /// Seconds that the oldest has lasted.
    pub oldest_s: u64,
}

/// What a pool did over the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// Length of the window in seconds, at most about 60.
    pub seconds: f64,
    /// Requests that were sent to the pool first.
    pub requests: u64,
    /// The same per second.
    pub requests_per_s: f64,
    /// The part of the service's requests that the pool got, `0.0..=1.0`; none without requests.
    pub effective_share: Option<f64>,
    /// Attempts in which the pool failed: no or a broken answer, a timeout, a status of 500 or above.
    #[serde(default)]
    pub failed: u64,
    /// The same as a part of all attempts, `0.0..=1.0`; none without attempts.
    #[serde(default)]
    pub failed_ratio: Option<f64>,
    /// Attempts without a whole answer as a part of all attempts, `0.0..=1.0`, client faults left out; a 500 is an
    /// answer. None without attempts.
    pub error_ratio: Option<f64>,
    /// The part of the answers that say what their cache did which one had, `0.0..=1.0`; none without such answers, or
    /// where the service does not count them (`count_cache`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_hit_ratio: Option<f64>,
    /// Median time of a request in milliseconds.
    pub p50_ms: Option<f64>,
    /// Time that 95 % of the requests stay at or below, in milliseconds.
    pub p95_ms: Option<f64>,
    /// Time that 99 % of the requests stay at or below, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its address.
    pub address: String,
    /// The origin that it was found at.
    pub origin: String,
    /// `serving`, `draining`, `ejected`, `down` or `unproved` (it waits for its first pass).
    pub state: String,
    /// Seconds since it came into that state; none: since it was made.
    #[serde(default)]
    pub state_for_s: Option<u64>,
    /// The last failure; it stays after a recovery.
    pub last_error: Option<String>,
    /// Attempts now in flight.
    pub in_flight: u64,
    /// How often it was ejected since it was made.
    pub ejections: u64,
}
