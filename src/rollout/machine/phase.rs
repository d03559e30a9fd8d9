//! Phases: beginning one, going to the next, the end.

use super::{Effect, Pause, Rollout, State};
use crate::model::rollout::{Gate, Moment, Share, When};
use crate::rollout::event::{Kind, Severity};

// === impl Rollout ===

impl Rollout {
    /// Names of the gates that are asked before the first share.
    pub(super) fn start_gates(&self) -> Vec<String> {
        let starts = |gate: &&Gate| gate.ask.is_outside() && gate.ask.when() == When::Start;
        self.plan.gates_of(0).filter(starts).filter(|gate| !gate.dry_run).map(|gate| gate.name.clone()).collect()
    }

    pub(super) fn begin_phase(&mut self, index: usize, effects: &mut Vec<Effect>) {
        let Some(phase) = self.plan.phases.get(index) else { return };
        let (share, name, cohort) = (phase.live_share(), phase.name.clone(), !phase.cohort.is_empty());
        let had_cohort =
            self.inner.begun && self.plan.phases.get(self.phase).is_some_and(|phase| !phase.cohort.is_empty());
        let first = !self.inner.begun;
        self.phase = index;
        (self.phase_ms, self.inner.extended_ms) = (0, 0);
        self.inner.begun = true;
        self.inner.held = false;
        self.inner.delay = None;
        self.inner.approvals.clear();
        // What is asked in each phase has not been said in this one.
        for gate in self.plan.gates_of(index).filter(|gate| gate.ask.is_outside() && gate.ask.when() != When::Start) {
            self.inner.gates.remove(&gate.name);
        }
        self.inner.paused = None;
        self.state = State::RollingOut;
        self.because.clear();
        self.intended = share;
        effects.push(Effect::Persist);
        effects.push(Effect::BeginPhase { phase: index });
        if cohort || had_cohort {
            effects.push(Effect::SetCohort { phase: cohort.then_some(index) });
        }
        self.set_share(share, format!("phase {} of {}", index + 1, self.plan.phases.len()), effects);
        if first {
            let message = format!("{} of {} begins to get traffic", self.plan.candidate, self.plan.service);
            self.announce(effects, Kind::CanaryStarted, Severity::Info, "weir", message);
        }
        self.announce(effects, Kind::PhaseStarted, Severity::Info, "weir", format!("{name}: {share}"));
    }

    /// To the next phase, or to the end.
    pub(super) fn advance(&mut self, who: &str, why: &str, unix_ms: u64, effects: &mut Vec<Effect>) {
        if !self.inner.begun {
            return self.begin_phase(0, effects);
        }
        let name = self.plan.phases.get(self.phase).map(|phase| phase.name.clone()).unwrap_or_default();
        self.announce(effects, Kind::PhaseCompleted, Severity::Info, who, format!("{name}: {why}"));
        let next = self.plan.phases.get(self.phase + 1).map(crate::model::rollout::Phase::live_share);
        if next.is_none_or(|share| share == Share::ALL) {
            self.end_canary(effects, "passed");
        }
        match next {
            Some(_) => self.begin_phase(self.phase + 1, effects),
            None => self.complete(who, unix_ms, effects),
        }
    }

    fn complete(&mut self, who: &str, unix_ms: u64, effects: &mut Vec<Effect>) {
        self.state = State::Completed;
        self.ended_at_ms = Some(unix_ms);
        self.inner.paused = None;
        self.because = "every phase was passed".into();
        effects.push(Effect::Persist);
        if self.plan.phases.get(self.phase).is_some_and(|phase| !phase.cohort.is_empty()) {
            effects.push(Effect::SetCohort { phase: None });
        }
        let message = format!("{} of {} has {}", self.plan.candidate, self.plan.service, self.share);
        self.announce(effects, Kind::RolloutCompleted, Severity::Info, who, message);
        if self.has_actions(Moment::Promoted) {
            effects.push(Effect::Act { moment: Moment::Promoted });
        }
        if !self.plan.sweeps.is_empty() {
            effects.push(Effect::Sweep);
        }
        self.end(effects);
    }

    /// Preflight failed or a start action did: no traffic has moved.
    pub(super) fn end_unstarted(&mut self, because: String, unix_ms: u64, effects: &mut Vec<Effect>) {
        self.state = State::RolledBack;
        self.ended_at_ms = Some(unix_ms);
        self.because.clone_from(&because);
        effects.push(Effect::Persist);
        self.announce(effects, Kind::Alarm, Severity::Critical, "weir", because);
        self.end(effects);
    }

    pub(super) fn end(&self, effects: &mut Vec<Effect>) {
        if self.has_actions(Moment::End) {
            effects.push(Effect::Act { moment: Moment::End });
        }
        effects.push(Effect::Release);
    }

    pub(super) fn end_canary(&mut self, effects: &mut Vec<Effect>, how: &str) {
        if self.inner.begun && !std::mem::replace(&mut self.inner.canary_told, true) {
            let message = format!("the canary of {} {how}", self.plan.service);
            self.announce(effects, Kind::CanaryCompleted, Severity::Info, "weir", message);
        }
    }

    pub(super) fn set_share(&mut self, share: Share, reason: String, effects: &mut Vec<Effect>) {
        self.intended = share;
        if self.plan.dry_run {
            self.share = share;
        } else {
            effects.push(Effect::SetShare { share, reason });
        }
    }

    /// The weights could not be set: going up waits for a person, going back is tried again at every tick.
    pub(super) fn refused(&mut self, share: Share, why: &str, effects: &mut Vec<Effect>) {
        if let Some(retreat) = &mut self.inner.retreat {
            if !std::mem::replace(&mut retreat.overdue, true) {
                let message = format!("the weights cannot be set to {share}: {why}; it is tried again");
                self.announce(effects, Kind::Alarm, Severity::Critical, "weir", message);
            }
        } else if self.state.is_live() && share == self.intended && share != self.share {
            self.pause(Pause::Refused, "weir", format!("the weights cannot be set to {share}: {why}"), effects);
        }
    }
}
