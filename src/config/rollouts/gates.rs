//! Gates of a plan, from text.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::keys::KINDS;
use crate::config::cursor::{Fields, as_entries};
use crate::model::rollout::{
    Ask, CommandCheck, Delta, Event, Gate, HttpCheck, Operator, PlainMetric, PlainRule, PrometheusCheck,
    QuantileWeight, When,
};

/// Levels of a latency gate over the whole distribution, and their weights.
const LEVELS: [(f64, f64); 4] = [(0.5, 0.1), (0.9, 0.2), (0.95, 0.35), (0.99, 0.35)];

/// Keys of what is asked outside and of caches, and the kinds of gates for which they mean something.
const ONLY_OF: &[(&str, &[&str])] = &[
    ("url", &["http", "prometheus"]),
    ("headers", &["http", "prometheus"]),
    ("method", &["http"]),
    ("body", &["http"]),
    ("expect", &["http"]),
    ("contains", &["http"]),
    ("command", &["command"]),
    ("env", &["command"]),
    ("timeout", &["http", "command", "prometheus"]),
    ("retries", &["http", "command"]),
    ("interval", &["http", "command", "suite", "prometheus"]),
    ("when", &["http", "command", "suite", "signoff", "approval"]),
    ("query", &["prometheus"]),
    ("delta", &["prometheus"]),
    ("file", &["signoff"]),
    ("approvers", &["approval"]),
    ("count", &["approval"]),
    ("requests", &["suite"]),
    ("min_pass_rate", &["suite"]),
    ("warm_up", &["cache_hit"]),
    ("on_failure", &["cache_hit"]),
];

/// Keys of gates that mean nothing for `cache_hit`, which compares and has no threshold of its own.
const NOT_OF_CACHES: &[(&str, &[&str])] = &[
    ("mode", &[]),
    ("event", &[]),
    ("max", &[]),
    ("min", &[]),
    ("delta_percent", &[]),
    ("delta_ms", &[]),
    ("must", &[]),
    ("threshold", &[]),
    ("window", &[]),
    ("hold", &[]),
];

/// Keys of a request that stands within something else.
const WITHIN: &[(&str, &[&str])] = &[("command", &[]), ("env", &[]), ("when", &[])];

/// Reads a list of gates.
pub(super) fn gates(lists: Vec<Fields<'_>>) -> Vec<Gate> {
    lists.iter().filter_map(gate).collect()
}

fn gate(fields: &Fields<'_>) -> Option<Gate> {
    let kind = fields.word("kind");
    let name = fields.text("name").map(|text| text.value);
    let dry_run = fields.flag("dry_run").unwrap_or(false);
    let Some(kind) = kind else {
        if fields.value("kind").is_none() {
            let found = format!("{} has no kind", fields.place());
            fields.sink.local(
                fields.span.clone(),
                &fields.path,
                found,
                format!("add kind = one of {}", KINDS.join(", ")),
            );
        }
        return None;
    };
    belong(fields, kind.value, ONLY_OF, "a gate of kind");
    let ask = ask(fields, kind.value)?;
    Some(Gate { name: name.unwrap_or_else(|| kind.value.to_owned()), dry_run, ask })
}

fn ask(fields: &Fields<'_>, kind: &'static str) -> Option<Ask> {
    let plain = fields.word("mode").is_some_and(|mode| mode.value == "plain");
    let event = event(fields, kind);
    let threshold = Threshold::read(fields);
    let when = when(fields);
    match kind {
        "error_rate" if plain => {
            rule(fields, &threshold, PlainMetric::ErrorRate, Some(PlainMetric::ErrorRateDelta)).map(Ask::Plain)
        }
        "error_rate" if threshold.max.is_some() => Some(Ask::Guard { event, max: threshold.max? / 100.0 }),
        "error_rate" => Some(Ask::ErrorRate {
            event,
            max_ratio: match threshold.delta_percent {
                Some(percent) => 1.0 + percent / 100.0,
                None => fields.number("max_ratio").unwrap_or(1.25),
            },
            excludes: fields.number("excludes").unwrap_or(2.0),
            safe_rate: fields.ratio("safe_rate").unwrap_or(0.01),
            min_difference: fields.ratio("min_difference").unwrap_or(0.001),
            min_events: fields.integer("min_events").map_or(5, |n| n as u64),
        }),
        "latency" => latency(fields, &threshold, plain),
        "guard" => Some(Ask::Guard { event, max: threshold.max.map_or(0.2, |percent| percent / 100.0) }),
        "zero_tolerance" => Some(Ask::ZeroTolerance { event }),
        "cache_hit" => Some(cache_hit(fields)),
        "availability" => rule(fields, &threshold, PlainMetric::Availability, None).map(Ask::Plain),
        "response_time" => rule(fields, &threshold, PlainMetric::ResponseTime, None).map(Ask::Plain),
        "throughput" => rule(fields, &threshold, PlainMetric::Throughput, None).map(Ask::Plain),
        "disconnect_rate" => rule(fields, &threshold, PlainMetric::DisconnectRate, None).map(Ask::Plain),
        "failed_unit_rate" => rule(fields, &threshold, PlainMetric::FailedUnitRate, None).map(Ask::Plain),
        "serving" => Some(Ask::Serving { within: fields.duration("within").unwrap_or(Duration::from_secs(5)) }),
        "http" => http(fields).map(Ask::Http),
        "command" => command(fields).map(Ask::Command),
        "suite" => {
            let requests = fields.list("requests", "plan.request");
            let requests: Vec<HttpCheck> = requests.iter().filter_map(request).collect();
            let min_pass_rate = fields.ratio("min_pass_rate").unwrap_or(1.0);
            let interval = fields.duration("interval").unwrap_or(Duration::from_secs(60));
            Some(Ask::Suite { requests, min_pass_rate, interval, when })
        }
        "prometheus" => prometheus(fields, &threshold).map(Ask::Prometheus),
        "signoff" => required(fields, "file", "file = \"approved.txt\"").map(|file| Ask::Signoff { file, when }),
        "approval" => Some(Ask::Approval {
            approvers: fields.texts("approvers").into_iter().map(|text| text.value).collect(),
            count: fields.integer("count").map_or(1, |n| n as u32),
            when,
        }),
        _ => None,
    }
}

fn cache_hit(fields: &Fields<'_>) -> Ask {
    belong(fields, "cache_hit", NOT_OF_CACHES, "a gate of kind");
    Ask::CacheHit {
        max_ratio: fields.number("max_ratio").unwrap_or(1.25),
        excludes: fields.number("excludes").unwrap_or(1.5),
        safe_rate: fields.ratio("safe_rate").unwrap_or(0.01),
        min_difference: fields.ratio("min_difference").unwrap_or(0.01),
        min_events: fields.integer("min_events").map_or(5, |n| n as u64),
        warm_up: fields.duration("warm_up").unwrap_or(Duration::from_secs(300)),
        waits: fields.word("on_failure").is_none_or(|word| word.value == "wait"),
    }
}

/// The numbers that a gate compares with.
struct Threshold {
    max: Option<f64>,
    min: Option<f64>,
    delta_percent: Option<f64>,
    delta_ms: Option<f64>,
}

impl Threshold {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            max: fields.number("max"),
            min: fields.number("min"),
            delta_percent: fields.number("delta_percent"),
            delta_ms: fields.number("delta_ms"),
        }
    }
}

fn event(fields: &Fields<'_>, kind: &str) -> Event {
    match fields.word("event").map(|word| word.value) {
        Some("client_error") => Event::ClientError,
        Some("disconnect") => Event::Disconnect,
        Some("failed_unit") => Event::FailedUnit,
        Some(_) => Event::Error,
        None if kind == "disconnect_rate" => Event::Disconnect,
        None if kind == "failed_unit_rate" => Event::FailedUnit,
        None => Event::Error,
    }
}

fn when(fields: &Fields<'_>) -> When {
    match fields.word("when").map(|word| word.value) {
        Some("phase") => When::Phase,
        Some("always") => When::Always,
        _ => When::Start,
    }
}

fn latency(fields: &Fields<'_>, threshold: &Threshold, plain: bool) -> Option<Ask> {
    let quantile = fields.ratio("quantile").unwrap_or(0.95);
    let all = fields.flag("quantiles").unwrap_or(false);
    let (margin, margin_ms) = (fields.number("margin"), fields.number("margin_ms"));
    if !(0.001..=0.9999).contains(&quantile) {
        let found = format!("{} is {quantile}", fields.path_of("quantile"));
        let help = "a quantile lies between 0.001 and 0.9999, such as 0.95";
        fields.sink.local(fields.key_span("quantile"), &fields.path_of("quantile"), found, help);
        return None;
    }
    if plain {
        let (metric, delta) = (PlainMetric::Latency { quantile }, PlainMetric::LatencyDelta { quantile });
        return rule(fields, threshold, metric, Some(delta)).map(Ask::Plain);
    }
    // A threshold in ms of the difference is the margin in ms and none in percent.
    let (margin, margin_ms) = match threshold.delta_ms {
        Some(ms) => (margin.unwrap_or(0.0), ms),
        None => (margin.unwrap_or(0.1), margin_ms.unwrap_or(5.0)),
    };
    let quantiles = match all {
        true => LEVELS.map(|(quantile, weight)| QuantileWeight { quantile, weight }).to_vec(),
        false => vec![QuantileWeight { quantile, weight: 1.0 }],
    };
    Some(Ask::Latency { quantiles, margin, margin_ms, excludes: fields.number("excludes").unwrap_or(2.0) })
}

/// A plain rule: `max` or `min` of a number, or a difference to the control.
fn rule(
    fields: &Fields<'_>,
    threshold: &Threshold,
    metric: PlainMetric,
    delta: Option<PlainMetric>,
) -> Option<PlainRule> {
    let must = fields.word("must").map(|word| word.value);
    let criterion = fields.number("threshold");
    let compared = match (must, criterion) {
        (Some(word), Some(bound)) => Some((metric, operator(word), bound)),
        _ => None,
    };
    let compared =
        compared.or(match (threshold.max, threshold.min, threshold.delta_percent.or(threshold.delta_ms), delta) {
            (Some(max), ..) => Some((metric, Operator::GreaterThan, max)),
            (None, Some(min), ..) => Some((metric, Operator::LessThan, min)),
            (None, None, Some(difference), Some(delta)) => Some((delta, Operator::GreaterThan, difference)),
            _ => None,
        });
    let Some((metric, operator, threshold)) = compared else {
        let found = format!("{} has no threshold", fields.place());
        let help = if delta.is_some() { "add max, min, delta_percent or delta_ms" } else { "add max or min" };
        fields.sink.local(fields.span.clone(), &fields.path, found, help);
        return None;
    };
    Some(PlainRule {
        metric,
        operator,
        threshold,
        must: must.is_some() && criterion.is_some(),
        window: fields.duration("window").unwrap_or(Duration::from_secs(60)),
        hold: fields.duration("hold").unwrap_or(Duration::ZERO),
        consecutive_failures: fields.integer("consecutive_failures").map_or(1, |n| n as u32),
        total_failures: fields.integer("total_failures").map(|n| n as u32),
        min_samples: fields.integer("min_samples").map_or(0, |n| n as u64),
        warn_only: fields.flag("warn_only").unwrap_or(false),
    })
}

fn operator(word: &str) -> Operator {
    match word {
        "greater_than" => Operator::GreaterThan,
        "at_least" => Operator::AtLeast,
        "less_than" => Operator::LessThan,
        "at_most" => Operator::AtMost,
        _ => Operator::Equals,
    }
}

/// Refuses keys that mean nothing for `kind`: whoever wrote them would believe that they hold.
pub(super) fn belong(fields: &Fields<'_>, kind: &str, keys: &[(&'static str, &[&str])], what: &str) {
    for (key, kinds) in keys {
        if !kinds.contains(&kind) && fields.value(key).is_some() {
            let path = fields.path_of(key);
            let found = format!("{path} means nothing for {what} {kind}");
            fields.sink.local(fields.key_span(key), &path, found, "leave it out");
        }
    }
}

/// A request within something else, which says when.
pub(super) fn request(fields: &Fields<'_>) -> Option<HttpCheck> {
    belong(fields, "", WITHIN, "a request");
    http(fields)
}

/// A request.
pub(super) fn http(fields: &Fields<'_>) -> Option<HttpCheck> {
    let url = required(fields, "url", "url = \"/healthz\"")?;
    if !["/", "http://", "https://"].iter().any(|start| url.starts_with(start)) {
        let found = format!("{} is \"{url}\"", fields.path_of("url"));
        let help = "write http://…, https://…, or a path such as /healthz for the candidate";
        fields.sink.local(fields.key_span("url"), &fields.path_of("url"), found, help);
        return None;
    }
    Some(HttpCheck {
        url,
        method: fields.text("method").map_or_else(|| "GET".into(), |text| text.value.to_ascii_uppercase()),
        headers: texts(fields, "headers"),
        body: fields.text("body").map(|text| text.value),
        expect: crate::config::read::statuses(fields, "expect")
            .map_or((200, 299), |range| (*range.start(), *range.end())),
        contains: fields.text("contains").map(|text| text.value),
        timeout: fields.duration("timeout").unwrap_or(Duration::from_secs(10)),
        retries: fields.integer("retries").map_or(0, |n| n as u32),
        interval: fields.duration("interval").unwrap_or(Duration::from_secs(10)),
        when: when(fields),
    })
}

/// A command.
pub(super) fn command(fields: &Fields<'_>) -> Option<CommandCheck> {
    let command: Vec<String> = fields.texts("command").into_iter().map(|text| text.value).collect();
    if command.first().is_none_or(String::is_empty) {
        let found = format!("{} names no command", fields.place());
        fields.sink.local(fields.span.clone(), &fields.path, found, "add command = [\"./smoke.sh\", \"--verbose\"]");
        return None;
    }
    Some(CommandCheck {
        command,
        env: texts(fields, "env"),
        timeout: fields.duration("timeout").unwrap_or(Duration::from_secs(180)),
        retries: fields.integer("retries").map_or(0, |n| n as u32),
        interval: fields.duration("interval").unwrap_or(Duration::from_secs(60)),
        when: when(fields),
    })
}

fn prometheus(fields: &Fields<'_>, threshold: &Threshold) -> Option<PrometheusCheck> {
    let url = required(fields, "url", "url = \"http://127.0.0.1:9090\"");
    let query = required(fields, "query", "query = \"sum(my_errors_total)\"");
    let delta = match fields.word("delta").map(|word| word.value) {
        Some("absolute") => Delta::Absolute,
        Some("percent") => Delta::Percent,
        _ => Delta::Value,
    };
    let (operator, bound) = match (threshold.max, threshold.min) {
        (Some(_), Some(_)) => {
            let found = format!("{} has both max and min", fields.place());
            fields.sink.local(fields.span.clone(), &fields.path, found, "write two gates");
            return None;
        }
        (Some(max), None) => (Operator::AtMost, max),
        (None, Some(min)) => (Operator::AtLeast, min),
        (None, None) => {
            let found = format!("{} has no threshold", fields.place());
            fields.sink.local(fields.span.clone(), &fields.path, found, "add max or min");
            return None;
        }
    };
    Some(PrometheusCheck {
        url: url?,
        query: query?,
        headers: texts(fields, "headers"),
        operator,
        threshold: bound,
        delta,
        interval: fields.duration("interval").unwrap_or(Duration::from_secs(15)),
        timeout: fields.duration("timeout").unwrap_or(Duration::from_secs(10)),
        consecutive_failures: fields.integer("consecutive_failures").map_or(1, |n| n as u32),
    })
}

/// A text that must be there.
pub(super) fn required(fields: &Fields<'_>, name: &'static str, example: &str) -> Option<String> {
    if fields.value(name).is_none() {
        let found = format!("{} has no {name}", fields.place());
        fields.sink.local(fields.span.clone(), &fields.path, found, format!("add {example}"));
    }
    fields.text(name).map(|text| text.value)
}

/// Texts by names.
pub(super) fn texts(fields: &Fields<'_>, name: &'static str) -> BTreeMap<String, String> {
    let Some(value) = fields.value(name) else { return BTreeMap::new() };
    let DeValue::Table(entries) = value.value else {
        fields.wrong(&value, "a table of strings");
        return BTreeMap::new();
    };
    let read = |(key, value): (crate::config::cursor::At<&str>, _)| {
        fields.as_text(&value, "a string").map(|text| (key.value.to_owned(), text.value))
    };
    as_entries(&value.path, entries).into_iter().filter_map(read).collect()
}
