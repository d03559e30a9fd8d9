//! Properties of the machine over random inputs.

use proptest::prelude::*;

use super::tests::{begun, command, judged, share};
use super::*;
use crate::model::rollout::{OnFailure, OnInconclusive, RollbackStrategy};
use crate::rollout::testing::{errors, plan};

fn inputs() -> impl Strategy<Value = Input> {
    let verdicts = prop_oneof![
        Just(Verdict::ShownSafe),
        Just(Verdict::Inconclusive),
        Just(Verdict::NoTraffic),
        Just(Verdict::Error),
        Just(Verdict::EnvironmentDegraded),
        Just(Verdict::Fail),
    ];
    let commands = prop_oneof![
        Just(Command::Pause),
        Just(Command::Resume),
        any::<bool>().prop_map(|force| Command::Advance { force }),
        Just(Command::Rollback),
        Just(Command::Cancel),
    ];
    prop_oneof![
        8 => (1_u64..400, verdicts, any::<[bool; 2]>()).prop_map(|(seconds, verdict, [closed, waits])| Input::Tick {
            elapsed_ms: seconds * 1000,
            judgement: Box::new(Judgement { only_waits: waits && verdict == Verdict::Fail, ..*judged(verdict) }),
            window_closed: closed.then(|| "frozen".into()),
        }),
        3 => commands.prop_map(command),
        1 => (0_u32..=100).prop_map(|p| Input::HandEdit { share: share(f64::from(p)), who: "bob".into() }),
        1 => Just(Input::Killed { reason: "smoke".into() }),
        1 => Just(Input::Unkilled),
        1 => any::<bool>().prop_map(|ok| Input::Verified { ok, detail: String::new() }),
        1 => Just(Input::Refused { share: Share::ZERO, why: "no".into() }),
    ]
}

fn policies() -> impl Strategy<Value = RolloutPlan> {
    let failure = prop_oneof![Just(OnFailure::Rollback), Just(OnFailure::Pause), Just(OnFailure::Hold)];
    let inconclusive = prop_oneof![
        Just(OnInconclusive::Extend),
        Just(OnInconclusive::Pause),
        Just(OnInconclusive::Advance),
        Just(OnInconclusive::Rollback),
    ];
    let strategy =
        prop_oneof![Just(RollbackStrategy::Immediate), Just(RollbackStrategy::Gradual), Just(RollbackStrategy::Phased)];
    (failure, inconclusive, strategy, any::<bool>(), any::<bool>()).prop_map(
        |(on_failure, on_inconclusive, strategy, auto_advance, auto_rollback)| {
            let mut plan = plan(&[1.0, 10.0, 50.0, 100.0], vec![errors()]);
            (plan.on_failure, plan.on_inconclusive) = (on_failure, on_inconclusive);
            (plan.auto_advance, plan.auto_rollback) = (auto_advance, auto_rollback);
            plan.rollback.strategy = strategy;
            plan
        },
    )
}

proptest! {
    #[test]
    fn whatever_happens_the_share_is_the_phase_s_and_stable_is_one_command_away(
        plan in policies(), inputs in prop::collection::vec(inputs(), 1..60),
    ) {
        let mut rollout = begun(plan);
        for input in inputs {
            let (phase, share, state) = (rollout.phase, rollout.share, rollout.state);
            let (verdict, by_hand, edited) = match &input {
                Input::Tick { judgement, .. } => (Some(judgement.verdict), false, false),
                Input::Command { .. } => (None, true, false),
                Input::HandEdit { .. } => (None, false, true),
                _ => (None, false, false),
            };
            let before = rollout.clone();
            let Ok(mut effects) = rollout.step(5_000, input) else {
                prop_assert_eq!(&before, &rollout, "an illegal command changed something");
                continue;
            };
            let mut next = 0;
            while next < effects.len() {
                if let Effect::SetShare { share, .. } = effects[next] {
                    effects.extend(rollout.step(5_000, Input::Applied { share }).expect("no command"));
                }
                next += 1;
            }
            // Missing data never moves on, nor does a failure, and that never raises the share.
            if matches!(verdict, Some(Verdict::NoTraffic | Verdict::Error | Verdict::Fail)) {
                prop_assert_eq!(rollout.phase, phase);
            }
            if matches!(verdict, Some(Verdict::Fail)) {
                prop_assert!(rollout.share <= share);
            }
            prop_assert!(rollout.phase <= phase + 1 && rollout.phase >= phase);
            if !by_hand && !edited && rollout.phase == phase {
                // Only a resume that weir itself may take sets the phase's share again.
                prop_assert!(rollout.share <= share.max(rollout.plan.phases[phase].live_share()));
            }
            if !state.is_live() {
                prop_assert!(rollout.share <= share || edited);
            }
            // What is written down goes on in the same way.
            let text = serde_json::to_string(&rollout).expect("it is data");
            let kept: Rollout = serde_json::from_str(&text).expect("it is its own");
            prop_assert_eq!(&kept, &rollout);
            // Stable is one command away from every state that is not there already.
            let mut back = rollout.clone();
            match back.step(5_000, command(Command::Rollback)) {
                Ok(effects) => {
                    let to_zero = matches!(effects[0], Effect::SetShare { share: Share::ZERO, .. });
                    prop_assert!(to_zero, "{:?}", effects);
                }
                Err(_) => {
                    let back = rollout.inner.retreat.is_none() || rollout.share == Share::ZERO;
                    prop_assert!(rollout.state == State::RolledBack && back);
                }
            }
        }
    }
}
