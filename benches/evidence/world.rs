//! The worlds that rollouts are simulated in: traffic, errors and latencies of two pools over an hour.

use std::collections::VecDeque;

use weir::rollout::tick::{Arm, Tick};

use crate::dice::Dice;

/// Part of stable's requests beyond its own p95.
const TAIL: f64 = 0.05;

/// Time in which an empty cache gets all but a third (1/e) of what it lacks.
const FILL_S: f64 = 60.0;

/// What makes a world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    /// Requests per second of the service.
    pub(crate) rps: f64,
    /// Base rate of errors.
    pub(crate) base: f64,
    pub(crate) kind: Kind,
    /// How many times worse the candidate fails, from when on (s).
    pub(crate) worse: (f64, f64),
    /// Part of the candidate's requests beyond stable's p95 and the margin; [`TAIL`] at most for a healthy one.
    pub(crate) tail: f64,
    /// Part of the candidate's requests that is worse at all: one endpoint of four, one route.
    pub(crate) part: f64,
    /// What answers say of a cache; none: nothing.
    pub(crate) cache: Option<Cache>,
}

/// A cache in front of each pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cache {
    /// Part of the answers that it does not have.
    pub(crate) misses: f64,
    /// How many times as many the candidate's misses, from the second on from which the candidate is worse.
    pub(crate) times: f64,
    /// What happens to it.
    pub(crate) event: Event,
}

/// What happens to caches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// Nothing.
    None,
    /// The candidate's is empty at first, and fills.
    Cold,
    /// Both are emptied at minute 20, and fill.
    Purge,
}

/// What is special.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Nothing.
    Plain,
    /// The base rate moves by 5 over the hour.
    Diurnal,
    /// The base rate rises with the share.
    Simpson,
    /// Both pools fail 20 % for two minutes.
    Outage,
    /// A unit that fails does so this many times on average, and units stick.
    Sticky(f64),
    /// Errors come this many at a time, on one connection, without units.
    Bursts(f64),
    /// Rates jump from tick to tick, in both pools alike.
    Jumpy,
    /// Pauses make most requests of both pools slow.
    Pauses,
    /// The candidate's first half minute is slow, and excluded as warm-up.
    Cold,
    /// The share changes every ten seconds.
    Restless,
    /// Shares are exact.
    RoundRobin,
}

/// A world under way.
pub(crate) struct Run {
    world: World,
    dice: Dice,
    /// Units that still fail: bucket (0..1) and failures left.
    failing: VecDeque<(f64, u64)>,
    pause: f64,
}

impl World {
    pub(crate) const fn plain(name: &'static str, rps: f64, base: f64) -> Self {
        Self { name, rps, base, kind: Kind::Plain, worse: (1.0, 0.0), tail: TAIL, part: 1.0, cache: None }
    }

    pub(crate) const fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) const fn worse(self, times: f64, from_s: f64) -> Self {
        Self { worse: (times, from_s), ..self }
    }

    pub(crate) const fn slow(self, tail: f64) -> Self {
        Self { tail, ..self }
    }

    pub(crate) const fn partly(self, part: f64) -> Self {
        Self { part, ..self }
    }

    /// With caches that miss so much, and the candidate's `times` as much from a second on.
    pub(crate) const fn cached(self, misses: f64, times: f64, from_s: f64) -> Self {
        let cache = Cache { misses, times, event: Event::None };
        Self { cache: Some(cache), worse: (self.worse.0, from_s), ..self }
    }

    /// The same caches, all equal, to which something happens.
    pub(crate) const fn cached_with(self, misses: f64, event: Event) -> Self {
        Self { cache: Some(Cache { misses, times: 1.0, event }), ..self }
    }

    /// Whether the candidate is no worse than stable, which is what the promise about false alarms is about. One that
    /// is worse by what is bearable is neither healthy nor bad.
    pub(crate) fn is_promised(&self) -> bool {
        self.cache.is_none_or(|cache| cache.times <= 1.0)
    }

    /// The candidate's share at a second of the ramp: 1 % for ten minutes, 5 % for twenty, 25 % for thirty.
    pub(crate) fn share(&self, second: f64) -> f64 {
        match self.kind {
            Kind::Restless => [0.01, 0.05, 0.25][(second / 10.0) as usize % 3],
            _ if second < 600.0 => 0.01,
            _ if second < 1800.0 => 0.05,
            _ => 0.25,
        }
    }

    /// Seconds since the share changed.
    fn settled(&self, second: f64) -> f64 {
        match self.kind {
            Kind::Restless => second % 10.0,
            _ if second < 600.0 => second,
            _ if second < 1800.0 => second - 600.0,
            _ => second - 1800.0,
        }
    }

    fn rate(&self, second: f64) -> f64 {
        match self.kind {
            Kind::Diurnal => self.base * (1.0 + 2.0 * (1.0 + (second / 3600.0 * std::f64::consts::TAU).sin())),
            Kind::Simpson => self.base * (0.4 + 12.0 * self.share(second)),
            Kind::Outage if (1200.0..1320.0).contains(&second) => 0.2,
            _ => self.base,
        }
    }
}

impl Run {
    pub(crate) fn new(world: World, seed: u64) -> Self {
        Self { world, dice: Dice::new(seed), failing: VecDeque::new(), pause: 0.0 }
    }

    /// The tick that ends at `second` and was `length` seconds long.
    pub(crate) fn tick(&mut self, second: f64, length: f64) -> Tick {
        let world = self.world;
        let share = world.share(second - length);
        let total = world.rps * length;
        let exact = world.kind == Kind::RoundRobin;
        let candidate = if exact { (total * share).round() as u64 } else { self.dice.about(total * share) };
        let control = if exact { total as u64 - candidate } else { self.dice.about(total * (1.0 - share)) };
        let mut rate = world.rate(second);
        if world.kind == Kind::Jumpy {
            // Log-normal around the base: now nothing, now ten times as much.
            rate = (rate * (1.5 * self.dice.normal() - 1.1).exp()).min(0.9);
        }
        let (times, from) = world.worse;
        let bad = if second >= from { (rate * times).min(1.0) } else { rate };
        let bad = world.part * bad + (1.0 - world.part) * rate;
        let mut arms = [self.arm(candidate, bad), self.arm(control / 2, rate), self.arm(control - control / 2, rate)];
        match world.kind {
            Kind::Sticky(mean) => self.sticky(&mut arms, share, total * rate / mean, mean, times),
            Kind::Bursts(mean) => self.bursts(&mut arms, share, total * rate / mean, mean),
            _ => {}
        }
        self.latency(&mut arms, second);
        if let Some(cache) = world.cache {
            self.cache(&mut arms, cache, second);
        }
        let [candidate, a, b] = arms;
        let mut control = a;
        control.add(&b);
        Tick {
            elapsed_ms: (length * 1000.0) as u64,
            share,
            by_unit: matches!(world.kind, Kind::Sticky(_)),
            settling: world.settled(second - length) < 5.0,
            serving: true,
            candidate,
            control,
            halves: [a, b],
            ..Tick::default()
        }
    }

    fn arm(&mut self, attempts: u64, rate: f64) -> Arm {
        let clustered = matches!(self.world.kind, Kind::Sticky(_) | Kind::Bursts(_));
        let errors = if clustered { 0 } else { self.dice.binomial(attempts, rate) };
        Arm { attempts, errors, timed: attempts, ..Arm::default() }
    }

    /// Units begin to fail, fail some times over the next ticks, and are where their bucket is.
    fn sticky(&mut self, arms: &mut [Arm; 3], share: f64, begin: f64, mean: f64, times: f64) {
        let new = self.dice.poisson(begin);
        let place = |bucket: f64, share: f64| match bucket {
            bucket if bucket < share => 0,
            bucket if bucket < share + (1.0 - share) / 2.0 => 1,
            _ => 2,
        };
        for _ in 0..new {
            let bucket = self.dice.uniform();
            let arm = place(bucket, share);
            let left = self.dice.geometric(mean);
            arms[arm].first_errors += 1;
            arms[arm].errors += 1;
            self.failing.push_back((bucket, left - 1));
        }
        // A bad candidate makes more of its own units fail.
        let more = self.dice.poisson(begin * share * (times - 1.0).max(0.0));
        arms[0].first_errors += more;
        arms[0].errors += more;
        for _ in 0..self.failing.len() {
            let Some((bucket, left)) = self.failing.pop_front() else { break };
            if left > 0 {
                arms[place(bucket, share)].errors += 1;
                self.failing.push_back((bucket, left - 1));
            }
        }
        arms.iter_mut().for_each(|arm| arm.attempts = arm.attempts.max(arm.errors));
    }

    fn bursts(&mut self, arms: &mut [Arm; 3], share: f64, begin: f64, mean: f64) {
        for _ in 0..self.dice.poisson(begin) {
            let length = self.dice.geometric(mean);
            let arm = if self.dice.chance(share) { 0 } else { 1 + usize::from(self.dice.chance(0.5)) };
            arms[arm].errors += length;
        }
        arms.iter_mut().for_each(|arm| arm.attempts = arm.attempts.max(arm.errors));
    }

    fn latency(&mut self, arms: &mut [Arm; 3], second: f64) {
        let world = self.world;
        let (mut own, mut other) = (world.tail, TAIL);
        if world.kind == Kind::Pauses {
            self.pause = 0.9 * self.pause + if self.dice.chance(0.02) { 1.0 } else { 0.0 };
            let slow = (TAIL + 0.4 * self.pause).min(0.9);
            (own, other) = (slow, slow);
        }
        if world.kind == Kind::Cold && second < 30.0 {
            arms[0].timed = 0;
        }
        for (arm, tail) in arms.iter_mut().zip([own, other, other]) {
            arm.timed = arm.timed.min(arm.attempts);
            arm.slow[0] = self.dice.binomial(arm.timed, tail);
        }
    }

    fn cache(&mut self, arms: &mut [Arm; 3], cache: Cache, second: f64) {
        let times = if second >= self.world.worse.1 { cache.times } else { 1.0 };
        let lacking = |since: f64| if since >= 0.0 { (-since / FILL_S).exp() } else { 0.0 };
        let [own, other] = match cache.event {
            Event::None => [0.0; 2],
            Event::Cold => [lacking(second), 0.0],
            Event::Purge => [lacking(second - 1200.0); 2],
        };
        let rate = |misses: f64, lacks: f64| (misses + (1.0 - misses) * lacks).min(1.0);
        let [own, other] = [rate((cache.misses * times).min(1.0), own), rate(cache.misses, other)];
        for (arm, misses) in arms.iter_mut().zip([own, other, other]) {
            let said = arm.attempts - arm.errors;
            arm.cache_misses = self.dice.binomial(said, misses);
            arm.cache_hits = said - arm.cache_misses;
        }
    }
}
