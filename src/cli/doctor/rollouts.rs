//! Rollouts that run: what each waits for, and what keeps it where it is.

use super::finding::{Finding, Severity};
use crate::cli::rollout::view::View;

/// Looks at one rollout.
pub(super) fn look(view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (id, service) = (&view.rollout_id, &view.service);
    let place = format!("rollout {id} of {service}");
    let explain = format!("weir rollout explain {id}");
    if let Some(trouble) = &view.trouble {
        findings
            .push(Severity::Error.of(&place, trouble).right("it goes on by itself when that is mended").next(&explain));
    }
    if view.verdict == "fail" {
        let found = format!("its gates fail at {} %: {}", view.current_percentage, view.why());
        let next = format!("weir rollout rollback {id} --reason TEXT");
        findings.push(Severity::Error.of(&place, found).right("a candidate that is no worse").next(next));
    }
    if let Some(killed) = &view.killed {
        let found = format!("{service} is killed ({killed}), so the rollout moves nothing");
        findings.push(Severity::Warning.of(&place, found).next(format!("weir unkill {service}")));
    } else if view.state == "paused" {
        let found = format!("it is paused at {} %: {}", view.current_percentage, view.why());
        findings.push(Severity::Warning.of(&place, found).next(format!("weir rollout resume {id}")));
    } else if let Some(window) = &view.window_closed {
        let found = format!("it waits at {} %: {window}", view.current_percentage);
        findings.push(Severity::Note.of(&place, found).right("wait, or go on by hand").next(&explain));
    } else if let Some(waiting) = &view.waiting_for {
        let severity = if waiting.contains("approval") { Severity::Warning } else { Severity::Note };
        let next = if severity == Severity::Warning { format!("weir rollout approve {id}") } else { explain };
        let phase = format!("phase {} of {}", view.phase + 1, view.phases.len().max(view.phase + 1));
        let found = format!("it is at {} % ({phase}) and waits for {waiting}", view.current_percentage);
        findings.push(severity.of(&place, found).next(next));
    }
    findings
}
