//! The numbers that plain rules look at: percent, ms, requests per second.

use super::window::Sums;
use crate::model::rollout::PlainMetric;
use crate::rollout::tick::Arm;

/// Whether the metric needs latencies.
pub(super) fn wants_latency(metric: PlainMetric) -> bool {
    matches!(metric, PlainMetric::Latency { .. } | PlainMetric::LatencyDelta { .. } | PlainMetric::ResponseTime)
}

/// How many samples of the candidate the number is made of.
pub(super) fn samples(metric: PlainMetric, sums: &Sums) -> u64 {
    match metric {
        PlainMetric::FailedUnitRate => sums.arms[0].units.max(sums.arms[0].first_errors),
        _ => sums.arms[0].attempts,
    }
}

/// The number; none when there is nothing to make it of.
pub(super) fn of(metric: PlainMetric, sums: &Sums) -> Option<f64> {
    match metric {
        PlainMetric::ErrorRateDelta => {
            let (candidate, control) = (error_rate(&sums.arms[0])?, error_rate(&sums.arms[1])?);
            Some(match control {
                // Twice nothing is nothing; something where nothing was is beyond any percentage.
                0.0 if candidate == 0.0 => 0.0,
                0.0 => f64::INFINITY,
                control => 100.0 * (candidate - control) / control,
            })
        }
        PlainMetric::LatencyDelta { quantile } => {
            Some(quantile_ms(sums, 0, quantile)? - quantile_ms(sums, 1, quantile)?)
        }
        metric => single(metric, sums, 0),
    }
}

/// The control's number, where it has one of its own.
pub(super) fn of_control(metric: PlainMetric, sums: &Sums) -> Option<f64> {
    match metric {
        PlainMetric::ErrorRateDelta => error_rate(&sums.arms[1]),
        PlainMetric::LatencyDelta { quantile } => quantile_ms(sums, 1, quantile),
        metric => single(metric, sums, 1),
    }
}

fn single(metric: PlainMetric, sums: &Sums, arm: usize) -> Option<f64> {
    let counts = &sums.arms[arm];
    match metric {
        PlainMetric::ErrorRate => error_rate(counts),
        PlainMetric::Availability => error_rate(counts).map(|rate| 100.0 - rate),
        PlainMetric::Latency { quantile } | PlainMetric::LatencyDelta { quantile } => quantile_ms(sums, arm, quantile),
        PlainMetric::ResponseTime => {
            let summary = &sums.latency.as_ref()?[arm];
            (summary.count() > 0).then(|| 1000.0 * summary.sum_s() / summary.count() as f64)
        }
        PlainMetric::Throughput => {
            (sums.elapsed_ms > 0).then(|| 1000.0 * counts.attempts as f64 / sums.elapsed_ms as f64)
        }
        PlainMetric::DisconnectRate => percent(counts.disconnects, counts.attempts),
        PlainMetric::FailedUnitRate => percent(counts.first_errors, counts.units.max(counts.first_errors)),
        PlainMetric::ErrorRateDelta => None,
    }
}

fn error_rate(arm: &Arm) -> Option<f64> {
    percent(arm.errors, arm.attempts)
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

fn quantile_ms(sums: &Sums, arm: usize, quantile: f64) -> Option<f64> {
    sums.latency.as_ref()?[arm].quantile_us(quantile).map(|us| us as f64 / 1000.0)
}

/// What it is called.
pub(super) fn name(metric: PlainMetric) -> String {
    match metric {
        PlainMetric::ErrorRate => "error rate".into(),
        PlainMetric::Availability => "availability".into(),
        PlainMetric::Latency { quantile } => format!("p{}", quantile * 100.0),
        PlainMetric::ResponseTime => "mean latency".into(),
        PlainMetric::Throughput => "throughput".into(),
        PlainMetric::DisconnectRate => "disconnect rate".into(),
        PlainMetric::FailedUnitRate => "failed units".into(),
        PlainMetric::ErrorRateDelta => "error rate over the control's".into(),
        PlainMetric::LatencyDelta { quantile } => format!("p{} over the control's", quantile * 100.0),
    }
}

/// A number with its unit.
pub(super) fn say(metric: PlainMetric, number: f64) -> String {
    let unit = match metric {
        PlainMetric::Latency { .. } | PlainMetric::LatencyDelta { .. } | PlainMetric::ResponseTime => "ms",
        PlainMetric::Throughput => "/s",
        _ => "%",
    };
    if number.is_infinite() { format!("infinite {unit}") } else { format!("{:.2} {unit}", number) }
}
