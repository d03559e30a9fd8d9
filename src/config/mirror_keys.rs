//! The keys of mirrors and of warm-ups: requests that no client sent. A part of the table of keys.

use super::keys::{Kind, Table, key};

/// `[[services.NAME.mirrors]]`.
pub(super) const MIRROR: Table = Table {
    path: "services.*.mirrors[]",
    doc: "a part of the requests of some pools, copied to another pool",
    keys: &[
        key("from", Kind::Texts, "", "pools whose requests are copied; default: every other pool"),
        key("to", Kind::Text, "", "the pool that gets the copies, at any weight"),
        key("percent", Kind::Number(0, 100), "", "how much is copied, in steps of 0.01"),
        key("methods", Kind::Texts, "[\"GET\", \"HEAD\"]", "methods that are copied; others run once only"),
        key("max_body", Kind::Size(0, 64 << 20), "\"1MiB\"", "largest body that is copied; a larger one is not"),
        key("max_in_flight", Kind::Integer(1, 100_000), "64", "copies in hand of one worker; what is more is dropped"),
        key("timeout", Kind::Duration(1), "\"10s\"", "time of a copy, to the end of its answer"),
    ],
};

/// `[services.NAME.warm_up]`.
pub(super) const WARM_UP: Table = Table {
    path: "services.*.warm_up",
    doc: "what an endpoint is asked that is new or was down, before it serves",
    keys: &[
        key("path", Kind::Text, "\"/\"", "what it is asked for, by GET"),
        key("requests", Kind::Integer(1, 1000), "3", "how often, one after the other"),
        key("deadline", Kind::Duration(1), "\"10s\"", "time for all of them; then it serves all the same"),
    ],
};
