//! What notifications keep in the journal, so that a restart neither loses what waits nor forgets what nobody looked
//! at. What was being sent may be sent once more; its number is the same. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::event::Event;
use super::incidents::{Incident, Incidents, Rung};
use super::wants::wants;
use crate::model::notify::Escalation;

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
    /// Nothing up to this one waits any more.
    pub(super) told: u64,
    /// What nobody looked at.
    open: Vec<KeptIncident>,
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
        Self { heard: last, told: last, open: Vec::new() }
    }

    /// What is to be kept now; `waits` is the number of the oldest event that a channel was not told yet.
    pub(super) fn of(heard: u64, waits: Option<u64>, incidents: &Incidents) -> Self {
        let told = waits.map_or(heard, |oldest| heard.min(oldest.saturating_sub(1)));
        Self { heard, told, open: incidents.open().iter().map(KeptIncident::of).collect() }
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
    use super::super::tests::{event, named};
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
        let text = serde_json::to_string(&Memory::of(7, None, &incidents)).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        assert_eq!((memory.heard, memory.told), (7, 7));
        let mut incidents = memory.incidents(&rules[..2]);
        let due = incidents.due(100_000);
        assert_eq!(due.iter().map(|(name, it)| (&**name, it.event.id)).collect::<Vec<_>>(), [("boss", 7)]);
        assert!(incidents.open().is_empty(), "and nothing waits for a rule that is gone");
    }

    #[test]
    fn what_waits_is_told_again_and_nothing_before_it() {
        let memory = |waits| Memory::of(20, waits, &Incidents::default()).told;
        assert_eq!((memory(None), memory(Some(15)), memory(Some(25))), (20, 14, 20));
        assert_eq!(serde_json::from_str::<Memory>("{\"heard\":3}").unwrap().heard, 3);
    }
}
