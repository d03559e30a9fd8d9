//! What an endpoint's gate says, and every way it may change: pure values, packed into one word that workers read.
//!
//! Two things close a gate, and they do not know of each other: active probes ([`Proof`]) and ejection by answers
//! ([`Ejection`]). A word of 0 is an endpoint that serves, so that the request path compares with one constant.
//! Nothing here reads a clock; the atomics are in [`super::endpoint`].

use super::endpoint::Admission;
use crate::model::Breaker;

/// A trial that never reports (its client left, its worker stalled) is given to another request after this long.
/// Ten seconds: longer than a healthy answer takes, short beside the longest ejection.
pub(crate) const TRIAL_MS: u64 = 10_000;

/// How long a trial waits for a request that could be made again elsewhere; then any request is the trial. Without it
/// an endpoint that gets none such (gRPC calls, POST) would stay out for ever. Short beside an ejection, so that little
/// of its share is lost; long enough for a service that gets a few repeatable requests a second.
pub(crate) const OVERDUE_MS: u64 = 1_000;

/// The word of an endpoint that serves.
pub(crate) const SERVING: u64 = 0;

/// What active probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It passed, or nobody probes it, or the process is young and it is used until its first probe.
    Passed,
    /// It failed `fall` probes in a row.
    Failed,
    /// It is new, or failed its first probe, and waits for its first pass.
    Awaited,
}

/// What the answers to real requests say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ejection {
    /// It takes requests.
    None,
    /// It takes none before this moment, then one.
    Until(u64),
    /// One request is out to try it; another may go after this moment.
    Trial(u64),
}

/// Both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Active probes.
    pub(crate) proof: Proof,
    /// Answers.
    pub(crate) ejection: Ejection,
}

/// What the probes of an endpoint have shown so far. Written by the control thread only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The verdict.
    pub(crate) proof: Proof,
    /// Whether it ever passed, or served before anybody probed it: only then does it have `fall` failures to spend.
    pub(crate) proven: bool,
    /// Passes in a row.
    pub(crate) passes: u32,
    /// Failures in a row.
    pub(crate) failures: u32,
}

/// How long an endpoint is ejected for the `level`th time in a row, in milliseconds: the base doubled each time, up to
/// half as much again by `draw` so that endpoints and replicas do not come back in step (Linkerd), never above the
/// longest.
pub(crate) fn ejection_ms(level: u32, draw: u64, policy: &Breaker) -> u64 {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (base, longest) = (millis(policy.base_ejection).max(1), millis(policy.max_ejection).max(1));
    let doubled = base.saturating_mul(1 << level.saturating_sub(1).min(32));
    // Near the ceiling the jitter goes below it, or every long ejection would last exactly as long.
    let nominal = doubled.min((longest / 3 * 2).max(base)).min(longest);
    let jitter = (u128::from(draw) * u128::from(nominal / 2)) >> 64;
    nominal.saturating_add(jitter as u64).min(longest)
}

/// A well mixed value for jitter (splitmix64, Steele et al. 2014).
pub(crate) fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

// === impl Gate ===

impl Gate {
    /// From the word that the atomics hold.
    pub(crate) fn unpack(word: u64) -> Self {
        let at = word >> 8;
        let proof = match word & 0b11 {
            0 => Proof::Passed,
            1 => Proof::Failed,
            _ => Proof::Awaited,
        };
        let ejection = match (word >> 2) & 0b11 {
            0 => Ejection::None,
            1 => Ejection::Until(at),
            _ => Ejection::Trial(at),
        };
        Self { proof, ejection }
    }

    /// The word; times keep 56 bits, two million years.
    pub(crate) fn pack(self) -> u64 {
        let proof = match self.proof {
            Proof::Passed => 0,
            Proof::Failed => 1,
            Proof::Awaited => 2,
        };
        let (kind, at) = match self.ejection {
            Ejection::None => (0, 0),
            Ejection::Until(at) => (1, at),
            Ejection::Trial(at) => (2, at),
        };
        (at.min(u64::MAX >> 8) << 8) | (kind << 2) | proof
    }

    /// Whether a request may pass at `now_ms`.
    pub(crate) fn admission(self, now_ms: u64) -> Admission {
        match (self.proof, self.ejection) {
            (Proof::Failed | Proof::Awaited, _) => Admission::Refused,
            (Proof::Passed, Ejection::None) => Admission::Serving,
            (Proof::Passed, Ejection::Until(at) | Ejection::Trial(at)) if now_ms >= at => Admission::Trial,
            (Proof::Passed, Ejection::Until(_) | Ejection::Trial(_)) => Admission::Refused,
        }
    }

    /// Whether a trial has been due for so long that any request may be it.
    pub(crate) fn is_overdue(self, now_ms: u64) -> bool {
        now_ms.checked_sub(OVERDUE_MS).is_some_and(|then_ms| self.admission(then_ms) == Admission::Trial)
    }

    /// With a trial out, when one is due.
    pub(crate) fn with_trial(self, now_ms: u64) -> Option<Self> {
        (self.admission(now_ms) == Admission::Trial)
            .then_some(Self { ejection: Ejection::Trial(now_ms + TRIAL_MS), ..self })
    }
}

// === impl Ledger ===

impl Ledger {
    /// Of an endpoint that serves and has `fall` failures to spend.
    pub(crate) const SERVES: Self = Self { proof: Proof::Passed, proven: true, passes: 0, failures: 0 };
    /// Of an endpoint that is used at process start until its first probe says otherwise.
    pub(crate) const TRUSTED: Self = Self { proof: Proof::Passed, proven: false, passes: 0, failures: 0 };
    /// Of an endpoint that serves after its first pass.
    pub(crate) const AWAITED: Self = Self { proof: Proof::Awaited, proven: false, passes: 0, failures: 0 };

    /// After a probe that passed.
    pub(crate) fn passed(self, rise: u32) -> Self {
        let passes = self.passes.saturating_add(1);
        let up = !self.proven || self.proof == Proof::Passed || passes >= rise;
        Self {
            proof: if up { Proof::Passed } else { self.proof },
            proven: true,
            passes: if up { 0 } else { passes },
            failures: 0,
        }
    }

    /// After a probe that failed.
    pub(crate) fn failed(self, fall: u32) -> Self {
        let failures = self.failures.saturating_add(1);
        let proof = match self.proof {
            Proof::Passed if !self.proven => Proof::Awaited,
            Proof::Passed if failures >= fall => Proof::Failed,
            unchanged => unchanged,
        };
        // A fallen endpoint begins anew; one that waits remembers that it was probed.
        let fell = proof != self.proof && proof == Proof::Failed;
        Self { proof, passes: 0, failures: if fell { 0 } else { failures }, ..self }
    }

    /// Whether the next probe may change the verdict soon, so that it should come quickly.
    pub(crate) fn in_transition(self) -> bool {
        match self.proof {
            Proof::Passed => self.failures > 0,
            Proof::Failed => self.passes > 0,
            Proof::Awaited => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn gates() -> impl Strategy<Value = Gate> {
        let proof = prop_oneof![Just(Proof::Passed), Just(Proof::Failed), Just(Proof::Awaited)];
        let at = 0..u64::MAX >> 8;
        let ejection =
            prop_oneof![Just(Ejection::None), at.clone().prop_map(Ejection::Until), at.prop_map(Ejection::Trial)];
        (proof, ejection).prop_map(|(proof, ejection)| Gate { proof, ejection })
    }

    proptest! {
        #[test]
        fn a_gate_survives_its_word(gate in gates()) {
            prop_assert_eq!(Gate::unpack(gate.pack()), gate);
            prop_assert_eq!(gate.pack() == SERVING, gate.admission(u64::MAX >> 8) == Admission::Serving);
        }

        #[test]
        fn an_ejection_lies_between_its_base_and_the_longest(
            level in 1u32..80,
            draw: u64,
            base in 1u64..5_000,
            factor in 1u64..90,
        ) {
            let policy = Breaker {
                base_ejection: Duration::from_millis(base),
                max_ejection: Duration::from_millis(base * factor),
                ..Breaker::default()
            };
            let lasts = ejection_ms(level, draw, &policy);
            prop_assert!((base..=base * factor).contains(&lasts), "{lasts}");
        }
    }

    #[test]
    fn ejections_double_from_one_second_to_sixty() {
        let policy = Breaker::default();
        let least: Vec<u64> = (1..=8).map(|level| ejection_ms(level, 0, &policy)).collect();
        assert_eq!(least, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 40_000, 40_000]);
        assert_eq!(ejection_ms(1, u64::MAX, &policy), 1_499);
        assert_eq!(ejection_ms(30, u64::MAX, &policy), 59_999);
    }

    #[test]
    fn an_unproved_endpoint_needs_one_pass_and_a_fallen_one_needs_rise() {
        let new = Ledger::AWAITED.failed(3).failed(3).failed(3).failed(3);
        assert_eq!(new.proof, Proof::Awaited);
        let up = new.passed(2);
        assert_eq!(up.proof, Proof::Passed);
        let fallen = up.failed(3).failed(3);
        assert_eq!(fallen.proof, Proof::Passed);
        let fallen = fallen.failed(3);
        assert_eq!(fallen.proof, Proof::Failed);
        assert_eq!(fallen.passed(2).proof, Proof::Failed);
        assert_eq!(fallen.passed(2).passed(2).proof, Proof::Passed);
    }

    #[test]
    fn an_endpoint_trusted_at_start_leaves_at_its_first_failed_probe_and_returns_at_its_first_pass() {
        let gone = Ledger::TRUSTED.failed(3);
        assert_eq!(gone.proof, Proof::Awaited);
        assert_eq!(gone.passed(2).proof, Proof::Passed);
    }

    #[test]
    fn a_flapping_endpoint_changes_nothing() {
        let (mut up, mut down) = (Ledger::SERVES, Ledger { proof: Proof::Failed, ..Ledger::SERVES });
        for _ in 0..100 {
            up = up.failed(3).passed(2);
            assert_eq!(up.proof, Proof::Passed);
            down = down.passed(2).failed(3);
            assert_eq!(down.proof, Proof::Failed);
        }
    }
}
