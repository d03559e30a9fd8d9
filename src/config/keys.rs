//! The one table of keys: what each table of `weir.toml` may hold, of which kind, with which default, and a line about
//! it. The cursor takes bounds and words from it, the schema is made from it, and `config/reference.toml` is compared
//! with it; a key that is read but not listed here, or listed but not read, fails a test.

use super::{limit_keys, mirror_keys, policy_keys, pool_keys, switch_keys};

/// One table of the file. `*` in a path stands for a name that the operator chooses, `[]` for an entry of a list.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) path: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written in the file; empty when there is none.
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string or a list of strings.
    Texts,
    /// `true` or `false`.
    Flag,
    /// An integer between two bounds.
    Integer(i64, i64),
    /// A number from 0.0 to 1.0.
    Ratio,
    /// A number between two bounds.
    Number(i64, i64),
    /// A string such as `"250ms"`, at least the given number of milliseconds.
    Duration(u64),
    /// An integer of bytes, or a string such as `"32KiB"`.
    Size(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One or a list of these words.
    Words(&'static [&'static str]),
    /// `true`, `false` or a table of [`TABLES`].
    FlagOrTable(&'static str),
    /// A table of [`TABLES`].
    Table(&'static str),
    /// Tables by names of the operator's choice.
    Named(&'static str),
    /// A list of tables.
    List(&'static str),
    /// Values by names: each a string or a table of [`TABLES`].
    Values(&'static str),
    /// An integer status or a string such as `"200-399"`.
    Statuses,
}

pub(crate) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

pub(crate) const COUNT: Kind = Kind::Integer(1, 1_000_000_000);

/// Every table but those of notifications.
static TABLES: &[Table] = &[
    Table {
        path: "",
        doc: "weir.toml",
        keys: &[
            key("weights", Kind::Text, "\"weights.toml\"", "the file with the weights, relative to this file"),
            key("workers", Kind::Integer(1, 1024), "", "worker threads; default: one per core; WEIR_WORKERS wins"),
            key(
                "key_file",
                Kind::Text,
                "",
                "key of the affinity cookies; default: made and kept beside the weights file",
            ),
            key("pid_file", Kind::Text, "", "file with the process id while weir serves; needs a restart to change"),
            key("trusted_proxies", Kind::Texts, "[]", "networks whose X-Forwarded-* is believed"),
            key("admin", Kind::Table("admin"), "", "the control surface"),
            key("policy", Kind::Table("policy"), "", "what the rest of the file must keep to, or it is refused"),
            key("rollouts", Kind::Table("rollouts"), "", "the engine of the rollouts"),
            key("kill_switches", Kind::List("kill_switches[]"), "", "what kills by itself or is pulled by name"),
            key("tokens", Kind::List("tokens[]"), "", "further tokens of the API, each with a role"),
            key("notifications", Kind::Table("notifications"), "", "who is told what happens"),
            key("acme", Kind::Table("acme"), "", "where automatic certificates come from; needs a restart to change"),
            key("log", Kind::Table("log"), "", "the log of the program itself"),
            key("access_log", Kind::Table("access_log"), "", "one line per request"),
            key("tracing", Kind::Table("tracing"), "", "W3C trace contexts; default: their fields pass like any other"),
            key("dns", Kind::Table("dns"), "", "how host names of endpoints are looked up"),
            key("docker", Kind::Table("docker"), "", "where containers are looked for, for docker:// endpoints"),
            key("limits", Kind::Table("limits"), "", "limits of the data plane"),
            key("listeners", Kind::Named("listeners.*"), "", "where clients connect; default: public, 0.0.0.0:8080"),
            key("services", Kind::Named("services.*"), "", "what clients reach; at least one"),
            key("routes", Kind::List("routes[]"), "", "which request goes to which service; default: the only one"),
            key("rate_limits", Kind::List("rate_limits[]"), "", "how many requests of one key may come; over it 429"),
        ],
    },
    Table {
        path: "admin",
        doc: "the control surface",
        keys: &[
            key("address", Kind::Text, "\"127.0.0.1:9901\"", "where it listens; not loopback: needs a token"),
            key("token_file", Kind::Text, "", "file with the token, or its sha256:HEX; WEIR_ADMIN_TOKEN_FILE wins"),
            key("tls", Kind::Table("listeners.*.tls"), "", "with it the API speaks TLS, and plain HTTP no more"),
        ],
    },
    Table {
        path: "rollouts",
        doc: "the engine of the rollouts",
        keys: &[
            key("enabled", Kind::Flag, "true", "whether there are rollouts; WEIR_ROLLOUTS_ENABLED wins"),
            key("tick", Kind::Duration(10), "\"1s\"", "time between two looks at a rollout"),
            key("state_dir", Kind::Text, "", "where their journal is; default .weir beside the weights file"),
            key("max_percent", Kind::Number(0, 100), "100", "the most that any plan may give its candidate"),
            key(
                "retention",
                Kind::Duration(60_000),
                "",
                "how long ended rollouts and events are kept; default: by number",
            ),
            key("max_rollback", Kind::Duration(1000), "", "the longest time that any plan may take for a rollback"),
        ],
    },
    Table {
        path: "tokens[]",
        doc: "a token of the API",
        keys: &[
            key("name", Kind::Text, "", "whose it is; what the audit log says"),
            key(
                "role",
                Kind::Word(&["viewer", "operator", "admin"]),
                "",
                "viewer looks; operator changes, but neither stops all nor forces; admin does all",
            ),
            key("file", Kind::Text, "", "file with the token, or with its sha256:HEX"),
        ],
    },
    switch_keys::SWITCH,
    switch_keys::TRIGGER,
    switch_keys::RECOVERY,
    Table {
        path: "log",
        doc: "the log of the program itself",
        keys: &[
            key(
                "level",
                Kind::Word(&["error", "warn", "info", "debug", "trace"]),
                "\"info\"",
                "least important line shown",
            ),
            key("format", Kind::Word(&["auto", "text", "json"]), "\"auto\"", "auto: text on a terminal, else JSON"),
        ],
    },
    Table {
        path: "access_log",
        doc: "one line per request",
        keys: &[
            key("to", Kind::Text, "\"off\"", "off, stdout, or the path of a file"),
            key("format", Kind::Word(&["json", "text"]), "\"json\"", "form of a line"),
            key("sample", Kind::Ratio, "1.0", "part of the requests that is logged; failed ones always are"),
        ],
    },
    Table {
        path: "tracing",
        doc: "W3C trace contexts; default: their fields pass like any other",
        keys: &[
            key(
                "sample",
                Kind::Ratio,
                "0.01",
                "part of the traces begun here that is recorded; others keep their mark",
            ),
            key("believe", Kind::Word(&["everybody", "trusted"]), "\"everybody\"", "whose trace is continued"),
            key("otlp", Kind::Text, "", "where spans are posted, such as http://127.0.0.1:4318/v1/traces"),
            key("otlp_authorization_file", Kind::Text, "", "file with what is sent there as Authorization"),
            key("service_name", Kind::Text, "\"weir\"", "service.name of the spans"),
        ],
    },
    Table {
        path: "docker",
        doc: "where containers are looked for by their labels, for endpoints that are docker://",
        keys: &[
            key("engine", Kind::Text, "\"unix:///var/run/docker.sock\"", "unix:///PATH or tcp://HOST:PORT"),
            key(
                "label",
                Kind::Text,
                "\"weir\"",
                "what stands before .service, .pool, .port and .network in the labels",
            ),
            key("network", Kind::Text, "", "whose addresses are used; default: one shared with weir, else any"),
        ],
    },
    Table {
        path: "dns",
        doc: "how host names of endpoints are looked up",
        keys: &[
            key("servers", Kind::Texts, "[]", "name servers as ADDRESS or ADDRESS:PORT; none: those of the system"),
            key("min_ttl", Kind::Duration(100), "\"1s\"", "an answer is used at least this long"),
            key("max_ttl", Kind::Duration(100), "\"30s\"", "an answer is used at most this long"),
        ],
    },
    limit_keys::LIMITS,
    policy_keys::POLICY,
    Table {
        path: "services.*",
        doc: "what clients reach under one route",
        keys: &[
            key("stable", Kind::Text, "\"stable\"", "where rollback and failover go"),
            key(
                "direct_paths",
                Kind::FlagOrTable("services.*.direct_paths"),
                "false",
                "whether /POOL/... reaches that pool",
            ),
            key(
                "on_pool_down",
                Kind::Word(&["failover", "strict"]),
                "\"failover\"",
                "what becomes of a dead pool's share",
            ),
            key(
                "on_kill",
                Kind::Word(&["stable", "maintenance"]),
                "\"stable\"",
                "what a killed service does with its requests",
            ),
            key("on_zero_streams", limit_keys::ON_ZERO_STREAMS, "\"drain\"", "long streams of a pool that goes to 0"),
            key("streams_drain", Kind::Duration(1), "\"30s\"", "the time over which they are closed, with drain"),
            key("max_in_flight", COUNT, "", "requests in flight in all pools together; default: as many as come"),
            key("slow_start", Kind::Duration(0), "\"0s\"", "time in which the share of a server that came back grows"),
            key("preserve_host", Kind::Flag, "true", "whether the client's Host goes upstream"),
            key("server_timing", Kind::Flag, "false", "whether answers say in Server-Timing where the time went"),
            key("count_cache", Kind::Flag, "false", "whether it is counted what answers say of their caches"),
            key("forwarded", Kind::Flag, "false", "whether Forwarded goes upstream beside X-Forwarded-*"),
            key("affinity", Kind::Table("services.*.affinity"), "", "what keeps a client on one pool"),
            key("health", Kind::Table("services.*.health"), "", "active probes"),
            key("warm_up", Kind::Table("services.*.warm_up"), "", "what a new endpoint is asked before it serves"),
            key("breaker", Kind::Table("services.*.breaker"), "", "ejection by answers"),
            key("timeouts", Kind::Table("services.*.timeouts"), "", "time limits"),
            key("retry", Kind::Table("services.*.retry"), "", "safe retries"),
            key("queue", Kind::Table("services.*.queue"), "", "who waits where max_in_flight is reached"),
            key("override", Kind::Table("services.*.override"), "", "the header that lets a request choose its pool"),
            key("mirrors", Kind::List("services.*.mirrors[]"), "", "what is copied from pool to pool"),
            key("pools", Kind::Named("services.*.pools.*"), "", "the versions of the service; at least one"),
        ],
    },
    pool_keys::POOL,
    pool_keys::TLS,
    Table {
        path: "services.*.direct_paths",
        doc: "whether /POOL/... reaches that pool, and for whom",
        keys: &[key("networks", Kind::Texts, "[]", "clients that may use direct paths; others get 403")],
    },
    Table {
        path: "services.*.affinity",
        doc: "what keeps a client on one pool",
        keys: &[
            key(
                "by",
                Kind::Word(&["none", "cookie", "header", "client_ip"]),
                "\"none\"",
                "where the bucket comes from",
            ),
            key("name", Kind::Text, "\"weir\"", "cookie name (default weir) or header name (no default)"),
            key("max_age", Kind::Duration(1000), "", "Max-Age of the cookie; none: until the browser closes"),
            key("salt", Kind::Text, "", "mixed into the hash of headers and addresses; default: the service's name"),
            key("on_zero", Kind::Word(&["evict", "drain"]), "\"evict\"", "bound clients of a pool that goes to 0"),
            key("drain_timeout", Kind::Duration(1), "\"10m\"", "with on_zero = \"drain\": how long they may stay"),
        ],
    },
    pool_keys::HEALTH,
    Table {
        path: "services.*.breaker",
        doc: "ejection of endpoints by their answers, and the breaker of a whole pool",
        keys: &[
            key("failures", Kind::Integer(1, 1_000_000), "5", "consecutive failures that eject an endpoint"),
            key("base_ejection", Kind::Duration(1), "\"1s\"", "first ejection; doubles each time"),
            key("max_ejection", Kind::Duration(1), "\"60s\"", "longest ejection"),
            key("error_ratio", Kind::Ratio, "0.5", "ratio of failed requests at which a pool stops receiving"),
            key("min_requests", COUNT, "20", "requests in the window below which the ratio is not judged"),
            key("window", Kind::Duration(100), "\"10s\"", "length of the window"),
            key("rest", Kind::Duration(0), "\"10s\"", "how long the pool rests"),
            key("recovery", Kind::Duration(0), "\"10s\"", "length of the linear recovery after the rest"),
        ],
    },
    Table {
        path: "services.*.timeouts",
        doc: "time limits of the forward path; there is no total limit",
        keys: &[
            key("connect", Kind::Duration(1), "\"1s\"", "connect, with the TLS handshake"),
            key("response_header", Kind::Duration(1), "\"30s\"", "from the last request byte to the response head"),
            key("idle", Kind::Duration(1), "\"5m\"", "without a byte in either direction inside a body"),
            key(
                "upload_min_rate",
                Kind::Size(0, 1 << 30),
                "240",
                "bytes a second that a body has to come at, but of gRPC; under it 408; 0: as it likes",
            ),
            key("upload_grace", Kind::Duration(1), "\"20s\"", "how long it may be slower to begin with"),
            key("tunnel_idle", Kind::Duration(1), "", "without a byte either way in a WebSocket; default: none"),
        ],
    },
    Table {
        path: "services.*.retry",
        doc: "safe retries within a budget",
        keys: &[
            key("attempts", Kind::Integer(0, 5), "1", "retries per request"),
            key("per_try_timeout", Kind::Duration(1), "", "time of a try that can be made elsewhere; default: none"),
            key("backoff", Kind::Duration(0), "\"0s\"", "most to wait before the first retry; doubles with each"),
            key("hedge", Kind::Text, "", "when a GET is sent to another endpoint too: \"50ms\", or p95 of the answers"),
            key("budget", Kind::Ratio, "0.2", "retries as a ratio of requests over the last 10 s"),
            key("min_per_second", Kind::Integer(0, 1_000_000), "10", "retries per second that are always allowed"),
        ],
    },
    limit_keys::QUEUE,
    mirror_keys::WARM_UP,
    mirror_keys::MIRROR,
    pool_keys::OVERRIDE,
    Table {
        path: "routes[]",
        doc: "one rule of the route table",
        keys: &[
            key("name", Kind::Text, "", "what `explain` and logs call it; default: route-N"),
            key("service", Kind::Text, "", "the service; default: the only one"),
            key("pool", Kind::Text, "", "straight to this pool, at any weight"),
            key(
                "priority",
                Kind::Integer(-1_000_000, 1_000_000),
                "0",
                "higher goes first, before all other precedence",
            ),
            key("strip_prefix", Kind::Flag, "false", "take match.path_prefix off on the way upstream"),
            key("rewrite_prefix", Kind::Text, "", "put this in the place of match.path_prefix"),
            key("match", Kind::Table("routes[].match"), "", "what the request must be; nothing: any"),
        ],
    },
    Table {
        path: "routes[].match",
        doc: "what a request must be; all parts must hold",
        keys: &[
            key("host", Kind::Texts, "", "exact or *.suffix, without a port"),
            key("path", Kind::Text, "", "the whole path"),
            key("path_prefix", Kind::Text, "", "a prefix by whole segments"),
            key("path_regex", Kind::Text, "", "a regular expression over the whole path"),
            key("method", Kind::Texts, "", "one of these methods"),
            key("headers", Kind::Values("value"), "", "header values"),
            key("query", Kind::Values("value"), "", "query parameters"),
            key("cookies", Kind::Values("value"), "", "cookies"),
            key("client_networks", Kind::Texts, "", "networks that the client is in one of"),
            key("connect", Kind::Texts, "", "a CONNECT to one of these HOST:PORT (or *.suffix:PORT), and nothing else"),
        ],
    },
    limit_keys::RATE_LIMIT,
    Table {
        path: "value",
        doc: "a condition on a value; a plain string means `exact`",
        keys: &[
            key("exact", Kind::Text, "", "the value"),
            key("case_sensitive", Kind::Flag, "true", "with `exact`: whether case counts"),
            key("regex", Kind::Text, "", "a regular expression over the whole value"),
            key("present", Kind::Flag, "", "true: any value, so long as there is one"),
        ],
    },
];

/// Every table of `weir.toml`.
pub(crate) fn tables() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().chain(super::acme_keys::TABLES).chain(super::listener_keys::TABLES).chain(super::channels::TABLES)
}

/// The table of that path. Paths are constants of the readers, so a missing one is a mistake that tests find.
pub(crate) fn table(path: &str) -> &'static Table {
    tables()
        .chain(super::rollouts::keys::TABLES)
        .find(|table| table.path == path)
        .expect("every table that a reader names is listed")
}

impl Table {
    /// The key of that name, if the table has one.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::tables;
    use crate::config::cursor::{Fields, Sink};
    use crate::config::{Values, parse_toml, read};

    const REFERENCE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.toml"));

    /// The path of the table that a header such as `[services.engine.health]` opens.
    fn table_of(header: &str) -> &'static str {
        let parts: Vec<&str> = header.split('.').collect();
        let fits = |path: &str| {
            let pattern: Vec<&str> = path.split('.').collect();
            pattern.len() == parts.len()
                && pattern.iter().zip(&parts).all(|(p, part)| *p == "*" || p.trim_end_matches("[]") == *part)
        };
        tables().map(|table| table.path).find(|path| fits(path)).expect("the reference has only known tables")
    }

    /// Every `key = value` of the reference, also in a comment, as (table, key, value).
    fn written() -> Vec<(&'static str, String, String)> {
        let mut table = "";
        let mut written = Vec::new();
        for line in REFERENCE.lines() {
            if line.starts_with('[') {
                table = table_of(line.trim_start_matches('[').split(']').next().unwrap_or_default());
            } else if let Some((key, value)) = line.trim_start_matches("# ").split_once(" = ") {
                let value = value.split(" #").next().unwrap_or_default().split("  #").next().unwrap_or_default();
                written.push((table, key.to_owned(), value.trim().to_owned()));
            }
        }
        written
    }

    #[test]
    fn every_key_is_in_the_reference_with_its_default() {
        let written = written();
        for table in tables() {
            for key in table.keys {
                let stands = match key.kind {
                    super::Kind::Table(path) | super::Kind::Named(path) | super::Kind::List(path) => {
                        // A table may hold nothing but tables.
                        let below = format!("{path}.");
                        written.iter().any(|(table, ..)| *table == path || table.starts_with(&below))
                    }
                    _ if table.path == "value" => REFERENCE.contains(&format!("{} = ", key.name)),
                    _ => written.iter().any(|(path, name, value)| {
                        *path == table.path
                            && name == key.name
                            && (key.default.is_empty()
                                || value == key.default
                                || table.path == "services.*.direct_paths")
                    }),
                };
                assert!(stands, "config/reference.toml lacks {} = {} in [{}]", key.name, key.default, table.path);
            }
        }
    }

    #[test]
    fn every_listed_key_is_read_by_the_parser() {
        let parsed = parse_toml("reference.toml", REFERENCE, Values::Any);
        let sink = Sink::new("reference.toml", REFERENCE, &|_| None);
        read::root(&Fields::root(&sink, parsed.tree.get_ref()), Path::new("reference.toml"));
        let listed: BTreeSet<_> =
            tables().flat_map(|table| table.keys.iter().map(|key| (table.path, key.name))).collect();
        let asked = sink.asked();
        let unread: Vec<_> = listed.difference(&asked).collect();
        assert!(unread.is_empty(), "listed and not read: {unread:?}");
    }
}
