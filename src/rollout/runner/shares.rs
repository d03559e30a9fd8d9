//! From a share of the candidate to the weights of its service, and back. Pure.
//!
//! A rollout is between the candidate, its baseline and stable. Another pool that has a weight keeps its part of the
//! traffic, as long as there is room: stable gives first, and only what stable does not have is taken from the others,
//! in proportion. So at 100 % everything is the candidate's.

use crate::model::rollout::Share;
use crate::model::{BUCKETS, Name, Weight, Weights};

/// The pools that a rollout is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arms<'a> {
    pub(super) candidate: &'a Name,
    pub(super) baseline: Option<&'a Name>,
    pub(super) stable: &'a Name,
}

/// The weights that give the candidate `share`, and its baseline as much as long as there is room. Whole percents are
/// written as plain integers, anything finer as percentages.
pub(super) fn weights(live: &Weights, arms: Arms<'_>, share: Share) -> Option<Weights> {
    let candidate = share.buckets();
    let baseline = if arms.baseline.is_some() { candidate.min(BUCKETS - candidate) } else { 0 };
    let room = BUCKETS - candidate - baseline;
    let is_arm = |name: &Name| name == arms.candidate || Some(name) == arms.baseline || name == arms.stable;
    let others = live.iter().map(|(name, _)| name).filter(|name| !is_arm(name));
    let others: Vec<(&Name, u32)> = others.map(|name| (name, buckets(live, name))).collect();
    let asked: u64 = others.iter().map(|(_, part)| u64::from(*part)).sum();
    let scaled = |part: u32| {
        if asked <= u64::from(room) { part } else { (u64::from(part) * u64::from(room) / asked) as u32 }
    };
    let given: u32 = others.iter().map(|(_, part)| scaled(*part)).sum();
    let part = |name: &Name| {
        if name == arms.candidate {
            candidate
        } else if Some(name) == arms.baseline {
            baseline
        } else if name == arms.stable {
            room - given
        } else {
            others.iter().find(|(other, _)| *other == name).map_or(0, |(_, part)| scaled(*part))
        }
    };
    let mut parts: Vec<(Name, u32)> = live.iter().map(|(name, _)| (name.clone(), part(name))).collect();
    for arm in [Some(arms.stable), Some(arms.candidate), arms.baseline].into_iter().flatten() {
        if !parts.iter().any(|(name, _)| name == arm) {
            parts.push((arm.clone(), part(arm)));
        }
    }
    let whole = parts.iter().all(|(_, part)| part % 10_000 == 0);
    let weight = |part| if whole { Weight::Relative(part / 10_000) } else { Weight::Percent(part) };
    Weights::new(parts.into_iter().map(|(name, part)| (name, weight(part))).collect()).ok()
}

/// What a pool has by these weights, of everything.
pub(in crate::rollout) fn share_of(weights: &Weights, pool: &Name) -> Share {
    Share::from_buckets(buckets(weights, pool))
}

/// The candidate's assigned part of candidate and control; 0 when neither has anything.
pub(super) fn part_of(weights: &Weights, candidate: &Name, control: &Name) -> f64 {
    let (own, other) = (f64::from(weights.of(candidate)), f64::from(weights.of(control)));
    if own + other > 0.0 { own / (own + other) } else { 0.0 }
}

fn buckets(weights: &Weights, pool: &Name) -> u32 {
    (weights.share(pool) * f64::from(BUCKETS)).round() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn live(parts: &[(&str, u32)]) -> Weights {
        Weights::new(parts.iter().map(|(pool, weight)| (name(pool), Weight::Relative(*weight))).collect()).unwrap()
    }

    fn moved(parts: &[(&str, u32)], baseline: Option<&str>, percent: f64) -> String {
        let (candidate, stable, baseline) = (name("canary"), name("stable"), baseline.map(name));
        let arms = Arms { candidate: &candidate, baseline: baseline.as_ref(), stable: &stable };
        weights(&live(parts), arms, Share::from_percent(percent).unwrap()).unwrap().to_string()
    }

    #[test]
    fn whole_percents_are_plain_integers_and_finer_ones_percentages() {
        let pair = [("stable", 9), ("canary", 1)];
        assert_eq!(moved(&pair, None, 5.0), "stable=95 canary=5");
        assert_eq!(moved(&pair, None, 0.5), "stable=99.5% canary=0.5%");
        assert_eq!(moved(&pair, None, 100.0), "stable=0 canary=100");
        assert_eq!(moved(&pair, None, 0.0), "stable=100 canary=0");
        assert_eq!(moved(&[("stable", 1)], None, 5.0), "stable=95 canary=5");
    }

    #[test]
    fn a_baseline_gets_as_much_as_the_candidate_while_there_is_room() {
        let three = [("stable", 100), ("canary", 0), ("base", 0)];
        assert_eq!(moved(&three, Some("base"), 5.0), "stable=90 canary=5 base=5");
        assert_eq!(moved(&three, Some("base"), 60.0), "stable=0 canary=60 base=40");
    }

    #[test]
    fn another_pool_keeps_its_part_as_long_as_stable_can_give() {
        let three = [("stable", 80), ("canary", 0), ("beta", 20)];
        assert_eq!(moved(&three, None, 50.0), "stable=30 canary=50 beta=20");
        assert_eq!(moved(&three, None, 90.0), "stable=0 canary=90 beta=10");
        assert_eq!(moved(&three, None, 100.0), "stable=0 canary=100 beta=0");
    }

    proptest! {
        #[test]
        fn the_candidate_gets_exactly_its_share_whatever_the_others_have(
            parts in proptest::collection::vec(0_u32..1_000, 4), buckets in 0..=BUCKETS, with_baseline: bool,
        ) {
            prop_assume!(parts.iter().any(|part| *part > 0));
            let names = ["stable", "canary", "base", "beta"];
            let live = live(&names.into_iter().zip(parts).collect::<Vec<_>>());
            let (candidate, stable, base) = (name("canary"), name("stable"), name("base"));
            let arms = Arms { candidate: &candidate, baseline: with_baseline.then_some(&base), stable: &stable };
            let share = Share::from_buckets(buckets);
            let moved = weights(&live, arms, share).unwrap();
            prop_assert_eq!(share_of(&moved, &candidate), share);
            prop_assert_eq!(moved.iter().count(), 4);
        }
    }
}
