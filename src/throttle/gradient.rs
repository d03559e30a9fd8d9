//! How many requests a pool can have in flight before they only wait for each other, found by how its answers slow
//! down: pure, fed with times. After Envoy's adaptive concurrency filter: the limit is led by the ratio of the time
//! that an answer takes when there is room to the time that it takes now, with a quarter for chance and a root for
//! a queue.
//!
//! The time with room cannot be seen while the limit is reached, so every half minute the limit is halved for a
//! moment, and what answers take then is the new measure. It reads no clock, and knows nothing of what becomes of
//! the rest.

/// Times that a look is made of, at least and at most; the middle one counts, so that a few slow answers say nothing.
/// Of more than those, the last ones count: they were sent latest.
const SAMPLES_MIN: usize = 50;
const SAMPLES_MAX: usize = 200;

/// Times that are enough where no more come: a low limit and slow answers are few of them.
const SAMPLES_FEW: usize = 5;

/// The shortest look, and none is shorter than an answer takes: what comes sooner was sent under another limit, and a
/// limit that is led by it swings. (200 servers of 5 ms: by 60 %, with half of them idle.)
const LOOK_MS: u64 = 100;

/// After this long, and after as long as an answer takes, a look makes do with [`SAMPLES_FEW`].
const LOOK_MS_MAX: u64 = 5_000;

/// A look that has not even those after [`LOOK_MS_MAX`], and after so many answers could have followed one another,
/// says nothing of now.
const ROUNDS_MAX: u64 = 10;

/// Between two times that the limit is halved to measure anew (Envoy: 60 s), and the looks that are between them at
/// least: the first one sees answers to what was sent while it was halved, and leads upwards whatever is right.
const PROBE_EVERY_MS: u64 = 30_000;
const PROBE_EVERY_LOOKS: u32 = 10;

/// How much slower than with room answers may be without being taken for a queue (Envoy: 25 %).
const TOLERANCE: f64 = 1.25;

/// How much one look may change the limit (Envoy's lower bound; upwards it is slower, as there is no hurry).
const STEP: std::ops::RangeInclusive<f64> = 0.5..=1.25;

/// Which part of a step is made: the smaller it is the more of it is chance, down to a fifth (the smoothing of
/// Netflix's Gradient2). From two thirds of the limit on, it is made whole.
const DAMPED: std::ops::RangeInclusive<f64> = 0.2..=1.0;
const DAMPING: f64 = 1.5;

/// A new measure within half as much again of the one before is as likely chance: a quarter of it is taken. A larger
/// one is other work, and taken whole.
const SAME_WORK: f64 = 1.5;
const SAME_WORK_PART: f64 = 0.25;

/// Which part of what an answer takes less than the measure is taken from it: the least of many middles would be less
/// than any answer takes.
const LESS_PART: f64 = 1.0 / 32.0;

/// The limit of one pool.
#[derive(Debug)]
pub struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// What an answer takes when there is room, in µs; none until something was seen.
    baseline_us: Option<u64>,
    phase: Phase,
    probe_at_ms: u64,
    /// Looks since it was halved.
    looks: u32,
    look: Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The limit is led.
    Leading,
    /// It is halved, and what was sent before is coming back.
    Emptying,
    /// It is halved, and what comes back is the measure.
    Measuring,
}

#[derive(Debug, Default)]
struct Look {
    began_ms: u64,
    times_us: Vec<u64>,
    /// Where the oldest of them is, once there are as many as there may be.
    oldest: usize,
    most_in_flight: u32,
}

// === impl Gradient ===

impl Gradient {
    /// A limit between these, at first as low as it may be.
    pub fn new(min: u32, max: u32, now_ms: u64) -> Self {
        let limit = f64::from(min);
        let look = Look { began_ms: now_ms, ..Look::default() };
        Self {
            min: limit,
            max: f64::from(max.max(min)),
            limit,
            baseline_us: None,
            phase: Phase::Leading,
            probe_at_ms: now_ms + PROBE_EVERY_MS,
            looks: 0,
            look,
        }
    }

    /// The limit in force.
    pub fn limit(&self) -> u32 {
        let part = if self.phase == Phase::Leading { 1.0 } else { 0.5 };
        (self.limit * part).max(self.min) as u32
    }

    /// Takes note of the time of one answer, with so many in flight; whether the limit in force may be another one now.
    pub fn note(&mut self, took_us: u64, in_flight: u32, now_ms: u64) -> bool {
        let (took_ms, lasted) = (took_us / 1000, now_ms.saturating_sub(self.look.began_ms));
        let given_up = self.look.times_us.len() + 1 < SAMPLES_FEW
            && lasted > LOOK_MS_MAX.max(took_ms.saturating_mul(ROUNDS_MAX))
            && self.give_up(now_ms);
        self.look.add(took_us);
        self.look.most_in_flight = self.look.most_in_flight.max(in_flight);
        let seen = self.look.times_us.len();
        let enough = match seen {
            SAMPLES_MIN.. => lasted >= LOOK_MS.max(took_ms),
            SAMPLES_FEW.. => lasted > LOOK_MS_MAX.max(took_ms),
            _ => false,
        };
        if !enough {
            return given_up;
        }
        let middle = seen / 2;
        let middle_us = (*self.look.times_us.select_nth_unstable(middle).1).max(1);
        let most = f64::from(self.look.most_in_flight);
        self.begin_look(now_ms);
        self.judge(middle_us, most, now_ms);
        true
    }

    /// Looks anew, with the limit that there was before it was halved; whether it was.
    fn give_up(&mut self, now_ms: u64) -> bool {
        self.begin_look(now_ms);
        let halved = self.phase != Phase::Leading;
        if halved {
            self.lead(now_ms);
        }
        halved
    }

    fn lead(&mut self, now_ms: u64) {
        self.phase = Phase::Leading;
        self.probe_at_ms = now_ms + PROBE_EVERY_MS;
        self.looks = 0;
    }

    fn begin_look(&mut self, now_ms: u64) {
        self.look.began_ms = now_ms;
        self.look.times_us.clear();
        self.look.oldest = 0;
        self.look.most_in_flight = 0;
    }

    fn judge(&mut self, middle_us: u64, most: f64, now_ms: u64) {
        match self.phase {
            Phase::Emptying => self.phase = Phase::Measuring,
            Phase::Measuring => {
                self.baseline_us = Some(measured(self.baseline_us, middle_us));
                self.lead(now_ms);
            }
            Phase::Leading => {
                let before = self.baseline_us.unwrap_or(middle_us);
                let baseline = before - (before.saturating_sub(middle_us) as f64 * LESS_PART) as u64;
                self.baseline_us = Some(baseline);
                let gradient = TOLERANCE * baseline as f64 / middle_us as f64;
                let led = self.limit * gradient.clamp(*STEP.start(), *STEP.end()) + self.limit.sqrt();
                let off = (led / self.limit - 1.0).abs();
                let led = self.limit + (led - self.limit) * (off * DAMPING).clamp(*DAMPED.start(), *DAMPED.end());
                // What was not asked for says nothing of what could be borne.
                let wanted = most * 2.0 >= self.limit;
                self.limit = (if wanted { led } else { led.min(self.limit) }).clamp(self.min, self.max);
                self.looks += 1;
                if now_ms >= self.probe_at_ms && self.looks >= PROBE_EVERY_LOOKS {
                    self.phase = Phase::Emptying;
                }
            }
        }
    }
}

// === impl Look ===

impl Look {
    fn add(&mut self, took_us: u64) {
        if self.times_us.len() < SAMPLES_MAX {
            self.times_us.push(took_us);
        } else {
            self.times_us[self.oldest] = took_us;
            self.oldest = (self.oldest + 1) % SAMPLES_MAX;
        }
    }
}

/// What an answer takes with room, after it took `middle_us` in the last look that had some.
fn measured(before_us: Option<u64>, middle_us: u64) -> u64 {
    let Some(before) = before_us.map(|before| before.max(1) as f64) else { return middle_us };
    let times = middle_us as f64 / before;
    match times < SAME_WORK && times > 1.0 / SAME_WORK {
        true => (before + (middle_us as f64 - before) * SAME_WORK_PART) as u64,
        false => middle_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers that each work on one request at a time, with one queue, asked for more than they can by a sender that
    /// keeps to the limit. Steps of a millisecond.
    struct Stage {
        gradient: Gradient,
        now_ms: u64,
        seed: u64,
        /// How far times of work are apart: of a log-normal distribution around their mean; none: half and half as much
        /// again, evenly.
        spread: Option<f64>,
        /// Sent at, and what is left of its work in ms; the first so many are worked on.
        in_flight: std::collections::VecDeque<(u64, f64)>,
    }

    impl Stage {
        fn new(seed: u64) -> Self {
            Self { gradient: Gradient::new(5, 1000, 0), now_ms: 0, seed, spread: None, in_flight: Default::default() }
        }

        fn chance(&mut self) -> f64 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            (self.seed >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// A time of work, as a part of their mean.
        fn work(&mut self) -> f64 {
            let Some(spread) = self.spread else { return 0.5 + self.chance() };
            let (a, b) = (self.chance(), self.chance());
            let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
            (spread * normal - spread * spread / 2.0).exp()
        }

        /// So much time with so many servers that take `work_ms` on average; the mean limit of its last third. `most`:
        /// what is asked for at most.
        fn run(&mut self, ms: u64, servers: usize, work_ms: f64, most: u32) -> f64 {
            let (mut sum, mut steps) = (0.0, 0.0);
            for step in 0..ms {
                self.now_ms += 1;
                while self.in_flight.len() < self.gradient.limit().min(most) as usize {
                    let work = work_ms * self.work();
                    self.in_flight.push_back((self.now_ms, work));
                }
                for at in 0..servers.min(self.in_flight.len()) {
                    self.in_flight[at].1 -= 1.0;
                }
                let mut at = 0;
                while at < servers.min(self.in_flight.len()) {
                    match self.in_flight[at].1 <= 0.0 {
                        true => {
                            let count = self.in_flight.len() as u32;
                            let (sent, _) = self.in_flight.remove(at).expect("it is there");
                            self.gradient.note((self.now_ms - sent) * 1000, count, self.now_ms);
                        }
                        false => at += 1,
                    }
                }
                if step >= ms / 3 * 2 {
                    sum += f64::from(self.gradient.limit());
                    steps += 1.0;
                }
            }
            sum / steps
        }
    }

    /// The servers, a quarter for chance, and the root for a queue: where the gradient stands still.
    fn right(servers: usize) -> f64 {
        let busy = TOLERANCE * servers as f64;
        let root = (1.0 + (1.0 + 4.0 * busy).sqrt()) / 2.0;
        root * root
    }

    #[test]
    fn the_limit_settles_where_a_queue_begins_whatever_the_work() {
        for seed in 1..=12_u64 {
            for (servers, work_ms) in [(10, 10.0), (40, 20.0), (100, 50.0)] {
                let limit = Stage::new(seed * 7919).run(30_000, servers, work_ms, u32::MAX);
                let off = (limit - right(servers)).abs() / right(servers);
                assert!(off < 0.2, "seed {seed}: {limit} for {servers} servers, where {} is right", right(servers));
            }
        }
    }

    #[test]
    fn at_a_steady_load_the_limit_hardly_swings_and_no_server_waits_for_work() {
        for seed in 1..=2_u64 {
            // The stage takes up to a millisecond to send the next request, a fifth of the shortest work.
            for (servers, work_ms, least) in
                [(4, 20.0, 0.98), (10, 10.0, 0.98), (40, 20.0, 0.98), (100, 50.0, 0.98), (200, 5.0, 0.9)]
            {
                let mut stage = Stage::new(seed * 7919);
                // One in a hundred takes three and a half times as long as the mean.
                stage.spread = Some(0.6);
                stage.run(40_000, servers, work_ms, u32::MAX);
                let (mut limits, mut busy) = (Vec::new(), 0.0);
                for _ in 0..4_000 {
                    stage.run(10, servers, work_ms, u32::MAX);
                    // That it is halved now and then is no swing; what that costs is in the rest.
                    limits.push(stage.gradient.limit);
                    busy += stage.in_flight.len().min(servers) as f64 / servers as f64 / 4_000.0;
                }
                limits.sort_by(f64::total_cmp);
                let [low, middle, high] = [40, 2_000, 3_960].map(|at: usize| limits[at]);
                let told = format!("seed {seed}, {servers} servers: {low} to {high} around {middle}, {busy} busy");
                assert!(low > middle * 0.8 && high < middle * 1.2 && busy > least, "{told}");
            }
        }
    }

    #[test]
    fn half_of_the_servers_have_half_of_the_limit_and_it_comes_back() {
        for seed in 1..=12_u64 {
            let mut stage = Stage::new(seed * 104_729);
            let before = stage.run(20_000, 40, 20.0, u32::MAX);
            let halved = stage.run(20_000, 20, 20.0, u32::MAX);
            let after = stage.run(40_000, 40, 20.0, u32::MAX);
            for (limit, servers) in [(before, 40), (halved, 20), (after, 40)] {
                let off = (limit - right(servers)).abs() / right(servers);
                assert!(off < 0.25, "seed {seed}: {limit} for {servers} servers: {before}, {halved}, {after}");
            }
        }
    }

    #[test]
    fn slower_work_lowers_the_limit_until_it_is_known_to_be_the_work() {
        for seed in 1..=12_u64 {
            let mut stage = Stage::new(seed * 31_337);
            let before = stage.run(20_000, 40, 20.0, u32::MAX);
            let slower = stage.run(6_000, 40, 60.0, u32::MAX);
            assert!(slower < before * 0.6, "seed {seed}: {before} became {slower}");
            let known = stage.run(90_000, 40, 60.0, u32::MAX);
            assert!((known / before - 1.0).abs() < 0.25, "seed {seed}: {before} came back as {known}");
        }
    }

    #[test]
    fn answers_that_take_seconds_lead_the_limit_as_well() {
        for seed in 1..=4_u64 {
            for (servers, work_ms) in [(4, 1_000.0), (10, 2_000.0), (30, 2_000.0), (20, 4_000.0)] {
                let limit = Stage::new(seed * 65_537).run(300_000, servers, work_ms, u32::MAX);
                let off = (limit - right(servers)).abs() / right(servers);
                assert!(off < 0.4, "seed {seed}: {limit} for {servers} servers, where {} is right", right(servers));
            }
            // What was led by is long over when it is seen; still it does not run away.
            let limit = Stage::new(seed * 65_537).run(600_000, 20, 8_000.0, u32::MAX);
            assert!((20.0..120.0).contains(&limit), "seed {seed}: {limit}");
        }
        let mut one = Gradient::new(1, 100, 0);
        (1..=40).for_each(|n| _ = one.note(10_000_000, one.limit(), n * 10_000));
        assert!(one.limit() > 1, "one at a time, each of ten seconds");
    }

    #[test]
    fn a_limit_that_was_halved_to_measure_comes_back_when_answers_become_few() {
        for last in [Phase::Emptying, Phase::Measuring] {
            let mut gradient = Gradient::new(5, 100, 0);
            let mut now_ms = 0;
            while gradient.phase != last {
                now_ms += 1;
                gradient.note(20_000, gradient.limit(), now_ms);
            }
            let (halved, before) = (gradient.limit(), gradient.limit as u32);
            assert!(halved < before, "{halved} of {before}");
            let rose = (0..3).any(|n| gradient.note(20_000, 1, now_ms + n * 4_000));
            assert!(rose && gradient.limit() == before, "{} of {before}", gradient.limit());
        }
    }

    #[test]
    fn what_nobody_asks_for_is_not_granted_and_bounds_hold() {
        let mut stage = Stage::new(7);
        let limit = stage.run(20_000, 1_000, 20.0, 30);
        assert!((30.0..=80.0).contains(&limit), "{limit}");
        let mut narrow = Gradient::new(8, 12, 0);
        for now_ms in 0..60_000 {
            narrow.note(1_000 * (1 + now_ms % 50), 12, now_ms);
            assert!((8..=12).contains(&narrow.limit()));
        }
    }
}
