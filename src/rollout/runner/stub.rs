//! STUB of machine and judge until theirs are there.
use super::super::event::{Kind, Severity};
use super::super::machine::*;
use super::super::verdict::*;
use crate::model::rollout::{RolloutPlan, Share};

pub(crate) fn new_rollout(
    id: String,
    plan: RolloutPlan,
    who: &str,
    reason: &str,
    at_ms: u64,
    before: Share,
) -> Rollout {
    Rollout {
        id,
        plan,
        started_by: who.into(),
        reason: reason.into(),
        started_at_ms: at_ms,
        ended_at_ms: None,
        state: State::Pending,
        phase: 0,
        share: before,
        share_before: before,
        intended: before,
        watched_ms: 0,
        phase_ms: 0,
        verdict: Verdict::Inconclusive,
        because: String::new(),
        inner: Inner::default(),
    }
}

fn say(kind: Kind, severity: Severity, message: &str) -> Effect {
    Effect::Announce { kind, severity, who: "weir".into(), message: message.into() }
}

fn enter(rollout: &mut Rollout, phase: usize) -> Vec<Effect> {
    rollout.phase = phase;
    rollout.phase_ms = 0;
    rollout.state = State::RollingOut;
    rollout.intended = rollout.plan.phases[phase].live_share();
    vec![
        Effect::Persist,
        Effect::BeginPhase { phase },
        Effect::SetShare { share: rollout.intended, reason: format!("phase {}", phase + 1) },
        say(Kind::PhaseStarted, Severity::Info, &format!("phase {} began", phase + 1)),
    ]
}

fn back(rollout: &mut Rollout, now: u64, why: &str) -> Vec<Effect> {
    rollout.state = State::RolledBack;
    rollout.because = why.into();
    rollout.ended_at_ms = Some(now);
    rollout.intended = Share::ZERO;
    vec![
        Effect::SetShare { share: Share::ZERO, reason: why.into() },
        Effect::Persist,
        say(Kind::RollbackInitiated, Severity::Critical, why),
        Effect::Verify,
        Effect::Release,
    ]
}

pub(crate) fn step(rollout: &mut Rollout, now: u64, input: Input) -> Result<Vec<Effect>, Illegal> {
    let live = rollout.state.is_live();
    Ok(match input {
        Input::Start => {
            let mut effects = vec![say(Kind::RolloutInitiated, Severity::Info, "started")];
            effects.extend(enter(rollout, 0));
            effects
        }
        Input::Recovered { .. } if live => enter(rollout, rollout.phase),
        Input::Tick { elapsed_ms, judgement, .. } => {
            rollout.verdict = judgement.verdict;
            rollout.watched_ms += elapsed_ms;
            match (rollout.state, judgement.verdict) {
                (State::RollingOut, Verdict::Fail) => back(rollout, now, &judgement.reason),
                (State::RollingOut, verdict) => {
                    rollout.phase_ms += elapsed_ms;
                    let phase = &rollout.plan.phases[rollout.phase];
                    let over = rollout.phase_ms >= phase.min_duration.as_millis() as u64;
                    match (verdict == Verdict::ShownSafe && over, rollout.phase + 1 < rollout.plan.phases.len()) {
                        (true, true) => enter(rollout, rollout.phase + 1),
                        (true, false) => {
                            rollout.state = State::Completed;
                            rollout.ended_at_ms = Some(now);
                            vec![
                                Effect::Persist,
                                say(Kind::RolloutCompleted, Severity::Info, "completed"),
                                Effect::Release,
                            ]
                        }
                        _ => vec![],
                    }
                }
                _ => vec![],
            }
        }
        Input::Command { command, reason, .. } => match (command, rollout.state) {
            (Command::Pause, State::RollingOut) => {
                rollout.state = State::Paused;
                rollout.because = reason;
                vec![Effect::Persist, say(Kind::RolloutPaused, Severity::Info, "paused")]
            }
            (Command::Resume, State::Paused) => {
                rollout.state = State::RollingOut;
                vec![Effect::Persist, say(Kind::RolloutResumed, Severity::Info, "resumed")]
            }
            (Command::Advance { .. }, State::RollingOut) if rollout.phase + 1 < rollout.plan.phases.len() => {
                enter(rollout, rollout.phase + 1)
            }
            (Command::Rollback, _) if live => back(rollout, now, &reason),
            (command, state) => return Err(Illegal(format!("{command:?} in {state:?}"))),
        },
        Input::Applied { share } => {
            rollout.share = share;
            vec![Effect::Persist]
        }
        Input::HandEdit { share, who } if live => {
            rollout.share = share;
            rollout.state = State::Paused;
            rollout.because = format!("{who} changed the weights");
            vec![Effect::Persist, say(Kind::RolloutPaused, Severity::Warning, "hand edit")]
        }
        _ => vec![],
    })
}
