//! Going back: the traffic first, then the actions, then the checks. Nothing stands in the way of the traffic.

use super::{Effect, Retreat, Rollout, Stage, State};
use crate::model::rollout::{Moment, RollbackStrategy, Share};
use crate::rollout::event::{Kind, Severity};

/// Time after which a step that was not answered is asked for again.
const AGAIN_MS: u64 = 1_000;

/// A gradual rollback halves down to this and then goes to 0: below it steps would be waiting for its own sake.
const LAST_HALF: u32 = 10_000;

// === impl Rollout ===

impl Rollout {
    /// Begins a rollback. A person's is at once, whatever the plan's strategy is.
    pub(super) fn roll_back(&mut self, who: &str, because: String, automatic: bool, effects: &mut Vec<Effect>) {
        let steps = if automatic { self.steps_back() } else { vec![Share::ZERO] };
        self.state = State::RolledBack;
        self.inner.rolled_back_by_weir = automatic;
        self.inner.paused = None;
        self.inner.delay = None;
        self.because.clone_from(&because);
        self.inner.retreat =
            Some(Retreat { steps, step_ms: 0, since_ms: 0, automatic, stage: Stage::Moving, overdue: false });
        // The traffic moves before anything is written down: a full disk must not keep it.
        self.move_back(effects);
        if self.plan.phases.get(self.phase).is_some_and(|phase| !phase.cohort.is_empty()) {
            effects.push(Effect::SetCohort { phase: None });
        }
        effects.push(Effect::Persist);
        self.end_canary(effects, if automatic { "failed" } else { "was ended by hand" });
        self.announce(effects, Kind::RollbackInitiated, Severity::Critical, who, because);
    }

    /// Asks for the next step.
    pub(super) fn move_back(&mut self, effects: &mut Vec<Effect>) {
        let Some(retreat) = &mut self.inner.retreat else { return };
        retreat.step_ms = 0;
        let share = retreat.steps.first().copied().unwrap_or(Share::ZERO);
        let reason = format!("rollback: {}", self.because);
        self.set_share(share, reason, effects);
        if self.plan.dry_run {
            // Nothing was moved, so nothing comes back.
            self.arrived(share, effects);
        }
    }

    /// The weights are live.
    pub(super) fn applied(&mut self, share: Share, unix_ms: u64, effects: &mut Vec<Effect>) {
        self.share = share;
        if self.inner.retreat.is_some() {
            self.ended_at_ms.get_or_insert(unix_ms);
            self.arrived(share, effects);
        }
        effects.push(Effect::Persist);
    }

    fn arrived(&mut self, share: Share, effects: &mut Vec<Effect>) {
        let Some(retreat) = &mut self.inner.retreat else { return };
        if retreat.stage != Stage::Moving {
            return;
        }
        if retreat.steps.first() == Some(&share) {
            retreat.steps.remove(0);
            retreat.step_ms = 0;
        }
        if !retreat.steps.is_empty() {
            return;
        }
        let acts = self.plan.actions.iter().any(|action| action.at == Moment::Rollback);
        retreat.stage = if acts { Stage::Acting } else { Stage::Verifying };
        effects.push(if acts { Effect::Act { moment: Moment::Rollback } } else { Effect::Verify });
    }

    pub(super) fn retreat_tick(&mut self, elapsed_ms: u64, effects: &mut Vec<Effect>) {
        let max_ms = self.plan.rollback.max_duration.as_millis() as u64;
        let between_ms = self.plan.rollback.step.as_millis() as u64;
        let Some(retreat) = &mut self.inner.retreat else { return };
        retreat.since_ms = retreat.since_ms.saturating_add(elapsed_ms);
        retreat.step_ms = retreat.step_ms.saturating_add(elapsed_ms);
        let overdue = retreat.since_ms >= max_ms && !std::mem::replace(&mut retreat.overdue, true);
        // A step that was asked for and is not live is asked for again; the next one has its time.
        let asked = retreat.steps.first() == Some(&self.intended);
        let due = retreat.step_ms >= if asked { AGAIN_MS } else { between_ms };
        let moves = retreat.stage == Stage::Moving && due;
        if overdue {
            let message = format!("the rollback is not over after {} s", max_ms / 1000);
            self.announce(effects, Kind::Alarm, Severity::Critical, "weir", message);
        }
        if moves {
            self.move_back(effects);
        }
    }

    /// The actions of a moment ran.
    pub(super) fn acted(&mut self, moment: Moment, ok: bool, detail: &str, unix_ms: u64, effects: &mut Vec<Effect>) {
        match moment {
            Moment::Start if self.state.is_live() && !self.inner.begun => {
                if ok {
                    self.inner.prepared = true;
                    effects.push(Effect::Persist);
                } else {
                    self.end_unstarted(format!("preflight failed: {detail}"), unix_ms, effects);
                }
            }
            Moment::Rollback => {
                let Some(retreat) = self.inner.retreat.as_mut().filter(|retreat| retreat.stage == Stage::Acting) else {
                    return;
                };
                retreat.stage = Stage::Verifying;
                effects.push(Effect::Persist);
                if !ok {
                    let message = format!("an action of the rollback failed: {detail}");
                    self.announce(effects, Kind::Alarm, Severity::Critical, "weir", message);
                }
                effects.push(Effect::Verify);
            }
            Moment::Start | Moment::Promoted | Moment::End => {
                if !ok {
                    let message = format!("an action failed: {detail}");
                    self.announce(effects, Kind::Alarm, Severity::Warning, "weir", message);
                }
            }
        }
    }

    /// What the rollback left behind was checked.
    pub(super) fn verified(&mut self, ok: bool, detail: &str, effects: &mut Vec<Effect>) {
        if self.inner.retreat.as_ref().is_none_or(|retreat| retreat.stage != Stage::Verifying) {
            return;
        }
        self.inner.retreat = None;
        effects.push(Effect::Persist);
        let (severity, word) = if ok { (Severity::Info, "verified") } else { (Severity::Critical, "not verified") };
        self.announce(effects, Kind::RollbackCompleted, severity, "weir", format!("{word}: {detail}"));
        if !ok {
            let message = format!("the rollback is not verified: {detail}");
            self.announce(effects, Kind::Alarm, Severity::Critical, "weir", message);
        }
        self.end(effects);
    }

    /// The shares of an automatic rollback, the last one 0.
    fn steps_back(&self) -> Vec<Share> {
        let mut steps = match self.plan.rollback.strategy {
            RollbackStrategy::Immediate | RollbackStrategy::BlueGreen => Vec::new(),
            RollbackStrategy::Gradual => {
                let halves = std::iter::successors(Some(self.share.buckets() / 2), |half| Some(half / 2));
                halves.take_while(|half| *half >= LAST_HALF).map(Share::from_buckets).collect()
            }
            RollbackStrategy::Phased => {
                let earlier = self.plan.phases[..self.phase.min(self.plan.phases.len())].iter().rev();
                let shares = earlier.map(crate::model::rollout::Phase::live_share);
                shares.filter(|share| *share < self.share && *share > Share::ZERO).collect()
            }
        };
        steps.push(Share::ZERO);
        steps
    }
}
