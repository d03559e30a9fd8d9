//! Tells people what happens. It listens to the stream of events as anybody else does, and holds nobody up: what cannot
//! be told in time waits in a bounded queue of its channel, the oldest goes first, and every loss is counted.
//!
//! In reading order: `wants` is who hears what, `cooldown` what is held back, `incidents` who is told when nobody looks
//! (all of them pure); `words` puts it into words, `sign` signs it; `outbox` is the queue of a channel and `post` the
//! task that empties it, `send` one try; `notifier` ties them together, and `listen` is who listens.
//!
//! What waits and what nobody looked at is kept in the journal (`memory`): after a restart it goes on.

mod cooldown;
mod incidents;
pub(super) mod listen;
mod memory;
pub(super) mod notifier;
mod outbox;
mod post;
mod send;
mod sign;
mod wants;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::event::Event;

/// Something that a channel is told.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    event: Arc<Event>,
    /// Further events of the same kind and service that were held back since the last one that was told.
    held_back: u64,
    /// It is told because nobody looked.
    escalated: Option<Escalated>,
}

/// What nobody looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Escalated {
    /// When the first of it happened, in ms since the Unix epoch.
    since_ms: u64,
    /// How long the rule waited, in ms.
    after_ms: u64,
    /// Events so far.
    events: u64,
}

// === impl Message ===

impl Message {
    fn of(event: &Arc<Event>) -> Self {
        Self { event: Arc::clone(event), held_back: 0, escalated: None }
    }
}
