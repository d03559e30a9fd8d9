//! Dice of the simulation: splitmix64, and exact draws of the distributions that it needs.

/// A seeded generator (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51_7c_c1_b7_27_22_0a_95);
        dice.draw();
        dice
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.draw() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// How many of `n` happen with probability `p` each; exact, by jumping from one to the next.
    pub(crate) fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p <= 0.0 {
            return 0;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let (ln, mut at, mut count) = ((1.0 - p).ln(), 0.0, 0);
        loop {
            at += (self.uniform().ln() / ln).floor() + 1.0;
            if at > n as f64 {
                return count;
            }
            count += 1;
        }
    }

    /// Poisson, by counting exponential gaps.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        let (mut at, mut count) = (0.0, 0);
        loop {
            at -= self.uniform().ln();
            if at > mean {
                return count;
            }
            count += 1;
        }
    }

    /// A whole number near `mean`: rounded up as often as its fraction says. How many requests come does not matter to
    /// a test that is conditioned on it.
    pub(crate) fn about(&mut self, mean: f64) -> u64 {
        mean.floor() as u64 + u64::from(self.chance(mean.fract()))
    }

    /// Geometric with this mean, at least 1.
    pub(crate) fn geometric(&mut self, mean: f64) -> u64 {
        if mean <= 1.0 {
            return 1;
        }
        1 + (self.uniform().ln() / (1.0 - 1.0 / mean).ln()).floor() as u64
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
