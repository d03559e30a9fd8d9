//! What no kill switch does, whatever happens to it.

use std::time::Duration;

use proptest::prelude::*;

use super::machine::{Effect, Input, State, Switch};
use super::watch::Seen;
use crate::model::{KillSwitch, Name, Recovery, Scope};

/// Something that happens: to the switch, or to the kill word by another hand.
#[derive(Debug, Clone)]
enum Happens {
    Tick(u64, Seen, bool),
    Pull,
    LetGo,
    Cancel,
    Failed,
    /// The process ends and what is kept is read again.
    Restart,
    /// Somebody kills by the file.
    Kill,
}

fn happens() -> impl Strategy<Value = Happens> {
    let seen = prop_oneof![Just(Seen::Unknown), Just(Seen::Idle), Just(Seen::Clear), Just(Seen::Tripped("bad".into()))];
    prop_oneof![
        12 => (prop_oneof![Just(100_u64), Just(1_000), Just(60_000)], seen, any::<bool>())
            .prop_map(|(ms, seen, serves)| Happens::Tick(ms, seen, serves)),
        1 => Just(Happens::Pull),
        1 => Just(Happens::LetGo),
        1 => Just(Happens::Cancel),
        1 => Just(Happens::Failed),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Kill),
    ]
}

fn spec() -> KillSwitch {
    let name = |text| Name::new(text).unwrap();
    let recovery = Recovery {
        delay: Duration::from_secs(2),
        attempts: 2,
        probation: Duration::from_secs(1),
        cooldown: Duration::from_secs(5),
    };
    let spec = KillSwitch::new(name("errors"), Scope::Service(name("engine")));
    KillSwitch { recovery: Some(recovery), grace: Duration::from_millis(1_500), ..spec }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn only_a_person_ends_what_a_person_or_the_last_attempt_killed(steps in prop::collection::vec(happens(), 1..80)) {
        let (spec, mut switch, mut live) = (spec(), Switch::default(), None::<String>);
        let (mut by_person, mut grace_ms) = (false, 0_u64);
        for step in steps {
            let before = switch.clone();
            let person = matches!(step, Happens::Pull | Happens::LetGo | Happens::Cancel);
            let was_mine = by_person;
            let input = match step.clone() {
                Happens::Tick(elapsed_ms, seen, serves) => {
                    Input::Tick { elapsed_ms, live: live.clone(), who: String::new(), seen, serves }
                }
                Happens::Pull => Input::Pull { who: "kim".into(), reason: "mine".into() },
                Happens::LetGo => Input::LetGo { who: "kim".into(), reason: String::new() },
                Happens::Cancel => Input::Cancel { who: "kim".into(), reason: String::new() },
                // What it did last did not take.
                Happens::Failed => {
                    match switch.state {
                        State::Killed if !by_person && !switch.foreign => live = None,
                        State::Recovering if !by_person => live = Some("kill switch errors: bad".into()),
                        _ => continue,
                    }
                    Input::Failed { why: "no disk".into() }
                }
                Happens::Restart => {
                    let kept = serde_json::to_string(&switch).unwrap();
                    switch = serde_json::from_str(&kept).unwrap();
                    continue;
                }
                Happens::Kill => {
                    (live, by_person) = (Some("the file".into()), true);
                    continue;
                }
            };
            let Ok(effects) = switch.step(&spec, 1, input) else {
                prop_assert_eq!(&switch, &before, "what is refused changes nothing");
                continue;
            };
            for effect in &effects {
                match effect {
                    Effect::Kill { reason, person: by } => {
                        prop_assert!(*by == person);
                        if *by || live.is_none() {
                            (live, by_person) = (Some(reason.clone()), *by);
                        }
                    }
                    Effect::LetGo { only: Some(own) } => {
                        prop_assert!(!person && before.state == State::Killed, "{before:?}");
                        if live.as_ref() == Some(own) {
                            prop_assert!(!by_person, "a person's kill was let go");
                            live = None;
                        }
                    }
                    Effect::LetGo { only: None } => {
                        prop_assert!(matches!(step, Happens::LetGo));
                        (live, by_person) = (None, false);
                    }
                    Effect::Forget | Effect::Tell { .. } => {}
                }
            }
            match step {
                Happens::Pull => prop_assert!(live.as_deref() == Some("mine") && switch.state == State::Killed),
                Happens::LetGo => prop_assert!(switch.state == State::Armed),
                _ => prop_assert!(!was_mine || live.is_some(), "traffic came back without a person"),
            }
            if before.state == State::Exhausted && !person {
                prop_assert!(switch.state.kills() && live.is_some(), "{:?}", switch);
            }
            // By itself it kills only after a whole grace, or while on probation.
            if let Happens::Tick(ms, ..) = step {
                grace_ms = if before.state == State::Grace { grace_ms + ms } else { 0 };
                let killed = effects.iter().any(|effect| matches!(effect, Effect::Kill { .. }));
                let failed = before.left_ms == 1;
                prop_assert!(!killed || failed || before.state == State::Recovering || grace_ms >= 1_500);
            }
            prop_assert!(switch.attempts <= 2);
        }
    }
}
