//! The keys of what limits traffic; a part of the table of keys.

use super::keys::{COUNT, Kind, Table, key};

/// `[services.NAME.queue]`.
pub(super) const QUEUE: Table = Table {
    path: "services.*.queue",
    doc: "who waits where max_in_flight is reached and nothing else can take it",
    keys: &[
        key("max", Kind::Integer(0, 1_000_000), "100", "requests that wait for one pool or service; over it 503"),
        key("wait", Kind::Duration(0), "\"1s\"", "how long one waits; then 503"),
    ],
};

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
