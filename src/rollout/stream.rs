//! What happens, told to everybody who listens: kept, streamed, notified. Nobody who listens slowly holds it up.
//!
//! Events are numbered by one counter, so that a listener who comes back names the last one it saw and misses none that
//! is still kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use super::event::{Event, Kind, Severity};

/// Events that are kept in memory; what is older is in the journal.
pub const RECENT_MAX: usize = 1_000;

/// Events that a listener may be behind before it is sent away to come back with the number of its last one.
const BEHIND_MAX: usize = 512;

/// The events of this process.
#[derive(Debug)]
pub struct Stream {
    recent: Mutex<Recent>,
    sender: broadcast::Sender<Arc<Event>>,
}

/// An event that has no number yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) severity: Severity,
    pub(super) service: String,
    pub(super) rollout_id: Option<String>,
    pub(super) who: String,
    pub(super) message: String,
    pub(super) data: serde_json::Value,
}

#[derive(Debug)]
struct Recent {
    next: u64,
    events: VecDeque<Arc<Event>>,
}

// === impl Stream ===

impl Stream {
    /// Goes on after the event `last`.
    pub(super) fn after(last: u64) -> Self {
        let recent = Recent { next: last + 1, events: VecDeque::new() };
        Self { recent: Mutex::new(recent), sender: broadcast::channel(BEHIND_MAX).0 }
    }

    /// Numbers an event and tells it.
    pub(super) fn tell(&self, at_ms: u64, draft: Draft) -> Arc<Event> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let Draft { kind, severity, service, rollout_id, who, message, data } = draft;
        let event = Event { id: recent.next, at_ms, kind, severity, service, rollout_id, who, message, data };
        let event = Arc::new(event);
        recent.next += 1;
        recent.events.push_back(Arc::clone(&event));
        while recent.events.len() > RECENT_MAX {
            recent.events.pop_front();
        }
        // Within the lock, so that listeners see the numbers rise. That nobody listens is no failure.
        let _ = self.sender.send(Arc::clone(&event));
        event
    }

    /// Listens to what comes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }

    /// The number of the newest event; 0 before the first.
    pub fn last(&self) -> u64 {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).next - 1
    }

    /// What is in memory after `id`, oldest first; none when something after it has left the memory already.
    pub(super) fn recent_after(&self, id: u64) -> Option<Vec<Arc<Event>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = recent.events.front().map_or(recent.next, |event| event.id);
        (id + 1 >= first).then(|| recent.events.iter().filter(|event| event.id > id).cloned().collect())
    }

    /// Everything that is in memory, oldest first.
    pub(super) fn recent(&self) -> Vec<Arc<Event>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).events.iter().cloned().collect()
    }

    /// The newest events of one rollout that are in memory, oldest first.
    pub(super) fn recent_of(&self, rollout: &str, most: usize) -> Vec<Arc<Event>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let own = recent.events.iter().rev().filter(|event| event.rollout_id.as_deref() == Some(rollout));
        let mut own: Vec<_> = own.take(most).cloned().collect();
        own.reverse();
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            kind: Kind::Alarm,
            severity: Severity::Info,
            service: "engine".into(),
            rollout_id: Some("r".into()),
            who: "weir".into(),
            message: "something".into(),
            data: serde_json::Value::Null,
        }
    }

    #[test]
    fn numbers_go_on_after_a_restart_and_a_listener_gets_exactly_what_it_missed() {
        let stream = Stream::after(7);
        let mut listener = stream.subscribe();
        (0..3).for_each(|at| drop(stream.tell(at, draft())));
        assert_eq!(stream.last(), 10);
        let ids = |events: Vec<Arc<Event>>| events.iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids(stream.recent_after(8).unwrap()), [9, 10]);
        assert_eq!(ids(stream.recent_after(7).unwrap()), [8, 9, 10]);
        assert!(stream.recent_after(3).is_none(), "4 to 7 are only in the journal");
        assert_eq!(listener.try_recv().unwrap().id, 8);
        assert_eq!(ids(stream.recent_of("r", 2)), [9, 10]);
    }

    #[test]
    fn any_number_of_events_costs_bounded_memory_and_holds_nobody_up() {
        let stream = Stream::after(0);
        let mut slow = stream.subscribe();
        (0..3_000).for_each(|at| drop(stream.tell(at, draft())));
        assert_eq!(stream.recent_after(2_000).unwrap().len(), RECENT_MAX);
        assert!(stream.recent_after(1_999).is_none());
        assert!(slow.try_recv().is_err(), "a listener that is too far behind is sent away");
    }
}
