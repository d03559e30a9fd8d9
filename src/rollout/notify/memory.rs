//! What notifications keep in the journal, so that a restart neither loses what waits nor forgets what nobody looked
//! at. What was being sent may be sent once more; its number is the same. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::event::Event;
use super::incidents::{Incident, Incidents, Rung};
use super::wants::wants;
use super::{Escalated, Message};
use crate::model::notify::{Channel, Escalation, Notifications};

/// The word in the journal.
pub(super) const KEY: &str = "notifications";

/// Events that are told after a restart; more than that is no news any more.
pub(super) const REPLAYED_MAX: u64 = 500;

/// Older events are not told after a restart.
pub(super) const REPLAYED_AGE_MS: u64 = 3_600_000;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    /// Every event up to this one was heard.
    pub(super) heard: u64,
    /// By channel: the events up to that one that wait for it. All others were told, or are not for it.
    waiting: BTreeMap<String, BTreeSet<u64>>,
    /// What nobody looked at.
    open: Vec<KeptIncident>,
    /// What was escalated and waits to be told.
    escalated: Vec<KeptMessage>,
}

/// An escalation that a channel was not told yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeptMessage {
    channel: String,
    event: Event,
    since_ms: u64,
    after_ms: u64,
    events: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptIncident {
    event: Event,
    since_ms: u64,
    events: u64,
    rungs: Vec<KeptRung>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptRung {
    after_ms: u64,
    channels: Vec<String>,
    due_ms: u64,
    told: bool,
}

// === impl Memory ===

impl Memory {
    /// Nothing happened yet after this event.
    pub(super) fn after(last: u64) -> Self {
        Self { heard: last, ..Self::default() }
    }

    /// What is to be kept now; without [`Memory::waits`] nothing waits.
    pub(super) fn of(heard: u64, incidents: &Incidents) -> Self {
        Self { open: incidents.open().iter().map(KeptIncident::of).collect(), ..Self::after(heard) }
    }

    /// These messages wait for a channel, the one under way included.
    pub(super) fn waits<'m>(&mut self, channel: &str, messages: impl Iterator<Item = &'m Message>) {
        let newest = self.heard;
        for message in messages {
            match message.escalated {
                // What is older is not read again.
                None if message.event.id.saturating_add(REPLAYED_MAX) > newest => {
                    self.waiting.entry(channel.to_owned()).or_default().insert(message.event.id);
                }
                None => {}
                Some(Escalated { since_ms, after_ms, events }) => self.escalated.push(KeptMessage {
                    channel: channel.to_owned(),
                    event: Event::clone(&message.event),
                    since_ms,
                    after_ms,
                    events,
                }),
            }
        }
    }

    /// Whether a channel is still to be told this event; one that is new has missed nothing.
    pub(super) fn wants(&self, channel: &str, event: u64) -> bool {
        event > self.heard || self.waiting.get(channel).is_some_and(|waiting| waiting.contains(&event))
    }

    /// The events up to the one that was heard last that wait for a channel of these rules.
    pub(super) fn waiting_for(&self, rules: &Notifications) -> BTreeSet<u64> {
        let of = |channel: &Channel| self.waiting.get(channel.name.as_str());
        rules.channels.iter().filter_map(of).flatten().copied().filter(|id| *id <= self.heard).collect()
    }

    /// The newest event up to which nothing has to be looked at again for these rules.
    pub(super) fn begin(&self, rules: &Notifications) -> u64 {
        self.waiting_for(rules).first().map_or(self.heard, |first| first.saturating_sub(1))
    }

    /// What was escalated and waits, with its channel.
    pub(super) fn escalated(&mut self) -> Vec<(String, Message)> {
        let message = |kept: KeptMessage| {
            let KeptMessage { channel, event, since_ms, after_ms, events } = kept;
            let escalated = Some(Escalated { since_ms, after_ms, events });
            (channel, Message { event: Arc::new(event), held_back: 0, escalated })
        };
        std::mem::take(&mut self.escalated).into_iter().map(message).collect()
    }

    /// What was open, by the rules that there still are.
    pub(super) fn incidents(self, rules: &[Escalation]) -> Incidents {
        Incidents::restored(self.open.into_iter().map(|kept| kept.restored(rules)))
    }
}

// === impl KeptIncident ===

impl KeptIncident {
    fn of(incident: &Incident) -> Self {
        let rung = |rung: &Rung| KeptRung {
            after_ms: rung.rule.after.as_millis() as u64,
            channels: rung.rule.channels.iter().map(ToString::to_string).collect(),
            due_ms: rung.due_ms,
            told: rung.told,
        };
        Self {
            event: Event::clone(&incident.event),
            since_ms: incident.since_ms,
            events: incident.events,
            rungs: incident.rungs.iter().map(rung).collect(),
        }
    }

    fn restored(self, rules: &[Escalation]) -> Incident {
        let Self { event, since_ms, events, rungs } = self;
        let rung = |rule: &Escalation| {
            let is_it = |kept: &&KeptRung| {
                kept.after_ms == rule.after.as_millis() as u64
                    && kept.channels.iter().map(String::as_str).eq(rule.channels.iter().map(|name| name.as_str()))
            };
            let kept = rungs.iter().find(is_it)?;
            Some(Rung { rule: rule.clone(), due_ms: kept.due_ms, told: kept.told })
        };
        let rungs = rules.iter().filter(|rule| wants(&rule.wants, &event)).filter_map(rung).collect();
        let (service, rollout_id) = (event.service.clone(), event.rollout_id.clone());
        Incident { service, rollout_id, since_ms, event: Arc::new(event), events, rungs }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::event::{Kind, Severity};
    use super::super::tests::{channel, event, named};
    use super::*;
    use crate::model::notify::{Least, Until, Wants};

    fn rule(after_s: u64, channel: &str) -> Escalation {
        let wants = Wants { events: Vec::new(), least: Least::Critical, services: Vec::new() };
        Escalation { wants, after: Duration::from_secs(after_s), channels: vec![named(channel)], until: Until::Ended }
    }

    #[test]
    fn what_is_open_goes_on_where_it_was_by_the_rules_that_there_still_are() {
        let rules = [rule(1, "lead"), rule(10, "boss"), rule(20, "gone")];
        let mut incidents = Incidents::default();
        incidents.hear(&rules, &Arc::new(event(7, Kind::Alarm, Severity::Critical)), 7_000);
        assert_eq!(incidents.due(8_000).len(), 1);
        let text = serde_json::to_string(&Memory::of(7, &incidents)).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        assert_eq!((memory.heard, memory.wants("lead", 7), memory.wants("lead", 8)), (7, false, true));
        let mut incidents = memory.incidents(&rules[..2]);
        let due = incidents.due(100_000);
        assert_eq!(due.iter().map(|(name, it)| (&**name, it.event.id)).collect::<Vec<_>>(), [("boss", 7)]);
        assert!(incidents.open().is_empty(), "and nothing waits for a rule that is gone");
    }

    #[test]
    fn what_waits_for_a_channel_is_told_to_it_again_and_nothing_before_it_nor_to_another() {
        let message = |id| Message::of(&Arc::new(event(id, Kind::Alarm, Severity::Critical)));
        let escalated = Some(Escalated { since_ms: 1, after_ms: 2, events: 3 });
        let escalated = Message { escalated, ..message(4) };
        let mut memory = Memory::of(20, &Incidents::default());
        memory.waits("dead", [message(17), message(15)].iter());
        memory.waits("alive", [].iter());
        memory.waits("boss", [escalated.clone()].iter());
        let mut memory: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
        let told = |name: &str| (1..=22).filter(|id| memory.wants(name, *id)).collect::<Vec<_>>();
        assert_eq!(told("dead"), [15, 17, 21, 22], "16, which came in between, was told");
        assert_eq!(["alive", "boss", "new"].map(told), [[21, 22], [21, 22], [21, 22]]);
        assert_eq!(memory.escalated(), [("boss".to_owned(), escalated)]);
        let mut rules = Notifications { channels: vec![channel("alive"), channel("dead")], escalations: Vec::new() };
        assert_eq!(memory.begin(&rules), 14);
        rules.channels.clear();
        assert_eq!(memory.begin(&rules), 20, "a channel that is gone waits for nothing");
        assert_eq!(serde_json::from_str::<Memory>("{\"heard\":3}").unwrap(), Memory::after(3));
    }
}
