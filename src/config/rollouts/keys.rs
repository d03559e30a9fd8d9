//! The keys of a plan file, as [`crate::config::keys`] is for `weir.toml`.

use crate::config::keys::{Key, Kind, Table, key};

const DURATION: Kind = Kind::Duration(0);
const COUNT: Kind = Kind::Integer(0, 1_000_000_000);
const NUMBER: Kind = Kind::Number(-1_000_000_000, 1_000_000_000);
const PERCENT: Kind = Kind::Number(0, 100);

/// When an outside gate is asked.
const WHEN: Kind = Kind::Word(&["start", "phase", "always"]);

/// The keys of a request, of gates and actions alike.
macro_rules! request {
    ($($more:expr),* $(,)?) => {
        &[
            key("url", Kind::Text, "", "http://… or https://…; a path such as /healthz goes to the candidate"),
            key("method", Kind::Text, "\"GET\"", "its method; POST for actions and sweeps"),
            key("headers", Kind::Values("plan.text"), "", "its headers; never shown"),
            key("body", Kind::Text, "", "its body"),
            key("expect", Kind::Statuses, "\"200-299\"", "statuses that pass"),
            key("contains", Kind::Text, "", "text that the answer must contain"),
            key("command", Kind::Texts, "", "program and arguments; no shell"),
            key("env", Kind::Values("plan.text"), "", "variables of the command, beside WEIR_*"),
            key("timeout", DURATION, "\"10s\"", "time for one try; commands have 180 s, actions 30 s, drains 60 s"),
            key("retries", COUNT, "0", "further tries"),
            key("interval", DURATION, "\"10s\"", "between tries, and between asks while it does not pass"),
            key("when", WHEN, "\"start\"", "before the first share, before each phase ends, or again and again"),
            $($more),*
        ]
    };
}

/// Every table of a plan.
pub(crate) const TABLES: &[Table] = &[
    Table { path: "plan", doc: "a rollout plan", keys: PLAN },
    Table {
        path: "plan.phases",
        doc: "one phase",
        keys: &[
            key("name", Kind::Text, "", "what it is called; default phase-N"),
            key("percent", PERCENT, "", "what the candidate gets"),
            key("weights", Kind::Values("plan.weight"), "", "the same as weights by pool"),
            key("holdback", PERCENT, "0", "what stable keeps at 100"),
            key("match", Kind::Table("plan.match"), "", "requests that go to the candidate whatever its share"),
            key("min_duration", DURATION, "\"5m\"", "least time in this phase"),
            key("max_duration", DURATION, "\"4h\"", "most time that is waited for evidence"),
            key("gates", Kind::List("plan.gates"), "", "gates of this phase alone"),
        ],
    },
    Table {
        path: "plan.match",
        doc: "requests of a cohort",
        keys: &[key("headers", Kind::Values("plan.text"), "", "header values; \"*\" is any")],
    },
    Table { path: "plan.gates", doc: "something that must hold", keys: GATE },
    Table { path: "plan.request", doc: "one request of a suite", keys: request!() },
    Table {
        path: "plan.evidence",
        doc: "how evidence is weighed",
        keys: &[
            key("false_rollback", Kind::Ratio, "0.01", "chance that a healthy candidate is rolled back"),
            key("false_advance", Kind::Ratio, "0.05", "chance to advance although what must be excluded holds"),
            key("warm_up", DURATION, "\"30s\"", "time of a new endpoint whose latency does not count"),
            key("warm_up_requests", COUNT, "50", "requests of a new endpoint whose latency does not count"),
            key("settle", DURATION, "\"5s\"", "time after a change of weights that is not scored"),
            key("epoch", Kind::Duration(1000), "\"5m\"", "between restarts of the test"),
            key("guard", Kind::Ratio, "0.2", "highest rate of errors of the candidate"),
            key("degraded", Kind::Number(1, 1000), "2", "times its own past from which on stable is not well"),
            key("no_traffic", Kind::Duration(1), "\"60s\"", "time without a request after which there is no traffic"),
        ],
    },
    Table {
        path: "plan.rollback",
        doc: "how traffic goes back",
        keys: &[
            key(
                "strategy",
                Kind::Word(&["immediate", "gradual", "phased", "blue_green"]),
                "\"immediate\"",
                "in which steps",
            ),
            key("step", DURATION, "\"10s\"", "between steps"),
            key("delay", DURATION, "\"0s\"", "before an automatic rollback by a plain rule"),
            key("cooldown", DURATION, "\"5m\"", "after an automatic rollback nothing starts by itself"),
            key("max_automatic", Kind::Integer(0, 1000), "3", "automatic rollbacks in a row; then a person starts"),
            key("max_duration", DURATION, "\"5m\"", "time for all of it; then an alarm"),
            key("verify", Kind::Table("plan.verify"), "", "what is checked afterwards"),
        ],
    },
    Table {
        path: "plan.verify",
        doc: "what is checked after a rollback",
        keys: &[
            key("http", Kind::Table("plan.request"), "", "a request to stable"),
            key("timeout", DURATION, "\"30s\"", "time for it to hold"),
            key("retries", Kind::Integer(0, 1000), "3", "further rounds"),
            key("retry_delay", DURATION, "\"10s\"", "between rounds"),
        ],
    },
    Table {
        path: "plan.actions",
        doc: "something to do at a moment",
        keys: request!(
            key("name", Kind::Text, "", "what it is called"),
            key("at", Kind::Word(&["start", "promoted", "rollback", "end"]), "\"rollback\"", "when"),
            key("type", Kind::Word(&["stop_new_traffic", "drain_connections", "webhook", "command"]), "", "what",),
            key("on_error", Kind::Word(&["continue", "stop"]), "\"continue\"", "what its failure leads to"),
        ),
    },
    Table {
        path: "plan.windows",
        doc: "a window of time; it never blocks a rollback",
        keys: &[
            key("rule", Kind::Word(&["allow", "freeze"]), "\"freeze\"", "allowed only within, or not within"),
            key("days", Kind::Texts, "", "mon to sun; none: every day"),
            key("from", Kind::Text, "\"00:00\"", "beginning"),
            key("to", Kind::Text, "\"24:00\"", "end; before the beginning: on the next day"),
            key("zone", Kind::Text, "\"UTC\"", "IANA time zone"),
            key("reason", Kind::Text, "", "why"),
        ],
    },
    Table {
        path: "plan.sweeps",
        doc: "verification after promotion, one job per target",
        keys: request!(
            key("name", Kind::Text, "", "what it is called"),
            key("targets", Kind::Texts, "", "{target} in the job stands for each"),
            key("per_minute", Kind::Integer(1, 100_000), "10", "most jobs per minute"),
        ),
    },
];

const PLAN: &[Key] = &[
    key("service", Kind::Text, "", "the service; default: the only one"),
    key("candidate", Kind::Text, "", "the pool that gets the traffic; default: the only one beside stable"),
    key("baseline", Kind::Text, "", "a pool of the stable version that the candidate is compared with"),
    key("version", Kind::Text, "", "version of the candidate, for reports"),
    key("profile", Kind::Word(super::profiles::NAMES), "", "phases and gates to begin with"),
    key("strategy", Kind::Word(&["phased", "linear", "immediate", "blue_green"]), "\"phased\"", "how phases are made"),
    key("from", PERCENT, "10", "linear: first share"),
    key("step", Kind::Number(1, 100), "10", "linear: what is added each time"),
    key("interval", DURATION, "\"5m\"", "linear, immediate, blue_green: least time of a phase"),
    key("on_failure", Kind::Word(&["rollback", "pause", "hold"]), "\"rollback\"", "a gate failed"),
    key(
        "on_inconclusive",
        Kind::Word(&["extend", "pause", "advance", "rollback"]),
        "\"pause\"",
        "max_duration passed without enough evidence",
    ),
    key("on_provider_error", Kind::Word(&["warn", "hold"]), "\"warn\"", "an outside gate cannot be asked"),
    key("deadline", DURATION, "", "for the whole rollout"),
    key("auto_advance", Kind::Flag, "true", "false: each phase waits for a person"),
    key("auto_rollback", Kind::Flag, "true", "false: a failed gate only pauses"),
    key("dry_run", Kind::Flag, "false", "everything is decided and told, nothing moves"),
    key("keep_previous", DURATION, "\"1h\"", "time after promotion in which rollback is one word"),
    key("labels", Kind::Values("plan.text"), "", "what people and notifications want to know of it"),
    key("evidence", Kind::Table("plan.evidence"), "", "how evidence is weighed"),
    key("phases", Kind::List("plan.phases"), "", "the phases"),
    key("gates", Kind::List("plan.gates"), "", "gates of every phase"),
    key("rollback", Kind::Table("plan.rollback"), "", "how traffic goes back"),
    key("actions", Kind::List("plan.actions"), "", "what else is done"),
    key("windows", Kind::List("plan.windows"), "", "when"),
    key("sweeps", Kind::List("plan.sweeps"), "", "verification after promotion"),
];

const GATE: &[Key] = request!(
    key("name", Kind::Text, "", "unique in the plan; default: its kind"),
    key("kind", Kind::Word(KINDS), "", "what is asked"),
    key("mode", Kind::Word(&["evidence", "plain"]), "\"evidence\"", "a test with a stated error, or a threshold"),
    key("dry_run", Kind::Flag, "false", "shown, never acted upon"),
    key(
        "event",
        Kind::Word(&["error", "client_error", "disconnect", "failed_unit"]),
        "\"error\"",
        "which events are bad",
    ),
    key("max_ratio", Kind::Number(1, 1000), "1.25", "how many times worse the candidate may be"),
    key("excludes", Kind::Number(1, 1000), "2", "what must be excluded before the phase advances; cache_hit: 1.5"),
    key("safe_rate", Kind::Ratio, "0.01", "a rate of the candidate that is good enough to advance"),
    key("min_difference", Kind::Ratio, "0.001", "smallest difference of rates that matters; cache_hit: 0.01"),
    key("min_events", COUNT, "5", "bad events below which it is never called bad"),
    key("quantile", Kind::Ratio, "0.95", "latency: which quantile"),
    key("quantiles", Kind::Flag, "false", "latency: p50, p90, p95 and p99 together"),
    key("margin", Kind::Number(0, 1000), "0.1", "latency: part by which the candidate may be slower"),
    key("margin_ms", Kind::Number(0, 3_600_000), "5", "latency: and ms"),
    key("max", NUMBER, "", "violated above; percent, ms, requests per second or the query's value"),
    key("min", NUMBER, "", "violated below"),
    key("delta_percent", NUMBER, "", "violated when the candidate is this many percent above the control"),
    key("delta_ms", NUMBER, "", "violated when the candidate is this many ms above the control"),
    key("must", Kind::Word(OPERATORS), "", "plain: what must hold, with `threshold`"),
    key("threshold", NUMBER, "", "plain: with `must`"),
    key("window", Kind::Duration(1), "\"60s\"", "plain: what is looked at"),
    key("hold", DURATION, "\"0s\"", "plain: how long it must have held"),
    key("consecutive_failures", Kind::Integer(1, 100_000), "1", "looks in a row that fail the gate"),
    key("total_failures", Kind::Integer(1, 100_000), "", "looks in all that fail the gate"),
    key("min_samples", COUNT, "0", "requests in the window below which nothing is judged"),
    key("warn_only", Kind::Flag, "false", "told, never a failure"),
    key("within", Kind::Duration(1), "\"5s\"", "serving: how long it may be without an endpoint"),
    key("query", Kind::Text, "", "prometheus: the query"),
    key("delta", Kind::Word(&["value", "absolute", "percent"]), "\"value\"", "prometheus: what is compared"),
    key("file", Kind::Text, "", "signoff: the file that must exist"),
    key("approvers", Kind::Texts, "", "approval: who may"),
    key("count", Kind::Integer(1, 100), "1", "approval: how many must"),
    key("requests", Kind::List("plan.request"), "", "suite: the requests"),
    key("warm_up", DURATION, "\"5m\"", "cache_hit: time from the candidate's first request on that does not count"),
    key("on_failure", Kind::Word(&["wait", "plan"]), "\"wait\"", "cache_hit: wait until it holds, or as the plan says"),
    key("min_pass_rate", Kind::Ratio, "1.0", "suite: least part that must pass"),
);

/// Comparisons of a criterion.
pub(super) const OPERATORS: &[&str] = &["greater_than", "at_least", "less_than", "at_most", "equals"];

/// The kinds of gates.
pub(super) const KINDS: &[&str] = &[
    "error_rate",
    "latency",
    "guard",
    "zero_tolerance",
    "cache_hit",
    "availability",
    "response_time",
    "throughput",
    "disconnect_rate",
    "failed_unit_rate",
    "serving",
    "http",
    "command",
    "suite",
    "prometheus",
    "signoff",
    "approval",
];
