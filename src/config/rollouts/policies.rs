//! Evidence, rollback, actions, windows and sweeps of a plan, from text.

use std::time::Duration;

use super::gates::{belong, command, http, request, required};
use crate::config::cursor::{At, Fields, meant};
use crate::model::rollout::{
    Act, CommandCheck, EvidencePolicy, HttpCheck, Moment, OnActionError, PlannedAction, RollbackPolicy,
    RollbackStrategy, Sweep, VerifyPolicy, Window, WindowRule,
};

/// Time for an action that says none.
const ACTION: Duration = Duration::from_secs(30);

/// The same for what is in flight: a request of a minute is slow, one of more is a stream.
const DRAIN: Duration = Duration::from_secs(60);

/// Keys of actions and sweeps, and the types for which they mean something.
const ACTIONS: &[(&str, &[&str])] = &[
    ("url", &["webhook"]),
    ("method", &["webhook"]),
    ("headers", &["webhook"]),
    ("body", &["webhook"]),
    ("expect", &["webhook"]),
    ("contains", &["webhook"]),
    ("command", &["command"]),
    ("env", &["command"]),
    ("retries", &["webhook", "command"]),
    ("interval", &["webhook", "command"]),
    ("when", &[]),
];

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

pub(super) fn evidence(fields: &Fields<'_>) -> EvidencePolicy {
    let default = EvidencePolicy::default();
    EvidencePolicy {
        false_rollback: chance(fields, "false_rollback", default.false_rollback),
        false_advance: chance(fields, "false_advance", default.false_advance),
        warm_up: fields.duration("warm_up").unwrap_or(default.warm_up),
        warm_up_requests: fields.integer("warm_up_requests").map_or(default.warm_up_requests, |n| n as u64),
        settle: fields.duration("settle").unwrap_or(default.settle),
        epoch: fields.duration("epoch").unwrap_or(default.epoch),
        guard: chance(fields, "guard", default.guard),
        degraded: fields.number("degraded").unwrap_or(default.degraded),
        no_traffic: fields.duration("no_traffic").unwrap_or(default.no_traffic),
    }
}

/// A chance: neither impossible nor certain, since no evidence could be that.
fn chance(fields: &Fields<'_>, name: &'static str, default: f64) -> f64 {
    match fields.ratio(name) {
        Some(ratio) if ratio <= 0.0 || ratio >= 1.0 => {
            let found = format!("{} is {ratio}", fields.path_of(name));
            let help = "no evidence can be certain: write a number above 0 and below 1, such as 0.01";
            fields.sink.local(fields.key_span(name), &fields.path_of(name), found, help);
            default
        }
        Some(ratio) => ratio,
        None => default,
    }
}

pub(super) fn rollback(fields: &Fields<'_>) -> RollbackPolicy {
    let default = RollbackPolicy::default();
    let verify = fields.table("verify", "plan.verify");
    RollbackPolicy {
        strategy: match fields.word("strategy").map(|word| word.value) {
            Some("gradual") => RollbackStrategy::Gradual,
            Some("phased") => RollbackStrategy::Phased,
            Some("blue_green") => RollbackStrategy::BlueGreen,
            _ => RollbackStrategy::Immediate,
        },
        step: fields.duration("step").unwrap_or(default.step),
        delay: fields.duration("delay").unwrap_or(default.delay),
        cooldown: fields.duration("cooldown").unwrap_or(default.cooldown),
        max_automatic: fields.integer("max_automatic").map_or(default.max_automatic, |n| n as u32),
        max_duration: fields.duration("max_duration").unwrap_or(default.max_duration),
        verify: VerifyPolicy {
            http: verify.table_if_present("http", "plan.request").as_ref().and_then(request),
            timeout: verify.duration("timeout").unwrap_or(default.verify.timeout),
            retries: verify.integer("retries").map_or(default.verify.retries, |n| n as u32),
            retry_delay: verify.duration("retry_delay").unwrap_or(default.verify.retry_delay),
        },
    }
}

pub(super) fn actions(lists: &[Fields<'_>]) -> Vec<PlannedAction> {
    let read = |fields: &Fields<'_>| {
        let at = match fields.word("at").map(|word| word.value) {
            Some("start") => Moment::Start,
            Some("promoted") => Moment::Promoted,
            Some("end") => Moment::End,
            _ => Moment::Rollback,
        };
        let act = act(fields)?;
        let kind = kind(&act);
        belong(fields, kind, ACTIONS, "an action of type");
        let moves = matches!(act, Act::StopNewTraffic | Act::DrainConnections);
        if moves && at != Moment::Rollback {
            let found = format!("{kind} is at a moment at which the candidate is to have its traffic");
            fields.sink.local(fields.span.clone(), &fields.path, found, "leave `at` out: it belongs to a rollback");
        }
        let default = if matches!(act, Act::DrainConnections) { DRAIN } else { ACTION };
        let timeout = fields.duration("timeout").unwrap_or(default);
        Some(PlannedAction {
            name: fields.text("name").map_or_else(|| kind.to_owned(), |text| text.value),
            at,
            act: within(act, timeout),
            timeout,
            on_error: match fields.word("on_error").map(|word| word.value) {
                Some("stop") => OnActionError::Stop,
                // A rollout whose preparation failed must not begin.
                None if at == Moment::Start => OnActionError::Stop,
                _ => OnActionError::Continue,
            },
        })
    };
    lists.iter().filter_map(read).collect()
}

fn kind(act: &Act) -> &'static str {
    match act {
        Act::StopNewTraffic => "stop_new_traffic",
        Act::DrainConnections => "drain_connections",
        Act::Webhook(_) => "webhook",
        Act::Command(_) => "command",
    }
}

/// The same, each try of it within `timeout`.
fn within(act: Act, timeout: Duration) -> Act {
    match act {
        Act::Webhook(check) => Act::Webhook(HttpCheck { timeout, ..check }),
        Act::Command(check) => Act::Command(CommandCheck { timeout, ..check }),
        Act::StopNewTraffic | Act::DrainConnections => act,
    }
}

/// A request that tells somebody something: `POST` unless it says otherwise.
fn webhook(fields: &Fields<'_>) -> Option<Act> {
    let said = fields.value("method").is_some();
    let method = |check: HttpCheck| if said { check } else { HttpCheck { method: "POST".into(), ..check } };
    http(fields).map(method).map(Act::Webhook)
}

fn act(fields: &Fields<'_>) -> Option<Act> {
    let kind = fields.word("type").map(|word| word.value);
    match kind {
        Some("stop_new_traffic") => Some(Act::StopNewTraffic),
        Some("drain_connections") => Some(Act::DrainConnections),
        Some("webhook") => webhook(fields),
        Some(_) => command(fields).map(Act::Command),
        None if fields.value("url").is_some() => webhook(fields),
        None if fields.value("command").is_some() => command(fields).map(Act::Command),
        None => {
            required(fields, "type", "type = \"webhook\"");
            None
        }
    }
}

pub(super) fn windows(lists: &[Fields<'_>]) -> Vec<Window> {
    let read = |fields: &Fields<'_>| {
        let zone = fields.text("zone");
        if let Some(zone) = &zone
            && jiff::tz::TimeZone::get(&zone.value).is_err()
        {
            let found = format!("\"{}\" is not a time zone", zone.value);
            fields.refuse(zone, found, "write an IANA name such as \"Europe/Berlin\"");
        }
        Window {
            rule: match fields.word("rule").map(|word| word.value) {
                Some("allow") => WindowRule::Allow,
                _ => WindowRule::Freeze,
            },
            days: fields.texts("days").iter().filter_map(|text| day(fields, text)).collect(),
            from_minute: fields.text("from").and_then(|text| minute(fields, &text)).unwrap_or(0),
            to_minute: fields.text("to").and_then(|text| minute(fields, &text)).unwrap_or(24 * 60),
            zone: zone.map_or_else(|| "UTC".into(), |text| text.value),
            reason: fields.text("reason").map(|text| text.value).unwrap_or_default(),
        }
    };
    lists.iter().map(read).collect()
}

fn day(fields: &Fields<'_>, text: &At<String>) -> Option<u8> {
    let wanted = text.value.to_ascii_lowercase();
    let found = DAYS.iter().position(|day| wanted.len() >= 3 && wanted.starts_with(day));
    if found.is_none() {
        fields.refuse(text, format!("\"{}\" is not a day", text.value), meant(&wanted, DAYS));
    }
    found.map(|index| index as u8 + 1)
}

fn minute(fields: &Fields<'_>, text: &At<String>) -> Option<u16> {
    let (hours, minutes) = text.value.split_once(':').unwrap_or((&text.value, "00"));
    let parsed = hours.parse::<u16>().ok().zip(minutes.parse::<u16>().ok());
    let minute = parsed.filter(|(h, m)| *h <= 24 && *m < 60 && h * 60 + m <= 24 * 60).map(|(h, m)| h * 60 + m);
    if minute.is_none() {
        fields.refuse(text, format!("\"{}\" is not a time", text.value), "write HH:MM, such as \"22:30\"");
    }
    minute
}

pub(super) fn sweeps(lists: &[Fields<'_>]) -> Vec<Sweep> {
    let read = |fields: &Fields<'_>| {
        let act = match fields.value("command").is_some() {
            true => command(fields).map(Act::Command),
            false => webhook(fields),
        };
        belong(fields, act.as_ref().map_or("webhook", kind), ACTIONS, "a sweep by");
        if fields.value("targets").is_none() {
            required(fields, "targets", "targets = [\"acme\", \"globex\"]");
        }
        Some(Sweep {
            name: fields.text("name").map_or_else(|| "sweep".into(), |text| text.value),
            targets: fields.texts("targets").into_iter().map(|text| text.value).collect(),
            act: act?,
            per_minute: fields.integer("per_minute").map_or(10, |n| n as u32),
        })
    };
    lists.iter().filter_map(read).collect()
}
