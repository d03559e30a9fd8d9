//! The nouns of weir, and the lexicon: one word per idea in code, file, log, metric, API and dashboard.
//!
//! - **service**: what clients reach under one route: a set of pools and the weights between them
//! - **pool**: the endpoints that run one version of a service (`stable`, `canary`, any name)
//! - **endpoint**: one address of a pool, with its live state
//! - **origin**: a place in the file that endpoints are found at; a host name may stand for many endpoints
//! - **weights**: relative integers per pool; **share** is a pool's part of the whole
//! - **route**: a match on the request that leads to a service, or straight to one pool
//! - **unit**: what sticks to a pool: a person, session or address; **bucket** is its place in 0..1 000 000
//! - **snapshot**: one immutable generation of everything that a request is decided on; its **generation** is the
//!   number that operators see and rises with each change of configuration or weights, its **revision** with every
//!   publication
//! - **attempt**: one request sent to one endpoint; a **retry** is another one for the same request
//! - **fault**: whose fault a failure is ([`Fault`]); **why**: what sent a request to its pool ([`Why`])
//! - **kill**: everything of a service to stable, by whatever way it comes; above everything else
//! - **kill switch**: what kills by itself when a **trigger** holds through its grace, and may try to come back
//! - **maintenance**: everything, a service or a pool answers 503 and sends nothing on
//! - **cohort**: requests with named headers, which go to one pool whatever its share
//! - **rate limit**: how many requests of one **key** (a client, the value of a header) may come; its bucket of
//!   requests is not the bucket of a unit
//! - **mirror**: a part of a pool's requests is copied to another pool; whoever sent the request notices nothing, and a
//!   **copy** is no attempt: it counts for no pool, no breaker and no rollout
//! - **order**: what is asked of an ACME authority for a certificate; a **challenge** is how it sees that a name is
//!   served from here
//! - **lane**: by what an attempt came to its pool: placed by the weights (in two halves), or named by something else
//! - **tunnel**: bytes both ways between a client and an endpoint, untouched: a WebSocket, or what a CONNECT asks for
//! - **long stream**: a tunnel, server-sent events, or another answer of unknown length that has lasted for a while
//! - **probe**: an active health check; **ejection**: an endpoint taken out by its answers; **rest**: what the breaker
//!   of a pool gives it
//!
//! States are named by what happens to traffic. An endpoint is `serving`, `draining` (no longer named), `ejected` (by
//! its answers), `down` (by its probes) or `unproved` (new, before its first pass); a pool is `serving`, `resting` or
//! `recovering`.
//!
//! Nothing here does I/O, reads a clock or knows of tasks.

pub mod acme;
mod bind;
mod demand;
mod docker;
mod fault;
mod head;
mod identity;
mod kill;
mod limit;
mod maintenance;
mod mirror;
mod name;
pub mod notify;
mod now;
mod origin;
mod policy;
pub mod rollout;
mod spec;
mod stream;
mod switch;
pub mod time;
mod tls;
mod trace;
mod weights;

pub use acme::{AcmeSpec, ChallengeKind, ExternalAccount};
pub use bind::Bind;
pub use demand::PolicySpec;
pub use docker::{DockerSpec, Engine};
pub use fault::{Fault, Why};
pub use head::{Field, FieldId, Head, Span};
pub use identity::{IDENTITY_BODY_BYTES_MAX, Identity, Pinned};
pub use kill::{KILL_REASON_BYTES_MAX, KILL_WORD, Killed, Kills, OnKill, Scope, kill_reason};
pub use limit::{KeyPart, RateLimitSpec};
pub use maintenance::{
    Closed, Closures, MAINTENANCE_BODY_BYTES_MAX, MAINTENANCE_WORD, Maintenance, Notice, RETRY_AFTER_S_DEFAULT,
};
pub use mirror::{MIRROR_WHOLE, MirrorSpec};
pub use name::{InvalidName, NAME_BYTES_MAX, Name};
pub use now::Now;
pub use origin::{Address, Origin, Protocol, ProxyVersion};
pub use policy::{
    Affinity, AffinityBy, Breaker, Health, Hedge, OnPoolDown, OnZero, Override, ProbeKind, Queue, Retry, Timeouts,
    WarmUp,
};
pub use spec::{
    AccessLog, ConnectMatch, Direct, FieldMatch, HostMatch, Limits, ListenerSpec, LogFormat, LogSink, Matches,
    PathMatch, Pin, Plan, PoolSpec, Rewrite, RouteSpec, ServiceSpec, ValueMatch,
};
pub use stream::{OnZeroStreams, StreamKind};
pub use switch::{KillSwitch, Limit, Pools, Priority, Recovery, Trigger};
pub use tls::{CertificateFiles, ClientAuth, Http2Use, PoolTlsSpec, TlsSpec, TlsVersion};
pub use trace::{Believe, Collector, Tracing};
pub use weights::{BUCKETS, InvalidWeight, InvalidWeights, WEIGHT_MAX, Weight, Weights};
