//! The machine: descriptors, workers, and what was dropped for want of room or time.

use super::finding::{Finding, Severity};
use super::samples::Samples;
use crate::cli::figures::ratio;
use crate::switchboard::status::Status;

/// Descriptors below which a busy proxy runs out: two for each request in flight, and those of idle connections.
const DESCRIPTORS_FEW: f64 = 8192.0;

/// Part of the descriptors that may be in use.
const DESCRIPTORS_BUSY: f64 = 0.8;

/// Looks at it; `cores` are those of the machine that this runs on, when weir runs there too.
pub(super) fn look(status: &Status, samples: &Samples, cores: Option<usize>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (open, most) = (samples.sum("process_open_fds", &[]), samples.sum("process_max_fds", &[]));
    if let (Some(open), Some(most)) = (open, most) {
        let place = format!("process {}", status.pid);
        let next = "LimitNOFILE=65536 in its unit, ulimits in compose, or `ulimit -n`; then `weir upgrade`";
        if open > most * DESCRIPTORS_BUSY {
            let found = format!("{open} of {most} file descriptors are open; new clients wait soon");
            findings.push(Severity::Error.of(place, found).right("a higher limit").next(next));
        } else if most < DESCRIPTORS_FEW {
            let found = format!("it may open {most} file descriptors, and keeps clients below half of it");
            findings.push(Severity::Warning.of(place, found).right("65536 or more").next(next));
        }
    }
    if let Some(cores) = cores.filter(|cores| status.workers != *cores) {
        let found = format!("{} workers on {cores} usable cores", status.workers);
        let right = "one worker per core, unless cores are left to others on purpose: workers, WEIR_WORKERS";
        findings.push(Severity::Note.of("workers", found).right(right));
    }
    findings.extend(shed(samples));
    for (name, what) in [("weir_access_log_dropped_total", "lines of the access log were dropped: its reader is slow")]
    {
        if let Some(dropped) = samples.sum(name, &[]).filter(|dropped| *dropped > 0.0) {
            findings.push(Severity::Note.of("access_log", format!("{dropped} {what}")).next("df -h; weir status"));
        }
    }
    findings
}

/// Load that is turned away because workers are late: an error while it lasts.
fn shed(samples: &Samples) -> Option<Finding> {
    let count = samples.sum("weir_shed_total", &[]).filter(|count| *count > 0.0)?;
    let shares = samples.values("weir_shed_ratio", "worker");
    let of = |worker: &&str| samples.sum("weir_shed_ratio", &[("worker", worker)]).unwrap_or_default();
    let most = shares.iter().map(of).fold(0.0, f64::max);
    let (severity, now) = if most > 0.0 {
        (Severity::Error, format!("a worker answers {} of its requests 503 now", ratio(most)))
    } else {
        (Severity::Warning, "no worker sheds now".to_owned())
    };
    let found = format!("limits.delay_max was reached: {now}, since the start {count} requests were shed");
    let right = "more cores or workers, less that keeps this machine busy, or a higher delay_max";
    Some(severity.of("load", found).right(right).next("weir status; top"))
}
