//! Policies of a service: plain values with their defaults and where the defaults come from.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::identity::Identity;

/// What keeps a client on one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity {
    /// Where the bucket comes from.
    pub by: AffinityBy,
    /// Mixed into the hash of headers and addresses, so that services do not share their early users.
    pub salt: String,
    /// What happens to bound clients when their pool goes to 0.
    pub on_zero: OnZero,
    /// Whether its cookie is `Secure` also where the client came over plain HTTP: `[policy] secure_cookies`.
    pub secure: bool,
}

/// Where a unit's bucket comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityBy {
    /// Nothing sticks; the splitter decides each request.
    None,
    /// A signed cookie issued by the proxy.
    Cookie {
        /// Cookie name.
        name: String,
        /// `Max-Age`; none makes it a session cookie.
        max_age: Option<Duration>,
    },
    /// The value of a request header, in lower case.
    Header {
        /// Header name, lower case.
        name: String,
    },
    /// The client's address (IPv6: its /64).
    ClientIp,
}

/// What weight 0 does to clients that are bound to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnZero {
    /// They move at once (default: an emergency rollback must mean 0).
    Evict,
    /// They stay until the time is over.
    Drain(Duration),
}

/// What happens to the share of a pool that has nothing left to serve with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoolDown {
    /// It goes to the live pools with weight above 0, then to stable.
    Failover,
    /// It is answered 503.
    Strict,
}

/// Active probes of each endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How to probe.
    pub kind: ProbeKind,
    /// Time between probes, with 10 % jitter. Default 2 s (HAProxy).
    pub interval: Duration,
    /// Time a probe may take. Default 1 s.
    pub timeout: Duration,
    /// Consecutive failures until the endpoint is down. Default 3 (HAProxy).
    pub fall: u32,
    /// Consecutive passes until it is up again. Default 2 (HAProxy).
    pub rise: u32,
    /// What it is asked before its first request; none: nothing.
    pub warm_up: Option<WarmUp>,
    /// Who the answer to an HTTP probe must say it is.
    pub identity: Identity,
}

/// Requests to an endpoint that is new or was down, before clients' requests go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmUp {
    /// Origin-form target.
    pub path: String,
    /// How many, one after the other. Default 3.
    pub requests: u32,
    /// Time for all of them; after it the endpoint serves all the same. Default 10 s.
    pub deadline: Duration,
}

/// How an endpoint is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// `GET path`, healthy when the status is in `expect` (default 200–399).
    Http {
        /// Origin-form target.
        path: String,
        /// `Host` to send; none: the endpoint's own authority.
        host: Option<String>,
        /// Healthy statuses.
        expect: RangeInclusive<u16>,
    },
    /// The gRPC health service (grpc.health.v1), by HTTP/2 with prior knowledge; healthy when it says SERVING.
    Grpc {
        /// What is asked about; empty: the whole server.
        service: String,
        /// `:authority` to send; none: the endpoint's own authority.
        host: Option<String>,
    },
    /// A TCP connection is enough.
    Tcp,
}

/// Ejection of endpoints by their answers, and the breaker of a whole pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Consecutive failures that eject an endpoint. Default 5 (Envoy).
    pub failures: u32,
    /// First ejection; doubles each time. Default 1 s (Linkerd).
    pub base_ejection: Duration,
    /// Longest ejection. Default 60 s (Linkerd).
    pub max_ejection: Duration,
    /// Ratio of failed requests at which the pool stops receiving, `0.0..=1.0`. Default 0.5.
    pub error_ratio: f64,
    /// Requests within the window below which the ratio is not judged. Default 20 (Traefik).
    pub min_requests: u64,
    /// Length of the window. Default 10 s.
    pub window: Duration,
    /// How long the pool rests before it recovers. Default 10 s (Traefik).
    pub rest: Duration,
    /// Length of the linear recovery after the rest. Default 10 s (Traefik).
    pub recovery: Duration,
}

/// Time limits of the forward path. There is no total limit by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connect. Default 1 s (Linkerd).
    pub connect: Duration,
    /// From the last request byte to the response head. Default 30 s (kamal-proxy).
    pub response_header: Duration,
    /// Without a byte in either direction inside a body. Default 5 min (Envoy).
    pub idle: Duration,
    /// Bytes a second that a request body has to come at while nothing else is waited for; 0: it may come as it likes.
    /// Default 240 (Kestrel).
    pub upload_min_rate: u32,
    /// Time that it may be slower to begin with. Default 20 s (Apache's mod_reqtimeout).
    pub upload_grace: Duration,
    /// Without a byte in either direction inside a tunnel. Default none: a WebSocket may be silent for hours.
    pub tunnel_idle: Option<Duration>,
}

/// Retries: safe ones, within a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Retries per request, 0 to 5. Default 1.
    pub attempts: u32,
    /// Time from the last byte sent to the head of the answer, after which another try is made instead. Default: none.
    pub per_try_timeout: Option<Duration>,
    /// Longest pause before the first retry; doubles with each. Default: none.
    pub backoff: Duration,
    /// When a GET or HEAD is sent to another endpoint of its pool as well. Default: never.
    pub hedge: Option<Hedge>,
    /// Retries as a ratio of requests over the last 10 s, `0.0..=1.0`. Default 0.2 (Linkerd, Envoy).
    pub budget: f64,
    /// Retries per second that are always allowed. Default 10 (Linkerd, GEP-3388).
    pub min_per_second: u32,
}

/// How long the answer to a GET or HEAD may take until it is sent a second time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hedge {
    /// So long.
    After(Duration),
    /// As long as this part (`0.5..=0.99`) of the pool's answers took of late.
    Quantile(f64),
}

/// Who waits for a place among the requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Most requests that wait for one pool or service. Default 100.
    pub max: u32,
    /// How long one waits. Default 1 s.
    pub wait: Duration,
}

/// The header that lets a request choose its pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Header name, lower case. Default `x-weir-pool`.
    pub header: String,
    /// A request that carries this token in `x-weir-override-token` may override.
    pub token: Option<String>,
    /// Clients in these networks may override without a token.
    pub networks: Vec<IpNet>,
}

impl Default for Affinity {
    fn default() -> Self {
        Self { by: AffinityBy::None, salt: String::new(), on_zero: OnZero::Evict, secure: false }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            warm_up: None,
            identity: Identity::default(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            base_ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(60),
            error_ratio: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            rest: Duration::from_secs(10),
            recovery: Duration::from_secs(10),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            response_header: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            upload_min_rate: 240,
            upload_grace: Duration::from_secs(20),
            tunnel_idle: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            per_try_timeout: None,
            backoff: Duration::ZERO,
            hedge: None,
            budget: 0.2,
            min_per_second: 10,
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 100, wait: Duration::from_secs(1) }
    }
}

impl Default for Override {
    fn default() -> Self {
        Self { header: "x-weir-pool".into(), token: None, networks: Vec::new() }
    }
}
