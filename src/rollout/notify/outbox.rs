//! What waits to be told to one channel: a bounded queue that loses the oldest and counts it, and what became of the
//! rest. Whoever puts something in never waits.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::super::runner::locked;
use super::Message;
use super::memory::Memory;

/// Messages that wait for one channel: more than a person would read of an incident.
pub(super) const WAITING_MAX: usize = 100;

/// The queue of one channel. It outlives a change of the channel's settings.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    bell: Notify,
    pub(super) counts: Counts,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// The first one is being sent; it is not dropped.
    in_hand: bool,
}

/// What became of messages since the process began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// The channel took it.
    pub(super) sent: AtomicU64,
    /// It did not, however often it was tried.
    pub(super) failed: AtomicU64,
    /// There was no room.
    pub(super) dropped: AtomicU64,
    /// Held back by a cooldown; counted in a message that is told.
    pub(super) held_back: AtomicU64,
    /// Tries that failed and were followed by another.
    pub(super) retried: AtomicU64,
}

/// How it went last.
#[derive(Debug, Default, Clone)]
pub(super) struct Last {
    /// When the channel took something, in ms since the Unix epoch.
    pub(super) sent_at_ms: Option<u64>,
    /// When a try failed, and why.
    pub(super) error: Option<(u64, String)>,
}

// === impl Outbox ===

impl Outbox {
    /// Puts a message in; when there is no room the oldest goes.
    pub(super) fn put(&self, message: Message) {
        let mut waiting = locked(&self.waiting);
        if waiting.messages.len() >= WAITING_MAX {
            let oldest = usize::from(waiting.in_hand);
            waiting.messages.remove(oldest);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.messages.push_back(message);
        drop(waiting);
        self.bell.notify_one();
    }

    /// The oldest message; it stays until [`Outbox::done`], so that it survives who tries to send it.
    pub(super) async fn next(&self) -> Message {
        loop {
            if let Some(message) = self.take_in_hand() {
                return message;
            }
            self.bell.notified().await;
        }
    }

    fn take_in_hand(&self) -> Option<Message> {
        let mut waiting = locked(&self.waiting);
        waiting.in_hand = !waiting.messages.is_empty();
        waiting.messages.front().cloned()
    }

    /// Takes the message out that is in hand.
    pub(super) fn done(&self) {
        let mut waiting = locked(&self.waiting);
        if std::mem::take(&mut waiting.in_hand) {
            waiting.messages.pop_front();
        }
    }

    /// Messages that wait, the one under way included.
    pub(super) fn waiting(&self) -> usize {
        locked(&self.waiting).messages.len()
    }

    /// Notes what waits.
    pub(super) fn keep(&self, channel: &str, memory: &mut Memory) {
        memory.waits(channel, locked(&self.waiting).messages.iter());
    }

    pub(super) fn sent(&self, at_ms: u64) {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        locked(&self.last).sent_at_ms = Some(at_ms);
    }

    pub(super) fn went_wrong(&self, at_ms: u64, why: String) {
        locked(&self.last).error = Some((at_ms, why));
    }

    pub(super) fn last(&self) -> Last {
        locked(&self.last).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::event::{Kind, Severity};
    use super::super::tests::event;
    use super::*;

    #[tokio::test]
    async fn it_is_bounded_loses_the_oldest_and_counts_them() {
        let outbox = Outbox::default();
        let message = |id| Message::of(&Arc::new(event(id, Kind::Alarm, Severity::Critical)));
        (1..=250).for_each(|id| outbox.put(message(id)));
        let dropped = 250 - WAITING_MAX as u64;
        assert_eq!((outbox.waiting(), outbox.counts.dropped.load(Ordering::Relaxed)), (WAITING_MAX, dropped));
        let first = outbox.next().await;
        assert_eq!(first.event.id, dropped + 1);
        assert_eq!(outbox.next().await, first, "it stays until it is done");
        outbox.put(message(251));
        assert_eq!(outbox.next().await, first, "what is in hand is not dropped");
        outbox.done();
        outbox.done();
        assert_eq!((outbox.next().await.event.id, outbox.waiting()), (dropped + 3, WAITING_MAX - 1));
    }
}
