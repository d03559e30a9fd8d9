//! How much of what comes a worker should turn away, given how late its event loop is: pure, fed with what was seen.
//!
//! The share is led as PIE leads its drops (RFC 8033 §4.2): it rises with how far the delay is above its bound and with
//! how fast it grows, and falls as smoothly, so that load settles where the delay is at its bound instead of swinging
//! between all and nothing. What is judged is the least delay of the last tenth of a second, as CoDel does it (RFC 8289
//! §3.1): a burst that is worked off at once is no overload.

use std::time::Duration;

/// Time between two looks at the delay, where it is bounded.
pub const TICK: Duration = Duration::from_millis(10);

/// What a tenth of a second is made of.
const HALVES: Duration = Duration::from_millis(50);

/// What a delay of twice the bound adds to the share with each tick: from nothing to everything in half a second.
const GAIN: f64 = 0.02;

/// What is added for each bound that the delay grew since the last tick.
const GAIN_OF_GROWTH: f64 = 0.1;

/// The delay, in bounds, above which it makes no difference how late it is.
const FAR: f64 = 3.0;

/// The largest share: some come through, or nobody would notice that it is over.
const SHARE_MAX: f64 = 0.95;

/// The share that is turned away, as it is led.
#[derive(Debug, Default)]
pub struct Shedder {
    share: f64,
    before: f64,
    /// Least delay of the half that is under way, and of the one before.
    least: [Option<Duration>; 2],
    in_half: Duration,
}

// === impl Shedder ===

impl Shedder {
    /// Takes note of a delay, `passed` after the one before; the share of what comes that is to be turned away from now
    /// on, `0.0..=0.95`.
    pub fn step(&mut self, delay: Duration, passed: Duration, bound: Duration) -> f64 {
        let standing = self.standing(delay, passed);
        let late = (standing.as_secs_f64() / bound.as_secs_f64().max(0.001)).min(FAR);
        let growth = late - std::mem::replace(&mut self.before, late);
        // Far below the bound the share must fall, however fast the delay grows towards it.
        let led = GAIN * (late - 1.0) + GAIN_OF_GROWTH * if late > 0.5 { growth } else { growth.min(0.0) };
        // A look that comes late stands for those that did not come.
        let looks = (passed.as_secs_f64() / TICK.as_secs_f64()).clamp(1.0, 3.0);
        self.share = (self.share + led * looks).clamp(0.0, SHARE_MAX);
        self.share
    }

    /// The least delay of the last tenth of a second.
    fn standing(&mut self, delay: Duration, passed: Duration) -> Duration {
        self.in_half += passed;
        if self.in_half >= HALVES {
            self.in_half = Duration::ZERO;
            self.least = [None, self.least[0]];
        }
        let least = self.least[0].map_or(delay, |least| least.min(delay));
        self.least[0] = Some(least);
        self.least[1].map_or(least, |before| before.min(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(50);

    /// A worker that serves 10 requests in a millisecond and turns 50 away in the same time, with a queue before it.
    struct Queue {
        shedder: Shedder,
        share: f64,
        /// Work that waits, in ms.
        waits: f64,
        seed: u64,
    }

    impl Queue {
        fn new(seed: u64) -> Self {
            Self { shedder: Shedder::default(), share: 0.0, waits: 0.0, seed }
        }

        fn chance(&mut self) -> f64 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            (self.seed >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// So much time at so many times the load that it can serve; the mean delay and share of the last half of it.
        fn run(&mut self, ms: u64, load: f64) -> (f64, f64) {
            let (mut delays, mut shares, mut looks) = (0.0, 0.0, 0.0);
            let (mut at, mut due) = (0.0, 10.0);
            while at < ms as f64 {
                // Arrivals of this ms: about ten times the load.
                for _ in 0..50 {
                    if self.chance() < load * 10.0 / 50.0 {
                        self.waits += if self.chance() < self.share { 0.02 } else { 0.1 };
                    }
                }
                self.waits = (self.waits - 1.0_f64).max(0.0);
                at += 1.0;
                // A look waits behind all that waits.
                if at >= due + self.waits.min(200.0) {
                    let late = Duration::from_secs_f64((at - due) / 1000.0);
                    let passed = Duration::from_secs_f64((at - due + 10.0) / 1000.0);
                    self.share = self.shedder.step(late, passed, BOUND);
                    due = at + 10.0;
                    if at > ms as f64 / 2.0 {
                        delays += late.as_secs_f64() * 1000.0;
                        shares += self.share;
                        looks += 1.0;
                    }
                }
            }
            (delays / f64::max(looks, 1.0), shares / f64::max(looks, 1.0))
        }
    }

    #[test]
    fn the_delay_settles_near_its_bound_under_any_load_that_can_be_turned_away() {
        for seed in 1..=32 {
            for load in [1.2, 1.5, 2.0, 3.0] {
                let mut queue = Queue::new(seed * 7919);
                let (delay, share) = queue.run(20_000, load);
                // Served and turned away together fill its time: load · (1 − s) + load · s / 5 = 1.
                let right = (1.0 - 1.0 / load) / 0.8;
                assert!((35.0..70.0).contains(&delay), "seed {seed}, load {load}: {delay} ms");
                assert!((share - right).abs() < 0.05, "seed {seed}, load {load}: {share} instead of {right}");
            }
        }
    }

    #[test]
    fn nothing_is_turned_away_below_capacity_nor_for_a_burst() {
        for seed in 1..=32 {
            let mut queue = Queue::new(seed * 104_729);
            let (_, share) = queue.run(10_000, 0.9);
            assert!(share < 0.001, "seed {seed}: {share}");
            queue.waits += 30.0;
            assert!(queue.run(1_000, 0.5).1 < 0.001, "seed {seed}");
        }
    }

    #[test]
    fn when_the_load_is_gone_all_come_through_again_within_two_seconds() {
        for seed in 1..=32 {
            let mut queue = Queue::new(seed * 31_337);
            queue.run(10_000, 4.0);
            queue.run(2_000, 0.5);
            assert_eq!(queue.share, 0.0, "seed {seed}");
        }
    }

    #[test]
    fn the_share_grows_and_falls_in_small_steps() {
        let mut shedder = Shedder::default();
        let mut before = 0.0;
        for turn in 0..400_u64 {
            let delay = Duration::from_millis(if turn < 200 { 100 } else { 0 });
            let share = shedder.step(delay, TICK, BOUND);
            assert!((share - before).abs() <= 0.31 && (0.0..=SHARE_MAX).contains(&share), "{before} to {share}");
            before = share;
        }
        assert_eq!(before, 0.0);
    }
}
