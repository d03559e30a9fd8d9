//! One service: where its traffic goes, where it was meant to go, and what keeps it elsewhere. Pure.

use super::finding::{Finding, Severity};
use super::samples::Samples;
use crate::cli::figures::ratio;
use crate::cli::pools::{FAILING, failed, serves};
use crate::model::{AffinityBy, ServiceSpec};
use crate::switchboard::status::{EndpointStatus, PoolStatus, ServiceStatus};

/// Requests in the last minute below which shares are not judged.
const JUDGED_MIN: u64 = 200;

/// How far a share may be off by chance, in standard deviations of a binomial draw.
const CHANCE: f64 = 4.0;

/// How far a share may be off besides, so that a change of weights within the minute is no finding of its own.
const SLACK: f64 = 0.02;

/// Reasons of decisions that are named.
const WHYS_SHOWN: usize = 3;

/// Looks at a service; `spec` is what the file here says of it.
pub(super) fn look(service: &ServiceStatus, spec: Option<&ServiceSpec>, samples: &Samples) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &service.name;
    let place = format!("service {name}");
    if let Some(maintenance) = &service.maintenance {
        let found = format!("{} under maintenance, clients get 503: {}", scope(&maintenance.scope), maintenance.reason);
        let next = if maintenance.scope == "system" { "--all".to_owned() } else { name.clone() };
        findings.push(Severity::Error.of(&place, found).next(format!("weir maintenance {next} --end")));
    }
    if let Some(pending) = &service.pending {
        findings.push(Severity::Warning.of(&place, pending).right("save the weights file with what is live"));
    }
    let gets = |pool: &&PoolStatus| pool.weight > 0 || pool.name == service.stable;
    if !service.pools.iter().filter(gets).any(serves) {
        let found = "no endpoint serves in any pool that gets requests: clients get 503";
        findings.push(Severity::Error.of(&place, found).right("one endpoint that answers").next("weir status"));
    }
    for pool in &service.pools {
        findings.extend(self::pool(service, pool, samples));
    }
    findings.extend(shares(service, spec, samples));
    findings.extend(overflow(service, samples, ""));
    if let Some(drain) = &service.draining {
        let found = format!("clients bound to {} stay there for {} s", drain.pools.join(", "), drain.seconds_left);
        findings.push(Severity::Note.of(&place, found).right("wait, or on_zero = \"evict\""));
    }
    findings
}

fn scope(scope: &str) -> &str {
    match scope {
        "system" => "every service is",
        "pools" => "some of its pools are",
        _ => "it is",
    }
}

fn pool(service: &ServiceStatus, pool: &PoolStatus, samples: &Samples) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (service_name, name) = (&service.name, &pool.name);
    let place = format!("pool {name} of {service_name}");
    if pool.weight == 0 && *name != service.stable && service.killed.is_none() {
        let found = "its weight is 0: it gets no new request";
        let next = format!("weir set {service_name} {}=95 {name}=5", service.stable);
        findings.push(Severity::Note.of(&place, found).right("a weight above 0, if it should get some").next(next));
    }
    if pool.state != "serving" {
        let found = format!("its breaker is {}: too many of its requests failed; its share goes elsewhere", pool.state);
        let right = "it recovers by itself, after the rest, when its endpoints answer";
        findings.push(Severity::Error.of(&place, found).right(right).next("weir status"));
    }
    if pool.weight > 0 && failed(pool) >= FAILING {
        let found = format!("it failed {} of its attempts in the last minute", ratio(failed(pool)));
        let next = format!("weir rollback {service_name} --reason TEXT");
        let finding = Severity::Error.of(&place, found).right("answers below 500, in time");
        findings.push(if *name == service.stable { finding } else { finding.next(next) });
    }
    if pool.endpoints.is_empty() {
        let severity = if pool.weight > 0 { Severity::Error } else { Severity::Warning };
        let found = "no endpoint was found: its names do not resolve, or no container has its labels";
        findings.push(severity.of(&place, found).next("weir doctor, which looks names up; docker ps"));
    }
    findings.extend(pool.endpoints.iter().filter_map(|it| endpoint(service, pool, it)));
    findings.extend(overflow(service, samples, name));
    findings
}

fn endpoint(service: &ServiceStatus, pool: &PoolStatus, endpoint: &EndpointStatus) -> Option<Finding> {
    let place = format!("{} ({} of {})", endpoint.address, pool.name, service.name);
    let last = endpoint.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let gets = pool.weight > 0 || pool.name == service.stable;
    let severity = if gets && !serves(pool) { Severity::Error } else { Severity::Warning };
    let (found, right) = match endpoint.state.as_str() {
        "ejected" => ("it is ejected after failures in a row", "it is tried again by itself, in 60 s at the latest"),
        "down" => ("its probes fail", "an answer as [services.NAME.health] expects it"),
        "unproved" => ("no probe passed yet", "an answer as [services.NAME.health] expects it"),
        _ => return None,
    };
    Some(severity.of(place, format!("{found}{last}")).right(right))
}

/// What was got beside what was meant, and why.
fn shares(service: &ServiceStatus, spec: Option<&ServiceSpec>, samples: &Samples) -> Option<Finding> {
    let requests: u64 = service.pools.iter().filter_map(|pool| Some(pool.last_minute.as_ref()?.requests)).sum();
    if requests < JUDGED_MIN {
        return None;
    }
    let off = |pool: &&PoolStatus| {
        let (meant, got) = (pool.configured_share, pool.last_minute.as_ref().and_then(|it| it.effective_share));
        let chance = (meant * (1.0 - meant) / requests as f64).sqrt();
        got.is_some_and(|got| (got - meant).abs() > SLACK + CHANCE * chance)
    };
    let pool = service.pools.iter().find(off)?;
    let got = pool.last_minute.as_ref()?.effective_share?;
    let why = whys(&service.name, &pool.name, samples);
    let found = format!(
        "{} got {} of {requests} requests in the last minute, its weight means {}{why}",
        pool.name,
        ratio(got),
        ratio(pool.configured_share)
    );
    let right = match spec.map(|spec| &spec.affinity.by) {
        Some(AffinityBy::Cookie { .. }) => "affinity by cookie: who comes again stays; new clients go by the weights",
        Some(AffinityBy::Header { .. } | AffinityBy::ClientIp) => {
            "affinity binds by header or address: few clients with many requests fall unevenly"
        }
        _ => "failover, spill, routes or overrides move requests; a change of weights shows after a minute",
    };
    let finding = Severity::Warning.of(format!("service {}", service.name), found).right(right);
    Some(finding.next(format!("weir explain PATH; weir verify-split {}", service.name)))
}

/// `; since the start by weight 80 %, failover 20 %`
fn whys(service: &str, pool: &str, samples: &Samples) -> String {
    const NAME: &str = "weir_decisions_total";
    let of = |why: &str| samples.sum(NAME, &[("service", service), ("pool", pool), ("why", why)]).unwrap_or_default();
    let mut known: Vec<&str> = samples.values(NAME, "why");
    known.sort_unstable();
    known.dedup();
    let mut whys: Vec<(&str, f64)> = known.into_iter().map(|why| (why, of(why))).filter(|why| why.1 > 0.0).collect();
    whys.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = whys.iter().map(|why| why.1).sum();
    if whys.is_empty() {
        return String::new();
    }
    let said: Vec<String> =
        whys.iter().take(WHYS_SHOWN).map(|(why, count)| format!("{why} {}", ratio(count / total))).collect();
    format!("; since the start by {}", said.join(", "))
}

/// Requests that found a cap in their way, since the start.
fn overflow(service: &ServiceStatus, samples: &Samples, pool: &str) -> Option<Finding> {
    let of = |outcome| {
        let labels = [("service", service.name.as_str()), ("pool", pool), ("outcome", outcome)];
        samples.sum("weir_overflow_total", &labels).unwrap_or_default()
    };
    let (spilled, waited, refused) = (of("spill"), of("wait"), of("refused"));
    if spilled + waited + refused == 0.0 {
        return None;
    }
    let place = match pool {
        "" => format!("service {}", service.name),
        pool => format!("pool {pool} of {}", service.name),
    };
    let found =
        format!("max_in_flight was reached: since the start {spilled} spilled, {waited} waited, {refused} got 503");
    let severity = if refused > 0.0 { Severity::Warning } else { Severity::Note };
    Some(severity.of(place, found).right("a higher max_in_flight, or more endpoints"))
}

/// Rate limits that refuse.
pub(super) fn limits(samples: &Samples) -> Vec<Finding> {
    let of = |limit: &&str| {
        let count = |outcome| {
            samples.sum("weir_rate_limited_total", &[("limit", limit), ("outcome", outcome)]).unwrap_or_default()
        };
        let (allowed, refused) = (count("allowed"), count("refused"));
        let place = format!("rate limit {limit}");
        (refused > 0.0).then(|| {
            let found = format!("since the start it refused {refused} requests with 429 and let {allowed} through");
            Severity::Note
                .of(place, found)
                .right("a higher rate or burst, or shadow = true, if these were meant to pass")
        })
    };
    let mut limits = samples.values("weir_rate_limited_total", "limit");
    limits.dedup();
    limits.iter().filter_map(of).collect()
}
