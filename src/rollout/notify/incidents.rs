//! What nobody looked at yet, and who is told when nobody does. Pure: the time is handed in.
//!
//! An **incident** is what happened to one rollout, or to one service outside of rollouts, that an escalation wants to
//! hear of. It is over when somebody acknowledges it or does something about it (pauses, resumes, rolls back, approves,
//! kills, lets go), when it ends by itself (unless the rule insists on an acknowledgement), or when everybody was told.
//! What a person did is no incident: somebody is there.

use std::sync::Arc;

use super::super::event::{Event, Kind, Severity};
use super::wants::wants;
use super::{Escalated, Message};
use crate::model::Name;
use crate::model::notify::{Escalation, Until};

/// Most incidents at once; of more, the oldest is let go.
pub(super) const OPEN_MAX: usize = 256;

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Incidents(Vec<Incident>);

/// Something that somebody has to look at.
#[derive(Debug, Clone)]
pub(super) struct Incident {
    pub(super) service: String,
    pub(super) rollout_id: Option<String>,
    /// Its first event, in ms since the Unix epoch.
    pub(super) since_ms: u64,
    /// Its newest event among the worst.
    pub(super) event: Arc<Event>,
    pub(super) events: u64,
    /// Who is still to be told.
    pub(super) rungs: Vec<Rung>,
}

/// One rule that waits.
#[derive(Debug, Clone)]
pub(super) struct Rung {
    /// As it was when it began to wait.
    pub(super) rule: Escalation,
    pub(super) due_ms: u64,
    pub(super) told: bool,
}

// === impl Incidents ===

impl Incidents {
    /// What was open before a restart.
    pub(super) fn restored(open: impl Iterator<Item = Incident>) -> Self {
        Self(open.filter(Incident::waits).take(OPEN_MAX).collect())
    }

    /// Takes note of an event.
    pub(super) fn hear(&mut self, rules: &[Escalation], event: &Arc<Event>, now_ms: u64) {
        if acts(event) {
            self.end(|incident| event.service.is_empty() || incident.service == event.service);
            return;
        }
        if ends(event) {
            for incident in self.0.iter_mut().filter(|incident| incident.is_about(event)) {
                incident.rungs.retain(|rung| rung.rule.until == Until::Acknowledged);
            }
            self.0.retain(Incident::waits);
        }
        if is_by_a_person(event) {
            return;
        }
        for rule in rules.iter().filter(|rule| wants(&rule.wants, event)) {
            let incident = self.of(event);
            if !incident.rungs.iter().any(|rung| rung.rule == *rule) {
                let due_ms = now_ms.saturating_add(rule.after.as_millis() as u64);
                incident.rungs.push(Rung { rule: rule.clone(), due_ms, told: false });
            }
        }
        if let Some(incident) = self.0.iter_mut().find(|incident| incident.is_about(event)) {
            incident.events += 1;
            if event.severity >= incident.event.severity {
                incident.event = Arc::clone(event);
            }
        }
    }

    /// The incident that an event belongs to.
    fn of(&mut self, event: &Arc<Event>) -> &mut Incident {
        let at = self.0.iter().position(|incident| incident.is_about(event)).unwrap_or_else(|| {
            if self.0.len() >= OPEN_MAX {
                self.0.remove(0);
            }
            self.0.push(Incident {
                service: event.service.clone(),
                rollout_id: event.rollout_id.clone(),
                since_ms: event.at_ms,
                event: Arc::clone(event),
                events: 0,
                rungs: Vec::new(),
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Who is told now.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<(Name, Message)> {
        let mut due = Vec::new();
        for incident in &mut self.0 {
            let Incident { since_ms, event, events, rungs, .. } = incident;
            for rung in rungs.iter_mut().filter(|rung| !rung.told && rung.due_ms <= now_ms) {
                rung.told = true;
                let after_ms = rung.rule.after.as_millis() as u64;
                let escalated = Some(Escalated { since_ms: *since_ms, after_ms, events: *events });
                let message = Message { event: Arc::clone(event), held_back: 0, escalated };
                due.extend(rung.rule.channels.iter().map(|channel| (channel.clone(), message.clone())));
            }
        }
        self.0.retain(Incident::waits);
        due
    }

    /// When something will be due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.iter().flat_map(|incident| &incident.rungs).filter(|rung| !rung.told).map(|rung| rung.due_ms).min()
    }

    /// Somebody looks at it; how much it was.
    pub(super) fn end(&mut self, which: impl Fn(&Incident) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|incident| !which(incident));
        before - self.0.len()
    }

    /// What is open, oldest first.
    pub(super) fn open(&self) -> &[Incident] {
        &self.0
    }
}

// === impl Incident ===

impl Incident {
    fn is_about(&self, event: &Event) -> bool {
        self.service == event.service && self.rollout_id == event.rollout_id
    }

    fn waits(&self) -> bool {
        self.rungs.iter().any(|rung| !rung.told)
    }

    /// Who is told next, and in how many ms.
    pub(super) fn next(&self, now_ms: u64) -> Vec<(Name, u64)> {
        let waiting = self.rungs.iter().filter(|rung| !rung.told);
        let channels = waiting.flat_map(|rung| rung.rule.channels.iter().map(|channel| (channel, rung.due_ms)));
        channels.map(|(channel, due_ms)| (channel.clone(), due_ms.saturating_sub(now_ms))).collect()
    }
}

/// Whether somebody did something about the service.
fn acts(event: &Event) -> bool {
    let does = match event.kind {
        Kind::RolloutPaused
        | Kind::RolloutResumed
        | Kind::RollbackInitiated
        | Kind::Approval
        | Kind::Killed
        | Kind::Unkilled => true,
        Kind::NewVersionDetected
        | Kind::RolloutInitiated
        | Kind::CanaryStarted
        | Kind::CanaryCompleted
        | Kind::PhaseStarted
        | Kind::PhaseCompleted
        | Kind::GateChanged
        | Kind::RolloutCompleted
        | Kind::RollbackCompleted
        | Kind::Alarm
        | Kind::Action
        | Kind::KillSwitch => false,
    };
    does && is_by_a_person(event)
}

/// Whether what went wrong is over, although nobody looked.
fn ends(event: &Event) -> bool {
    match event.kind {
        Kind::RolloutCompleted | Kind::RolloutResumed | Kind::Unkilled => true,
        // One that could not be verified is none.
        Kind::RollbackCompleted => event.severity == Severity::Info,
        _ => false,
    }
}

/// weir says who: itself, or a part of it and its name.
fn is_by_a_person(event: &Event) -> bool {
    let parts = ["gate ", "kill switch ", "switch ", "trigger ", "action "];
    event.who != "weir" && !parts.iter().any(|part| event.who.starts_with(part))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::tests::{event, named};
    use super::*;
    use crate::model::notify::{Least, Wants};

    fn rule(after_s: u64, channel: &str, until: Until) -> Escalation {
        let wants = Wants { events: Vec::new(), least: Least::Critical, services: Vec::new() };
        Escalation { wants, after: Duration::from_secs(after_s), channels: vec![named(channel)], until }
    }

    fn critical(id: u64, kind: Kind) -> Arc<Event> {
        Arc::new(event(id, kind, Severity::Critical))
    }

    fn told(incidents: &mut Incidents, now_ms: u64) -> Vec<(String, u64)> {
        incidents.due(now_ms).into_iter().map(|(channel, it)| (channel.to_string(), it.event.id)).collect()
    }

    #[test]
    fn each_rung_is_told_once_after_its_time_with_the_worst_of_what_happened() {
        let rules = [rule(60, "lead", Until::Ended), rule(300, "boss", Until::Ended)];
        let mut incidents = Incidents::default();
        incidents.hear(&rules, &Arc::new(event(1, Kind::GateChanged, Severity::Warning)), 0);
        assert_eq!(incidents.next_ms(), None, "a warning is not escalated");
        incidents.hear(&rules, &critical(2, Kind::Alarm), 1_000);
        incidents.hear(&rules, &Arc::new(event(3, Kind::GateChanged, Severity::Warning)), 2_000);
        incidents.hear(&rules, &critical(4, Kind::Alarm), 30_000);
        assert_eq!(incidents.next_ms(), Some(61_000), "the first one counts");
        assert!(told(&mut incidents, 60_999).is_empty());
        let due = incidents.due(61_000);
        let escalated = Escalated { since_ms: 2_000, after_ms: 60_000, events: 3 };
        assert_eq!(due.len(), 1);
        assert_eq!((&*due[0].0, due[0].1.event.id, due[0].1.escalated), ("lead", 4, Some(escalated)));
        assert!(told(&mut incidents, 300_999).is_empty());
        assert_eq!(told(&mut incidents, 301_000), [("boss".to_owned(), 4)]);
        assert!(incidents.open().is_empty());
        incidents.hear(&rules, &critical(5, Kind::Alarm), 400_000);
        assert_eq!(told(&mut incidents, 460_000), [("lead".to_owned(), 5)], "what happens anew is escalated anew");
    }

    #[test]
    fn what_ends_by_itself_is_not_escalated_unless_a_rule_insists() {
        let rules = [rule(60, "lead", Until::Ended), rule(60, "boss", Until::Acknowledged)];
        let mut incidents = Incidents::default();
        incidents.hear(&rules, &critical(1, Kind::RollbackInitiated), 0);
        incidents.hear(&rules, &Arc::new(event(2, Kind::RollbackCompleted, Severity::Info)), 5_000);
        assert_eq!(told(&mut incidents, 60_000), [("boss".to_owned(), 1)]);
        incidents.hear(&rules, &critical(3, Kind::RollbackInitiated), 0);
        incidents.hear(&rules, &critical(4, Kind::RollbackCompleted), 5_000);
        assert_eq!(told(&mut incidents, 60_000).len(), 2, "a rollback that is not verified is not over");
    }

    #[test]
    fn who_does_something_about_it_or_acknowledges_it_ends_it() {
        let rules = [rule(60, "boss", Until::Acknowledged)];
        let mut incidents = Incidents::default();
        let by = |who: &str, id, kind| Arc::new(Event { who: who.into(), ..event(id, kind, Severity::Info) });
        incidents.hear(&rules, &critical(1, Kind::Alarm), 0);
        incidents.hear(&rules, &by("gate errors", 2, Kind::RolloutPaused), 1);
        incidents.hear(&rules, &by("ci", 3, Kind::RolloutInitiated), 2);
        assert_eq!(incidents.open().len(), 1, "neither a gate nor the next rollout is somebody who looks");
        incidents.hear(&rules, &by("ann", 4, Kind::RolloutPaused), 3);
        assert!(incidents.open().is_empty());
        incidents.hear(&rules, &Arc::new(Event { who: "ann".into(), ..event(5, Kind::Killed, Severity::Critical) }), 4);
        assert!(incidents.open().is_empty(), "she knows what she did");
        incidents.hear(&rules, &critical(6, Kind::Alarm), 5);
        assert_eq!(incidents.end(|incident| incident.service == "shop"), 0);
        assert_eq!(incidents.end(|incident| incident.service == "engine"), 1);
        assert!(told(&mut incidents, 100_000).is_empty());
    }

    #[test]
    fn any_number_of_incidents_costs_bounded_memory() {
        let mut incidents = Incidents::default();
        for id in 0..1_000 {
            let rollout_id = Some(format!("r-{id}"));
            let event = Arc::new(Event { rollout_id, ..event(id, Kind::Alarm, Severity::Critical) });
            incidents.hear(&[rule(60, "lead", Until::Ended)], &event, id);
        }
        assert_eq!(incidents.open().len(), OPEN_MAX);
        assert_eq!(incidents.open()[0].event.id, 1_000 - OPEN_MAX as u64, "the oldest are let go");
    }

    proptest! {
        #[test]
        fn nobody_is_told_early_nor_of_what_is_over_and_everybody_is_told_in_the_end(
            steps in prop::collection::vec((0_u64..90_000, 0_usize..5, 0_usize..2), 1..120),
        ) {
            let rules = [rule(60, "lead", Until::Ended), rule(100, "boss", Until::Acknowledged)];
            let mut incidents = Incidents::default();
            // What the rules promise, kept in the plainest way: for each service, since when each rung waits.
            let mut waiting: [[Option<u64>; 2]; 2] = Default::default();
            let mut now = 0;
            for (id, (passed, kind, service)) in steps.into_iter().enumerate() {
                now += passed;
                let mut due: Vec<String> =
                    incidents.due(now).iter().map(|(name, it)| format!("{name} {}", it.event.service)).collect();
                let mut expected = Vec::new();
                for (at, rungs) in waiting.iter_mut().enumerate() {
                    for (rung, (name, after)) in rungs.iter_mut().zip([("lead", 60_000), ("boss", 100_000)]) {
                        if rung.is_some_and(|since| since + after <= now) {
                            // Told, and no more until the whole incident is over.
                            *rung = Some(u64::MAX / 2);
                            expected.push(format!("{name} s{at}"));
                        }
                    }
                    if rungs.iter().all(|rung| rung.is_none_or(|since| since == u64::MAX / 2)) {
                        *rungs = [None, None];
                    }
                }
                due.sort();
                expected.sort();
                prop_assert_eq!(due, expected);
                let (kind, severity, who) = [
                    (Kind::Alarm, Severity::Critical, "weir"),
                    (Kind::RolloutCompleted, Severity::Info, "weir"),
                    (Kind::RolloutPaused, Severity::Info, "ann"),
                    (Kind::PhaseStarted, Severity::Info, "weir"),
                    (Kind::Alarm, Severity::Warning, "weir"),
                ][kind];
                let rungs = &mut waiting[service];
                match (kind, severity) {
                    (Kind::Alarm, Severity::Critical) => {
                        rungs.iter_mut().for_each(|rung| *rung = rung.or(Some(now)));
                    }
                    (Kind::RolloutCompleted, _) => {
                        rungs[0] = None;
                        if rungs[1].is_none_or(|since| since == u64::MAX / 2) {
                            *rungs = [None, None];
                        }
                    }
                    (Kind::RolloutPaused, _) => *rungs = [None, None],
                    _ => {}
                }
                let service = format!("s{service}");
                let event = Event { who: who.into(), service, ..event(id as u64, kind, severity) };
                incidents.hear(&rules, &Arc::new(event), now);
            }
            let left = waiting.iter().flatten().flatten().filter(|since| **since != u64::MAX / 2).count();
            prop_assert_eq!(incidents.due(now + 100_000).len(), left);
            prop_assert!(incidents.open().is_empty());
        }
    }
}
