//! The keys of `[[kill_switches]]`; a part of the one table of keys.

use super::keys::{Kind, Table, key};

pub(super) const SWITCH: Table = Table {
    path: "kill_switches[]",
    doc: "a kill switch",
    keys: &[
        key("name", Kind::Text, "", "its name"),
        key("description", Kind::Text, "", "what it is for"),
        key("scope", Kind::Word(&["service", "system"]), "\"service\"", "what it kills"),
        key("service", Kind::Text, "", "the service that it kills; default: the only one"),
        key(
            "grace",
            Kind::Duration(0),
            "\"30s\"",
            "how long a trigger holds before it kills, and may be cancelled; a person who pulls it never waits",
        ),
        key(
            "priority",
            Kind::Word(&["critical", "high", "medium", "low"]),
            "\"critical\"",
            "how much its events matter",
        ),
        key("enabled", Kind::Flag, "true", "false: its triggers do not count; people may pull it all the same"),
        key("triggers", Kind::List("kill_switches[].triggers[]"), "", "each alone pulls it; none: only people do"),
        key("recovery", Kind::Table("kill_switches[].recovery"), "", "how it comes back; none: a person lets it go"),
    ],
};

pub(super) const TRIGGER: Table = Table {
    path: "kill_switches[].triggers[]",
    doc: "what pulls a kill switch by itself",
    keys: &[
        key("kind", Kind::Word(&["error_rate", "latency", "no_endpoint"]), "", "what is looked at"),
        key("service", Kind::Text, "", "where; default: every service within the scope, together"),
        key("pools", Kind::Word(&["candidates", "all"]), "\"candidates\"", "candidates: every pool but stable"),
        key("max_percent", Kind::Number(0, 100), "20", "error_rate: failed attempts, in percent of all"),
        key("quantile", Kind::Ratio, "0.99", "latency: which quantile"),
        key("max_latency", Kind::Duration(1), "", "latency: its limit"),
        key("window", Kind::Duration(100), "\"1m\"", "the newest stretch of time that is looked at"),
        key("min_samples", Kind::Integer(1, 1_000_000_000), "20", "fewer attempts within the window say nothing"),
    ],
};

pub(super) const RECOVERY: Table = Table {
    path: "kill_switches[].recovery",
    doc: "how a kill switch comes back by itself",
    keys: &[
        key("enabled", Kind::Flag, "true", "false: a person lets it go"),
        key("delay", Kind::Duration(100), "\"5m\"", "time between a kill and an attempt"),
        key("attempts", Kind::Integer(1, 1000), "3", "after these a person decides"),
        key(
            "probation",
            Kind::Duration(0),
            "\"1m\"",
            "how long the triggers are clear, with traffic, until it is over",
        ),
        key(
            "cooldown",
            Kind::Duration(0),
            "\"10m\"",
            "quiet time until attempts are forgotten; so long a cancelled trigger is not heard",
        ),
    ],
};
