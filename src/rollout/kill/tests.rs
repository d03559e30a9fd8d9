//! The ways of a kill switch, one after the other.

use std::time::Duration;

use super::machine::{Effect, Input, News, State, Switch};
use super::watch::Seen;
use crate::model::{KillSwitch, Name, Recovery, Scope};

fn spec() -> KillSwitch {
    let name = |text| Name::new(text).unwrap();
    let recovery = Recovery {
        delay: Duration::from_secs(300),
        attempts: 2,
        probation: Duration::from_secs(60),
        cooldown: Duration::from_secs(600),
    };
    KillSwitch { recovery: Some(recovery), ..KillSwitch::new(name("errors"), Scope::Service(name("engine"))) }
}

fn bad() -> Seen {
    Seen::Tripped("30 % failed".into())
}

const OWN: &str = "kill switch errors: 30 % failed";

/// A switch and the kill word that stands in the file.
struct Bench {
    spec: KillSwitch,
    switch: Switch,
    live: Option<String>,
    serves: bool,
    news: Vec<News>,
}

impl Bench {
    fn new() -> Self {
        Self { spec: spec(), switch: Switch::default(), live: None, serves: true, news: Vec::new() }
    }

    fn give(&mut self, input: Input) -> bool {
        self.news.clear();
        let Ok(effects) = self.switch.step(&self.spec, 7, input) else { return false };
        for effect in effects {
            match effect {
                Effect::Kill { reason, person } if person || self.live.is_none() => self.live = Some(reason),
                Effect::LetGo { only } if only.is_none() || only == self.live => self.live = None,
                Effect::Tell { news, .. } => self.news.push(news),
                Effect::Kill { .. } | Effect::LetGo { .. } | Effect::Forget => {}
            }
        }
        true
    }

    fn tick(&mut self, seconds: u64, seen: Seen) -> State {
        let (live, serves) = (self.live.clone(), self.serves);
        self.give(Input::Tick { elapsed_ms: seconds * 1000, live, who: "kim".into(), seen, serves });
        self.switch.state
    }

    /// Killed by its trigger.
    fn killed() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.tick(1, bad()), State::Grace);
        assert_eq!(bench.tick(30, bad()), State::Killed);
        assert_eq!(bench.live.as_deref(), Some(OWN));
        bench
    }

    fn recovering() -> Self {
        let mut bench = Self::killed();
        assert_eq!(bench.tick(300, Seen::Unknown), State::Recovering);
        assert_eq!(bench.live, None);
        bench
    }
}

fn person(word: &str) -> Input {
    let (who, reason) = ("kim".to_owned(), "because".to_owned());
    match word {
        "pull" => Input::Pull { who, reason },
        "cancel" => Input::Cancel { who, reason },
        _ => Input::LetGo { who, reason },
    }
}

#[test]
fn a_trigger_kills_after_its_grace_and_not_before() {
    let mut bench = Bench::new();
    assert_eq!(bench.tick(1, Seen::Unknown), State::Armed);
    assert_eq!(bench.tick(1, bad()), State::Grace);
    assert_eq!((bench.switch.left_ms, &bench.news[..]), (30_000, &[News::Grace][..]));
    assert_eq!(bench.tick(29, bad()), State::Grace);
    assert_eq!(bench.live, None);
    assert_eq!(bench.tick(1, Seen::Unknown), State::Killed, "not knowing stops no countdown");
    assert_eq!((bench.switch.who.as_str(), bench.switch.why.as_str()), ("kill switch errors", "30 % failed"));
}

#[test]
fn without_a_grace_it_kills_at_once() {
    let mut bench = Bench::new();
    bench.spec.grace = Duration::ZERO;
    assert_eq!(bench.tick(1, bad()), State::Killed);
    assert_eq!(bench.live.as_deref(), Some(OWN));
}

#[test]
fn a_countdown_ends_when_the_trigger_lets_go_or_somebody_cancels() {
    let mut bench = Bench::new();
    bench.tick(1, bad());
    assert_eq!(bench.tick(10, Seen::Clear), State::Armed);
    assert_eq!(bench.tick(1, bad()), State::Grace, "it is heard again at once");
    assert!(bench.give(person("cancel")));
    assert_eq!((bench.switch.state, bench.switch.who.as_str()), (State::Armed, "kim"));
    assert_eq!(bench.tick(599, bad()), State::Armed, "what was cancelled is not heard for a while");
    assert_eq!(bench.tick(1, bad()), State::Grace);
    assert!(bench.give(person("cancel")));
    bench.tick(1, Seen::Clear);
    assert_eq!(bench.tick(1, bad()), State::Grace, "after it was clear it is news");
    assert_eq!(bench.live, None);
}

#[test]
fn a_countdown_ends_when_nothing_goes_to_what_it_watches_any_more() {
    let mut bench = Bench::new();
    bench.tick(1, bad());
    assert_eq!(bench.tick(29, bad()), State::Grace);
    assert_eq!(bench.tick(1, Seen::Idle), State::Armed, "the last second does not kill");
    assert_eq!((&bench.news[..], bench.live.as_deref()), (&[News::Cancelled][..], None));
    assert!(bench.switch.why.contains("no new request"), "{}", bench.switch.why);
    assert_eq!(bench.tick(600, Seen::Idle), State::Armed);
    let mut bench = Bench::recovering();
    assert_eq!(bench.tick(600, Seen::Idle), State::Recovering, "without traffic nothing is shown");
}

#[test]
fn a_person_kills_at_once_from_any_state_and_only_a_person_lets_go() {
    for mut bench in [Bench::new(), Bench::killed(), Bench::recovering()] {
        assert!(bench.give(person("pull")));
        assert_eq!((bench.switch.state, bench.live.as_deref()), (State::Killed, Some("because")));
        (0..100).for_each(|_| _ = bench.tick(300, Seen::Clear));
        assert_eq!((bench.switch.state, bench.live.as_deref()), (State::Killed, Some("because")));
        assert!(bench.give(person("let go")));
        assert_eq!((bench.switch.state, bench.live.as_deref()), (State::Armed, None));
    }
}

#[test]
fn it_comes_back_by_attempts_and_is_armed_after_a_clear_probation() {
    let mut bench = Bench::killed();
    assert_eq!(bench.tick(299, Seen::Unknown), State::Killed);
    assert_eq!(bench.tick(1, Seen::Unknown), State::Recovering);
    assert_eq!((bench.live.as_deref(), bench.switch.attempts), (None, 1));
    assert_eq!(bench.tick(3_600, Seen::Unknown), State::Recovering, "without traffic nothing is shown");
    assert_eq!(bench.tick(59, Seen::Clear), State::Recovering);
    assert_eq!(bench.tick(1, Seen::Clear), State::Armed);
    assert_eq!((&bench.news[..], bench.switch.attempts), (&[News::Recovered][..], 1));
    bench.tick(600, Seen::Clear);
    assert_eq!(bench.switch.attempts, 0, "after the quiet time it begins anew");
}

#[test]
fn a_failed_attempt_kills_without_grace_and_the_last_one_leaves_it_to_a_person() {
    let mut bench = Bench::recovering();
    assert_eq!(bench.tick(1, bad()), State::Killed);
    assert_eq!((bench.live.as_deref(), bench.switch.left_ms), (Some(OWN), 300_000));
    assert_eq!(bench.tick(300, Seen::Unknown), State::Recovering);
    assert_eq!(bench.tick(1, bad()), State::Exhausted);
    assert_eq!(bench.news, [News::AttemptFailed, News::Killed, News::Exhausted]);
    for seen in [Seen::Clear, Seen::Unknown, bad()] {
        assert_eq!(bench.tick(100_000, seen), State::Exhausted);
    }
    assert_eq!(bench.live.as_deref(), Some(OWN));
    assert!(!bench.give(person("cancel")));
    assert!(bench.give(person("let go")));
    assert_eq!((bench.switch.state, bench.live.as_deref(), bench.switch.attempts), (State::Armed, None, 0));
}

#[test]
fn an_attempt_with_nothing_to_come_back_to_fails_and_moves_nothing() {
    let mut bench = Bench::killed();
    bench.serves = false;
    assert_eq!(bench.tick(300, Seen::Unknown), State::Killed);
    assert_eq!((bench.live.as_deref(), bench.switch.attempts), (Some(OWN), 1));
    assert_eq!(bench.tick(300, Seen::Unknown), State::Exhausted);
    assert_eq!(bench.live.as_deref(), Some(OWN));
}

#[test]
fn what_somebody_else_killed_is_not_let_go_by_itself_and_what_they_let_go_is_armed() {
    let mut bench = Bench::killed();
    bench.live = Some("do not touch".into());
    assert_eq!(bench.tick(1, Seen::Unknown), State::Killed);
    assert_eq!((bench.switch.foreign, bench.switch.who.as_str()), (true, "kim"));
    (0..10).for_each(|_| _ = bench.tick(300, Seen::Clear));
    assert_eq!(bench.live.as_deref(), Some("do not touch"));
    bench.live = None;
    assert_eq!(bench.tick(1, Seen::Unknown), State::Armed);
    assert_eq!(bench.news, [News::Elsewhere]);
}

#[test]
fn its_own_kill_is_known_again_after_a_crash_between_two_steps() {
    let mut bench = Bench::new();
    bench.live = Some(OWN.into());
    bench.switch.attempts = 1;
    assert_eq!(bench.tick(1, Seen::Unknown), State::Killed);
    assert_eq!((bench.switch.foreign, bench.switch.why.as_str(), bench.switch.attempts), (false, "30 % failed", 1));
    assert_eq!(bench.tick(300, Seen::Unknown), State::Recovering);
    assert_eq!(bench.switch.attempts, 2);
}

#[test]
fn what_cannot_be_done_is_tried_again() {
    let mut bench = Bench::killed();
    bench.live = None;
    assert!(bench.give(Input::Failed { why: "no disk".into() }));
    assert_eq!(bench.tick(1, Seen::Unknown), State::Killed);
    assert_eq!(bench.live.as_deref(), Some(OWN));
    bench.tick(300, Seen::Unknown);
    bench.live = Some(OWN.into());
    assert!(bench.give(Input::Failed { why: "read-only".into() }));
    assert_eq!(bench.tick(1, Seen::Unknown), State::Killed);
    assert_eq!((bench.switch.attempts, bench.switch.left_ms), (1, 300_000));
}

#[test]
fn one_that_is_switched_off_kills_nothing_and_lets_nothing_go() {
    let mut bench = Bench::new();
    bench.spec.enabled = false;
    assert_eq!(bench.tick(100, bad()), State::Armed);
    let mut bench = Bench::killed();
    bench.spec.enabled = false;
    assert_eq!(bench.tick(3_000, Seen::Clear), State::Killed);
    assert!(bench.give(person("pull")), "people may always");
}

#[test]
fn a_word_that_means_nothing_changes_nothing() {
    for word in ["cancel", "let go"] {
        let mut bench = Bench::new();
        let before = bench.switch.clone();
        assert!(!bench.give(person(word)));
        assert_eq!(bench.switch, before);
    }
}

#[test]
fn what_is_kept_is_read_again() {
    let bench = Bench::recovering();
    let text = serde_json::to_string(&bench.switch).unwrap();
    assert_eq!(serde_json::from_str::<Switch>(&text).unwrap(), bench.switch);
}
