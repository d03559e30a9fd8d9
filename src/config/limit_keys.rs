//! The keys of what limits traffic; a part of the table of keys.

use super::keys::{COUNT, Kind, Table, key};

/// `[limits]`.
pub(super) const LIMITS: Table = Table {
    path: "limits",
    doc: "limits of the data plane",
    keys: &[
        key("head_bytes_max", Kind::Size(1024, 16 << 20), "\"32KiB\"", "request head; over it 431"),
        key("fields_max", Kind::Integer(1, 10_000), "100", "header fields; over it 431"),
        key("target_bytes_max", Kind::Size(64, 1 << 20), "\"8KiB\"", "request target; over it 414"),
        key("header_timeout", Kind::Duration(1), "\"10s\"", "time for a whole request head; over it 408"),
        key("keep_alive", Kind::Duration(1), "\"75s\"", "idle time of a client connection"),
        key("upstream_keep_alive", Kind::Duration(1), "\"4s\"", "idle time of an upstream connection"),
        key("upstream_idle_max", Kind::Integer(0, 1_000_000), "1024", "idle connections per endpoint and worker"),
        key("connections_max", COUNT, "65536", "client connections in all"),
        key(
            "connections_per_address",
            Kind::Integer(0, 1_000_000_000),
            "0",
            "client connections of one address (IPv6: its /64); more are closed at once; 0: no bound",
        ),
        key(
            "offences_per_address",
            Kind::Integer(0, 1_000_000),
            "0",
            "points that ended connections may cost an address in a minute, before it is turned away; 0: no bound",
        ),
        key("streams_max", Kind::Integer(1, 100_000), "100", "concurrent HTTP/2 streams per connection"),
        key(
            "glitches_max",
            Kind::Integer(0, 100_000_000),
            "1000",
            "frames that an HTTP/2 peer may send for nothing in 10 s; over it the connection ends; 0: no bound",
        ),
        key(
            "h2_buffered_max",
            Kind::Size(64 * 1024, 1 << 40),
            "\"256MiB\"",
            "what waits on a worker's HTTP/2 connections for a slow other side; over it streams are reset",
        ),
        key(
            "delay_max",
            Kind::Duration(0),
            "\"0s\"",
            "how late an event loop may be; over it some requests get 503; 0s: none",
        ),
        key("drain", Kind::Duration(0), "\"10s\"", "time for in-flight requests after SIGTERM"),
    ],
};

/// `[services.NAME.queue]`.
pub(super) const QUEUE: Table = Table {
    path: "services.*.queue",
    doc: "who waits where max_in_flight is reached and nothing else can take it",
    keys: &[
        key("max", Kind::Integer(0, 1_000_000), "100", "requests that wait for one pool or service; over it 503"),
        key("wait", Kind::Duration(0), "\"1s\"", "how long one waits; then 503"),
    ],
};

/// What becomes of long streams at weight 0.
pub(super) const ON_ZERO_STREAMS: Kind = Kind::Word(&["keep", "drain", "close"]);

/// `[[rate_limits]]`.
pub(super) const RATE_LIMIT: Table = Table {
    path: "rate_limits[]",
    doc: "how many requests of one key may come; over it 429",
    keys: &[
        key("name", Kind::Text, "", "what metrics call it; its buckets survive a reload so long as it keeps its name"),
        key("service", Kind::Text, "", "only requests of this service; none: of every service"),
        key("route", Kind::Text, "", "only requests of this route, by its name; none: of every route"),
        key(
            "key",
            Kind::Texts,
            "\"client\"",
            "what has a bucket of its own: client, path, header:NAME, cookie:NAME, several of them, or all",
        ),
        key("rate", COUNT, "", "requests of one key in each `per`"),
        key("per", Kind::Duration(1), "\"1s\"", "the time of `rate`"),
        key("burst", COUNT, "", "requests of one key that may come at once; default: `rate`"),
        key("keys_max", Kind::Integer(1, 1 << 24), "65536", "most keys that are kept, at 18 bytes each"),
        key("shadow", Kind::Flag, "false", "count what it would refuse, and refuse nothing"),
    ],
};
