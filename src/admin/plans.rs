//! STUB
use super::problem::{Code, Problem};
use crate::model::Name;
use crate::model::rollout::*;
use serde_json::Value;
use std::time::Duration;

pub(super) fn from_json(body: &Value, name: &str) -> Result<RolloutPlan, Problem> {
    let bad = |what: &str| Problem::new(Code::Invalid, what.to_owned());
    let text = |key: &str| body[key].as_str();
    let nm = |t: &str| Name::new(t).map_err(|e| bad(&e.to_string()));
    let dur = |v: &Value, d: u64| -> Duration {
        let t = v.as_str().unwrap_or("");
        if let Some(ms) = t.strip_suffix("ms") {
            Duration::from_millis(ms.parse().unwrap_or(d))
        } else if let Some(s) = t.strip_suffix('s') {
            Duration::from_secs_f64(s.parse().unwrap_or(d as f64 / 1000.0))
        } else {
            Duration::from_millis(d)
        }
    };
    let phases = body["phases"].as_array().cloned().unwrap_or_default();
    let phases = phases
        .iter()
        .enumerate()
        .map(|(i, p)| {
            Ok(Phase {
                name: format!("phase-{}", i + 1),
                share: p["percent"].as_f64().and_then(Share::from_percent).ok_or_else(|| bad("percent"))?,
                holdback: Share::ZERO,
                cohort: vec![],
                min_duration: dur(&p["min_duration"], 10_000),
                max_duration: dur(&p["max_duration"], 600_000),
                gates: vec![],
            })
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    if phases.is_empty() {
        return Err(bad("no phases"));
    }
    let evidence = EvidencePolicy { settle: dur(&body["evidence"]["settle"], 5000), ..EvidencePolicy::default() };
    Ok(RolloutPlan {
        name: nm(name)?,
        service: nm(text("service").ok_or_else(|| bad("service"))?)?,
        candidate: nm(text("candidate").unwrap_or("canary"))?,
        baseline: None,
        version: None,
        strategy: Strategy::Phased,
        phases,
        gates: vec![Gate {
            name: "error_rate".into(),
            dry_run: false,
            ask: Ask::ErrorRate {
                event: Event::Error,
                max_ratio: 1.25,
                excludes: 2.0,
                safe_rate: 0.01,
                min_difference: 0.001,
                min_events: 5,
            },
        }],
        evidence,
        on_failure: OnFailure::Rollback,
        on_inconclusive: OnInconclusive::Extend,
        on_provider_error: OnProviderError::Warn,
        deadline: None,
        auto_advance: true,
        auto_rollback: true,
        dry_run: false,
        rollback: RollbackPolicy::default(),
        actions: vec![],
        windows: vec![],
        sweeps: vec![],
        keep_previous: Duration::ZERO,
        labels: Default::default(),
    })
}
pub(super) fn read(
    _admin: &super::routes::Admin,
    fields: super::body::Fields,
    name: Option<&str>,
) -> Result<RolloutPlan, Problem> {
    let body = fields.into_value();
    from_json(&body, body["name"].as_str().or(name).unwrap_or("rollout"))
}
