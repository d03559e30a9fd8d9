//! The word `maintenance` in the weights file: `true`, a reason, or a table with what to answer.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::cursor::{At, Sink, as_entries, describe, meant, shorten};
use crate::model::time::parse_duration;
use crate::model::{MAINTENANCE_BODY_BYTES_MAX, Maintenance, Name, RETRY_AFTER_S_DEFAULT, ServiceSpec, kill_reason};

const HELP: &str = "write maintenance = \"the reason\", or a table of reason, retry_after, body and pools";

/// Reads it; none when nothing is under maintenance. Only a service has pools.
pub(super) fn read(
    sink: &Sink<'_>,
    key: &At<&str>,
    value: &At<&DeValue<'_>>,
    service: Option<&ServiceSpec>,
) -> Option<Maintenance> {
    let with = |reason: &str| Maintenance {
        reason: kill_reason(reason),
        pools: Vec::new(),
        retry_after_s: RETRY_AFTER_S_DEFAULT,
        body: None,
    };
    match value.value {
        DeValue::String(reason) => Some(with(reason)),
        DeValue::Boolean(true) => Some(with("")),
        DeValue::Boolean(false) => None,
        DeValue::Table(table) => Some(fields(sink, key, table, service, with(""))),
        other => {
            sink.local(value.span.clone(), &key.path, format!("{} is {}", key.path, describe(other)), HELP);
            None
        }
    }
}

fn fields(
    sink: &Sink<'_>,
    key: &At<&str>,
    table: &DeTable<'_>,
    service: Option<&ServiceSpec>,
    mut found: Maintenance,
) -> Maintenance {
    for (name, value) in as_entries(&key.path, table) {
        let wrong = |right: &str| {
            let what = format!("{} is {}", name.path, describe(value.value));
            sink.local(value.span.clone(), &name.path, what, right);
        };
        match (name.value, value.value) {
            ("reason", DeValue::String(reason)) => found.reason = kill_reason(reason),
            ("body", DeValue::String(body)) if body.len() <= MAINTENANCE_BODY_BYTES_MAX => {
                found.body = Some(body.as_ref().to_owned());
            }
            ("body", DeValue::String(_)) => wrong("a body may have 64 KiB"),
            ("retry_after", DeValue::String(text)) => match parse_duration(text).and_then(whole_s) {
                Some(seconds) => found.retry_after_s = seconds,
                None => wrong("write a duration from \"1s\" to \"30d\", such as \"5m\""),
            },
            ("pools", DeValue::Array(list)) if !list.is_empty() => match service {
                Some(spec) => found.pools.extend(list.iter().filter_map(|item| pool(sink, &name, item, spec))),
                None => wrong("only the maintenance of a service has pools"),
            },
            ("pools", DeValue::Array(_)) => wrong("name at least one pool, or leave pools out for all of the service"),
            ("reason" | "body" | "retry_after", _) => wrong("write a string"),
            ("pools", _) => wrong("write a list, such as [\"canary\"]"),
            (other, _) => {
                let what = format!("unknown key \"{}\" in {}", shorten(other), key.path);
                sink.local(
                    name.span.clone(),
                    &name.path,
                    what,
                    meant(other, ["reason", "retry_after", "body", "pools"]),
                );
            }
        }
    }
    found
}

/// The pool that an entry of the list names.
fn pool(sink: &Sink<'_>, name: &At<&str>, item: &Spanned<DeValue<'_>>, spec: &ServiceSpec) -> Option<Name> {
    let text = item.get_ref().as_str().unwrap_or_default();
    let found = spec.pools.iter().find(|pool| pool.name.as_str() == text);
    if found.is_none() {
        let what = format!("service \"{}\" has no pool \"{}\"", spec.name, shorten(text));
        sink.local(item.span(), &name.path, what, meant(text, spec.pools.iter().map(|pool| pool.name.as_str())));
    }
    found.map(|pool| pool.name.clone())
}

/// Seconds, rounded up, from one to thirty days.
fn whole_s(time: Duration) -> Option<u64> {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    (1..=30 * 24 * 3600).contains(&seconds).then_some(seconds)
}
