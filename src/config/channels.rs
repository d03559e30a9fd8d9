//! The keys of `[notifications]`: a part of the table of keys ([`super::keys`]).

use super::keys::{Key, Kind, Table, key};
use crate::model::notify::EVENT_KINDS;

const LEAST: Kind = Kind::Word(&["info", "warning", "critical"]);
const EVENTS: Kind = Kind::Words(&EVENT_KINDS);

/// The tables of notifications.
pub(crate) static TABLES: &[Table] = &[
    Table {
        path: "notifications",
        doc: "who is told what happens to rollouts and kill switches",
        keys: &[
            key("channels", Kind::List("notifications.channels[]"), "", "ways to tell somebody"),
            key("escalations", Kind::List("notifications.escalations[]"), "", "who is told when nobody looks"),
        ],
    },
    Table { path: "notifications.channels[]", doc: "one way to tell somebody", keys: CHANNEL },
    Table {
        path: "notifications.escalations[]",
        doc: "who is told when nobody looks",
        keys: &[
            key("after", Kind::Duration(1), "", "how long nobody acknowledged it or did something about it"),
            key("channels", Kind::Texts, "", "names of the channels that are told then"),
            key("min_severity", LEAST, "\"critical\"", "nothing that matters less"),
            key("events", EVENTS, "[]", "of these kinds only; none named: any"),
            key("services", Kind::Texts, "[]", "of these services only; none named: all"),
            key(
                "until",
                Kind::Word(&["ended", "acknowledged"]),
                "\"ended\"",
                "ended: also what came to an end by itself is not escalated",
            ),
        ],
    },
];

static CHANNEL: &[Key] = &[
    key("name", Kind::Text, "", "its name, for logs, metrics and escalations"),
    key("kind", Kind::Word(&["webhook", "slack", "email"]), "", "how it is told"),
    key("url", Kind::Text, "", "webhook, slack: where to; only scheme and host are ever shown"),
    key("url_file", Kind::Text, "", "a file that holds the url instead"),
    key("secret_file", Kind::Text, "", "webhook: file with the secret that signs what is sent"),
    key("host", Kind::Text, "", "email: the mail server"),
    key("port", Kind::Integer(1, 65535), "", "email: its port; default 587, implicit 465, none 25"),
    key(
        "tls",
        Kind::Word(&["starttls", "implicit", "none"]),
        "\"starttls\"",
        "email: how the connection is protected; without it nothing is sent",
    ),
    key("user", Kind::Text, "", "email: who logs in"),
    key("password_file", Kind::Text, "", "email: file with the password"),
    key("from", Kind::Text, "", "email: who writes"),
    key("to", Kind::Texts, "", "email: who is written to"),
    key("events", EVENTS, "[]", "these kinds of events only; none named: any"),
    key("min_severity", LEAST, "", "nothing that matters less; default warning, or info where events are named"),
    key("services", Kind::Texts, "[]", "of these services only; none named: all"),
    key("cooldown", Kind::Duration(0), "\"5m\"", "time in which more of a kind and service is held back"),
    key("timeout", Kind::Duration(1), "\"5s\"", "time for one try, at most 20s"),
    key("attempts", Kind::Integer(1, 20), "6", "tries, with growing time between them"),
    key("only_escalated", Kind::Flag, "false", "hears nothing but what is escalated to it"),
];
