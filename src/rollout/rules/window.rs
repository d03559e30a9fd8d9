//! The newest stretch of time, in at most 64 slots whatever the tick is.

use std::collections::VecDeque;
use std::time::Duration;

use crate::rollout::tick::{Arm, Tick};
use crate::telemetry::histogram::Summary;

/// Most slots of a window. A look is taken when a slot is full, so a window of a minute is looked at every second.
pub(super) const SLOTS_MAX: u32 = 60;

/// A window under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    slot_ms: u64,
    window_ms: u64,
    with_latency: bool,
    slots: VecDeque<Sums>,
    open: Sums,
}

/// What was counted in a stretch of time: candidate, then control.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) elapsed_ms: u64,
    pub(super) arms: [Arm; 2],
    pub(super) latency: Option<[Summary; 2]>,
}

// === impl Window ===

impl Window {
    pub(super) fn new(length: Duration, with_latency: bool) -> Self {
        let window_ms = (length.as_millis() as u64).max(1);
        let slot_ms = (window_ms / u64::from(SLOTS_MAX)).max(1);
        Self { slot_ms, window_ms, with_latency, slots: VecDeque::new(), open: Sums::default() }
    }

    /// Adds a tick; the time since the last look when a slot became full, which is when to look.
    pub(super) fn add(&mut self, tick: &Tick, latency: [&Summary; 2]) -> Option<u64> {
        let latency = self.with_latency.then(|| latency.map(Summary::clone));
        self.open.add(&Sums { elapsed_ms: tick.elapsed_ms, arms: [tick.candidate, tick.control], latency });
        if self.open.elapsed_ms < self.slot_ms {
            return None;
        }
        let full = std::mem::take(&mut self.open);
        let since_ms = full.elapsed_ms;
        self.slots.push_back(full);
        let mut held: u64 = self.slots.iter().map(|slot| slot.elapsed_ms).sum();
        while self.slots.len() > 1 && held - self.slots[0].elapsed_ms >= self.window_ms {
            held -= self.slots[0].elapsed_ms;
            self.slots.pop_front();
        }
        Some(since_ms)
    }

    /// Everything within the window.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.slots.iter().for_each(|slot| sums.add(slot));
        sums
    }
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.elapsed_ms += other.elapsed_ms;
        self.arms.iter_mut().zip(&other.arms).for_each(|(sum, arm)| sum.add(arm));
        if let Some(latency) = &other.latency {
            let sums = self.latency.get_or_insert_with(Default::default);
            sums.iter_mut().zip(latency).for_each(|(sum, summary)| sum.merge(summary));
        }
    }
}
