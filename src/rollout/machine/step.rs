//! One input: what it changes, and what is to be done.

use super::{Effect, Illegal, Input, Pause, Rollout, Stage, State};
use crate::model::rollout::{Moment, OnFailure, OnInconclusive, Share};
use crate::rollout::event::{Kind, Severity};
use crate::rollout::verdict::{Judgement, Verdict};

/// How long stable must be well again before a rollout that paused for its sake goes on: longer than any flap of a few
/// seconds, and as long as the window in which it is judged.
const WELL_MS: u64 = 30_000;

// === impl Rollout ===

impl Rollout {
    /// Takes one input at `unix_ms`. Only a command can be illegal, and then nothing has changed.
    pub fn step(&mut self, unix_ms: u64, input: Input) -> Result<Vec<Effect>, Illegal> {
        let mut effects = Vec::new();
        match input {
            Input::Start { window_closed } => {
                self.inner.window = window_closed;
                self.start(&mut effects);
            }
            Input::Recovered { live } => self.recovered(live, &mut effects),
            Input::Tick { elapsed_ms, judgement, window_closed } => {
                self.inner.window = window_closed;
                self.tick(elapsed_ms, &judgement, unix_ms, &mut effects);
            }
            Input::Command { command, who, reason } => {
                return self.command(command, &who, &reason, unix_ms);
            }
            Input::Applied { share } => self.applied(share, unix_ms, &mut effects),
            Input::Refused { share, why } => self.refused(share, &why, &mut effects),
            Input::HandEdit { share, who } => self.hand_edit(share, &who, &mut effects),
            Input::Killed { reason } => {
                self.inner.killed = true;
                if self.state.is_live() {
                    self.pause(Pause::Killed, "weir", format!("the service was killed: {reason}"), &mut effects);
                }
            }
            Input::Unkilled => {
                self.inner.killed = false;
                if self.state.is_live() {
                    effects.push(Effect::Persist);
                }
            }
            Input::Acted { moment, ok, detail } => self.acted(moment, ok, &detail, unix_ms, &mut effects),
            Input::Verified { ok, detail } => self.verified(ok, &detail, &mut effects),
        }
        Ok(effects)
    }

    fn start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Persist);
        let message = format!("{} to {} by plan {}", self.plan.service, self.plan.candidate, self.plan.name);
        self.announce(effects, Kind::RolloutInitiated, Severity::Info, &self.started_by.clone(), message);
        if self.has_actions(Moment::Start) {
            effects.push(Effect::Act { moment: Moment::Start });
            return;
        }
        self.inner.prepared = true;
        if self.start_gates().is_empty() && self.inner.window.is_none() {
            self.begin_phase(0, effects);
        }
    }

    /// Goes on after a crash. What was intended was decided and kept, so it is what would be live without the crash;
    /// anything else is a hand edit that nobody saw.
    fn recovered(&mut self, live: Share, effects: &mut Vec<Effect>) {
        if let Some(retreat) = &self.inner.retreat {
            let stage = retreat.stage;
            match stage {
                Stage::Moving => self.move_back(effects),
                Stage::Acting => effects.push(Effect::Act { moment: Moment::Rollback }),
                Stage::Verifying => effects.push(Effect::Verify),
            }
            return;
        }
        if !self.state.is_live() {
            return;
        }
        if self.inner.begun && !self.plan.phases.get(self.phase).is_none_or(|phase| phase.cohort.is_empty()) {
            effects.push(Effect::SetCohort { phase: Some(self.phase) });
        }
        if !self.inner.prepared && self.has_actions(Moment::Start) {
            effects.push(Effect::Act { moment: Moment::Start });
        } else if self.inner.begun && !self.plan.dry_run && !self.inner.killed {
            if live == self.intended {
                self.share = live;
            } else if live == self.share {
                self.set_share(self.intended, "goes on after a restart".into(), effects);
            } else {
                self.hand_edit(live, "somebody, while weir did not run", effects);
            }
        }
    }

    fn tick(&mut self, elapsed_ms: u64, judgement: &Judgement, unix_ms: u64, effects: &mut Vec<Effect>) {
        if self.inner.retreat.is_some() {
            return self.retreat_tick(elapsed_ms, effects);
        }
        if !self.state.is_live() {
            return;
        }
        self.watched_ms = self.watched_ms.saturating_add(elapsed_ms);
        self.verdict = judgement.verdict;
        self.tell_changes(judgement, effects);
        match self.state {
            State::Pending => self.pending(judgement, unix_ms, effects),
            State::RollingOut => {
                self.phase_ms = self.phase_ms.saturating_add(elapsed_ms);
                self.rolling(elapsed_ms, judgement, unix_ms, effects);
            }
            State::Paused => self.paused(elapsed_ms, judgement, effects),
            State::Completed | State::RolledBack => {}
        }
    }

    /// Before the first share: actions, gates that are asked at the start, windows.
    fn pending(&mut self, judgement: &Judgement, unix_ms: u64, effects: &mut Vec<Effect>) {
        if !self.inner.prepared {
            return;
        }
        let asked = self.start_gates();
        let word = |name: &String| judgement.gates.iter().find(|gate| gate.name == *name).map(|gate| gate.verdict);
        if let Some(name) = asked.iter().find(|name| word(name) == Some(Verdict::Fail)) {
            let detail = judgement.gates.iter().find(|gate| gate.name == *name).map(|gate| gate.detail.clone());
            let because = format!("preflight failed at {name}: {}", detail.unwrap_or_default());
            return self.end_unstarted(because, unix_ms, effects);
        }
        let passes = |name: &String| match word(name) {
            Some(Verdict::ShownSafe) | None => true,
            // What cannot be asked stands in the way only when the plan says so.
            Some(Verdict::Error) => self.plan.on_provider_error == crate::model::rollout::OnProviderError::Warn,
            Some(_) => false,
        };
        if asked.iter().all(passes) && self.inner.window.is_none() {
            self.begin_phase(0, effects);
        }
    }

    fn rolling(&mut self, elapsed_ms: u64, judgement: &Judgement, unix_ms: u64, effects: &mut Vec<Effect>) {
        match judgement.verdict {
            // Until it holds again, or the phase had its time: then it is not passed.
            Verdict::Fail if judgement.only_waits => {}
            Verdict::Fail => return self.failing(elapsed_ms, judgement, effects),
            Verdict::EnvironmentDegraded => {
                let because = format!("stable itself is not well: {}", judgement.reason);
                return self.pause(Pause::Degraded, "weir", because, effects);
            }
            Verdict::ShownSafe | Verdict::NotCompared | Verdict::Inconclusive | Verdict::NoTraffic | Verdict::Error => {
            }
        }
        if self.inner.delay.take().is_some() {
            let message = "the gate holds again, the rollback that was due does not happen".to_owned();
            self.announce(effects, Kind::GateChanged, Severity::Info, "weir", message);
        }
        let Some(phase) = self.plan.phases.get(self.phase) else { return };
        let (min_ms, max_ms) = (phase.min_duration.as_millis() as u64, phase.max_duration.as_millis() as u64);
        let settled = self.share == self.intended || self.plan.dry_run;
        let ready = judgement.verdict.holds() && self.phase_ms >= min_ms && settled && !self.inner.held;
        if ready && self.plan.auto_advance && self.inner.window.is_none() {
            return self.advance("weir", "shown safe", unix_ms, effects);
        }
        let late = self.phase_ms.saturating_sub(self.inner.extended_ms) >= max_ms.max(min_ms).max(1);
        let overdue = self.plan.deadline.is_some_and(|deadline| self.watched_ms >= deadline.as_millis() as u64);
        let waits_for_person = ready && !self.plan.auto_advance;
        if (late && !ready || overdue) && !waits_for_person && !self.inner.held {
            self.inconclusive(judgement, overdue, unix_ms, effects);
        }
    }

    fn inconclusive(&mut self, judgement: &Judgement, overdue: bool, unix_ms: u64, effects: &mut Vec<Effect>) {
        let what = if overdue { "the deadline of the rollout passed" } else { "the phase had its time" };
        let but = if judgement.verdict == Verdict::Fail { "and a gate fails" } else { "without enough evidence" };
        let because = format!("{what} {but}: {}", judgement.reason);
        // What could not be asked is no reason to go back, and what was never tried none to go on.
        let policy = match (self.plan.on_inconclusive, judgement.verdict) {
            (OnInconclusive::Extend, _) if overdue => OnInconclusive::Pause,
            (OnInconclusive::Rollback, Verdict::Error) => OnInconclusive::Pause,
            (OnInconclusive::Advance, Verdict::NoTraffic | Verdict::Error | Verdict::Fail) => OnInconclusive::Pause,
            (policy, _) => policy,
        };
        match policy {
            OnInconclusive::Extend => {
                self.inner.extended_ms = self.phase_ms;
                effects.push(Effect::Persist);
                let message = format!("{because}; it is given as much again");
                self.announce(effects, Kind::GateChanged, Severity::Warning, "weir", message);
            }
            OnInconclusive::Pause => self.pause(Pause::Inconclusive, "weir", because, effects),
            OnInconclusive::Advance if self.inner.window.is_some() => {}
            OnInconclusive::Advance => self.advance("weir", &because, unix_ms, effects),
            OnInconclusive::Rollback => self.roll_back("weir", because, true, effects),
        }
    }

    fn failing(&mut self, elapsed_ms: u64, judgement: &Judgement, effects: &mut Vec<Effect>) {
        let because = judgement.reason.clone();
        match self.plan.on_failure {
            _ if !self.plan.auto_rollback => {
                let because = format!("{because}; the plan leaves the rollback to a person");
                self.pause(Pause::Failed, "weir", because, effects);
            }
            OnFailure::Pause => self.pause(Pause::Failed, "weir", because, effects),
            OnFailure::Hold if self.inner.held => {}
            OnFailure::Hold => {
                self.inner.held = true;
                effects.push(Effect::Persist);
                self.announce(effects, Kind::Alarm, Severity::Critical, "weir", format!("held: {because}"));
            }
            OnFailure::Rollback => self.due(elapsed_ms, because, judgement.may_wait, effects),
        }
    }

    /// An automatic rollback is due: now, or after the plan's delay if it may wait.
    fn due(&mut self, elapsed_ms: u64, because: String, may_wait: bool, effects: &mut Vec<Effect>) {
        let delay_ms = self.plan.rollback.delay.as_millis() as u64;
        if !may_wait || delay_ms == 0 {
            return self.roll_back("weir", because, true, effects);
        }
        match &mut self.inner.delay {
            Some(delay) if delay.left_ms <= elapsed_ms => {
                let because = std::mem::take(&mut delay.because);
                self.roll_back("weir", because, true, effects);
            }
            Some(delay) => delay.left_ms -= elapsed_ms,
            None => {
                let message = format!("rolled back in {} s unless cancelled: {because}", delay_ms / 1000);
                self.inner.delay = Some(super::Delay { left_ms: delay_ms, because });
                effects.push(Effect::Persist);
                self.announce(effects, Kind::Alarm, Severity::Critical, "weir", message);
            }
        }
    }

    /// Evidence and alarms go on: a paused rollout with a bad candidate goes back like any other, unless a person has
    /// taken the weights in hand or the plan leaves it to one.
    fn paused(&mut self, elapsed_ms: u64, judgement: &Judgement, effects: &mut Vec<Effect>) {
        let by = self.inner.paused;
        let hands_off = matches!(by, Some(Pause::HandEdit | Pause::Killed | Pause::Failed)) || !self.inner.begun;
        if judgement.verdict == Verdict::Fail && !judgement.only_waits && !hands_off {
            if self.plan.auto_rollback && self.plan.on_failure == OnFailure::Rollback {
                self.due(elapsed_ms, judgement.reason.clone(), judgement.may_wait, effects);
            }
            return;
        }
        if by == Some(Pause::Degraded) {
            let bad = judgement.verdict == Verdict::EnvironmentDegraded;
            self.inner.well_ms = if bad { 0 } else { self.inner.well_ms.saturating_add(elapsed_ms) };
            if self.inner.well_ms >= WELL_MS {
                self.resume("weir", "stable is well again", effects);
            }
        }
    }

    /// Tells once when a gate says something else.
    fn tell_changes(&mut self, judgement: &Judgement, effects: &mut Vec<Effect>) {
        for gate in &judgement.gates {
            let before = self.inner.gates.insert(gate.name.clone(), gate.verdict);
            if before == Some(gate.verdict) || before.is_none() && gate.verdict <= Verdict::NoTraffic {
                continue;
            }
            let severity = match gate.verdict {
                Verdict::Fail if !gate.dry_run && !gate.waits => Severity::Critical,
                Verdict::Fail | Verdict::EnvironmentDegraded | Verdict::Error => Severity::Warning,
                Verdict::ShownSafe | Verdict::NotCompared | Verdict::Inconclusive | Verdict::NoTraffic => {
                    Severity::Info
                }
            };
            let message = format!("{}: {}", gate.name, gate.detail);
            self.announce(effects, Kind::GateChanged, severity, &format!("gate {}", gate.name), message);
        }
    }

    fn hand_edit(&mut self, share: Share, who: &str, effects: &mut Vec<Effect>) {
        if !self.state.is_live() || share == self.share {
            return;
        }
        let because = format!("{who} set the candidate to {share} by hand; that holds until somebody resumes");
        self.share = share;
        self.intended = share;
        self.inner.delay = None;
        self.pause(Pause::HandEdit, who, because, effects);
    }

    pub(super) fn pause(&mut self, why: Pause, who: &str, because: String, effects: &mut Vec<Effect>) {
        self.state = State::Paused;
        self.inner.paused = Some(why);
        self.inner.well_ms = 0;
        self.because.clone_from(&because);
        effects.push(Effect::Persist);
        let severity = if why == Pause::Person { Severity::Info } else { Severity::Warning };
        self.announce(effects, Kind::RolloutPaused, severity, who, because.clone());
        if matches!(why, Pause::Failed | Pause::Refused | Pause::Degraded) {
            self.announce(effects, Kind::Alarm, Severity::Critical, who, because);
        }
    }

    pub(super) fn announce(
        &self,
        effects: &mut Vec<Effect>,
        kind: Kind,
        severity: Severity,
        who: &str,
        message: String,
    ) {
        effects.push(Effect::Announce { kind, severity, who: who.into(), message });
    }

    pub(super) fn has_actions(&self, moment: Moment) -> bool {
        self.plan.actions.iter().any(|action| action.at == moment)
    }
}
