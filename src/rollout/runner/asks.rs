//! Gates outside: when each is asked, and what becomes of its answer. At most one question of a gate is under way; one
//! that was asked for another phase is forgotten when it comes back. No share rises on an answer that was given before
//! the phase had its own: what is asked again and again, too, is asked anew in each.
//!
//! Approvals are asked nobody: what people said is part of the rollout and is only looked at.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::event::{Kind, Severity};
use super::super::machine::{Rollout, State};
use super::super::outside::prometheus::{self, Series};
use super::super::outside::{self, Said};
use super::super::verdict::{Judgement, Outcome, Verdict};
use super::context::context;
use super::drive::Drive;
use super::errands::{Back, FALLEN};
use crate::model::rollout::{Ask, Gate, OnProviderError, When};

/// The least time between two looks at a file; one look costs next to nothing.
const LOOK: Duration = Duration::from_secs(1);

/// The gates outside of one rollout.
#[derive(Debug, Default)]
pub(super) struct Asks {
    clocks: BTreeMap<String, Clock>,
    memory: BTreeMap<String, Memory>,
    /// Rises with every question.
    turn: usize,
}

/// When a gate was asked last.
#[derive(Debug, Default)]
struct Clock {
    /// Or when the phase began.
    asked: Option<Instant>,
    /// It was asked in this phase.
    in_phase: bool,
    under_way: bool,
    /// The question that is under way was for another phase.
    stale: bool,
    /// It was told that it waits for somebody.
    told: bool,
}

/// What is known of a gate and kept over a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    passed: bool,
    series: Series,
}

/// What is to be done about a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Ask,
    /// What it said was said too early.
    Forget,
}

/// The last of so many parts of the most time of a phase is its end.
const NEARLY_OVER: u64 = 4;

// === impl Asks ===

impl Asks {
    /// Goes on with what was kept.
    pub(super) fn new(memory: BTreeMap<String, Memory>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// What is to be kept.
    pub(super) fn memory(&self) -> &BTreeMap<String, Memory> {
        &self.memory
    }

    fn due(&self, gate: &Gate, ready: bool, now: Instant) -> Due {
        let none = Clock::default();
        let clock = self.clocks.get(&gate.name).unwrap_or(&none);
        let passed = self.memory.get(&gate.name).is_some_and(|memory| memory.passed);
        let least = if matches!(gate.ask, Ask::Signoff { .. }) { LOOK } else { gate.ask.interval() };
        let rested = clock.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= least);
        let wanted = match gate.ask.when() {
            When::Start => !passed,
            When::Phase if !ready && passed => return Due::Forget,
            When::Phase => ready && !passed,
            When::Always => true,
        };
        let last_word = gate.ask.when() == When::Always && ready && !clock.in_phase;
        if wanted && (rested || last_word) && !clock.under_way { Due::Ask } else { Due::Nothing }
    }

    /// A phase begins: what is asked in each is asked anew, and nothing at once, since nothing is to be seen yet.
    fn begin_phase(&mut self, gate: &Gate, now: Instant) {
        let clock = self.clocks.entry(gate.name.clone()).or_default();
        let asked = (gate.ask.when() == When::Always).then_some(now);
        *clock = Clock { asked, under_way: clock.under_way, stale: clock.under_way, ..Clock::default() };
        self.forget(&gate.name);
    }

    /// A question goes out.
    fn asks(&mut self, name: &str, now: Instant) {
        let clock = self.clocks.entry(name.to_owned()).or_default();
        (clock.asked, clock.in_phase, clock.under_way) = (Some(now), true, true);
        self.turn = self.turn.wrapping_add(1);
    }

    /// Whether a gate's answer of this phase is still to come, however long it takes.
    fn is_last_word(&self, gate: &Gate) -> bool {
        let asked = self.clocks.get(&gate.name).is_some_and(|clock| clock.in_phase && !clock.under_way);
        match gate.ask.when() {
            _ if !gate.ask.is_outside() => false,
            When::Start => false,
            When::Phase => true,
            When::Always => !asked && !matches!(gate.ask, Ask::Approval { .. }),
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(memory) = self.memory.get_mut(name) {
            memory.passed = false;
        }
    }

    /// A question came back: whether its answer counts.
    fn returned(&mut self, name: &str) -> bool {
        let Some(clock) = self.clocks.get_mut(name) else { return false };
        clock.under_way = false;
        !std::mem::take(&mut clock.stale)
    }

    /// What an answer means, beside those before it.
    fn judge(&mut self, gate: &Gate, said: Said) -> Outcome {
        let memory = self.memory.entry(gate.name.clone()).or_default();
        let outcome = match (said, &gate.ask) {
            (Said::Outcome(outcome), _) => outcome,
            (Said::Number(number), Ask::Prometheus(check)) => prometheus::judge(check, number, &mut memory.series),
            (Said::Number(_), _) => Outcome::Unavailable { detail: "a number where none was asked for".into() },
        };
        memory.passed = matches!(outcome, Outcome::Passed { .. });
        outcome
    }
}

/// Whether the phase is about to end: its least time is over, and the rest holds or its most time is nearly over.
fn ready(asks: &Asks, rollout: &Rollout, judgement: Option<&Judgement>) -> bool {
    let Some(phase) = rollout.plan.phases.get(rollout.phase) else { return false };
    if !rollout.inner.begun || rollout.phase_ms < phase.min_duration.as_millis() as u64 {
        return false;
    }
    let last_word = |name: &str| {
        let mut gates = rollout.plan.gates_of(rollout.phase);
        gates.any(|gate| gate.name == name && asks.is_last_word(gate))
    };
    let warns = rollout.plan.on_provider_error == OnProviderError::Warn;
    let holds = |verdict: Verdict| verdict.holds() || warns && verdict == Verdict::Error;
    let others = judgement.map(|judgement| judgement.gates.as_slice()).unwrap_or_default().iter();
    let mut others = others.filter(|gate| !gate.dry_run && !last_word(&gate.name));
    if others.all(|gate| holds(gate.verdict)) {
        return judgement.is_some();
    }
    let asked = rollout.plan.gates_of(rollout.phase).filter(|gate| last_word(&gate.name));
    let takes = asked.map(|gate| gate.ask.takes()).max().unwrap_or_default();
    let most_ms = phase.max_duration.max(phase.min_duration).as_millis() as u64;
    // Its longest answer may take longer than the phase; that makes no moment in the middle of it the end.
    let takes_ms = (takes.as_millis() as u64).min(most_ms / NEARLY_OVER);
    let left_ms = most_ms.saturating_sub(rollout.phase_ms.saturating_sub(rollout.inner.extended_ms));
    let deadline_ms = rollout.plan.deadline.map_or(u64::MAX, |deadline| deadline.as_millis() as u64);
    let left_ms = left_ms.min(deadline_ms.saturating_sub(rollout.watched_ms));
    left_ms <= takes_ms
}

// === impl Drive ===

impl Drive {
    /// Asks what is due.
    pub(super) fn ask(&mut self) {
        let rollout = &self.rollout;
        if !rollout.state.is_live() || self.released {
            return self.errands.stop_asking();
        }
        if !rollout.inner.prepared {
            return;
        }
        let (ready, now) = (ready(&self.asks, rollout, self.judgement.as_ref()), Instant::now());
        let mut approvals = Vec::new();
        for gate in rollout.plan.gates_of(rollout.phase).filter(|gate| gate.ask.is_outside()) {
            if matches!(gate.ask, Ask::Approval { .. }) {
                approvals.push(gate.clone());
                continue;
            }
            match self.asks.due(gate, ready, now) {
                Due::Nothing => {}
                Due::Forget => {
                    self.asks.forget(&gate.name);
                    self.judge.asked(&gate.name, None);
                }
                Due::Ask => {
                    self.asks.asks(&gate.name, now);
                    let mut context = context(&self.office, rollout, format!("gate {}", gate.name));
                    context.turn = self.asks.turn;
                    let (name, ask) = (gate.name.clone(), gate.ask.clone());
                    let outcome = Outcome::Unavailable { detail: FALLEN.into() };
                    let fallen = Back::Asked { gate: name.clone(), said: Said::Outcome(outcome) };
                    let asked = self.errands.ask(fallen, async move {
                        let said = outside::ask(&ask, &context).await;
                        Back::Asked { gate: name, said }
                    });
                    if !asked {
                        self.asks.returned(&gate.name);
                    }
                }
            }
        }
        for gate in approvals {
            self.approval(&gate, ready);
        }
    }

    /// Looks who has approved.
    fn approval(&mut self, gate: &Gate, ready: bool) {
        let Ask::Approval { approvers, count, when } = &gate.ask else { return };
        let memory = self.asks.memory.entry(gate.name.clone()).or_default();
        // Approvals before the first share are not asked for again when phases begin.
        if *when == When::Start && memory.passed {
            return;
        }
        let outcome = self.rollout.approval(approvers, *count);
        memory.passed = matches!(outcome, Outcome::Passed { .. });
        let due = self.rollout.state == State::Pending || ready || *when == When::Always;
        self.waits(gate, &outcome, due);
        self.judge.asked(&gate.name, Some(outcome));
    }

    /// Tells once that a gate waits for somebody.
    fn waits(&mut self, gate: &Gate, outcome: &Outcome, due: bool) {
        let Outcome::Waiting { detail } = outcome else { return };
        let clock = self.asks.clocks.entry(gate.name.clone()).or_default();
        if due && !gate.dry_run && !std::mem::replace(&mut clock.told, true) {
            let (who, message) = (format!("gate {}", gate.name), format!("{}: {detail}", gate.name));
            self.announce(Kind::Approval, Severity::Warning, who, message);
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, name: &str, said: Said) {
        let counts = self.asks.returned(name);
        let gate = self.rollout.plan.gates_of(self.rollout.phase).find(|gate| gate.name == name).cloned();
        let Some(gate) = gate.filter(|_| counts) else { return };
        let outcome = self.asks.judge(&gate, said);
        if matches!(gate.ask, Ask::Signoff { .. }) {
            self.waits(&gate, &outcome, true);
        }
        self.judge.asked(name, Some(outcome));
    }

    /// A phase begins: its last words have not been said.
    pub(super) fn ask_anew(&mut self) {
        let (asked, now) = (|gate: &&Gate| gate.ask.is_outside() && gate.ask.when() != When::Start, Instant::now());
        for gate in self.rollout.plan.gates_of(self.rollout.phase).filter(asked) {
            self.asks.begin_phase(gate, now);
            self.judge.asked(&gate.name, None);
        }
    }

    pub(super) fn window(&self) -> Option<String> {
        super::super::windows::closed(&self.rollout.plan.windows, super::office::now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rollout::{CommandCheck, Share};
    use crate::rollout::testing;
    use crate::rollout::verdict::GateVerdict;

    fn gate(name: &str, when: When) -> Gate {
        let seconds = Duration::from_secs;
        let check = CommandCheck {
            command: vec!["true".into()],
            env: BTreeMap::new(),
            timeout: seconds(20),
            retries: 1,
            interval: seconds(10),
            when,
        };
        Gate { name: name.into(), dry_run: false, ask: Ask::Command(check) }
    }

    fn passed() -> Said {
        Said::Outcome(Outcome::Passed { detail: "exit 0".into(), value: None })
    }

    fn refused() -> Said {
        Said::Outcome(Outcome::Failed { detail: "exit 1".into(), value: None })
    }

    /// Asks at this second, and says what was answered a second later.
    fn answer(asks: &mut Asks, gate: &Gate, at: Instant, said: Said) {
        assert_eq!(asks.due(gate, true, at), Due::Ask);
        asks.asks(&gate.name, at);
        assert_eq!(asks.due(gate, true, at + Duration::from_secs(100)), Due::Nothing, "one question at a time");
        assert!(asks.returned(&gate.name));
        asks.judge(gate, said);
    }

    #[test]
    fn a_gate_of_the_start_is_asked_until_it_passes_and_one_of_always_for_ever() {
        let (mut asks, began) = (Asks::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let (start, always) = (gate("start", When::Start), gate("always", When::Always));
        answer(&mut asks, &start, at(0), refused());
        answer(&mut asks, &always, at(0), passed());
        assert_eq!([&start, &always].map(|gate| asks.due(gate, false, at(9))), [Due::Nothing, Due::Nothing]);
        assert_eq!([&start, &always].map(|gate| asks.due(gate, false, at(10))), [Due::Ask, Due::Ask]);
        answer(&mut asks, &start, at(10), passed());
        assert_eq!(asks.due(&start, false, at(1_000)), Due::Nothing);
        let again = Asks::new(asks.memory().clone());
        assert_eq!(again.due(&start, false, at(1_000)), Due::Nothing, "also after a restart");
    }

    #[test]
    fn the_last_word_of_a_phase_is_asked_when_it_is_ready_and_anew_in_the_next_one() {
        let (mut asks, now) = (Asks::default(), Instant::now());
        let smoke = gate("smoke", When::Phase);
        assert_eq!(asks.due(&smoke, false, now), Due::Nothing);
        answer(&mut asks, &smoke, now, passed());
        assert_eq!(asks.due(&smoke, true, now + Duration::from_secs(100)), Due::Nothing);
        assert_eq!(asks.due(&smoke, false, now), Due::Forget, "the evidence is no longer enough");
        asks.forget("smoke");
        asks.begin_phase(&smoke, now);
        assert_eq!(asks.due(&smoke, true, now), Due::Ask);
        asks.asks("smoke", now);
        asks.begin_phase(&smoke, now);
        assert_eq!(asks.due(&smoke, true, now), Due::Nothing, "the old question is under way");
        assert!(!asks.returned("smoke"), "its answer is for a phase that is over");
        assert_eq!(asks.due(&smoke, true, now), Due::Ask);
    }

    #[test]
    fn an_answer_of_the_phase_before_does_not_count_in_the_next_one() {
        let (mut asks, now) = (Asks::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let always = gate("always", When::Always);
        answer(&mut asks, &always, now, passed());
        assert!(!asks.is_last_word(&always));
        asks.begin_phase(&always, at(1));
        assert!(asks.is_last_word(&always) && !asks.memory()["always"].passed);
        assert_eq!(asks.due(&always, false, at(5)), Due::Nothing, "so soon there is nothing to be seen");
        assert_eq!(asks.due(&always, true, at(5)), Due::Ask, "but the phase is about to end");
        assert_eq!(asks.due(&always, false, at(11)), Due::Ask);
        answer(&mut asks, &always, at(11), passed());
        assert_eq!(asks.due(&always, true, at(12)), Due::Nothing);
    }

    #[test]
    fn a_phase_is_ready_when_its_least_time_is_over_and_the_rest_holds_or_its_most_time_ends() {
        let plan = testing::plan(&[5.0, 50.0], vec![testing::errors(), gate("smoke", When::Phase)]);
        let mut rollout = Rollout::new("r".into(), plan, "ann".into(), String::new(), 0, Share::ZERO);
        rollout.inner.begun = true;
        let mut said = crate::rollout::judge::Judge::new(&rollout.plan).judgement();
        let mut say = |name: &str, verdict: Verdict| {
            let of_name = |gate: &&mut GateVerdict| gate.name == name;
            said.gates.iter_mut().find(of_name).expect("a gate").verdict = verdict;
            said.clone()
        };
        let serving = say("serving", Verdict::ShownSafe);
        let well = say("error_rate", Verdict::ShownSafe);
        rollout.phase_ms = 9_999;
        assert!(!ready(&Asks::default(), &rollout, Some(&well)), "its least time is 10 s");
        rollout.phase_ms = 10_000;
        assert!(ready(&Asks::default(), &rollout, Some(&well)) && !ready(&Asks::default(), &rollout, None));
        let open = say("error_rate", Verdict::Inconclusive);
        assert!(!ready(&Asks::default(), &rollout, Some(&open)) && !ready(&Asks::default(), &rollout, Some(&serving)));
        // Two tries of 20 s and 10 s between them, of 600 s.
        rollout.phase_ms = 549_999;
        assert!(!ready(&Asks::default(), &rollout, Some(&open)));
        rollout.phase_ms = 550_000;
        assert!(ready(&Asks::default(), &rollout, Some(&open)));
        rollout.plan.phases[0].max_duration = Duration::from_secs(20);
        rollout.phase_ms = 14_999;
        assert!(!ready(&Asks::default(), &rollout, Some(&open)), "its longest answer takes 50 s, the phase 20");
        rollout.phase_ms = 15_000;
        assert!(ready(&Asks::default(), &rollout, Some(&open)));
        rollout.plan.phases[0].max_duration = Duration::from_secs(600);
        rollout.phase_ms = 550_000;
        rollout.inner.extended_ms = 550_000;
        assert!(!ready(&Asks::default(), &rollout, Some(&open)), "it was given as much again");
    }
}
