//! The only way by which rollouts touch traffic: changes handed to the switchboard, and the fence that keeps a share
//! from rising after a rollback was asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::shares::{self, Arms};
use crate::model::rollout::{CohortMatch, Phase, RollbackStrategy, RolloutPlan, Share};
use crate::model::{Name, Weights};
use crate::switchboard::change::{Applied, Cause, Change, Cohort, How, Refused};
use crate::switchboard::snapshot::{Service, Snapshot};
use crate::switchboard::writer::Switchboard;

/// Tries at raising a share while others change other things.
const TRIES_MAX: usize = 100;

/// Keeps a share from rising once somebody asked for a rollback, also when the raise is under way on another thread.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Fence {
    closed: AtomicBool,
    gate: Mutex<()>,
}

/// What came of moving the candidate's share.
#[derive(Debug)]
pub(in crate::rollout) enum Moved {
    /// It is live.
    Live(Applied),
    /// It is not: somebody asked for a rollback meanwhile.
    Fenced,
    /// It is not, for this reason.
    Refused(String),
}

// === impl Fence ===

impl Fence {
    /// From here on nothing but 0 is let through.
    pub(in crate::rollout) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Moves the candidate of `plan` to `share`; blocks, for a disk perhaps.
    pub(in crate::rollout) fn set(
        &self,
        switchboard: &Switchboard,
        plan: &RolloutPlan,
        share: Share,
        cause: &Cause,
    ) -> Moved {
        let _one = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = switchboard.snapshot().load_full();
        let Some(service) = service(&snapshot, &plan.service) else {
            return Moved::Refused(format!("service {} is gone", plan.service));
        };
        let arms = Arms { candidate: &plan.candidate, baseline: plan.baseline.as_ref(), stable: &service.spec.stable };
        let Some(weights) = shares::weights(&service.weights, arms, share) else {
            return Moved::Refused("no weights give that share".into());
        };
        let change = Change::Weights { service: plan.service.clone(), weights };
        if share == Share::ZERO {
            // It also sends away the clients that a drain would let stay, and nothing can refuse it.
            let result = switchboard.apply(Change::Rollback { service: plan.service.clone() }, cause, None);
            if result.is_ok() && others_have_something(service, plan) {
                // The other pools get back what they had; that it fails leaves everything with stable.
                return switchboard.apply(change, cause, None).map_or_else(|_| outcome(result), Moved::Live);
            }
            return outcome(result);
        }
        let falls = share <= shares::share_of(&service.weights, &plan.candidate);
        if self.closed.load(Ordering::SeqCst) && !falls {
            return Moved::Fenced;
        }
        if falls {
            return outcome(switchboard.apply(change, cause, None));
        }
        self.raise(switchboard, &snapshot, service, &change, cause)
    }

    /// Raises a share as long as nobody else touched these weights. Generations are everybody's, so that another
    /// service, or an answer of a name server, may always be first; that is no reason to stop.
    fn raise(
        &self,
        switchboard: &Switchboard,
        seen: &Snapshot,
        service: &Service,
        change: &Change,
        cause: &Cause,
    ) -> Moved {
        let mut generation = seen.generation;
        for _ in 0..TRIES_MAX {
            match switchboard.apply(change.clone(), cause, Some(generation)) {
                Err(Refused::Conflict { .. }) => {}
                result => return outcome(result),
            }
            let now = switchboard.snapshot().load_full();
            if self::service(&now, &service.name).is_none_or(|it| it.weights != service.weights) {
                return Moved::Refused("somebody else changed the weights meanwhile".into());
            }
            if self.closed.load(Ordering::SeqCst) {
                return Moved::Fenced;
            }
            generation = now.generation;
        }
        Moved::Refused("too many other changes go on".into())
    }

    /// Takes everything from the candidate, now and whatever else goes on; blocks.
    pub(in crate::rollout) fn to_stable(&self, switchboard: &Switchboard, plan: &RolloutPlan, cause: &Cause) -> Moved {
        self.close();
        self.set(switchboard, plan, Share::ZERO, cause)
    }
}

/// The shares of an automatic rollback from `share`, in percent.
pub(in crate::rollout) fn steps_back(plan: &RolloutPlan, share: Share) -> Vec<f64> {
    let mut steps = match plan.rollback.strategy {
        RollbackStrategy::Immediate | RollbackStrategy::BlueGreen => Vec::new(),
        RollbackStrategy::Gradual => {
            let halves = std::iter::successors(Some(share.buckets() / 2), |half| Some(half / 2));
            halves.take_while(|half| *half >= 10_000).map(|half| Share::from_buckets(half).percent()).collect()
        }
        RollbackStrategy::Phased => {
            let below = plan.phases.iter().rev().map(Phase::live_share).filter(|phase| *phase < share);
            below.filter(|phase| *phase > Share::ZERO).map(Share::percent).collect()
        }
    };
    steps.push(0.0);
    steps
}

/// What the weights say of the candidate now.
pub(in crate::rollout) fn live_share(switchboard: &Switchboard, plan: &RolloutPlan) -> Option<Share> {
    let snapshot = switchboard.snapshot().load_full();
    Some(shares::share_of(&service(&snapshot, &plan.service)?.weights, &plan.candidate))
}

/// The weights of a service now.
pub(in crate::rollout) fn live_weights(switchboard: &Switchboard, name: &Name) -> Option<Weights> {
    Some(service(&switchboard.snapshot().load_full(), name)?.weights.clone())
}

/// The service of that name.
pub(in crate::rollout) fn service<'s>(snapshot: &'s Snapshot, name: &Name) -> Option<&'s Service> {
    snapshot.services.iter().find(|service| service.name == *name)
}

/// A cause of the engine's own.
pub(in crate::rollout) fn cause(who: &str, from: &str, reason: &str) -> Cause {
    Cause { who: who.into(), from: from.into(), how: How::Rollout, reason: reason.into() }
}

/// A cause of somebody who asked over the API.
pub(in crate::rollout) fn cause_of(who: &str, from: &str, reason: &str) -> Cause {
    Cause { how: How::Api, ..cause(who, from, reason) }
}

/// Whether a pool that the rollout is not about has a weight.
fn others_have_something(service: &Service, plan: &RolloutPlan) -> bool {
    let is_arm =
        |name: &Name| *name == plan.candidate || Some(name) == plan.baseline.as_ref() || *name == service.spec.stable;
    service.weights.iter().any(|(name, weight)| weight.value() > 0 && !is_arm(name))
}

fn outcome(result: Result<Applied, Refused>) -> Moved {
    match result {
        Ok(applied) => Moved::Live(applied),
        Err(refused) => Moved::Refused(refused.to_string()),
    }
}

/// Why the service, or everything, is killed.
pub(in crate::rollout) fn killed(snapshot: &Snapshot, name: &Name) -> Option<String> {
    let killed = service(snapshot, name)?.killed.as_ref()?;
    let what = if killed.system { "everything is killed" } else { "the service is killed" };
    Some(if killed.reason.is_empty() { what.into() } else { format!("{what}: {}", killed.reason) })
}

/// Sends the requests that these matches name to the candidate; none: no request. Blocks.
pub(in crate::rollout) fn set_cohort(
    switchboard: &Switchboard,
    plan: &RolloutPlan,
    matches: Vec<CohortMatch>,
    cause: &Cause,
) -> Result<(), String> {
    let cohort = (!matches.is_empty()).then(|| Cohort { pool: plan.candidate.clone(), matches });
    let change = Change::Cohort { service: plan.service.clone(), cohort };
    switchboard.apply(change, cause, None).map(drop).map_err(|refused| refused.to_string())
}

/// Who changed the weights of a service last, in words.
pub(in crate::rollout) fn who_changed(switchboard: &Switchboard, service: &Name) -> String {
    let Some(cause) = switchboard.last_cause(service).map(|last| last.cause) else { return "somebody".into() };
    let way = match cause.how {
        How::File => "the weights file",
        How::Api => "the API",
        How::Cli => "the command line",
        How::Start | How::Signal | How::Dns | How::Rollout => cause.how.as_str(),
    };
    if cause.who.is_empty() { format!("somebody by {way}") } else { format!("{} by {way}", cause.who) }
}
