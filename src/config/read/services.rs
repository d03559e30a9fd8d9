//! `[services.NAME]` and its pools.

use std::collections::HashSet;
use std::path::Path;

use super::mirrors;
use crate::config::cursor::{At, Fields, meant, shorten};
use crate::config::origin;
use crate::config::read::{policies, tls};
use crate::model::{
    Direct, Http2Use, KILL_WORD, MAINTENANCE_WORD, Name, OnKill, OnPoolDown, Origin, PoolSpec, PoolTlsSpec, Protocol,
    ProxyVersion, ServiceSpec,
};

/// Reads every service. `dir` is where relative paths start.
pub(super) fn services(root: &Fields<'_>, dir: &Path) -> Vec<At<ServiceSpec>> {
    let entries = root.entries("services");
    if entries.is_empty() {
        let help = "add [services.NAME.pools.stable] with endpoints = [\"http://HOST:PORT\"]";
        root.sink.whole(root.key_span("services"), "services", "no service is described", help);
    }
    let mut services = Vec::new();
    for (key, value) in entries {
        let name = weighed(root, &key);
        let Some(fields) = root.as_table(value, key.span.clone(), "services.*") else { continue };
        let Some(name) = name else { continue };
        if let Some(service) = service(&fields, name, dir) {
            services.push(key.with(service));
        }
    }
    services
}

/// A checked name of a service or pool, or a problem: one that the weights file could not hold is refused.
fn weighed(fields: &Fields<'_>, key: &At<&str>) -> Option<Name> {
    let word = match key.value {
        KILL_WORD => Some("sends everything to stable"),
        MAINTENANCE_WORD => Some("answers 503"),
        _ => None,
    };
    if let Some(what) = word {
        let found = format!("\"{}\" is no name of a service or pool", key.value);
        let help = format!("it is the word in the weights file that {what}; choose another name");
        fields.sink.local(key.span.clone(), &key.path, found, help);
        return None;
    }
    name(fields, key)
}

/// A checked name, or a problem.
pub(super) fn name(fields: &Fields<'_>, key: &At<&str>) -> Option<Name> {
    let name = Name::new(key.value);
    if name.is_err() {
        let found = format!("\"{}\" is not a name", shorten(key.value));
        let help = "use 1 to 64 letters, digits, '_', '.' or '-', starting with a letter or digit";
        fields.sink.local(key.span.clone(), &key.path, found, help);
    }
    name.ok()
}

fn service(fields: &Fields<'_>, name: Name, dir: &Path) -> Option<ServiceSpec> {
    let pools = pools(fields, &name, dir);
    let affinity = policies::affinity(&fields.table("affinity", "services.*.affinity"), &name);
    let mut health = policies::health(&fields.table("health", "services.*.health"));
    policies::warm_up(fields, &mut health);
    let service = ServiceSpec {
        stable: stable(fields, &name, &pools),
        direct: direct(fields),
        affinity,
        health,
        breaker: policies::breaker(&fields.table("breaker", "services.*.breaker")),
        timeouts: policies::timeouts(&fields.table("timeouts", "services.*.timeouts")),
        retry: policies::retry(&fields.table("retry", "services.*.retry")),
        max_in_flight: fields.integer("max_in_flight").map(|n| n as u32),
        slow_start: fields.duration("slow_start").unwrap_or_default(),
        queue: policies::queue(&fields.table("queue", "services.*.queue")),
        on_pool_down: match fields.word("on_pool_down").map(|word| word.value) {
            Some("strict") => OnPoolDown::Strict,
            _ => OnPoolDown::Failover,
        },
        on_zero_streams: policies::on_zero_streams(fields).unwrap_or_default(),
        on_kill: match fields.word("on_kill").map(|word| word.value) {
            Some("maintenance") => OnKill::Maintenance,
            _ => OnKill::Stable,
        },
        pool_override: policies::pool_override(&fields.table("override", "services.*.override"), dir),
        preserve_host: fields.flag("preserve_host").unwrap_or(true),
        server_timing: fields.flag("server_timing").unwrap_or(false),
        count_cache: fields.flag("count_cache").unwrap_or(false),
        forwarded: fields.flag("forwarded").unwrap_or(false),
        mirrors: mirrors::mirrors(fields, &pools),
        pools,
        name,
    };
    (!service.pools.is_empty()).then_some(service)
}

fn stable(fields: &Fields<'_>, service: &Name, pools: &[PoolSpec]) -> Name {
    let names = pools.iter().map(|pool| pool.name.as_str());
    let by_default = pools.iter().find(|pool| pool.name.as_str() == "stable").or(pools.first());
    let fallback = by_default.map_or_else(|| service.clone(), |pool| pool.name.clone());
    if let Some(text) = fields.text("stable") {
        if let Some(pool) = pools.iter().find(|pool| pool.name.as_str() == text.value) {
            return pool.name.clone();
        }
        let found = format!("service \"{service}\": stable is \"{}\", which is no pool of it", shorten(&text.value));
        fields.sink.whole(text.span, &text.path, found, meant(&text.value, names));
    } else if pools.len() > 1 && &*fallback != "stable" {
        let found = format!("service \"{service}\" has {} pools and none is named \"stable\"", pools.len());
        let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
        let help = format!("say where rollback and failover go: stable = one of {}", names.join(", "));
        fields.sink.whole(fields.span.clone(), &fields.path, found, help);
    }
    fallback
}

fn direct(fields: &Fields<'_>) -> Direct {
    use toml::de::DeValue;
    let Some(value) = fields.value("direct_paths") else { return Direct::Off };
    match value.value {
        DeValue::Boolean(true) => Direct::Open,
        DeValue::Boolean(false) => Direct::Off,
        DeValue::Table(_) => {
            let span = fields.key_span("direct_paths");
            let Some(table) = fields.as_table(value.clone(), span, "services.*.direct_paths") else {
                return Direct::Off;
            };
            let networks = table.networks("networks");
            if networks.is_empty() && !fields.sink.has_local() {
                let found = format!("{} names no network, so nobody could use it", value.path);
                fields.sink.local(
                    value.span,
                    &value.path,
                    found,
                    "write true for everybody, or networks = [\"10.0.0.0/8\"]",
                );
            }
            Direct::Networks(networks)
        }
        _ => {
            fields.wrong(&value, "true, false, or { networks = [\"10.0.0.0/8\"] }");
            Direct::Off
        }
    }
}

fn pools(fields: &Fields<'_>, service: &str, dir: &Path) -> Vec<PoolSpec> {
    let entries = fields.entries("pools");
    if entries.is_empty() {
        let found = format!("{} has no pool", fields.path);
        let help = format!("add [{}.pools.stable] with endpoints = [\"http://HOST:PORT\"]", fields.path);
        fields.sink.whole(fields.span.clone(), &fields.path, found, help);
    }
    let mut pools = Vec::new();
    for (key, value) in entries {
        let name = weighed(fields, &key);
        let Some(pool) = fields.as_table(value, key.span.clone(), "services.*.pools.*") else { continue };
        let mut origins = origins(&pool);
        for origin in origins.iter_mut().filter(|origin| origin.labelled().is_some()) {
            *origin = Origin::docker(origin.protocol, service, key.value);
        }
        let max_in_flight = pool.integer("max_in_flight").map(|n| n as u32);
        let min_in_flight = min_in_flight(&pool, max_in_flight);
        let on_zero_streams = policies::on_zero_streams(&pool);
        let tls = tls::pool(&pool, &origins, dir);
        let proxy_protocol = proxy_protocol(&pool, &origins, &tls);
        if let Some(name) = name {
            pools.push(PoolSpec { name, origins, max_in_flight, min_in_flight, on_zero_streams, tls, proxy_protocol });
        }
    }
    pools
}

/// The least that an adaptive limit comes down to; it needs the most that it goes up to.
fn min_in_flight(pool: &Fields<'_>, max: Option<u32>) -> Option<u32> {
    let min = pool.integer("min_in_flight")? as u32;
    let path = pool.path_of("min_in_flight");
    let found = match max {
        None => format!("{path} without max_in_flight"),
        Some(max) if max < min => format!("{path} is {min}, which is more than max_in_flight, {max}"),
        Some(_) => return Some(min),
    };
    let help = format!("set max_in_flight to the most that may ever be in flight, such as {}", min.saturating_mul(50));
    pool.sink.whole(pool.key_span("min_in_flight"), &path, found, help);
    None
}

/// A connection that is one client's carries no other client's streams, so HTTP/2 has no place on it.
fn proxy_protocol(pool: &Fields<'_>, origins: &[Origin], tls: &PoolTlsSpec) -> Option<ProxyVersion> {
    let word = pool.word("proxy_protocol")?;
    let refuse = |found: String, help: &str| pool.sink.whole(word.span.clone(), &word.path, found, help);
    let path = &word.path;
    if let Some(h2c) = origins.iter().find(|origin| origin.protocol == Protocol::H2c) {
        refuse(
            format!("{path}: {h2c} shares its connections between clients"),
            "take it out, or use \"http://HOST:PORT\"",
        );
    }
    if tls.http2 == Http2Use::Only {
        refuse(format!("{path}: HTTP/2 shares connections between clients"), "take it out, or set http2 = \"off\"");
    }
    Some(if word.value == "v1" { ProxyVersion::V1 } else { ProxyVersion::V2 })
}

fn origins(pool: &Fields<'_>) -> Vec<Origin> {
    let texts = pool.texts("endpoints");
    if texts.is_empty() && pool.value("endpoints").is_none_or(|value| is_empty_list(value.value)) {
        let found = format!("{} has no endpoints", pool.path);
        pool.sink.local(pool.span.clone(), &pool.path, found, "write endpoints = [\"http://HOST:PORT\"]");
    }
    let mut origins: Vec<Origin> = Vec::new();
    let mut seen = HashSet::new();
    for text in texts {
        match origin::parse(&text.value) {
            Ok(origin) if !seen.insert(origin.clone()) => {
                pool.refuse(&text, format!("{origin} is named twice"), "name each endpoint once");
            }
            Ok(origin) => origins.push(origin),
            Err((found, help)) => pool.refuse(&text, format!("\"{}\": {found}", shorten(&text.value)), help),
        }
    }
    origins
}

fn is_empty_list(value: &toml::de::DeValue<'_>) -> bool {
    value.as_array().is_some_and(|items| items.is_empty())
}
