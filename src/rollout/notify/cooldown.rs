//! What is held back: after an event, further ones of its kind and service wait until the cooldown of the channel is
//! over; then the newest of them is told, and how many there were. What matters more than what was told last is told at
//! once, and so is a kill after the one before it was let go, and the other way round: the last word must be true.
//! Pure: the time is handed in.
//!
//! Nothing is lost by it: every event is told, or counted in a message that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::event::{Event, Kind, Severity};
use super::Message;
use crate::model::Name;
use crate::model::notify::Channel;

/// Channels times kinds times services that are remembered; what is beyond is not held back.
const COOLING_MAX: usize = 10_000;

/// What each channel was told last, and what it was not.
#[derive(Debug, Default)]
pub(super) struct Cooldowns(BTreeMap<(Name, &'static str, String), Cooling>);

#[derive(Debug)]
struct Cooling {
    until_ms: u64,
    time_ms: u64,
    /// Of what was told last.
    severity: Severity,
    /// The opposite happened since: the next one is told at once.
    turned: bool,
    held: u64,
    newest: Option<Arc<Event>>,
}

// === impl Cooldowns ===

impl Cooldowns {
    /// What a channel is told of an event now; none when it is held back.
    pub(super) fn hear(&mut self, channel: &Channel, event: &Arc<Event>, now_ms: u64) -> Option<Message> {
        let time_ms = channel.cooldown.as_millis() as u64;
        if time_ms == 0 {
            return Some(Message::of(event));
        }
        let key = (channel.name.clone(), event.kind.as_str(), event.service.clone());
        let mut message = Message::of(event);
        if let Some(cooling) = self.0.get_mut(&key) {
            if cooling.until_ms > now_ms && event.severity <= cooling.severity && !cooling.turned {
                cooling.held += 1;
                cooling.newest = Some(Arc::clone(event));
                return None;
            }
            message.held_back = cooling.held;
        } else if self.0.len() >= COOLING_MAX {
            return Some(message);
        }
        let until_ms = now_ms.saturating_add(time_ms);
        let severity = event.severity;
        self.0.insert(key, Cooling { until_ms, time_ms, severity, turned: false, held: 0, newest: None });
        Some(message)
    }

    /// Takes note of an event, whoever hears of it: what it ends is news when it happens again, and what was held back
    /// of that is told now, with the channel, since afterwards it would no longer be true.
    pub(super) fn turn(&mut self, event: &Event) -> Vec<(Name, Message)> {
        let opposite = match event.kind {
            Kind::Killed => Kind::Unkilled,
            Kind::Unkilled => Kind::Killed,
            _ => return Vec::new(),
        };
        let mut told = Vec::new();
        for ((channel, kind, service), cooling) in &mut self.0 {
            if *kind != opposite.as_str() || *service != event.service {
                continue;
            }
            cooling.turned = true;
            if let Some(event) = cooling.newest.take() {
                let held_back = std::mem::take(&mut cooling.held) - 1;
                told.push((channel.clone(), Message { event, held_back, escalated: None }));
            }
        }
        told
    }

    /// What was held back and is told now, with the channel.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<(Name, Message)> {
        let mut due = Vec::new();
        self.0.retain(|(channel, ..), cooling| {
            if cooling.until_ms > now_ms {
                return true;
            }
            let Some(event) = cooling.newest.take() else { return false };
            let held_back = std::mem::take(&mut cooling.held) - 1;
            (cooling.severity, cooling.turned) = (event.severity, false);
            cooling.until_ms = now_ms.saturating_add(cooling.time_ms);
            due.push((channel.clone(), Message { event, held_back, escalated: None }));
            true
        });
        due
    }

    /// When something will be due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.values().filter(|cooling| cooling.newest.is_some()).map(|cooling| cooling.until_ms).min()
    }

    /// Events that a channel was not told yet.
    pub(super) fn held(&self, channel: &str) -> u64 {
        self.0.iter().filter(|((name, ..), _)| name.as_str() == channel).map(|(_, cooling)| cooling.held).sum()
    }

    /// What waits for the end of a cooldown, with its channel.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Name, Message)> {
        let message = |cooling: &Cooling| cooling.newest.as_ref().map(Message::of);
        self.0.iter().filter_map(move |((channel, ..), cooling)| Some((channel, message(cooling)?)))
    }

    /// Forgets channels that are gone.
    pub(super) fn keep(&mut self, known: impl Fn(&Name) -> bool) {
        self.0.retain(|(channel, ..), _| known(channel));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::tests::{channel, event};
    use super::*;

    fn told(message: Option<Message>) -> Option<(u64, u64)> {
        message.map(|message| (message.event.id, message.held_back))
    }

    #[test]
    fn what_follows_within_the_cooldown_waits_and_the_newest_is_told_with_the_number_of_the_others() {
        let (mut cooldowns, mut channel) = (Cooldowns::default(), channel("ops"));
        channel.cooldown = Duration::from_secs(60);
        let event = |id, severity| Arc::new(event(id, Kind::Alarm, severity));
        assert_eq!(told(cooldowns.hear(&channel, &event(1, Severity::Warning), 0)), Some((1, 0)));
        for id in 2..=4 {
            assert_eq!(told(cooldowns.hear(&channel, &event(id, Severity::Warning), id * 1000)), None);
        }
        assert_eq!((cooldowns.held("ops"), cooldowns.next_ms()), (3, Some(60_000)));
        assert!(cooldowns.due(59_999).is_empty());
        let due = cooldowns.due(60_000);
        assert_eq!(
            due.iter().map(|(name, it)| (&**name, it.event.id, it.held_back)).collect::<Vec<_>>(),
            [("ops", 4, 2)]
        );
        assert_eq!(told(cooldowns.hear(&channel, &event(5, Severity::Warning), 61_000)), None, "it began again");
        assert_eq!(
            told(cooldowns.hear(&channel, &event(6, Severity::Critical), 62_000)),
            Some((6, 1)),
            "it matters more"
        );
        assert_eq!(told(cooldowns.hear(&channel, &event(7, Severity::Critical), 63_000)), None);
    }

    #[test]
    fn a_kill_after_the_one_before_was_let_go_is_told_at_once_and_so_is_its_end() {
        let (mut cooldowns, ops) = (Cooldowns::default(), channel("ops"));
        let mut hear = |id, kind, severity| {
            let event = Arc::new(event(id, kind, severity));
            let before: Vec<u64> = cooldowns.turn(&event).into_iter().map(|(_, message)| message.event.id).collect();
            (before, told(cooldowns.hear(&ops, &event, id)))
        };
        let (critical, warning) = (Severity::Critical, Severity::Warning);
        assert_eq!(hear(1, Kind::Killed, critical), (vec![], Some((1, 0))));
        assert_eq!(hear(2, Kind::Killed, critical), (vec![], None), "killed again without having been let go");
        assert_eq!(hear(3, Kind::Unkilled, warning), (vec![2], Some((3, 0))), "not told when it is over");
        assert_eq!(hear(4, Kind::Killed, critical), (vec![], Some((4, 0))));
        assert_eq!(hear(5, Kind::Unkilled, warning), (vec![], Some((5, 0))));
        assert_eq!(hear(6, Kind::Alarm, critical), (vec![], Some((6, 0))));
        assert_eq!(hear(7, Kind::Alarm, critical), (vec![], None), "nothing is the opposite of an alarm");
    }

    #[test]
    fn kinds_services_and_channels_do_not_hold_each_other_back() {
        let (mut cooldowns, ops, dev) = (Cooldowns::default(), channel("ops"), channel("dev"));
        let mut other = event(3, Kind::Alarm, Severity::Info);
        other.service = "shop".into();
        let alarm = Arc::new(event(1, Kind::Alarm, Severity::Info));
        for (channel, event) in [
            (&ops, &alarm),
            (&ops, &Arc::new(event(2, Kind::Killed, Severity::Info))),
            (&ops, &Arc::new(other)),
            (&dev, &alarm),
        ] {
            assert!(cooldowns.hear(channel, event, 5).is_some());
        }
        cooldowns.keep(|name| name.as_str() == "dev");
        assert!(cooldowns.hear(&ops, &alarm, 6).is_some() && cooldowns.hear(&dev, &alarm, 6).is_none());
    }

    proptest! {
        #[test]
        fn every_event_is_told_or_counted_and_never_two_of_one_severity_within_a_cooldown(
            steps in prop::collection::vec((0_u64..40_000, 0_usize..3, 0_usize..3), 1..200),
        ) {
            let (mut cooldowns, mut channel) = (Cooldowns::default(), channel("ops"));
            channel.cooldown = Duration::from_secs(30);
            let severities = [Severity::Info, Severity::Warning, Severity::Critical];
            let kinds = [Kind::Alarm, Kind::Killed, Kind::GateChanged];
            let mut now = 0;
            let mut told: Vec<(u64, Message)> = Vec::new();
            for (id, (passed, severity, kind)) in steps.iter().enumerate() {
                now += passed;
                told.extend(cooldowns.due(now).into_iter().map(|(_, message)| (now, message)));
                let event = Arc::new(event(id as u64, kinds[*kind], severities[*severity]));
                told.extend(cooldowns.turn(&event).into_iter().map(|(_, message)| (now, message)));
                told.extend(cooldowns.hear(&channel, &event, now).map(|message| (now, message)));
            }
            let waiting = cooldowns.held("ops");
            let heard: u64 = told.iter().map(|(_, message)| 1 + message.held_back).sum();
            prop_assert_eq!(heard + waiting, steps.len() as u64);
            for (at, (when, message)) in told.iter().enumerate() {
                let same = |(_, other): &&(u64, Message)| other.event.kind == message.event.kind;
                if let Some((before, other)) = told[..at].iter().rev().find(same) {
                    prop_assert!(when - before >= 30_000 || message.event.severity > other.event.severity);
                }
            }
            told.extend(cooldowns.due(now + 30_000).into_iter().map(|(_, message)| (now, message)));
            prop_assert_eq!(cooldowns.held("ops"), 0, "nothing waits longer than one cooldown");
        }
    }
}
