//! What is known where something outside is asked or done: the rollout, and where the endpoints of a pool are.

use std::sync::Arc;

use super::super::machine::Rollout;
use super::super::outside::{Context, Place};
use super::levers;
use super::office::Office;
use crate::model::Name;
use crate::telemetry::clock;
use crate::upstream::endpoint::{Admission, Endpoint};

/// For what concerns the candidate. `what` is what asks, such as `gate smoke`.
pub(super) fn context(office: &Office, rollout: &Rollout, what: String) -> Context {
    let plan = &rollout.plan;
    Context {
        rollout: rollout.id.clone(),
        plan: plan.name.to_string(),
        service: plan.service.to_string(),
        candidate: plan.candidate.to_string(),
        version: plan.version.clone().unwrap_or_default(),
        phase: plan.phases.get(rollout.phase).map(|phase| phase.name.clone()).unwrap_or_default(),
        percent: rollout.share.percent(),
        state: rollout.state.as_str().into(),
        because: rollout.because.clone(),
        what,
        dry_run: plan.dry_run,
        endpoints: places(office, &plan.service, Some(&plan.candidate)),
        turn: 0,
        directory: office.directory.clone(),
    }
}

/// Where the endpoints of a pool are, the ones that serve first; of the stable pool when none is named.
pub(super) fn places(office: &Office, service: &Name, pool: Option<&Name>) -> Vec<Place> {
    let snapshot = office.switchboard.snapshot().load_full();
    let Some(service) = levers::service(&snapshot, service) else { return Vec::new() };
    let pool = match pool {
        None => service.pools.get(service.stable),
        Some(name) => service.pools.iter().find(|pool| pool.name == *name),
    };
    let now_ms = clock::now().mono_ms;
    let mut endpoints: Vec<_> = pool.map(|pool| pool.endpoints.iter().collect()).unwrap_or_default();
    let serves = |admission| admission == Admission::Serving;
    // One that serves speaks for the pool; when none does, the question itself shows it.
    if endpoints.iter().any(|endpoint| serves(endpoint.admission(now_ms))) {
        endpoints.retain(|endpoint| serves(endpoint.admission(now_ms)));
    }
    let place = |it: &Arc<Endpoint>| Place {
        addr: it.id.addr.clone(),
        authority: it.authority.clone(),
        protocol: it.id.origin.protocol,
    };
    endpoints.into_iter().map(place).collect()
}
