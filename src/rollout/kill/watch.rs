//! What a trigger sees: counts of its newest stretch of time, and what they say.

use std::collections::VecDeque;

use crate::model::{Limit, Trigger};
use crate::telemetry::histogram::Summary;

/// Most slots of a window, whatever the tick is.
const SLOTS_MAX: u64 = 60;

/// What the triggers of a switch say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Too little is known.
    Unknown,
    /// No new request goes to what is watched: there is nothing that a kill would end.
    Idle,
    /// Everything is within its limits.
    Clear,
    /// A limit is broken, in words.
    Tripped(String),
}

/// What was counted in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Attempts that ended.
    pub attempts: u64,
    /// Of these, those that failed.
    pub errors: u64,
    /// How long they took; none unless somebody asks.
    pub latency: Option<Summary>,
    /// Whether an endpoint served at the end of it.
    pub serves: bool,
    /// Whether no new request went there, and none is meant to.
    pub idle: bool,
}

/// One trigger with its window.
#[derive(Debug, Clone)]
pub struct Watch {
    trigger: Trigger,
    slots: VecDeque<(u64, Counts)>,
    open: (u64, Counts),
    down_ms: u64,
    idle: bool,
}

/// What these say together: one that tripped is enough, and only when every one is clear all are. One that is idle
/// shows nothing to be well, and holds no countdown.
pub fn together<'w>(watches: impl IntoIterator<Item = &'w Watch>) -> Seen {
    let mut all = None;
    for seen in watches.into_iter().map(Watch::seen) {
        all = match (all, seen) {
            (Some(Seen::Tripped(why)), _) | (_, Seen::Tripped(why)) => return Seen::Tripped(why),
            (None | Some(Seen::Clear), Seen::Clear) => Some(Seen::Clear),
            (_, Seen::Unknown) | (Some(Seen::Unknown), _) => Some(Seen::Unknown),
            (_, Seen::Idle) | (Some(Seen::Idle), _) => Some(Seen::Idle),
        };
    }
    all.unwrap_or(Seen::Unknown)
}

// === impl Counts ===

impl Counts {
    /// Adds `other`, of the same stretch or of a later one.
    pub fn add(&mut self, other: &Counts) {
        self.attempts += other.attempts;
        self.errors += other.errors;
        if let Some(latency) = &other.latency {
            self.latency.get_or_insert_with(Summary::default).merge(latency);
        }
        (self.serves, self.idle) = (other.serves, other.idle);
    }
}

// === impl Watch ===

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(trigger: Trigger) -> Self {
        Self { trigger, slots: VecDeque::new(), open: (0, Counts::default()), down_ms: 0, idle: false }
    }

    /// What it watches for.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Takes in what happened in the last `elapsed_ms`. What was seen before nothing came any more is no evidence of
    /// what comes next.
    pub fn add(&mut self, elapsed_ms: u64, counts: &Counts) {
        self.idle = counts.idle;
        if self.idle {
            return self.forget();
        }
        self.down_ms = if counts.serves { 0 } else { self.down_ms.saturating_add(elapsed_ms) };
        self.open.0 += elapsed_ms;
        self.open.1.add(counts);
        if self.open.0 >= (self.window_ms() / SLOTS_MAX).max(1) {
            self.slots.push_back(std::mem::take(&mut self.open));
        }
        let mut held: u64 = self.slots.iter().map(|(ms, _)| ms).sum();
        while self.slots.len() > 1 && held - self.slots[0].0 >= self.window_ms() {
            held -= self.slots[0].0;
            self.slots.pop_front();
        }
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        (self.slots, self.open, self.down_ms) = (VecDeque::new(), (0, Counts::default()), 0);
    }

    /// Everything within the window.
    pub fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.slots.iter().map(|(_, counts)| counts).chain([&self.open.1]).for_each(|counts| sum.add(counts));
        sum
    }

    /// What it says.
    pub fn seen(&self) -> Seen {
        if self.idle {
            return Seen::Idle;
        }
        if self.trigger.limit == Limit::NoEndpoint {
            return match self.down_ms {
                0 if self.slots.is_empty() && self.open.0 == 0 => Seen::Unknown,
                0 => Seen::Clear,
                down if down >= self.window_ms() => Seen::Tripped(format!("no endpoint serves for {} s", down / 1000)),
                _ => Seen::Unknown,
            };
        }
        let sum = self.sum();
        if sum.attempts < self.trigger.min_samples.max(1) {
            return Seen::Unknown;
        }
        let within = format!("{} requests in {} s", sum.attempts, self.window_ms() as f64 / 1000.0);
        match self.trigger.limit {
            Limit::ErrorRate(max) => {
                let rate = sum.errors as f64 / sum.attempts as f64;
                let why = || format!("{:.1} % of {within} failed, the limit is {} %", rate * 100.0, max * 100.0);
                if rate > max { Seen::Tripped(why()) } else { Seen::Clear }
            }
            Limit::Latency { quantile, max } => {
                let us = sum.latency.and_then(|latency| latency.quantile_us(quantile));
                let Some(us) = us else { return Seen::Unknown };
                let (percent, ms) = (quantile * 100.0, us as f64 / 1000.0);
                let why = || format!("p{percent} of {within} is {ms:.0} ms, the limit is {} ms", max.as_millis());
                if u128::from(us) > max.as_micros() { Seen::Tripped(why()) } else { Seen::Clear }
            }
            Limit::NoEndpoint => Seen::Unknown,
        }
    }

    fn window_ms(&self) -> u64 {
        u64::try_from(self.trigger.window.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Pools;

    fn watch(limit: Limit) -> Watch {
        let window = Duration::from_secs(10);
        Watch::new(Trigger { service: None, pools: Pools::Candidates, limit, window, min_samples: 20 })
    }

    fn counts(attempts: u64, errors: u64) -> Counts {
        Counts { attempts, errors, serves: true, ..Counts::default() }
    }

    #[test]
    fn an_error_rate_counts_within_its_window_and_from_its_least_samples_on() {
        let mut watch = watch(Limit::ErrorRate(0.2));
        watch.add(1_000, &counts(19, 19));
        assert_eq!(watch.seen(), Seen::Unknown);
        watch.add(1_000, &counts(1, 0));
        let why = "95.0 % of 20 requests in 10 s failed, the limit is 20 %";
        assert_eq!(watch.seen(), Seen::Tripped(why.into()));
        watch.add(1_000, &counts(75, 0));
        assert_eq!(watch.seen(), Seen::Clear, "20 % is within 20 %");
        (0..10).for_each(|_| watch.add(1_000, &counts(0, 0)));
        assert_eq!((watch.sum().attempts, watch.seen()), (0, Seen::Unknown));
    }

    #[test]
    fn no_endpoint_must_be_so_for_the_whole_window() {
        let mut watch = watch(Limit::NoEndpoint);
        assert_eq!(watch.seen(), Seen::Unknown);
        watch.add(9_000, &Counts::default());
        assert_eq!(watch.seen(), Seen::Unknown);
        watch.add(1_000, &Counts::default());
        assert!(matches!(watch.seen(), Seen::Tripped(_)));
        watch.add(1_000, &counts(0, 0));
        assert_eq!(watch.seen(), Seen::Clear);
    }

    #[test]
    fn what_was_seen_before_nothing_came_any_more_is_forgotten() {
        let (mut errors, mut down) = (watch(Limit::ErrorRate(0.2)), watch(Limit::NoEndpoint));
        let idle = Counts { idle: true, ..Counts::default() };
        for watch in [&mut errors, &mut down] {
            watch.add(10_000, &Counts { attempts: 50, errors: 50, ..Counts::default() });
            assert!(matches!(watch.seen(), Seen::Tripped(_)));
            watch.add(1_000, &idle);
            assert_eq!(watch.seen(), Seen::Idle);
        }
        assert_eq!(together([&errors, &down]), Seen::Idle);
        errors.add(1_000, &counts(20, 0));
        assert_eq!(errors.seen(), Seen::Clear, "it begins anew");
        assert_eq!(together([&errors, &down]), Seen::Idle, "half of it shows nothing");
        assert_eq!(together([&down, &watch(Limit::ErrorRate(0.2))]), Seen::Unknown);
    }

    #[test]
    fn any_tick_length_costs_bounded_memory() {
        let mut watch = watch(Limit::ErrorRate(0.5));
        (0..100_000).for_each(|_| watch.add(10, &counts(1, 0)));
        assert!(watch.slots.len() <= SLOTS_MAX as usize + 1, "{}", watch.slots.len());
        watch.add(3_600_000, &counts(40, 40));
        assert_eq!(watch.slots.len(), 1, "one long tick is the whole window");
    }

    #[test]
    fn one_trigger_is_enough_and_all_must_be_clear() {
        let (mut errors, mut down) = (watch(Limit::ErrorRate(0.2)), watch(Limit::NoEndpoint));
        assert_eq!(together([]), Seen::Unknown);
        down.add(1_000, &counts(0, 0));
        errors.add(1_000, &counts(0, 0));
        assert_eq!(together([&errors, &down]), Seen::Unknown);
        errors.add(1_000, &counts(100, 1));
        assert_eq!(together([&errors, &down]), Seen::Clear);
        errors.add(1_000, &counts(100, 100));
        assert!(matches!(together([&down, &errors]), Seen::Tripped(_)));
    }
}
