//! Built-in profiles: phases and gates to begin with.

use std::time::Duration;

use crate::model::rollout::{Ask, Event, Gate, Phase, QuantileWeight, Share};

/// Their names.
pub(super) const NAMES: &[&str] = &["default", "stable-channel", "conservative", "moderate", "permissive"];

/// Phases and gates.
pub(super) struct Profile {
    pub(super) phases: Vec<Phase>,
    pub(super) gates: Vec<Gate>,
}

/// The profile of that name.
pub(super) fn profile(name: &str) -> Profile {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 3600;
    let ramp = [(1.0, 5 * MINUTE), (5.0, 5 * MINUTE), (25.0, 5 * MINUTE), (100.0, 5 * MINUTE)];
    match name {
        "stable-channel" => {
            let steps = [(1.0, HOUR), (10.0, 2 * HOUR), (50.0, 4 * HOUR), (100.0, 0)];
            Profile { phases: phases(&steps), gates: vec![errors(1.25), latency(0.1, 5.0)] }
        }
        "conservative" => Profile { phases: phases(&ramp), gates: vec![errors(1.1), latency(0.0, 100.0)] },
        "moderate" => Profile { phases: phases(&ramp), gates: vec![errors(1.5), latency(0.0, 500.0)] },
        "permissive" => Profile { phases: phases(&ramp), gates: vec![errors(2.0), latency(0.0, 1000.0)] },
        _ => Profile { phases: phases(&ramp), gates: vec![errors(1.25), latency(0.1, 5.0)] },
    }
}

/// Phases of these percents and least seconds.
pub(super) fn phases(steps: &[(f64, u64)]) -> Vec<Phase> {
    let phase = |(index, (percent, seconds)): (usize, &(f64, u64))| Phase {
        name: format!("phase-{}", index + 1),
        share: Share::from_percent(*percent).unwrap_or(Share::ALL),
        holdback: Share::ZERO,
        cohort: Vec::new(),
        min_duration: Duration::from_secs(*seconds),
        max_duration: Duration::from_secs((*seconds).max(4 * 3600)),
        gates: Vec::new(),
    };
    steps.iter().enumerate().map(phase).collect()
}

fn errors(max_ratio: f64) -> Gate {
    let ask = Ask::ErrorRate {
        event: Event::Error,
        max_ratio,
        excludes: max_ratio.max(2.0),
        safe_rate: 0.01,
        min_difference: 0.001,
        min_events: 5,
    };
    Gate { name: "error_rate".into(), dry_run: false, ask }
}

fn latency(margin: f64, margin_ms: f64) -> Gate {
    let quantiles = vec![QuantileWeight { quantile: 0.95, weight: 1.0 }];
    Gate { name: "latency".into(), dry_run: false, ask: Ask::Latency { quantiles, margin, margin_ms, excludes: 2.0 } }
}
