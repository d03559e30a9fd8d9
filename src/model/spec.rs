//! What the configuration describes, checked: services, pools, origins, routes and listeners. No live state.

use ipnet::IpNet;
use regex::Regex;

use super::bind::Bind;
use super::kill::OnKill;
use super::limit::RateLimitSpec;
use super::mirror::MirrorSpec;
use super::name::Name;
use super::origin::{Origin, ProxyVersion};
use super::policy::{Affinity, Breaker, Health, OnPoolDown, Override, Queue, Retry, Timeouts};
use super::stream::OnZeroStreams;
use super::tls::{PoolTlsSpec, TlsSpec};
use super::trace::Tracing;

/// One service: what clients reach under its routes.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Its name.
    pub name: Name,
    /// Its pools, in the order of the file; at least one.
    pub pools: Vec<PoolSpec>,
    /// Where rollback and failover go: the name of one of `pools`.
    pub stable: Name,
    /// Whether `/POOL/…` reaches that pool with the prefix stripped.
    pub direct: Direct,
    /// What keeps a client on one pool.
    pub affinity: Affinity,
    /// Active probes; none switches them off.
    pub health: Option<Health>,
    /// Ejection and the pool breaker.
    pub breaker: Breaker,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Safe retries.
    pub retry: Retry,
    /// Most requests in flight in all pools together; none: as many as come.
    pub max_in_flight: Option<u32>,
    /// Time in which the share of an endpoint that came back grows to a whole one; zero: at once.
    pub slow_start: std::time::Duration,
    /// Who waits for a place, where something is capped.
    pub queue: Queue,
    /// What is copied from pool to pool, in the order of the file; a request is copied by one of them at most.
    pub mirrors: Vec<MirrorSpec>,
    /// What a pool with nothing to serve does with its share.
    pub on_pool_down: OnPoolDown,
    /// What becomes of long streams of a pool whose weight goes to 0, where the pool does not say.
    pub on_zero_streams: OnZeroStreams,
    /// What it answers while it is killed.
    pub on_kill: OnKill,
    /// The pool override.
    pub pool_override: Override,
    /// Whether the client's `Host` goes upstream (default) or the endpoint's own authority.
    pub preserve_host: bool,
    /// Whether endpoints get `Forwarded` (RFC 7239) beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// Whether answers say in `Server-Timing` where the time went.
    pub server_timing: bool,
    /// Whether it is counted what answers say of the caches that they came through.
    pub count_cache: bool,
}

/// Whether direct paths exist, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direct {
    /// `/POOL/…` is an ordinary path.
    Off,
    /// `/POOL/…` reaches the pool for everybody.
    Open,
    /// …for clients in these networks; others get 403.
    Networks(Vec<IpNet>),
}

/// One pool: the endpoints that run one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name, unique within the service.
    pub name: Name,
    /// Where its endpoints are; at least one.
    pub origins: Vec<Origin>,
    /// Most requests in flight; none: as many as come.
    pub max_in_flight: Option<u32>,
    /// With it the limit adapts between this and `max_in_flight`.
    pub min_in_flight: Option<u32>,
    /// What becomes of its long streams when its weight goes to 0; none: what the service says.
    pub on_zero_streams: Option<OnZeroStreams>,
    /// How TLS is spoken to its `https` endpoints.
    pub tls: PoolTlsSpec,
    /// How its endpoints are told whom a connection is opened for; none: not at all.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// One rule of the route table.
#[derive(Debug, Clone)]
pub struct RouteSpec {
    /// What it is called in `explain` and logs: its own `name`, else `route-N` counted from 1.
    pub name: String,
    /// The service that it leads to.
    pub service: Name,
    /// The pool, when the route names one.
    pub pool: Option<Name>,
    /// What it matches.
    pub matches: Matches,
    /// What becomes of the path.
    pub rewrite: Rewrite,
    /// Overrides the precedence of the Gateway API: higher goes first; default 0.
    pub priority: i32,
}

/// Everything a route asks of a request; all parts must hold.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    /// Host names, exact or `*.suffix`; empty: any.
    pub hosts: Vec<HostMatch>,
    /// The path; none: any.
    pub path: Option<PathMatch>,
    /// Methods, upper case; empty: any.
    pub methods: Vec<String>,
    /// Header values.
    pub headers: Vec<FieldMatch>,
    /// Query parameters.
    pub query: Vec<FieldMatch>,
    /// Cookies.
    pub cookies: Vec<FieldMatch>,
    /// Client networks; empty: any.
    pub networks: Vec<IpNet>,
    /// Authorities that a CONNECT may name (RFC 9110 §9.3.6). Where there are any, the route matches a CONNECT to one
    /// of them and nothing else; where there are none, it matches anything but a CONNECT.
    pub connect: Vec<ConnectMatch>,
}

/// An authority that a CONNECT may name. It selects a route, and is nothing that is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectMatch {
    /// Its host.
    pub host: HostMatch,
    /// Its port.
    pub port: u16,
}

/// A host condition; always compared in lower case and without the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// This host.
    Exact(String),
    /// Any host that ends in this suffix (with its leading dot) and has at least one label before it.
    Suffix(String),
}

/// A path condition.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// A prefix by whole segments: `/canary` matches `/canary` and `/canary/x`, never `/canaryfoo`.
    Prefix(String),
    /// A regular expression over the whole path.
    Regex(Regex),
}

/// A condition on a named value.
#[derive(Debug, Clone)]
pub struct FieldMatch {
    /// Header (lower case), query parameter or cookie name.
    pub name: String,
    /// What the value must be.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// The same bytes, or the same but for ASCII case.
    Exact {
        /// The value.
        value: String,
        /// Whether case counts; default true.
        case_sensitive: bool,
    },
    /// A regular expression over the whole value.
    Regex(Regex),
    /// Any value, so long as there is one.
    Present,
}

/// What becomes of the path on its way upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// It stays, byte for byte.
    Keep,
    /// The matched prefix is taken off.
    Strip(String),
    /// The matched prefix is replaced.
    Replace {
        /// What is taken off.
        prefix: String,
        /// What is put in its place.
        with: String,
    },
}

/// A data-plane listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Its name.
    pub name: Name,
    /// Where it binds.
    pub address: Bind,
    /// A pool that everything on this listener reaches, at any weight.
    pub pin: Option<Pin>,
    /// Clients that may use it; empty: everybody.
    pub networks: Vec<IpNet>,
    /// How it speaks TLS; none: plain HTTP.
    pub tls: Option<TlsSpec>,
    /// Every request is sent to `https` on this port.
    pub redirect: Option<u16>,
    /// Networks whose connections begin with a header of the PROXY protocol; none: nobody's do.
    pub proxy_protocol: Option<Vec<IpNet>>,
}

/// The pool that a listener is pinned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The service.
    pub service: Name,
    /// The pool.
    pub pool: Name,
}

/// Limits of the data plane; each has a name in the file and a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Request head, bytes. Default 32 KiB; over it 431.
    pub head_bytes_max: usize,
    /// Header fields. Default 100; over it 431.
    pub fields_max: usize,
    /// Request target, bytes. Default 8 KiB; over it 414.
    pub target_bytes_max: usize,
    /// Time for a whole request head. Default 10 s; over it 408.
    pub header_timeout: std::time::Duration,
    /// Idle time of a keep-alive client connection. Default 75 s (nginx).
    pub keep_alive: std::time::Duration,
    /// Idle time of a pooled upstream connection. Default 4 s, below Node's 5 s.
    pub upstream_keep_alive: std::time::Duration,
    /// Idle upstream connections kept per endpoint and worker. Default 1024: a wave of HTTP/2 streams
    /// ends together, and what does not fit is opened again by the next wave.
    pub upstream_idle_max: usize,
    /// Client connections in all. Default 65 536, and never more than the descriptors allow.
    pub connections_max: usize,
    /// Client connections of one address (IPv6: its /64). Default 0: no bound.
    pub connections_per_address: u32,
    /// What connections of one address may be ended for in a minute, in points, before it is turned away for a while.
    /// Default 0: no bound.
    pub offences_per_address: u32,
    /// Concurrent HTTP/2 streams per connection. Default 100.
    pub streams_max: u32,
    /// What an HTTP/2 peer may have weir do for nothing in ten seconds, in frames. Default 1000; 0: no bound.
    pub glitches_max: u32,
    /// Bytes that may wait on the HTTP/2 connections of a worker for whoever is to take them. Default 256 MiB.
    pub h2_buffered_max: usize,
    /// How late a worker's event loop may be before requests are turned away. Default 0: nothing is.
    pub delay_max: std::time::Duration,
    /// Time that in-flight requests get after SIGTERM. Default 10 s, as `docker stop` waits.
    pub drain: std::time::Duration,
}

/// Which request goes into the access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where lines go; off by default.
    pub sink: LogSink,
    /// Line format.
    pub format: LogFormat,
    /// Part of the requests that is logged, `0.0..=1.0`; failed requests always are.
    pub sample: f64,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(std::path::PathBuf),
}

/// Form of an access log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// Everything of the data plane that a reload may change.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The services, in the order of the file; at least one.
    pub services: Vec<ServiceSpec>,
    /// The routes, in the order of the file; at least one.
    pub routes: Vec<RouteSpec>,
    /// The rate limits, in the order of the file.
    pub rate_limits: Vec<RateLimitSpec>,
    /// Proxies whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits.
    pub limits: Limits,
    /// Access log.
    pub access_log: AccessLog,
    /// What becomes of traces; none: their fields pass like any other.
    pub tracing: Option<Tracing>,
}

impl Default for Limits {
    fn default() -> Self {
        use std::time::Duration;
        Self {
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            target_bytes_max: 8 * 1024,
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            upstream_keep_alive: Duration::from_secs(4),
            upstream_idle_max: 1024,
            connections_max: 65_536,
            connections_per_address: 0,
            offences_per_address: 0,
            streams_max: 100,
            glitches_max: 1000,
            h2_buffered_max: 256 << 20,
            delay_max: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { sink: LogSink::Off, format: LogFormat::Json, sample: 1.0 }
    }
}

// === impl ConnectMatch ===

impl std::fmt::Display for ConnectMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            HostMatch::Exact(host) => write!(f, "{host}:{}", self.port),
            HostMatch::Suffix(suffix) => write!(f, "*{suffix}:{}", self.port),
        }
    }
}

// === impl ServiceSpec ===

impl ServiceSpec {
    /// Position of a pool by name.
    pub fn pool_index(&self, pool: &str) -> Option<usize> {
        self.pools.iter().position(|spec| spec.name.as_str() == pool)
    }
}
