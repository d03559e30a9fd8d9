//! What a changed configuration would do, in words of an operator: for `weir diff` and for the log after a reload.
//! Pure: two configurations in, lines out. Whether the change is wise it does not say.

use super::plain::{self, Plain};
use super::{Config, WeightsFile};
use crate::model::time::show_duration;
use crate::model::{
    BUCKETS, KillSwitch, MirrorSpec, Override, PoolSpec, RateLimitSpec, RouteSpec, ServiceSpec, Weights,
};

/// Every difference, one line each; empty when both do the same. Changes that need a restart are in
/// [`restart_needed`].
pub fn diff(old: &Config, old_weights: &WeightsFile, new: &Config, new_weights: &WeightsFile) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &new.plan.services {
        match old.plan.services.iter().find(|other| other.name == service.name) {
            None => lines.push(format!("service {}: new, with {}", service.name, pool_names(service))),
            Some(before) => {
                let weights = old_weights.of(&service.name).zip(new_weights.of(&service.name));
                let changes = service_changes(before, service, weights);
                lines.extend(changes.into_iter().map(|change| format!("service {}: {change}", service.name)));
            }
        }
    }
    for gone in old.plan.services.iter().filter(|gone| new.plan.services.iter().all(|kept| kept.name != gone.name)) {
        lines.push(format!("service {}: taken out; its requests in flight finish", gone.name));
    }
    lines.extend(route_changes(old, new));
    lines.extend(rate_limit_changes(&old.plan.rate_limits, &new.plan.rate_limits));
    let (before, after) = (&old.plan, &new.plan);
    let proxies = (plain::networks(&before.trusted_proxies), plain::networks(&after.trusted_proxies));
    let files = (old.weights_path.display().to_string(), new.weights_path.display().to_string());
    lines.extend(one("trusted_proxies", proxies));
    lines.extend(part("limits", plain::limits(&before.limits), plain::limits(&after.limits)));
    lines.extend(part("access_log", plain::access_log(&before.access_log), plain::access_log(&after.access_log)));
    lines.extend(part("tracing", plain::tracing(before.tracing.as_ref()), plain::tracing(after.tracing.as_ref())));
    lines.extend(one("weights", files));
    lines.extend(switch_changes(&old.kill_switches, &new.kill_switches));
    lines.extend(super::told::changes(&old.notifications, &new.notifications));
    lines
}

fn switch_changes(old: &[KillSwitch], new: &[KillSwitch]) -> Vec<String> {
    let line = |switch: &KillSwitch| match old.iter().find(|other| other.name == switch.name) {
        None => Some(format!("kill switch {}: new", switch.name)),
        Some(before) if before != switch => Some(format!("kill switch {}: changed", switch.name)),
        Some(_) => None,
    };
    let gone = old.iter().filter(|gone| new.iter().all(|kept| kept.name != gone.name));
    let gone = gone.map(|gone| format!("kill switch {}: taken out; what it killed stays killed", gone.name));
    new.iter().filter_map(line).chain(gone).collect()
}

/// Every difference that a reload cannot apply, by the name of its key: the running process keeps the old value.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let named = [
        ("listeners", old.listeners != new.listeners),
        ("admin.address", old.admin.address != new.admin.address),
        ("admin.token_file", old.admin.token_file != new.admin.token_file),
        ("tokens", old.tokens != new.tokens),
        ("rollouts", old.rollouts != new.rollouts),
        ("workers", old.workers != new.workers),
        ("dns", old.dns != new.dns),
        ("docker", old.docker != new.docker),
        ("acme", old.acme != new.acme),
        ("log", old.log != new.log),
        ("pid_file", old.pid_file != new.pid_file),
        ("key_file", old.key_file != new.key_file),
    ];
    let mut fields: Vec<String> =
        named.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()).collect();
    if fields.first().is_some_and(|first| first == "listeners") {
        fields.splice(..1, listener_changes(old, new));
    }
    fields
}

fn listener_changes(old: &Config, new: &Config) -> Vec<String> {
    let same = |a: &Config, b: &Config| -> Vec<String> {
        let changed = a.listeners.iter().filter(|listener| !b.listeners.contains(listener));
        changed.map(|listener| format!("listeners.{}", listener.name)).collect()
    };
    let mut names = same(new, old);
    names.extend(same(old, new));
    names.sort();
    names.dedup();
    if names.is_empty() { vec!["listeners".into()] } else { names }
}

/// `health: interval 2s → 5s`; none when nothing differs.
fn part(what: &str, before: Plain, after: Plain) -> Option<String> {
    before.changes_to(&after).map(|changes| format!("{what}: {changes}"))
}

/// `stable: stable → blue`; none when both are the same.
fn one(what: &str, (before, after): (String, String)) -> Option<String> {
    (before != after).then(|| format!("{what}: {before} → {after}"))
}

fn rate_limit_changes(old: &[RateLimitSpec], new: &[RateLimitSpec]) -> Vec<String> {
    let known = |list: &[RateLimitSpec], name: &str| list.iter().position(|limit| limit.name.as_str() == name);
    let gone = old.iter().filter(|limit| known(new, &limit.name).is_none());
    let mut lines: Vec<String> = gone.map(|limit| format!("rate limit {}: taken out", limit.name)).collect();
    for limit in new {
        lines.extend(match known(old, &limit.name) {
            None => Some(format!("rate limit {}: new, {} in {}", limit.name, limit.rate, show_duration(limit.per))),
            Some(at) => {
                let what = format!("rate limit {}", limit.name);
                part(&what, plain::rate_limit(&old[at]), plain::rate_limit(limit))
            }
        });
    }
    lines
}

fn pool_names(service: &ServiceSpec) -> String {
    let names: Vec<&str> = service.pools.iter().map(|pool| pool.name.as_str()).collect();
    format!("pool{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn service_changes(old: &ServiceSpec, new: &ServiceSpec, weights: Option<(&Weights, &Weights)>) -> Vec<String> {
    let mut changes = Vec::new();
    changes.extend(weights.and_then(|(before, after)| weight_change(before, after)));
    for pool in &new.pools {
        match old.pools.iter().find(|other| other.name == pool.name) {
            None => changes.push(format!("pool {} is new, at {}", pool.name, origins(pool))),
            Some(before) => {
                changes.extend(origin_change(before, pool));
                let caps = (plain::cap(before.max_in_flight), plain::cap(pool.max_in_flight));
                changes.extend(one(&format!("pool {}: max_in_flight", pool.name), caps));
                let least = (plain::cap(before.min_in_flight), plain::cap(pool.min_in_flight));
                changes.extend(one(&format!("pool {}: min_in_flight", pool.name), least));
                let show = |streams: Option<_>| streams.map_or_else(|| "as the service".into(), plain::on_zero_streams);
                let streams = (show(before.on_zero_streams), show(pool.on_zero_streams));
                changes.extend(one(&format!("pool {}: on_zero_streams", pool.name), streams));
                let proxy = (plain::proxy_protocol(before.proxy_protocol), plain::proxy_protocol(pool.proxy_protocol));
                changes.extend(one(&format!("pool {}: proxy_protocol", pool.name), proxy));
                let tls = (plain::pool_tls(&before.tls), plain::pool_tls(&pool.tls));
                changes.extend(part(&format!("pool {}: tls", pool.name), tls.0, tls.1));
            }
        }
    }
    for gone in old.pools.iter().filter(|gone| new.pools.iter().all(|kept| kept.name != gone.name)) {
        changes.push(format!("pool {} is taken out; its requests in flight finish", gone.name));
    }
    changes.extend(one("stable", (old.stable.to_string(), new.stable.to_string())));
    changes.extend(one("direct_paths", (plain::direct(&old.direct), plain::direct(&new.direct))));
    let down = (plain::on_pool_down(old.on_pool_down), plain::on_pool_down(new.on_pool_down));
    changes.extend(one("on_pool_down", down));
    changes.extend(one("on_kill", (plain::on_kill(old.on_kill), plain::on_kill(new.on_kill))));
    let streams = (plain::on_zero_streams(old.on_zero_streams), plain::on_zero_streams(new.on_zero_streams));
    changes.extend(one("on_zero_streams", streams));
    changes.extend(one("preserve_host", (old.preserve_host.to_string(), new.preserve_host.to_string())));
    changes.extend(one("server_timing", (old.server_timing.to_string(), new.server_timing.to_string())));
    changes.extend(one("count_cache", (old.count_cache.to_string(), new.count_cache.to_string())));
    changes.extend(one("forwarded", (old.forwarded.to_string(), new.forwarded.to_string())));
    changes.extend(part("affinity", plain::affinity(&old.affinity), plain::affinity(&new.affinity)));
    changes.extend(part("health", plain::health(old.health.as_ref()), plain::health(new.health.as_ref())));
    changes.extend(part("breaker", plain::breaker(&old.breaker), plain::breaker(&new.breaker)));
    changes.extend(part("timeouts", plain::timeouts(&old.timeouts), plain::timeouts(&new.timeouts)));
    let caps = (plain::cap(old.max_in_flight), plain::cap(new.max_in_flight));
    changes.extend(one("max_in_flight", caps));
    changes.extend(one("slow_start", (show_duration(old.slow_start), show_duration(new.slow_start))));
    changes.extend(part("queue", plain::queue(old.queue), plain::queue(new.queue)));
    changes.extend(part("retry", plain::retry(&old.retry), plain::retry(&new.retry)));
    changes.extend(mirror_changes(&old.mirrors, &new.mirrors));
    changes.extend(override_change(&old.pool_override, &new.pool_override));
    changes
}

fn mirror_changes(old: &[MirrorSpec], new: &[MirrorSpec]) -> Vec<String> {
    let known = |list: &[MirrorSpec], to: &str| list.iter().position(|mirror| mirror.to.as_str() == to);
    let gone = old.iter().filter(|mirror| known(new, &mirror.to).is_none());
    let mut lines: Vec<String> = gone.map(|mirror| format!("mirror to {}: taken out", mirror.to)).collect();
    for mirror in new {
        lines.extend(match known(old, &mirror.to) {
            None => Some(format!("mirror to {}: new, {} % of {}", mirror.to, mirror.percent(), mirror.from.join(", "))),
            Some(at) => part(&format!("mirror to {}", mirror.to), plain::mirror(&old[at]), plain::mirror(mirror)),
        });
    }
    lines
}

/// A token is a secret, which no screen and no log should show.
fn override_change(old: &Override, new: &Override) -> Option<String> {
    let rest = plain::pool_override(old).changes_to(&plain::pool_override(new));
    let token = match (&old.token, &new.token) {
        (None, Some(_)) => Some("token is set".to_owned()),
        (Some(_), None) => Some("token is taken out".to_owned()),
        (Some(before), Some(after)) if before != after => Some("token is another one".to_owned()),
        _ => None,
    };
    let changes: Vec<String> = rest.into_iter().chain(token).collect();
    (!changes.is_empty()).then(|| format!("override: {}", changes.join(", ")))
}

fn origins(pool: &PoolSpec) -> String {
    pool.origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn origin_change(old: &PoolSpec, new: &PoolSpec) -> Vec<String> {
    let added = new.origins.iter().filter(|origin| !old.origins.contains(origin));
    let added = added.map(|origin| format!("pool {}: {origin} is added; it serves after its first probe", new.name));
    let gone = old.origins.iter().filter(|origin| !new.origins.contains(origin));
    let gone = gone.map(|origin| format!("pool {}: {origin} is taken out", new.name));
    added.chain(gone).collect()
}

/// `canary 10 % → 50 % of new traffic; 400000 of 1000000 buckets move`.
fn weight_change(old: &Weights, new: &Weights) -> Option<String> {
    let mut parts = Vec::new();
    let mut pools: Vec<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
    pools.extend(
        old.iter().map(|(name, _)| name.as_str()).filter(|name| new.iter().all(|(other, _)| *name != other.as_str())),
    );
    let mut moved = 0.0;
    for pool in pools {
        let (before, after) = (old.share(pool), new.share(pool));
        // Equal shares of different sums differ by rounding only.
        if (before - after).abs() * f64::from(BUCKETS) >= 0.5 {
            parts.push(format!("{pool} {} → {}", percent(before), percent(after)));
            moved += (after - before).max(0.0);
        }
    }
    if parts.is_empty() {
        return None;
    }
    let buckets = (moved * f64::from(BUCKETS)).round();
    Some(format!("{} of new traffic; {buckets} of {BUCKETS} buckets move", parts.join(", ")))
}

/// A share for people: `50 %`, `12.5 %`, at most four decimals.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn route_changes(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (&old.plan.routes, &new.plan.routes);
    let mut lines = Vec::new();
    for route in after {
        match before.iter().find(|other| other.name == route.name) {
            None => lines.push(format!("route {}: new, to {}", route.name, target(route))),
            Some(other) => {
                lines.extend(part(&format!("route {}", route.name), plain::route(other), plain::route(route)))
            }
        }
    }
    for gone in before.iter().filter(|gone| after.iter().all(|kept| kept.name != gone.name)) {
        lines.push(format!("route {}: taken out", gone.name));
    }
    let order = |routes: &[RouteSpec], others: &[RouteSpec]| -> Vec<String> {
        let kept = routes.iter().filter(|route| others.iter().any(|other| other.name == route.name));
        kept.map(|route| route.name.clone()).collect()
    };
    if order(before, after) != order(after, before) {
        lines.push("routes: the order changes, which decides between equal matches".into());
    }
    lines
}

fn target(route: &RouteSpec) -> String {
    let pool = route.pool.as_ref().map(|pool| format!("/{pool}")).unwrap_or_default();
    format!("{}{pool}", route.service)
}
