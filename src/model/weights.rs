//! Weights: how much of a service's new traffic each pool gets. All-zero cannot be represented.

use super::name::Name;

/// Largest weight of one pool (the Gateway API's bound).
pub const WEIGHT_MAX: u32 = 1_000_000;

/// Number of buckets that sticky units fall into; one bucket is a ten-thousandth of a percent.
pub const BUCKETS: u32 = 1_000_000;

/// One pool's relative weight, as the operator wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// A relative integer, `0..=WEIGHT_MAX`.
    Relative(u32),
    /// A percentage in ten-thousandths of a percent (`"10%"` is 100 000), `0..=1_000_000`.
    Percent(u32),
}

/// The weights of one service: every pool once, at least one above 0, all relative or all percents that sum to 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    entries: Vec<(Name, Weight)>,
}

/// Why weights were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWeights {
    /// No pool is named.
    #[error("no pool is named; name at least one with a weight above 0")]
    Empty,
    /// Every weight is 0, which would leave nowhere to send a request.
    #[error("all weights are 0; give at least one pool a weight above 0")]
    AllZero,
    /// A weight above [`WEIGHT_MAX`].
    #[error("weight {weight} of pool \"{pool}\" is too large; the largest is {WEIGHT_MAX}")]
    TooLarge {
        /// The pool.
        pool: Name,
        /// What was found.
        weight: u64,
    },
    /// Percents and plain integers in one service.
    #[error("percents and plain weights are mixed; write all as percents or none")]
    Mixed,
    /// Percents that do not sum to 100.
    #[error("the percents sum to {}; they must sum to 100", *.0 as f64 / 10_000.0)]
    NotHundred(u64),
    /// One pool twice.
    #[error("pool \"{0}\" is named twice")]
    Twice(Name),
}

/// Why a text is not a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a weight: write an integer from 0 to 1000000, or a percentage such as \"10%\" or \"0.5%\"")]
pub struct InvalidWeight(pub String);

// === impl Weight ===

impl Weight {
    /// Reads `"10"`, `"10%"` or `"0.5%"` (at most four decimals).
    pub fn parse(text: &str) -> Result<Self, InvalidWeight> {
        let invalid = || InvalidWeight(text.chars().take(40).collect());
        let digits = |t: &str| -> Option<u32> {
            (!t.is_empty() && t.len() <= 7 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok()).flatten()
        };
        let Some(percent) = text.strip_suffix('%') else {
            return digits(text).filter(|&w| w <= WEIGHT_MAX).map(Weight::Relative).ok_or_else(invalid);
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let whole = digits(whole).ok_or_else(invalid)?;
        let scale = 10_u32.pow(4_u32.checked_sub(part.len() as u32).ok_or_else(invalid)?);
        let value = u64::from(whole) * 10_000 + u64::from(digits(part).ok_or_else(invalid)? * scale);
        u32::try_from(value).ok().filter(|&v| v <= BUCKETS).map(Weight::Percent).ok_or_else(invalid)
    }

    /// The weight as a plain number, comparable within one [`Weights`].
    pub fn value(self) -> u32 {
        match self {
            Weight::Relative(value) | Weight::Percent(value) => value,
        }
    }
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Weight::Relative(value) => write!(f, "{value}"),
            Weight::Percent(value) if value % 10_000 == 0 => write!(f, "{}%", value / 10_000),
            Weight::Percent(value) => {
                let text = format!("{}.{:04}", value / 10_000, value % 10_000);
                write!(f, "{}%", text.trim_end_matches('0'))
            }
        }
    }
}

// === impl Weights ===

/// `stable=90 canary=10`, as `weir set` takes it.
impl std::fmt::Display for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (pool, weight)) in self.iter().enumerate() {
            write!(f, "{}{pool}={weight}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl Weights {
    /// Checks `entries` and keeps their order.
    pub fn new(entries: Vec<(Name, Weight)>) -> Result<Self, InvalidWeights> {
        let percents = entries.iter().filter(|(_, w)| matches!(w, Weight::Percent(_))).count();
        let total: u64 = entries.iter().map(|(_, w)| u64::from(w.value())).sum();
        for (i, (pool, weight)) in entries.iter().enumerate() {
            if weight.value() > WEIGHT_MAX {
                return Err(InvalidWeights::TooLarge { pool: pool.clone(), weight: weight.value().into() });
            }
            if entries[..i].iter().any(|(other, _)| other == pool) {
                return Err(InvalidWeights::Twice(pool.clone()));
            }
        }
        match () {
            () if entries.is_empty() => Err(InvalidWeights::Empty),
            () if percents != 0 && percents != entries.len() => Err(InvalidWeights::Mixed),
            () if total == 0 => Err(InvalidWeights::AllZero),
            () if percents != 0 && total != u64::from(BUCKETS) => Err(InvalidWeights::NotHundred(total)),
            () => Ok(Self { entries }),
        }
    }

    /// Everything to `pool`, 0 to each of `others`.
    pub fn all_to(pool: &Name, others: impl IntoIterator<Item = Name>) -> Self {
        let zeros = others.into_iter().filter(|other| other != pool).map(|other| (other, Weight::Relative(0)));
        let entries = std::iter::once((pool.clone(), Weight::Relative(100))).chain(zeros).collect();
        Self { entries }
    }

    /// The pools and their weights, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Weight)> {
        self.entries.iter().map(|(name, weight)| (name, *weight))
    }

    /// The weight of `pool`; a pool that is not named has none and gets no traffic.
    pub fn of(&self, pool: &str) -> u32 {
        self.entries.iter().find(|(name, _)| name.as_str() == pool).map_or(0, |(_, weight)| weight.value())
    }

    /// The sum of all weights, at least 1.
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|(_, weight)| u64::from(weight.value())).sum()
    }

    /// The part of the whole that `pool` gets, `0.0..=1.0`.
    pub fn share(&self, pool: &str) -> f64 {
        f64::from(self.of(pool)) / self.total() as f64
    }
}
