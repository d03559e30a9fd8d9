//! Plans and ticks for the tests of this room.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tick::{Arm, Tick};
use crate::model::Name;
use crate::model::rollout::{
    Ask, Event, EvidencePolicy, Gate, OnFailure, OnInconclusive, OnProviderError, Phase, QuantileWeight,
    RollbackPolicy, RolloutPlan, Share, Strategy,
};

/// The error gate with its defaults.
pub(super) fn errors() -> Gate {
    let ask = Ask::ErrorRate {
        event: Event::Error,
        max_ratio: 1.25,
        excludes: 2.0,
        safe_rate: 0.01,
        min_difference: 0.001,
        min_events: 5,
    };
    Gate { name: "error_rate".into(), dry_run: false, ask }
}

/// The latency gate at p95 with its defaults.
pub(super) fn latency() -> Gate {
    let quantiles = vec![QuantileWeight { quantile: 0.95, weight: 1.0 }];
    Gate {
        name: "latency".into(),
        dry_run: false,
        ask: Ask::Latency { quantiles, margin: 0.1, margin_ms: 5.0, excludes: 2.0 },
    }
}

/// The gate about caches with its defaults, and this time to warm up.
pub(super) fn caches(warm_up: Duration) -> Gate {
    let ask = Ask::CacheHit {
        max_ratio: 1.25,
        excludes: 1.5,
        safe_rate: 0.01,
        min_difference: 0.01,
        min_events: 5,
        warm_up,
        waits: true,
    };
    Gate { name: "cache_hit".into(), dry_run: false, ask }
}

/// A plan with phases of these percents, ten seconds each.
pub(super) fn plan(percents: &[f64], gates: Vec<Gate>) -> RolloutPlan {
    let phase = |(index, percent): (usize, &f64)| Phase {
        name: format!("phase-{}", index + 1),
        share: Share::from_percent(*percent).expect("a percentage"),
        holdback: Share::ZERO,
        cohort: Vec::new(),
        min_duration: Duration::from_secs(10),
        max_duration: Duration::from_secs(600),
        gates: Vec::new(),
    };
    let name = |text: &str| Name::new(text).expect("a name");
    RolloutPlan {
        name: name("engine-2"),
        service: name("engine"),
        candidate: name("canary"),
        baseline: None,
        version: None,
        strategy: Strategy::Phased,
        phases: percents.iter().enumerate().map(phase).collect(),
        gates,
        evidence: EvidencePolicy::default(),
        on_failure: OnFailure::Rollback,
        on_inconclusive: OnInconclusive::Extend,
        on_provider_error: OnProviderError::Warn,
        deadline: None,
        auto_advance: true,
        auto_rollback: true,
        dry_run: false,
        rollback: RollbackPolicy::default(),
        actions: Vec::new(),
        windows: Vec::new(),
        sweeps: Vec::new(),
        keep_previous: Duration::from_secs(3600),
        labels: BTreeMap::new(),
    }
}

/// A second in which candidate and control had so many attempts and errors.
pub(super) fn second(share: f64, candidate: [u64; 2], control: [u64; 2]) -> Tick {
    let arm = |[attempts, errors]: [u64; 2]| Arm { attempts, errors, timed: attempts, ..Arm::default() };
    let half = |half: u64| arm(control.map(|count| (count + half) / 2));
    Tick {
        elapsed_ms: 1000,
        share,
        serving: true,
        candidate: arm(candidate),
        control: arm(control),
        halves: [half(0), half(1)],
        ..Tick::default()
    }
}

/// A flawless second at even shares in which the caches of candidate and control had so many answers, and had not.
pub(super) fn cached(candidate: [u64; 2], control: [u64; 2]) -> Tick {
    let mut tick = second(0.5, [candidate[0] + candidate[1], 0], [control[0] + control[1], 0]);
    (tick.candidate.cache_hits, tick.candidate.cache_misses) = (candidate[0], candidate[1]);
    (tick.control.cache_hits, tick.control.cache_misses) = (control[0], control[1]);
    for (number, half) in tick.halves.iter_mut().enumerate() {
        let part = |count: u64| (count + number as u64) / 2;
        (half.cache_hits, half.cache_misses) = (part(control[0]), part(control[1]));
    }
    tick
}
