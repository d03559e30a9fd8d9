//! What is counted of copies, per worker: apart from pools and endpoints, so that no breaker, no balancer and no
//! rollout ever sees one.

use super::count::{Count, Sharded};
use super::histogram::Histogram;

/// One worker's counts for the copies that one pool of a service gets.
#[derive(Debug, Default)]
pub struct MirrorShard {
    /// Copies that were begun to be sent.
    pub sent: Count,
    /// Answers that came to their end, or to the bound of what is read of them, by class: 1xx first.
    pub answers: [Count; 5],
    /// Copies that were sent and got no whole answer, by [`Lost`].
    pub lost: [Count; 3],
    /// Copies that were not sent, by [`Dropped`].
    pub dropped: [Count; 4],
    /// Copies in hand: gathered, sent or waited for.
    pub in_flight: Count,
    /// From the begin of the sending to the end of the answer.
    pub latency: Histogram,
}

/// Counters of the copies that a pool gets.
pub type MirrorMeter = Sharded<MirrorShard>;

/// Why a copy was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// As many as may be were in hand.
    Full,
    /// Its body was larger than a copy may be.
    Body,
    /// The request's own body never came to its end.
    Client,
    /// Nothing of the pool serves, or it is under maintenance.
    Unserved,
}

/// How a copy was lost that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// No connection.
    Connect,
    /// A reset, or an answer that is none.
    Answer,
    /// It took too long.
    Timeout,
}

// === impl MirrorShard ===

impl MirrorShard {
    /// Counts a copy that was not sent.
    pub fn drop_for(&self, why: Dropped) {
        self.dropped[why as usize].add(1);
    }

    /// Counts a copy that got no whole answer.
    pub fn lose_by(&self, how: Lost) {
        self.lost[how as usize].add(1);
    }

    /// Counts an answer.
    pub fn answer(&self, status: u16, duration_us: u64) {
        self.answers[usize::from(status / 100).clamp(1, 5) - 1].add(1);
        self.latency.record_us(duration_us);
    }
}

// === impl Dropped ===

impl Dropped {
    /// Every one, in the order of [`MirrorShard::dropped`].
    pub const ALL: [Dropped; 4] = [Dropped::Full, Dropped::Body, Dropped::Client, Dropped::Unserved];

    /// The word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::Full => "full",
            Dropped::Body => "body",
            Dropped::Client => "client",
            Dropped::Unserved => "unserved",
        }
    }
}

// === impl Lost ===

impl Lost {
    /// Every one, in the order of [`MirrorShard::lost`].
    pub const ALL: [Lost; 3] = [Lost::Connect, Lost::Answer, Lost::Timeout];

    /// The word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Lost::Connect => "connect",
            Lost::Answer => "answer",
            Lost::Timeout => "timeout",
        }
    }
}
