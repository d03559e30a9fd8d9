//! What the machine wants, done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::timeout;

use super::super::event::{Kind, Severity};
use super::super::machine::{Effect, Input};
use super::super::stream::Draft;
use super::super::view::ratio;
use super::drive::{Drive, PATIENCE};
use super::levers::{self, Moved};
use crate::model::rollout::Share;

// === impl Drive ===

impl Drive {
    pub(super) async fn apply(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Persist => self.persist().await,
            Effect::SetShare { share, reason } => inputs.push_back(self.set_share(share, &reason).await),
            Effect::SetCohort { phase } => self.set_cohort(phase).await,
            Effect::BeginPhase { phase } => self.begin_phase(phase),
            Effect::Act { moment } => self.errands.act(&self.office, &self.rollout, moment),
            Effect::Verify => self.errands.verify(&self.office, &self.rollout),
            Effect::Sweep => super::sweeps::begin(&self.office, &self.rollout),
            Effect::Announce { kind, severity, who, message } => self.announce(kind, severity, who, message),
            Effect::Release => self.released = true,
        }
    }

    /// Moves the candidate's share; what came of it is the next input.
    async fn set_share(&mut self, share: Share, reason: &str) -> Input {
        if self.rollout.plan.dry_run {
            return Input::Applied { share };
        }
        let (office, seat, plan) = (Arc::clone(&self.office), Arc::clone(&self.seat), self.rollout.plan.clone());
        let cause = levers::cause("weir", &self.rollout.id, reason);
        let work = tokio::task::spawn_blocking(move || seat.fence.set(&office.switchboard, &plan, share, &cause));
        let moved = match timeout(PATIENCE, work).await {
            Ok(Ok(moved)) => moved,
            Ok(Err(error)) => Moved::Refused(format!("the change failed inside weir: {error}")),
            Err(_) => Moved::Refused(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let live = levers::live_weights(&self.office.switchboard, &self.rollout.plan.service);
        match moved {
            Moved::Live(applied) => {
                if let Some(pending) = applied.pending {
                    self.office.alarm(&self.rollout.plan.service, Some(&self.rollout.id), pending);
                }
                self.hands.forgive(live);
                Input::Applied { share }
            }
            Moved::Fenced => {
                self.hands.forgive(live);
                Input::Refused { share, why: "a rollback was asked for meanwhile".into() }
            }
            Moved::Refused(why) => Input::Refused { share, why },
        }
    }

    async fn set_cohort(&mut self, phase: Option<usize>) {
        if self.rollout.plan.dry_run {
            return;
        }
        let matches = phase.and_then(|phase| self.rollout.plan.phases.get(phase)).map(|phase| phase.cohort.clone());
        let (office, plan) = (Arc::clone(&self.office), self.rollout.plan.clone());
        let cause = levers::cause("weir", &self.rollout.id, "");
        let work = move || levers::set_cohort(&office.switchboard, &plan, matches.unwrap_or_default(), &cause);
        match timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(why))) => self.cohort_failed(why),
            Ok(Err(error)) => self.cohort_failed(error.to_string()),
            Err(_) => self.cohort_failed("no answer".into()),
        }
    }

    fn cohort_failed(&self, why: String) {
        let message = format!("the requests named by the phase could not be sent to the candidate: {why}");
        self.office.alarm(&self.rollout.plan.service, Some(&self.rollout.id), message);
    }

    pub(super) fn announce(&self, kind: Kind, severity: Severity, who: String, message: String) {
        let rollout = &self.rollout;
        if kind == Kind::RollbackInitiated {
            let automatic = who == "weir" || who.starts_with("gate ");
            let counts = &self.office.counts;
            let count = if automatic { &counts.rollbacks_automatic } else { &counts.rollbacks_manual };
            count.fetch_add(1, Ordering::Relaxed);
        }
        let phase = rollout.plan.phases.get(rollout.phase);
        let data = serde_json::json!({
            "plan": rollout.plan.name,
            "candidate": rollout.plan.candidate,
            "version": rollout.plan.version,
            "state": rollout.state,
            "phase": rollout.phase,
            "phaseName": phase.map(|phase| &phase.name),
            "percent": rollout.share.percent(),
            "requests": self.figures.arms[0].attempts,
            "errorRate": ratio(self.figures.arms[0].errors, self.figures.arms[0].attempts),
        });
        let service = rollout.plan.service.to_string();
        self.office.tell(Draft { kind, severity, service, rollout_id: Some(rollout.id.clone()), who, message, data });
    }
}
