//! The tables of `[services.NAME.pools.NAME]` and of who may choose one, a part of the one table of keys
//! ([`super::keys`]).

use super::keys::{COUNT, Kind, Table, key};
use super::limit_keys;

pub(super) const POOL: Table = Table {
    path: "services.*.pools.*",
    doc: "the endpoints that run one version",
    keys: &[
        key(
            "endpoints",
            Kind::Texts,
            "",
            "http://, https:// or h2c://HOST[:PORT] (a name may be many), unix:/PATH, docker://",
        ),
        key("on_zero_streams", limit_keys::ON_ZERO_STREAMS, "", "long streams at weight 0; default: the service's"),
        key("streams_drain", Kind::Duration(1), "", "the time over which they are closed, with drain"),
        key("max_in_flight", COUNT, "", "requests in flight; what a full canary cannot take spills to stable"),
        key(
            "min_in_flight",
            COUNT,
            "",
            "with it the limit adapts between this and max_in_flight; default: it is fixed",
        ),
        key(
            "proxy_protocol",
            Kind::Word(&["v1", "v2"]),
            "",
            "each connection begins with its client's address (PROXY)",
        ),
        key("tls", Kind::Table("services.*.pools.*.tls"), "", "how TLS is spoken to its https endpoints"),
    ],
};

pub(super) const TLS: Table = Table {
    path: "services.*.pools.*.tls",
    doc: "how TLS is spoken to https endpoints; files are read again when they change",
    keys: &[
        key("roots", Kind::Text, "", "PEM: the authorities that are trusted; default: the public ones"),
        key("name", Kind::Text, "", "the name that is asked for and verified; default: the endpoint's host"),
        key("cert", Kind::Text, "", "PEM: what weir shows to endpoints that ask for a certificate"),
        key("key", Kind::Text, "", "PEM: its private key; default: in the same file"),
        key("http2", Kind::Word(&["auto", "off", "only"]), "\"auto\"", "auto: where the endpoint chooses it (ALPN)"),
        key("insecure_skip_verify", Kind::Flag, "false", "takes any certificate from anybody: for tests only"),
    ],
};

/// `[services.NAME.override]`.
pub(super) const OVERRIDE: Table = Table {
    path: "services.*.override",
    doc: "the header that lets a request choose its pool",
    keys: &[
        key("header", Kind::Text, "\"x-weir-pool\"", "header that names the pool"),
        key("token", Kind::Text, "", "a request with this x-weir-override-token may override"),
        key("token_file", Kind::Text, "", "a file that holds the token instead"),
        key("networks", Kind::Texts, "[]", "clients that may override without a token"),
    ],
};

/// `[services.NAME.health]`.
pub(super) const HEALTH: Table = Table {
    path: "services.*.health",
    doc: "active probes of each endpoint",
    keys: &[
        key("kind", Kind::Word(&["http", "tcp", "grpc", "off"]), "\"tcp\"", "how to probe; with `path` http"),
        key("path", Kind::Text, "\"/\"", "http: target of the probe"),
        key("host", Kind::Text, "", "http, grpc: Host of the probe; default: the endpoint's own"),
        key("grpc_service", Kind::Text, "\"\"", "grpc: what the health service is asked about; empty: the server"),
        key("expect", Kind::Statuses, "\"200-399\"", "http: statuses of a healthy endpoint"),
        key("expect_headers", Kind::Values("plan.text"), "", "http: what an answer must say; a * at the end: anything"),
        key("expect_body", Kind::Text, "", "http: a text that the answer's body must hold"),
        key("interval", Kind::Duration(1), "\"2s\"", "time between probes, with 10 % jitter"),
        key("timeout", Kind::Duration(1), "\"1s\"", "time that a probe may take"),
        key("fall", Kind::Integer(1, 1000), "3", "consecutive failures until it is down"),
        key("rise", Kind::Integer(1, 1000), "2", "consecutive passes until it is up again"),
    ],
};
