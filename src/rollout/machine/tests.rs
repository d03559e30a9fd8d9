//! What the machine promises.

use std::time::Duration;

use super::*;
use crate::model::rollout::RollbackStrategy;
use crate::model::rollout::{Act, Ask, Gate, OnActionError, OnFailure, OnInconclusive, PlannedAction, When};
use crate::rollout::testing::{errors, plan};

pub(super) fn share(percent: f64) -> Share {
    Share::from_percent(percent).expect("a percentage")
}

pub(super) fn judged(verdict: Verdict) -> Box<Judgement> {
    Box::new(Judgement {
        verdict,
        gates: Vec::new(),
        bound: None,
        reason: format!("{verdict:?}"),
        may_wait: false,
        only_waits: false,
        self_test: None,
        sample_ratio: None,
    })
}

fn tick(seconds: u64, verdict: Verdict) -> Input {
    Input::Tick { elapsed_ms: seconds * 1000, judgement: judged(verdict), window_closed: None }
}

pub(super) fn command(command: Command) -> Input {
    Input::Command { command, who: "ann".into(), reason: String::new() }
}

fn rollout(plan: RolloutPlan) -> Rollout {
    Rollout::new("r-1".into(), plan, "ann".into(), String::new(), 1_000, Share::ZERO)
}

/// Does what an obedient runner does: whatever is asked for is live at once.
fn drive(rollout: &mut Rollout, input: Input) -> Vec<Effect> {
    let mut all = rollout.step(2_000, input).expect("a legal command");
    let mut next = 0;
    while next < all.len() {
        if let Effect::SetShare { share, .. } = all[next] {
            all.extend(rollout.step(2_000, Input::Applied { share }).expect("no command"));
        }
        next += 1;
    }
    all
}

pub(super) fn begun(plan: RolloutPlan) -> Rollout {
    let mut rollout = rollout(plan);
    drive(&mut rollout, Input::Start { window_closed: None });
    rollout
}

fn told(effects: &[Effect]) -> Vec<Kind> {
    let kinds = effects.iter().filter_map(|effect| match effect {
        Effect::Announce { kind, .. } => Some(*kind),
        _ => None,
    });
    kinds.collect()
}

#[test]
fn shown_safe_and_the_least_time_lead_through_the_phases_to_the_end() {
    let mut rollout = rollout(plan(&[5.0, 50.0, 100.0], vec![errors()]));
    let effects = drive(&mut rollout, Input::Start { window_closed: None });
    assert_eq!((rollout.state, rollout.share), (State::RollingOut, share(5.0)));
    assert_eq!(told(&effects), [Kind::RolloutInitiated, Kind::CanaryStarted, Kind::PhaseStarted]);
    drive(&mut rollout, tick(9, Verdict::ShownSafe));
    assert_eq!(rollout.phase, 0);
    drive(&mut rollout, tick(1, Verdict::ShownSafe));
    assert_eq!((rollout.phase, rollout.share), (1, share(50.0)));
    let effects = drive(&mut rollout, tick(10, Verdict::ShownSafe));
    assert_eq!(told(&effects), [Kind::PhaseCompleted, Kind::CanaryCompleted, Kind::PhaseStarted]);
    let effects = drive(&mut rollout, tick(10, Verdict::ShownSafe));
    assert_eq!((rollout.state, rollout.share), (State::Completed, share(100.0)));
    assert_eq!(told(&effects), [Kind::PhaseCompleted, Kind::RolloutCompleted]);
    assert_eq!(effects.last(), Some(&Effect::Release));
}

#[test]
fn a_failed_gate_moves_the_traffic_back_before_anything_else() {
    let mut rollout = begun(plan(&[5.0, 100.0], vec![errors()]));
    let effects = rollout.step(3_000, tick(1, Verdict::Fail)).expect("no command");
    assert!(matches!(effects[0], Effect::SetShare { share: Share::ZERO, .. }), "{effects:?}");
    assert_eq!(rollout.state, State::RolledBack);
    let effects = drive(&mut rollout, Input::Applied { share: Share::ZERO });
    assert!(effects.contains(&Effect::Verify) && rollout.holds_service());
    let effects = drive(&mut rollout, Input::Verified { ok: true, detail: "all is well".into() });
    assert_eq!(told(&effects), [Kind::RollbackCompleted]);
    assert!(!rollout.holds_service());
}

#[test]
fn a_rollback_that_takes_too_long_is_an_alarm_once_and_goes_on() {
    let mut plan = plan(&[50.0], vec![errors()]);
    plan.rollback.max_duration = Duration::from_secs(30);
    let mut rollout = begun(plan);
    drive(&mut rollout, tick(1, Verdict::Fail));
    assert!(rollout.holds_service(), "it is verified");
    let looks: Vec<usize> = (0..12)
        .map(|_| {
            told(&drive(&mut rollout, tick(5, Verdict::Inconclusive))).iter().filter(|it| **it == Kind::Alarm).count()
        })
        .collect();
    assert_eq!(looks, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let effects = drive(&mut rollout, Input::Verified { ok: true, detail: "all is well".into() });
    assert_eq!((told(&effects), rollout.holds_service()), (vec![Kind::RollbackCompleted], false));
}

#[test]
fn a_rollback_that_is_refused_is_asked_for_again_until_it_is_live() {
    let mut rollout = begun(plan(&[5.0], vec![errors()]));
    rollout.step(3_000, tick(1, Verdict::Fail)).expect("no command");
    let refused = Input::Refused { share: Share::ZERO, why: "the disk is gone".into() };
    assert_eq!(told(&rollout.step(3_000, refused).expect("no command")), [Kind::Alarm]);
    let effects = rollout.step(4_000, tick(1, Verdict::Inconclusive)).expect("no command");
    assert!(matches!(effects[0], Effect::SetShare { share: Share::ZERO, .. }), "{effects:?}");
}

#[test]
fn gradual_and_phased_rollbacks_go_in_steps_and_a_person_cuts_them_short() {
    for (strategy, expected) in [
        (RollbackStrategy::Gradual, vec![50.0, 25.0, 12.5, 6.25, 3.125, 1.5625, 0.0]),
        (RollbackStrategy::Phased, vec![25.0, 5.0, 0.0]),
        (RollbackStrategy::Immediate, vec![0.0]),
    ] {
        let mut plan = plan(&[5.0, 25.0, 100.0], vec![errors()]);
        plan.rollback.strategy = strategy;
        let mut rollout = begun(plan);
        drive(&mut rollout, command(Command::Advance { force: true }));
        drive(&mut rollout, command(Command::Advance { force: true }));
        let mut seen = Vec::new();
        drive(&mut rollout, tick(1, Verdict::Fail));
        seen.push(rollout.share.percent());
        while rollout.share > Share::ZERO {
            let effects = drive(&mut rollout, tick(10, Verdict::Inconclusive));
            assert!(effects.iter().any(|effect| matches!(effect, Effect::SetShare { .. })));
            seen.push(rollout.share.percent());
        }
        assert_eq!(seen, expected, "{strategy:?}");
    }
    let mut plan = plan(&[50.0], vec![errors()]);
    plan.rollback.strategy = RollbackStrategy::Gradual;
    let mut rollout = begun(plan);
    drive(&mut rollout, tick(1, Verdict::Fail));
    assert_eq!(rollout.share, share(25.0));
    drive(&mut rollout, command(Command::Rollback));
    assert_eq!(rollout.share, Share::ZERO);
}

#[test]
fn a_pause_keeps_the_share_and_the_alarms_go_on() {
    let mut rollout = begun(plan(&[5.0, 100.0], vec![errors()]));
    drive(&mut rollout, command(Command::Pause));
    drive(&mut rollout, tick(1000, Verdict::ShownSafe));
    assert_eq!((rollout.state, rollout.share, rollout.phase_ms), (State::Paused, share(5.0), 0));
    assert!(rollout.step(0, command(Command::Pause)).is_err());
    drive(&mut rollout, command(Command::Resume));
    assert!(rollout.step(0, command(Command::Resume)).is_err());
    drive(&mut rollout, command(Command::Pause));
    drive(&mut rollout, tick(1, Verdict::Fail));
    assert_eq!((rollout.state, rollout.share), (State::RolledBack, Share::ZERO));
}

#[test]
fn a_bad_stable_pauses_and_its_recovery_resumes() {
    let mut rollout = begun(plan(&[5.0, 100.0], vec![errors()]));
    let effects = drive(&mut rollout, tick(1, Verdict::EnvironmentDegraded));
    assert_eq!((rollout.state, told(&effects)), (State::Paused, vec![Kind::RolloutPaused, Kind::Alarm]));
    drive(&mut rollout, tick(20, Verdict::Inconclusive));
    drive(&mut rollout, tick(1, Verdict::EnvironmentDegraded));
    drive(&mut rollout, tick(29, Verdict::Inconclusive));
    assert_eq!(rollout.state, State::Paused);
    drive(&mut rollout, tick(1, Verdict::Inconclusive));
    assert_eq!(rollout.state, State::RollingOut);
}

#[test]
fn a_hand_edit_wins_and_pauses_and_resume_sets_the_phase_again() {
    let mut rollout = begun(plan(&[5.0, 100.0], vec![errors()]));
    drive(&mut rollout, Input::HandEdit { share: share(80.0), who: "bob".into() });
    assert_eq!((rollout.state, rollout.share), (State::Paused, share(80.0)));
    drive(&mut rollout, tick(1, Verdict::Fail));
    assert_eq!(rollout.state, State::Paused);
    drive(&mut rollout, tick(1, Verdict::Inconclusive));
    drive(&mut rollout, command(Command::Resume));
    assert_eq!((rollout.state, rollout.share), (State::RollingOut, share(5.0)));
}

#[test]
fn what_is_not_enough_in_time_goes_by_the_plan_and_never_forward_on_nothing() {
    for (policy, verdict, state, phase) in [
        (OnInconclusive::Extend, Verdict::Inconclusive, State::RollingOut, 0),
        (OnInconclusive::Pause, Verdict::Inconclusive, State::Paused, 0),
        (OnInconclusive::Advance, Verdict::Inconclusive, State::RollingOut, 1),
        (OnInconclusive::Advance, Verdict::NoTraffic, State::Paused, 0),
        (OnInconclusive::Rollback, Verdict::Inconclusive, State::RolledBack, 0),
        (OnInconclusive::Rollback, Verdict::Error, State::Paused, 0),
    ] {
        let mut plan = plan(&[5.0, 100.0], vec![errors()]);
        plan.on_inconclusive = policy;
        let mut rollout = begun(plan);
        drive(&mut rollout, tick(600, verdict));
        assert_eq!((rollout.state, rollout.phase), (state, phase), "{policy:?} {verdict:?}");
    }
    let mut plan = plan(&[5.0, 100.0], vec![errors()]);
    plan.deadline = Some(Duration::from_secs(60));
    let mut rollout = begun(plan);
    drive(&mut rollout, tick(60, Verdict::Inconclusive));
    assert_eq!(rollout.state, State::Paused);
}

#[test]
fn a_freeze_blocks_starting_and_advancing_and_never_a_rollback() {
    let mut rollout = rollout(plan(&[5.0, 100.0], vec![errors()]));
    let closed = || Some("frozen until Monday".to_owned());
    drive(&mut rollout, Input::Start { window_closed: closed() });
    assert_eq!(rollout.state, State::Pending);
    drive(&mut rollout, tick(1, Verdict::NoTraffic));
    assert_eq!(rollout.state, State::RollingOut);
    let frozen = |verdict| Input::Tick { elapsed_ms: 20_000, judgement: judged(verdict), window_closed: closed() };
    drive(&mut rollout, frozen(Verdict::ShownSafe));
    assert_eq!(rollout.phase, 0);
    assert!(rollout.step(0, command(Command::Advance { force: false })).is_err());
    drive(&mut rollout, frozen(Verdict::Fail));
    assert_eq!(rollout.share, Share::ZERO);
}

#[test]
fn a_failing_gate_is_passed_only_by_force() {
    let mut plan = plan(&[5.0, 50.0], vec![errors()]);
    plan.on_failure = OnFailure::Pause;
    let mut rollout = begun(plan);
    drive(&mut rollout, tick(1, Verdict::Fail));
    assert_eq!(rollout.state, State::Paused);
    assert!(rollout.step(0, command(Command::Resume)).is_err());
    assert!(rollout.step(0, command(Command::Advance { force: false })).is_err());
    drive(&mut rollout, command(Command::Advance { force: true }));
    assert_eq!((rollout.state, rollout.phase), (State::RollingOut, 1));
}

#[test]
fn a_held_rollout_watches_and_never_advances_by_itself() {
    let mut plan = plan(&[5.0, 50.0], vec![errors()]);
    plan.on_failure = OnFailure::Hold;
    let mut rollout = begun(plan);
    assert_eq!(told(&drive(&mut rollout, tick(1, Verdict::Fail))), [Kind::Alarm]);
    assert_eq!(told(&drive(&mut rollout, tick(1, Verdict::Fail))), []);
    drive(&mut rollout, tick(10_000, Verdict::ShownSafe));
    assert_eq!((rollout.state, rollout.phase), (State::RollingOut, 0));
}

#[test]
fn a_plain_failure_waits_for_the_delay_and_can_be_cancelled() {
    let mut plan = plan(&[5.0], vec![errors()]);
    plan.rollback.delay = Duration::from_secs(30);
    let fails = || {
        let judgement = Box::new(Judgement { may_wait: true, ..*judged(Verdict::Fail) });
        Input::Tick { elapsed_ms: 10_000, judgement, window_closed: None }
    };
    let mut rollout = begun(plan.clone());
    (0..3).for_each(|_| drop(drive(&mut rollout, fails())));
    assert_eq!(rollout.state, State::RollingOut);
    drive(&mut rollout, fails());
    assert_eq!(rollout.state, State::RolledBack);
    let mut rollout = begun(plan);
    drive(&mut rollout, fails());
    drive(&mut rollout, command(Command::Cancel));
    (0..9).for_each(|_| drop(drive(&mut rollout, fails())));
    assert_eq!(rollout.state, State::Paused);
}

#[test]
fn a_completed_rollout_goes_back_at_once_while_the_previous_version_is_kept() {
    let mut rollout = begun(plan(&[100.0], vec![errors()]));
    drive(&mut rollout, tick(10, Verdict::ShownSafe));
    assert_eq!(rollout.state, State::Completed);
    let late = 2_000 + 3_600_001;
    assert!(rollout.clone().step(late, command(Command::Rollback)).is_err());
    drive(&mut rollout, command(Command::Rollback));
    assert_eq!((rollout.state, rollout.share), (State::RolledBack, Share::ZERO));
}

#[test]
fn start_actions_and_approvals_come_before_the_first_share() {
    let ask = Ask::Approval { approvers: vec!["bob".into(), "cy".into()], count: 1, when: When::Start };
    let approval = Gate { name: "approval".into(), dry_run: false, ask };
    let mut plan = plan(&[5.0], vec![errors(), approval]);
    plan.actions.push(PlannedAction {
        name: "freeze".into(),
        at: Moment::Start,
        act: Act::DrainConnections,
        timeout: Duration::from_secs(1),
        on_error: OnActionError::Stop,
    });
    let mut rollout = rollout(plan);
    let effects = drive(&mut rollout, Input::Start { window_closed: None });
    assert!(effects.contains(&Effect::Act { moment: Moment::Start }));
    let mut failed = Rollout::clone(&rollout);
    drive(&mut failed, Input::Acted { moment: Moment::Start, ok: false, detail: "no".into() });
    assert_eq!((failed.state, failed.because.as_str()), (State::RolledBack, "preflight failed: no"));
    drive(&mut rollout, Input::Acted { moment: Moment::Start, ok: true, detail: String::new() });
    for (by, legal) in [("ann", false), ("eve", false), ("bob", true), ("bob", false)] {
        let given = rollout.step(0, command(Command::Approve { by: by.into() }));
        assert_eq!(given.is_ok(), legal, "{by}");
    }
    assert!(matches!(rollout.approval(&["bob".into(), "cy".into()], 1), Outcome::Passed { .. }));
    assert!(matches!(rollout.approval(&["bob".into(), "cy".into()], 2), Outcome::Waiting { .. }));
    assert_eq!(rollout.state, State::Pending);
    drive(&mut rollout, tick(1, Verdict::NoTraffic));
    assert_eq!(rollout.state, State::RollingOut);
    rollout.inner.gates.insert("approval".into(), Verdict::ShownSafe);
    let late = rollout.step(0, command(Command::Approve { by: "cy".into() }));
    assert_eq!(late, Err(Illegal("it has its approvals".into())));
}

#[test]
fn after_a_crash_what_was_intended_is_done_and_anything_else_is_a_hand_edit() {
    let mut rollout = begun(plan(&[5.0, 50.0], vec![errors()]));
    rollout.step(0, tick(10, Verdict::ShownSafe)).expect("no command");
    assert_eq!((rollout.share, rollout.intended), (share(5.0), share(50.0)));
    for (live, expected) in [(5.0, share(50.0)), (50.0, share(50.0)), (7.0, share(7.0))] {
        let mut again = rollout.clone();
        drive(&mut again, Input::Recovered { live: share(live) });
        assert_eq!((again.share, again.phase), (expected, 1), "{live}");
        assert_eq!(again.state == State::Paused, live == 7.0);
    }
    rollout.step(0, tick(1, Verdict::Fail)).expect("no command");
    drive(&mut rollout, Input::Recovered { live: share(50.0) });
    assert_eq!(rollout.share, Share::ZERO);
}

#[test]
fn a_dry_run_decides_everything_and_moves_nothing() {
    let mut plan = plan(&[5.0, 100.0], vec![errors()]);
    plan.dry_run = true;
    let mut rollout = rollout(plan);
    let mut effects = drive(&mut rollout, Input::Start { window_closed: None });
    effects.extend(drive(&mut rollout, tick(10, Verdict::ShownSafe)));
    effects.extend(drive(&mut rollout, tick(10, Verdict::Fail)));
    assert_eq!(rollout.state, State::RolledBack);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SetShare { .. })));
}

#[test]
fn a_failure_that_waits_keeps_the_share_until_it_holds_again_and_never_passes() {
    let waits = |seconds: u64| {
        let judgement = Box::new(Judgement { only_waits: true, ..*judged(Verdict::Fail) });
        Input::Tick { elapsed_ms: seconds * 1000, judgement, window_closed: None }
    };
    let mut rollout = begun(plan(&[5.0, 50.0], vec![errors()]));
    (0..50).for_each(|_| drop(drive(&mut rollout, waits(10))));
    assert_eq!((rollout.state, rollout.phase, rollout.share), (State::RollingOut, 0, share(5.0)));
    drive(&mut rollout, tick(1, Verdict::ShownSafe));
    assert_eq!((rollout.state, rollout.phase), (State::RollingOut, 1));
    // When the phase had its time it is not passed, whatever is done without evidence.
    for (policy, expected) in [
        (OnInconclusive::Advance, State::Paused),
        (OnInconclusive::Pause, State::Paused),
        (OnInconclusive::Extend, State::RollingOut),
        (OnInconclusive::Rollback, State::RolledBack),
    ] {
        let mut plan = plan(&[5.0, 50.0], vec![errors()]);
        plan.on_inconclusive = policy;
        let mut rollout = begun(plan);
        (0..70).for_each(|_| drop(drive(&mut rollout, waits(10))));
        assert_eq!((rollout.state, rollout.phase), (expected, 0), "{policy:?}");
    }
    // Who paused it finds it where it was.
    let mut rollout = begun(plan(&[5.0], vec![errors()]));
    drive(&mut rollout, command(Command::Pause));
    drive(&mut rollout, waits(10));
    assert_eq!((rollout.state, rollout.share), (State::Paused, share(5.0)));
    drive(&mut rollout, tick(1, Verdict::Fail));
    assert_eq!(rollout.state, State::RolledBack);
}
