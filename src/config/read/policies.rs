//! The policies of a service: affinity, health, breaker, timeouts, retry, override.

use std::ops::RangeInclusive;
use std::path::Path;

use toml::de::DeValue;

use super::identity;
use crate::config::cursor::{At, Fields, shorten};
use crate::config::parse_duration;
use crate::config::value::as_integer;
use crate::model::{
    Affinity, AffinityBy, Breaker, Health, Hedge, Name, OnZero, OnZeroStreams, Override, ProbeKind, Queue, Retry,
    Timeouts, WarmUp,
};

/// How long bound clients may stay on a pool at 0 when nothing is said: long enough for a visit, short enough that
/// a drained pool is empty before somebody forgets it.
const DRAIN_TIMEOUT_DEFAULT: std::time::Duration = std::time::Duration::from_secs(600);

/// Shortest time before a hedge.
const HEDGE_MIN: std::time::Duration = std::time::Duration::from_millis(1);

/// Largest token file; a token is a line.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(super) fn affinity(fields: &Fields<'_>, service: &Name) -> Affinity {
    let by = fields.word("by");
    let name = fields.text("name");
    let max_age = fields.duration("max_age");
    let salt = fields.text("salt").map_or_else(|| service.to_string(), |text| text.value);
    let on_zero = fields.word("on_zero").map_or("evict", |word| word.value);
    let drain_timeout = fields.duration("drain_timeout");
    let kind = by.as_ref().map_or("none", |by| by.value);
    if max_age.is_some() && kind != "cookie" {
        only_with(fields, "max_age", "by = \"cookie\"");
    }
    if drain_timeout.is_some() && on_zero != "drain" {
        only_with(fields, "drain_timeout", "on_zero = \"drain\"");
    }
    let on_zero = match on_zero {
        "drain" => OnZero::Drain(drain_timeout.unwrap_or(DRAIN_TIMEOUT_DEFAULT)),
        _ => OnZero::Evict,
    };
    let by = match kind {
        "cookie" => {
            let name = name.and_then(|name| token(fields, name, "cookie")).unwrap_or_else(|| "weir".into());
            AffinityBy::Cookie { name, max_age }
        }
        "header" => {
            if name.is_none() && fields.value("name").is_none() {
                let found = format!("{} = \"header\" without the name of the header", fields.path_of("by"));
                fields.sink.local(
                    by.map_or(fields.span.clone(), |by| by.span),
                    &fields.path,
                    found,
                    "add name = \"x-user-id\"",
                );
            }
            let name = name.and_then(|name| token(fields, name, "header")).unwrap_or_default();
            AffinityBy::Header { name: name.to_ascii_lowercase() }
        }
        "client_ip" => AffinityBy::ClientIp,
        _ => AffinityBy::None,
    };
    // Whether it is demanded is known when the whole file was read.
    Affinity { by, salt, on_zero, secure: false }
}

fn only_with(fields: &Fields<'_>, key: &'static str, with: &str) {
    let found = format!("{} has no meaning here", fields.path_of(key));
    let help = format!("take it out, or set {with}");
    fields.sink.whole(fields.key_span(key), &fields.path_of(key), found, help);
}

/// A name of a header, method or cookie (RFC 9110 §5.6.2, RFC 6265 §4.1.1), as it was written.
pub(super) fn token(fields: &Fields<'_>, text: At<String>, what: &str) -> Option<String> {
    if is_token(&text.value) {
        return Some(text.value);
    }
    fields.refuse(&text, format!("\"{}\" is not a {what} name", shorten(&text.value)), "use letters, digits and '-'");
    None
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(legal)
}

pub(super) fn health(fields: &Fields<'_>) -> Option<Health> {
    let kind = fields.word("kind");
    let path = fields.text("path");
    let host = fields.text("host");
    let expect = statuses(fields, "expect");
    let grpc_service = fields.text("grpc_service");
    let identity = identity::identity(fields);
    let default = Health::default();
    let health = |kind| Health {
        kind,
        interval: fields.duration("interval").unwrap_or(default.interval),
        timeout: fields.duration("timeout").unwrap_or(default.timeout),
        fall: fields.integer("fall").map_or(default.fall, |n| n as u32),
        rise: fields.integer("rise").map_or(default.rise, |n| n as u32),
        warm_up: None,
        identity: identity.clone(),
    };
    let probe = match kind.as_ref().map(|kind| kind.value) {
        Some("http") => true,
        Some(_) => false,
        None => path.is_some() || host.is_some() || expect.is_some() || !identity.is_empty(),
    };
    let grpc = kind.as_ref().is_some_and(|kind| kind.value == "grpc");
    if grpc_service.is_some() && !grpc {
        only_with(fields, "grpc_service", "kind = \"grpc\"");
    }
    if !probe {
        for key in ["expect_headers", "expect_body"].into_iter().filter(|key| fields.value(key).is_some()) {
            only_with(fields, key, "kind = \"http\"");
        }
        let only_http = ["path", "expect", "host"].into_iter().take(if grpc { 2 } else { 3 });
        for key in only_http.filter(|key| fields.value(key).is_some()) {
            only_with(fields, key, "kind = \"http\"");
        }
    }
    if let Some(host) = host.as_ref().filter(|host| !is_authority(&host.value)) {
        fields.refuse(host, format!("\"{}\" is not a host", shorten(&host.value)), "write HOST or HOST:PORT");
    }
    let host = host.map(|host| host.value);
    if grpc {
        let service = grpc_service.map(|service| service.value).unwrap_or_default();
        return Some(health(ProbeKind::Grpc { service, host }));
    }
    if !probe {
        let tcp = health(ProbeKind::Tcp);
        return (kind.is_none_or(|kind| kind.value != "off")).then_some(tcp);
    }
    if let Some(path) = path.as_ref().filter(|path| !is_target(&path.value)) {
        fields.refuse(path, format!("\"{}\" is not a path", shorten(&path.value)), "write a path such as \"/healthz\"");
    }
    Some(health(ProbeKind::Http {
        path: path.map_or_else(|| "/".into(), |path| path.value),
        host,
        expect: expect.unwrap_or(200..=399),
    }))
}

/// Reads what a new endpoint is asked first; it needs probes, which know when that is.
pub(super) fn warm_up(service: &Fields<'_>, health: &mut Option<Health>) {
    let fields = service.table("warm_up", "services.*.warm_up");
    let path = fields.text("path");
    if let Some(path) = path.as_ref().filter(|path| !is_target(&path.value)) {
        fields.refuse(path, format!("\"{}\" is not a path", shorten(&path.value)), "write a path such as \"/\"");
    }
    let warm_up = WarmUp {
        path: path.map_or_else(|| "/".into(), |path| path.value),
        requests: fields.integer("requests").map_or(3, |n| n as u32),
        deadline: fields.duration("deadline").unwrap_or(std::time::Duration::from_secs(10)),
    };
    match health {
        _ if service.value("warm_up").is_none() => {}
        Some(health) => health.warm_up = Some(warm_up),
        None => only_with(service, "warm_up", "health.kind to something else than \"off\""),
    }
}

/// Origin form: what may stand in a request line after the method.
pub(super) fn is_target(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

fn is_authority(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    !text.is_empty() && text.len() <= 259 && text.bytes().all(legal)
}

pub(in crate::config) fn statuses(fields: &Fields<'_>, name: &'static str) -> Option<RangeInclusive<u16>> {
    let value = fields.value(name)?;
    const RIGHT: &str = "a status such as 200, or a range such as \"200-399\"";
    let (low, high) = match value.value {
        DeValue::Integer(_) => {
            let status = as_integer(value.value).and_then(|number| u16::try_from(number).ok());
            (status, status)
        }
        _ => {
            let text = fields.as_text(&value, RIGHT)?.value;
            let (low, high) = text.split_once('-').unwrap_or((&text, &text));
            (low.trim().parse().ok(), high.trim().parse().ok())
        }
    };
    match (low, high) {
        (Some(low), Some(high)) if (100..=599).contains(&low) && low <= high && high <= 599 => Some(low..=high),
        _ => {
            fields.wrong(&value, RIGHT);
            None
        }
    }
}

pub(super) fn breaker(fields: &Fields<'_>) -> Breaker {
    let default = Breaker::default();
    let base = fields.duration("base_ejection");
    let max = fields.duration("max_ejection");
    if base.unwrap_or(default.base_ejection) > max.unwrap_or(default.max_ejection) {
        let key = if max.is_some() { "max_ejection" } else { "base_ejection" };
        let found = format!("{}: base_ejection is longer than max_ejection", fields.path);
        fields.sink.whole(fields.key_span(key), &fields.path_of(key), found, "max_ejection must be at least as long");
    }
    Breaker {
        failures: fields.integer("failures").map_or(default.failures, |n| n as u32),
        base_ejection: base.unwrap_or(default.base_ejection),
        max_ejection: max.unwrap_or(default.max_ejection),
        error_ratio: fields.ratio("error_ratio").unwrap_or(default.error_ratio),
        min_requests: fields.integer("min_requests").map_or(default.min_requests, |n| n as u64),
        window: fields.duration("window").unwrap_or(default.window),
        rest: fields.duration("rest").unwrap_or(default.rest),
        recovery: fields.duration("recovery").unwrap_or(default.recovery),
    }
}

pub(super) fn timeouts(fields: &Fields<'_>) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        connect: fields.duration("connect").unwrap_or(default.connect),
        response_header: fields.duration("response_header").unwrap_or(default.response_header),
        idle: fields.duration("idle").unwrap_or(default.idle),
        upload_min_rate: fields.size("upload_min_rate").map_or(default.upload_min_rate, |n| n as u32),
        upload_grace: fields.duration("upload_grace").unwrap_or(default.upload_grace),
        tunnel_idle: fields.duration("tunnel_idle"),
    }
}

/// What becomes of long streams at weight 0, if anything is said of it.
pub(super) fn on_zero_streams(fields: &Fields<'_>) -> Option<OnZeroStreams> {
    let word = fields.word("on_zero_streams").map(|word| word.value);
    let drain = fields.duration("streams_drain");
    if drain.is_some() && word.is_some_and(|word| word != "drain") {
        only_with(fields, "streams_drain", "on_zero_streams = \"drain\"");
    }
    match word {
        Some("keep") => Some(OnZeroStreams::Keep),
        Some("close") => Some(OnZeroStreams::Close),
        Some(_) => Some(drain.map_or_else(OnZeroStreams::default, OnZeroStreams::Drain)),
        None => drain.map(OnZeroStreams::Drain),
    }
}

pub(super) fn retry(fields: &Fields<'_>) -> Retry {
    let default = Retry::default();
    Retry {
        attempts: fields.integer("attempts").map_or(default.attempts, |n| n as u32),
        per_try_timeout: fields.duration("per_try_timeout"),
        backoff: fields.duration("backoff").unwrap_or(default.backoff),
        hedge: hedge(fields),
        budget: fields.ratio("budget").unwrap_or(default.budget),
        min_per_second: fields.integer("min_per_second").map_or(default.min_per_second, |n| n as u32),
    }
}

/// A time such as `"50ms"`, or a quantile such as `"p95"`.
fn hedge(fields: &Fields<'_>) -> Option<Hedge> {
    let text = fields.text("hedge")?;
    let quantile = text.value.strip_prefix('p').and_then(|percent| percent.parse::<u8>().ok());
    let found = match quantile {
        Some(percent @ 50..=99) => Some(Hedge::Quantile(f64::from(percent) / 100.0)),
        Some(_) => None,
        None => parse_duration(&text.value).filter(|delay| *delay >= HEDGE_MIN).map(Hedge::After),
    };
    if found.is_none() {
        let help = "write a time of at least \"1ms\", or \"p50\" to \"p99\": as long as so many percent take";
        fields.refuse(&text, format!("\"{}\" is not a time to wait", shorten(&text.value)), help);
    }
    found
}

pub(super) fn queue(fields: &Fields<'_>) -> Queue {
    let default = Queue::default();
    Queue {
        max: fields.integer("max").map_or(default.max, |n| n as u32),
        wait: fields.duration("wait").unwrap_or(default.wait),
    }
}

pub(super) fn pool_override(fields: &Fields<'_>, dir: &Path) -> Override {
    let default = Override::default();
    let header = fields.text("header").and_then(|text| token(fields, text, "header"));
    let token = fields.text("token");
    let token_file = fields.text("token_file");
    if let (Some(_), Some(file)) = (&token, &token_file) {
        let found = format!("{} has both token and token_file", fields.path);
        fields.sink.whole(file.span.clone(), &file.path, found, "keep one of them");
    }
    if let Some(text) = token.as_ref().filter(|text| !is_visible(&text.value)) {
        fields.refuse(text, "is not a token", "use at least one visible ASCII character, no blanks");
    }
    let from_file = token_file.and_then(|file| match read_token(&dir.join(&file.value)) {
        Ok(token) => Some(token),
        Err(why) => {
            fields.refuse(
                &file,
                format!("\"{}\" {why}", shorten(&file.value)),
                "name a file that holds the token on one line",
            );
            None
        }
    });
    Override {
        header: header.map_or(default.header, |header| header.to_ascii_lowercase()),
        token: token.map(|token| token.value).or(from_file),
        networks: fields.networks("networks"),
    }
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.len() as u64 <= TOKEN_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Only regular files of a sane size: a device or a pipe would hang or fill the reader.
fn read_token(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({error})");
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() || metadata.len() > TOKEN_BYTES_MAX {
        return Err("is not a small regular file".into());
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    let token = text.trim();
    if is_visible(token) { Ok(token.to_owned()) } else { Err("holds no token".into()) }
}
