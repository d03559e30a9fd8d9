//! The running process beside the files: whether it serves what stands in them, whom it turns away, its certificates,
//! and its clock. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::files::Files;
use super::finding::{Finding, Severity};
use crate::cli::figures::span;
use crate::cli::kill;
use crate::cli::screen::Paint;
use crate::config::Config;
use crate::switchboard::status::{AcmeStatus, CertificateStatus, Status};

/// A certificate that is valid for less than this should have been renewed: ACME clients renew 30 days before.
const CERTIFICATE_SOON_S: i64 = 14 * 86_400;

/// Clocks that differ by more than this: NTP keeps them well below a second.
const CLOCK_OFF_S: i64 = 5;

/// Problems of a reload that are shown; all are in `weir status`.
const PROBLEMS_SHOWN: usize = 8;

/// Addresses that are turned away and named; `weir status` names more of them.
const RESTING_NAMED: usize = 3;

/// Looks at the process as a whole.
pub(super) fn look(status: &Status, raw: &Value, files: &Files, now: Timestamp) -> Vec<Finding> {
    let mut findings = reload(status);
    for (service, reason) in kill::killed(raw) {
        let (place, verb) = match &service {
            Some(name) => (format!("service {name}"), format!("weir unkill {name}")),
            None => ("every service".into(), "weir unkill --all".into()),
        };
        let found = format!("it is killed, so everything goes to stable whatever the weights say: {reason}");
        findings.push(Severity::Error.of(place, found).right("let it go when the reason is gone").next(verb));
    }
    for switch in kill::busy(raw, Paint::never()) {
        findings.push(Severity::Warning.of("kill switch", switch).next("weir kill --status"));
    }
    if status.safe_mode {
        let found = "it runs in safe mode: everything goes to stable, whatever the weights file says";
        findings.push(Severity::Error.of("the process", found).right("start it without --safe-mode"));
    }
    if let Some(stale) = &status.stale {
        findings.push(Severity::Error.of("files", stale).right("mount the directory, not the single file"));
    }
    if let Some(journal) = &status.journal {
        findings.push(Severity::Error.of("journal", journal).next("weir status"));
    }
    if let Some(reason) = raw["rollouts"]["reason"].as_str() {
        findings.push(Severity::Warning.of("rollouts", format!("the engine of the rollouts does not run: {reason}")));
    }
    findings.extend(resting(status));
    findings.extend(beside_the_files(status, files));
    findings.extend(clock(status, now));
    findings
}

fn reload(status: &Status) -> Vec<Finding> {
    if status.last_reload.ok {
        return Vec::new();
    }
    let found = |problem: &String| {
        // `file:line:column: what was found; what would be right`
        let problem = problem.lines().next().unwrap_or_default();
        let (place, found) = problem.split_once(": ").unwrap_or(("the last reload", problem));
        let (found, right) = found.split_once("; ").unwrap_or((found, ""));
        let found = format!("the last reload failed, what was live before is live: {found}");
        Severity::Error.of(place, found).right(right).next("weir check; weir reload")
    };
    status.last_reload.problems.iter().take(PROBLEMS_SHOWN).map(found).collect()
}

/// Addresses that are turned away.
fn resting(status: &Status) -> Option<Finding> {
    let resting = status.resting.as_ref()?;
    let named = resting.longest.iter().take(RESTING_NAMED);
    let named: Vec<String> = named.map(|it| format!("{} for {} s", it.address, it.seconds_left)).collect();
    let more = if resting.addresses > RESTING_NAMED as u64 { ", .." } else { "" };
    let place = match resting.addresses {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    let found = format!("turned away for what connections were ended for: {}{more}", named.join(", "));
    let right = "who shares an address with many: trusted_proxies, or more limits.offences_per_address";
    Some(Severity::Note.of(place, found).right(right).next("weir status"))
}

/// What is live beside what stands on the disk here.
fn beside_the_files(status: &Status, files: &Files) -> Vec<Finding> {
    let Some(config) = &files.config else { return Vec::new() };
    let ours = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone()).display().to_string();
    if ours != status.config_file {
        let found = format!("the running weir goes by {}, and here {ours} was read", status.config_file);
        let right = "name that file with --config, if it is on this machine";
        return vec![Severity::Note.of("files", found).right(right)];
    }
    let mut findings = Vec::new();
    if let Some(what) = other_pools(status, config) {
        let found = format!("the running weir does not serve what the file says: {what}");
        findings.push(Severity::Error.of(ours, found).right("a reload that is taken over").next("weir reload"));
    }
    for service in status.services.iter().filter(|service| service.pending.is_none() && service.killed.is_none()) {
        let Some(weights) = files.weights.as_ref().and_then(|file| file.of(&service.name)) else { continue };
        if !status.safe_mode && *weights != service.weights.0 && status.last_reload.ok {
            let found = format!("service {}: live is {}, the file says {weights}", service.name, service.weights.0);
            let place = status.weights_file.clone();
            findings.push(Severity::Error.of(place, found).right("the file as it is live").next("weir reload"));
        }
    }
    findings
}

/// The first way in which services and pools differ.
fn other_pools(status: &Status, config: &Config) -> Option<String> {
    let live = |name: &str| status.services.iter().find(|service| service.name == name);
    for spec in &config.plan.services {
        let Some(service) = live(&spec.name) else { return Some(format!("service {} is not live", spec.name)) };
        let pools: Vec<&str> = service.pools.iter().map(|pool| pool.name.as_str()).collect();
        if let Some(pool) = spec.pools.iter().find(|pool| !pools.contains(&pool.name.as_str())) {
            return Some(format!("pool {} of service {} is not live", pool.name, spec.name));
        }
    }
    let gone = status.services.iter().find(|it| !config.plan.services.iter().any(|spec| *spec.name == it.name));
    gone.map(|service| format!("service {} is live and not in the file", service.name))
}

/// The clock of the running weir beside ours: it said when it began, and knows how long ago that is.
fn clock(status: &Status, now: Timestamp) -> Option<Finding> {
    let began: Timestamp = status.started_at.parse().ok()?;
    let off = now.as_second() - began.as_second() - i64::try_from(status.uptime_s).ok()?;
    (off.abs() > CLOCK_OFF_S).then(|| {
        let found = format!("the clock was set by {off} s since weir started, or differs from the clock here");
        let right = "clocks that NTP keeps: cookies, certificates and rollouts go by them";
        Severity::Warning.of("clock", found).right(right).next("timedatectl")
    })
}

/// Certificates that expired or soon will, files that do not hold, and orders that fail.
pub(super) fn certificates(status: &Status, now: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<Finding> = status.acme.iter().filter_map(ordered).collect();
    for tls in &status.tls {
        let place = format!("listeners.{}.tls", tls.listener);
        findings.extend(tls.failed.iter().map(|failed| broken(&place, failed)));
        findings.extend(tls.certificates.iter().filter_map(|certificate| expiry(&place, certificate, now)));
    }
    for tls in &status.upstream_tls {
        let place = format!("services.{}.pools.{}.tls", tls.service, tls.pool);
        findings.extend(tls.failed.iter().map(|failed| broken(&place, failed)));
        findings.extend(tls.certificate.as_ref().and_then(|certificate| expiry(&place, certificate, now)));
        if !tls.verified {
            let found = "insecure_skip_verify is on: nobody checks who the endpoints are";
            findings.push(Severity::Warning.of(place, found).right("take it out, and name their authority in roots"));
        }
    }
    findings
}

/// A name whose last order failed.
fn ordered(acme: &AcmeStatus) -> Option<Finding> {
    let error = acme.error.as_deref()?;
    let (severity, beside) = match acme.state.as_str() {
        "missing" => (Severity::Error, "there is no certificate for it to serve"),
        _ => (Severity::Warning, "what was issued is served until it expires"),
    };
    let found = format!("orders that failed in a row: {}, the last one: {error}; {beside}", acme.failures);
    let right = format!("DNS, port 80 or 443 from outside, the authority; the next order is due at {}", acme.next);
    Some(severity.of(format!("certificate of {}", acme.name), found).right(right).next("weir status"))
}

fn broken(place: &str, failed: &str) -> Finding {
    let found = format!("{failed}; what was in use before is in use still");
    Severity::Error.of(place, found).right("mend the file; weir looks again by itself").next("weir check")
}

fn expiry(place: &str, certificate: &CertificateStatus, now: Timestamp) -> Option<Finding> {
    let left = certificate.expires_unix_s - now.as_second();
    let (name, file) = (&certificate.name, &certificate.file);
    let (severity, found) = match left {
        ..=0 => (Severity::Error, format!("the certificate of {name} in {file} expired at {}", certificate.expires)),
        1..CERTIFICATE_SOON_S => {
            let left = span(left.unsigned_abs());
            (Severity::Warning, format!("the certificate of {name} in {file} expires in {left}"))
        }
        _ => return None,
    };
    Some(severity.of(place, found).right("renew it; weir takes the new file over by itself"))
}
