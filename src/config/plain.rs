//! Policies, limits and routes in the words of the file: each key with the value that it has, defaults included, so
//! that two of them can be compared and the difference read. Every field is named here, or this does not compile.
//!
//! It says no secret: whether a token is another one is for [`super::diff()`] to tell.

use std::time::Duration;

use ipnet::IpNet;

use super::value::show_size;
use crate::model::time::show_duration;
use crate::model::{
    AccessLog, Affinity, AffinityBy, Believe, Breaker, Direct, FieldMatch, Health, Hedge, HostMatch, Http2Use, KeyPart,
    Limits, LogFormat, LogSink, Matches, MirrorSpec, OnKill, OnPoolDown, OnZero, OnZeroStreams, Override, PathMatch,
    PoolTlsSpec, ProbeKind, ProxyVersion, Queue, RateLimitSpec, Retry, Rewrite, RouteSpec, Timeouts, Tracing,
    ValueMatch, WarmUp,
};

/// What stands in place of a key that has no value.
const NONE: &str = "none";

/// Keys and their values, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Plain(Vec<(&'static str, String)>);

// === impl Plain ===

impl Plain {
    pub(super) fn add(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.push((key, value.to_string()));
        self
    }

    pub(super) fn time(self, key: &'static str, time: Duration) -> Self {
        self.add(key, show_duration(time))
    }

    pub(super) fn some(self, key: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.add(key, value),
            None => self,
        }
    }

    /// A list; an empty one has no value.
    pub(super) fn list<T: ToString>(self, key: &'static str, values: &[T]) -> Self {
        self.some(key, (!values.is_empty()).then(|| joined(values)))
    }

    fn value(&self, key: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == key).map_or(NONE, |(_, value)| value)
    }

    /// `interval 2s → 5s, path none → /ready`; none when both say the same.
    pub(super) fn changes_to(&self, new: &Plain) -> Option<String> {
        let gone = self.0.iter().filter(|(key, _)| new.0.iter().all(|(kept, _)| kept != key));
        let keys = new.0.iter().chain(gone).map(|(key, _)| *key);
        let changes = keys.filter(|key| self.value(key) != new.value(key));
        let changes: Vec<String> =
            changes.map(|key| format!("{key} {} → {}", self.value(key), new.value(key))).collect();
        (!changes.is_empty()).then(|| changes.join(", "))
    }
}

/// Values with blanks between them.
pub(super) fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn cap(max: Option<u32>) -> String {
    max.map_or_else(|| NONE.to_owned(), |max| max.to_string())
}

pub(super) fn proxy_protocol(version: Option<ProxyVersion>) -> String {
    match version {
        None => NONE,
        Some(ProxyVersion::V1) => "v1",
        Some(ProxyVersion::V2) => "v2",
    }
    .to_owned()
}

pub(super) fn pool_tls(tls: &PoolTlsSpec) -> Plain {
    let PoolTlsSpec { roots, name, identity, insecure_skip_verify, http2 } = tls;
    let http2 = match http2 {
        Http2Use::Auto => "auto",
        Http2Use::Off => "off",
        Http2Use::Only => "only",
    };
    Plain::default()
        .some("roots", roots.as_ref().map(|path| path.display()))
        .some("name", name.as_ref())
        .some("cert", identity.as_ref().map(|files| files.cert.display()))
        .some("key", identity.as_ref().map(|files| files.key.display()))
        .add("http2", http2)
        .add("insecure_skip_verify", insecure_skip_verify)
}

pub(super) fn queue(queue: Queue) -> Plain {
    let Queue { max, wait } = queue;
    Plain::default().add("max", max).time("wait", wait)
}

pub(super) fn rate_limit(limit: &RateLimitSpec) -> Plain {
    let RateLimitSpec { name: _, service, route, key, rate, per, burst, keys_max, shadow } = limit;
    let part = |part: &KeyPart| match part {
        KeyPart::Client => "client".to_owned(),
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Cookie(name) => format!("cookie:{name}"),
        KeyPart::Path => "path".to_owned(),
    };
    let parts: Vec<String> = key.iter().map(part).collect();
    let key = if parts.is_empty() { "all".to_owned() } else { parts.join(" ") };
    let plain = Plain::default().some("service", service.as_ref()).some("route", route.as_ref()).add("key", key);
    plain.add("rate", rate).time("per", *per).add("burst", burst).add("keys_max", keys_max).add("shadow", shadow)
}

pub(super) fn affinity(affinity: &Affinity) -> Plain {
    let Affinity { by, salt, on_zero, secure } = affinity;
    let plain = match by {
        AffinityBy::None => Plain::default().add("by", NONE),
        AffinityBy::Cookie { name, max_age } => Plain::default()
            .add("by", "cookie")
            .add("name", name)
            .some("max_age", max_age.map(show_duration))
            .some("secure", secure.then_some(true)),
        AffinityBy::Header { name } => Plain::default().add("by", "header").add("name", name),
        AffinityBy::ClientIp => Plain::default().add("by", "client_ip"),
    };
    match on_zero {
        OnZero::Evict => plain.add("salt", salt).add("on_zero", "evict"),
        OnZero::Drain(time) => plain.add("salt", salt).add("on_zero", "drain").time("drain_timeout", *time),
    }
}

pub(super) fn health(health: Option<&Health>) -> Plain {
    let Some(Health { kind, interval, timeout, fall, rise, warm_up, identity }) = health else {
        return Plain::default().add("kind", "off");
    };
    let plain = match kind {
        ProbeKind::Tcp => Plain::default().add("kind", "tcp"),
        ProbeKind::Grpc { service, host } => {
            Plain::default().add("kind", "grpc").add("grpc_service", service).some("host", host.as_ref())
        }
        ProbeKind::Http { path, host, expect } => {
            let expect = format!("{}-{}", expect.start(), expect.end());
            Plain::default().add("kind", "http").add("path", path).some("host", host.as_ref()).add("expect", expect)
        }
    };
    let headers: Vec<String> = identity.headers.iter().map(ToString::to_string).collect();
    let headers = (!headers.is_empty()).then(|| headers.join(", "));
    let plain = plain.some("expect_headers", headers.as_ref()).some("expect_body", identity.body.as_ref());
    let plain = plain.time("interval", *interval).time("timeout", *timeout).add("fall", fall).add("rise", rise);
    match warm_up {
        Some(WarmUp { path, requests, deadline }) => {
            plain.add("warm_up.path", path).add("warm_up.requests", requests).time("warm_up.deadline", *deadline)
        }
        None => plain,
    }
}

pub(super) fn breaker(breaker: &Breaker) -> Plain {
    let Breaker { failures, base_ejection, max_ejection, error_ratio, min_requests, window, rest, recovery } = breaker;
    Plain::default()
        .add("failures", failures)
        .time("base_ejection", *base_ejection)
        .time("max_ejection", *max_ejection)
        .add("error_ratio", error_ratio)
        .add("min_requests", min_requests)
        .time("window", *window)
        .time("rest", *rest)
        .time("recovery", *recovery)
}

pub(super) fn timeouts(timeouts: &Timeouts) -> Plain {
    let Timeouts { connect, response_header, idle, upload_min_rate, upload_grace, tunnel_idle } = timeouts;
    Plain::default()
        .time("connect", *connect)
        .time("response_header", *response_header)
        .time("idle", *idle)
        .add("upload_min_rate", upload_min_rate)
        .time("upload_grace", *upload_grace)
        .add("tunnel_idle", tunnel_idle.map_or_else(|| "off".into(), show_duration))
}

pub(super) fn on_zero_streams(streams: OnZeroStreams) -> String {
    match streams {
        OnZeroStreams::Keep => "keep".into(),
        OnZeroStreams::Drain(time) => format!("drain over {}", show_duration(time)),
        OnZeroStreams::Close => "close".into(),
    }
}

pub(super) fn retry(retry: &Retry) -> Plain {
    let Retry { attempts, per_try_timeout, backoff, hedge, budget, min_per_second } = retry;
    Plain::default()
        .add("attempts", attempts)
        .some("per_try_timeout", per_try_timeout.map(show_duration))
        .time("backoff", *backoff)
        .some("hedge", hedge.map(self::hedge))
        .add("budget", budget)
        .add("min_per_second", min_per_second)
}

fn hedge(hedge: Hedge) -> String {
    match hedge {
        Hedge::After(delay) => show_duration(delay),
        Hedge::Quantile(quantile) => format!("p{:.0}", quantile * 100.0),
    }
}

pub(super) fn mirror(mirror: &MirrorSpec) -> Plain {
    let MirrorSpec { from, to: _, parts: _, methods, body_bytes_max, in_flight_max, timeout } = mirror;
    Plain::default()
        .list("from", from)
        .add("percent", mirror.percent())
        .list("methods", methods)
        .add("max_body", show_size(*body_bytes_max as u64))
        .add("max_in_flight", in_flight_max)
        .time("timeout", *timeout)
}

/// Without its token.
pub(super) fn pool_override(policy: &Override) -> Plain {
    let Override { header, token: _, networks } = policy;
    Plain::default().add("header", header).list("networks", networks)
}

pub(super) fn direct(direct: &Direct) -> String {
    match direct {
        Direct::Off => "off".into(),
        Direct::Open => "for everybody".into(),
        Direct::Networks(networks) => format!("for {}", self::networks(networks)),
    }
}

pub(super) fn on_kill(policy: OnKill) -> String {
    match policy {
        OnKill::Stable => "stable".into(),
        OnKill::Maintenance => "maintenance".into(),
    }
}

pub(super) fn on_pool_down(policy: OnPoolDown) -> String {
    match policy {
        OnPoolDown::Failover => "failover".into(),
        OnPoolDown::Strict => "strict".into(),
    }
}

pub(super) fn networks(networks: &[IpNet]) -> String {
    let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
    if texts.is_empty() { NONE.into() } else { texts.join(" ") }
}

pub(super) fn limits(limits: &Limits) -> Plain {
    let Limits {
        head_bytes_max,
        fields_max,
        target_bytes_max,
        header_timeout,
        keep_alive,
        upstream_keep_alive,
        upstream_idle_max,
        connections_max,
        connections_per_address,
        offences_per_address,
        streams_max,
        glitches_max,
        h2_buffered_max,
        delay_max,
        drain,
    } = *limits;
    Plain::default()
        .add("head_bytes_max", show_size(head_bytes_max as u64))
        .add("fields_max", fields_max)
        .add("target_bytes_max", show_size(target_bytes_max as u64))
        .time("header_timeout", header_timeout)
        .time("keep_alive", keep_alive)
        .time("upstream_keep_alive", upstream_keep_alive)
        .add("upstream_idle_max", upstream_idle_max)
        .add("connections_max", connections_max)
        .add("connections_per_address", connections_per_address)
        .add("offences_per_address", offences_per_address)
        .add("streams_max", streams_max)
        .add("glitches_max", glitches_max)
        .add("h2_buffered_max", show_size(h2_buffered_max as u64))
        .time("delay_max", delay_max)
        .time("drain", drain)
}

pub(super) fn access_log(log: &AccessLog) -> Plain {
    let AccessLog { sink, format, sample } = log;
    let to = match sink {
        LogSink::Off => "off".into(),
        LogSink::Stdout => "stdout".into(),
        LogSink::File(path) => path.display().to_string(),
    };
    let format = match format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    Plain::default().add("to", to).add("format", format).add("sample", sample)
}

pub(super) fn tracing(tracing: Option<&Tracing>) -> Plain {
    let Some(Tracing { sample, believe, otlp, service_name }) = tracing else { return Plain::default() };
    let believe = match believe {
        Believe::Everybody => "everybody",
        Believe::Trusted => "trusted",
    };
    let otlp = otlp.as_ref().map_or("none", |collector| collector.url.shown());
    Plain::default().add("sample", sample).add("believe", believe).add("otlp", otlp).add("service_name", service_name)
}

/// Without its name.
pub(super) fn route(route: &RouteSpec) -> Plain {
    let RouteSpec { name: _, service, pool, matches, rewrite, priority } = route;
    let Matches { hosts, path, methods, headers, query, cookies, networks, connect } = matches;
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(host) => host.clone(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    let plain = Plain::default()
        .add("service", service)
        .some("pool", pool.as_ref())
        .add("priority", priority)
        .list("host", &hosts.iter().map(host).collect::<Vec<_>>());
    let plain = match path {
        None => plain,
        Some(PathMatch::Exact(path)) => plain.add("path", path),
        Some(PathMatch::Prefix(prefix)) => plain.add("path_prefix", prefix),
        Some(PathMatch::Regex(regex)) => plain.add("path_regex", written(regex)),
    };
    let plain = plain
        .list("method", methods)
        .list("headers", &headers.iter().map(condition).collect::<Vec<_>>())
        .list("query", &query.iter().map(condition).collect::<Vec<_>>())
        .list("cookies", &cookies.iter().map(condition).collect::<Vec<_>>())
        .list("client_networks", networks)
        .list("connect", connect);
    match rewrite {
        Rewrite::Keep => plain,
        Rewrite::Strip(prefix) => plain.add("strip_prefix", prefix),
        Rewrite::Replace { prefix: _, with } => plain.add("rewrite_prefix", with),
    }
}

/// `x-beta=true`, `x-beta=true (any case)`, `x-beta~v[0-9]+`, or the name alone when any value will do.
fn condition(condition: &FieldMatch) -> String {
    let FieldMatch { name, value } = condition;
    match value {
        ValueMatch::Exact { value, case_sensitive: true } => format!("{name}={value}"),
        ValueMatch::Exact { value, case_sensitive: false } => format!("{name}={value} (any case)"),
        ValueMatch::Regex(regex) => format!("{name}~{}", written(regex)),
        ValueMatch::Present => name.clone(),
    }
}

/// An expression as it stands in the file, without the anchors that the reader puts around it.
fn written(regex: &regex::Regex) -> &str {
    let text = regex.as_str();
    text.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(text)
}
