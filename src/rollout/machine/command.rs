//! What a person or program may command, and when.

use super::{Command, Effect, Illegal, Pause, Rollout, Stage, State};
use crate::model::rollout::{Ask, Gate, Share};
use crate::rollout::event::{Kind, Severity};
use crate::rollout::verdict::Verdict;

// === impl Rollout ===

impl Rollout {
    pub(super) fn command(
        &mut self,
        command: Command,
        who: &str,
        reason: &str,
        unix_ms: u64,
    ) -> Result<Vec<Effect>, Illegal> {
        let mut effects = Vec::new();
        let told = |otherwise: &str| if reason.is_empty() { otherwise.to_owned() } else { reason.to_owned() };
        match command {
            Command::Pause => {
                self.must_be_live("pause")?;
                if self.state == State::Paused && self.inner.paused == Some(Pause::Person) {
                    return Err(Illegal("it is paused already".into()));
                }
                self.pause(Pause::Person, who, told("paused by hand"), &mut effects);
            }
            Command::Resume => {
                self.may_resume()?;
                self.resume(who, &told("resumed by hand"), &mut effects);
            }
            Command::Advance { force } => {
                self.may_advance(force)?;
                self.inner.paused = None;
                self.advance(who, &told("advanced by hand"), unix_ms, &mut effects);
            }
            Command::Rollback => {
                self.may_roll_back(unix_ms)?;
                self.ended_at_ms = None;
                self.roll_back(who, told("rolled back by hand"), false, &mut effects);
            }
            Command::Approve { by } => self.approve(by, &mut effects)?,
            Command::Cancel => {
                if self.inner.delay.take().is_none() {
                    return Err(Illegal("there is no rollback that waits".into()));
                }
                self.pause(Pause::Failed, who, told("the rollback that was due was cancelled"), &mut effects);
            }
        }
        Ok(effects)
    }

    pub(super) fn resume(&mut self, who: &str, why: &str, effects: &mut Vec<Effect>) {
        self.inner.paused = None;
        self.inner.held = false;
        self.because.clear();
        self.state = if self.inner.begun { State::RollingOut } else { State::Pending };
        effects.push(Effect::Persist);
        self.announce(effects, Kind::RolloutResumed, Severity::Info, who, why.into());
        let share = self.plan.phases.get(self.phase).map(crate::model::rollout::Phase::live_share);
        // After a hand edit the weights are no longer the phase's.
        if let Some(share) = share.filter(|share| self.inner.begun && *share != self.share) {
            self.set_share(share, "resumed".into(), effects);
        }
    }

    fn must_be_live(&self, verb: &str) -> Result<(), Illegal> {
        match self.state {
            state if state.is_live() => Ok(()),
            State::Completed => Err(Illegal(format!("it is completed, there is nothing to {verb}"))),
            _ => Err(Illegal(format!("it was rolled back, there is nothing to {verb}"))),
        }
    }

    fn may_resume(&self) -> Result<(), Illegal> {
        self.must_be_live("resume")?;
        match self.state {
            State::Paused if self.inner.killed => {
                Err(Illegal(format!("service {} is killed; unkill it first", self.plan.service)))
            }
            State::Paused if self.verdict == Verdict::Fail && self.inner.paused == Some(Pause::Failed) => {
                Err(Illegal("a gate fails; roll back, or advance with force".into()))
            }
            State::Paused => Ok(()),
            _ => Err(Illegal("it is not paused".into())),
        }
    }

    fn may_advance(&self, force: bool) -> Result<(), Illegal> {
        self.must_be_live("advance")?;
        match &self.inner.window {
            _ if self.inner.killed => Err(Illegal(format!("service {} is killed; unkill it first", self.plan.service))),
            _ if force => Ok(()),
            _ if self.verdict == Verdict::Fail => Err(Illegal("a gate fails; advance past it with force".into())),
            _ if !self.inner.prepared => Err(Illegal("its start actions have not run yet".into())),
            Some(window) => Err(Illegal(format!("{window}; advance in spite of it with force"))),
            None => Ok(()),
        }
    }

    /// Whether nothing is left to take from the candidate, although what a rollback leaves behind may still be checked.
    fn is_back(&self) -> bool {
        let retreat = self.inner.retreat.as_ref();
        retreat.is_none_or(|retreat| retreat.stage != Stage::Moving && self.share == Share::ZERO)
    }

    fn may_roll_back(&self, unix_ms: u64) -> Result<(), Illegal> {
        let kept_ms = self.plan.keep_previous.as_millis() as u64;
        match (self.state, self.ended_at_ms) {
            // One that goes back step by step goes back at once when a person says so; one that is back is back.
            (State::RolledBack, _) if self.is_back() => Err(Illegal("it was rolled back already".into())),
            (State::Completed, Some(ended)) if unix_ms > ended.saturating_add(kept_ms) => Err(Illegal(format!(
                "it was completed more than {} s ago and the previous version is no longer kept; `weir rollback {}` \
                 moves the traffic all the same",
                kept_ms / 1000,
                self.plan.service
            ))),
            _ => Ok(()),
        }
    }

    /// Four eyes: who started it does not approve it.
    fn approve(&mut self, by: String, effects: &mut Vec<Effect>) -> Result<(), Illegal> {
        self.must_be_live("approve")?;
        let lists = self.plan.gates_of(self.phase).filter_map(|gate: &Gate| match &gate.ask {
            Ask::Approval { approvers, .. } => Some((approvers, self.inner.gates.get(&gate.name))),
            _ => None,
        });
        // One that has its approvals waits for no more, also when they were those of another phase.
        let (given, lists): (Vec<_>, Vec<_>) = lists.partition(|(_, said)| *said == Some(&Verdict::ShownSafe));
        let lists: Vec<&Vec<String>> = lists.into_iter().map(|(list, _)| list).collect();
        match () {
            () if lists.is_empty() && !given.is_empty() => return Err(Illegal("it has its approvals".into())),
            () if lists.is_empty() => return Err(Illegal("no approval is asked for".into())),
            () if by.is_empty() => return Err(Illegal("an approval needs a name".into())),
            () if by == self.started_by => {
                return Err(Illegal(format!("{by} started it; somebody else has to approve")));
            }
            () if !lists.iter().any(|list| list.is_empty() || list.contains(&by)) => {
                return Err(Illegal(format!("{by} is not among those who may approve")));
            }
            () if self.inner.approvals.contains(&by) => return Err(Illegal(format!("{by} approved already"))),
            () => {}
        }
        effects.push(Effect::Persist);
        self.announce(effects, Kind::Approval, Severity::Info, &by, format!("{by} approved"));
        self.inner.approvals.push(by);
        Ok(())
    }
}
