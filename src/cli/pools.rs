//! The rows of a service's pools in the table of `weir status`, and what is left out where the terminal is narrow.
//! Pure. What surrounds them is in `table`.

use super::figures::milliseconds;
use super::screen::printable;
use crate::switchboard::status::{Minute, PoolStatus, ServiceStatus};

/// The titles of the columns of a pool; the first is left-aligned, as is the last.
const TITLES: [&str; COLUMNS] = [
    "POOL",
    "WEIGHT",
    "SHARE",
    "GOT IN 60 S",
    "REQ/S",
    "FAILED",
    "NO ANSWER",
    "P50",
    "P95",
    "P99",
    "IN FLIGHT",
    "STATE",
];

const COLUMNS: usize = 12;

/// What is left out of a line that is too long, the first first: what is left says whether all is well.
const SPARED: [usize; 5] = [7, 6, 10, 8, 2];

/// The part of failed requests from which a pool is called failing, as the breaker of most services would.
pub(super) const FAILING: f64 = 0.05;

/// The rows of a service, the titles first, no longer than `width`; and the titles of what is left out for that.
pub(super) fn rows(service: &ServiceStatus, width: usize) -> (Vec<String>, Vec<&'static str>) {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(service.pools.iter().map(|pool| row(service, pool)));
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(widest);
    let mut shown: Vec<usize> = (0..COLUMNS).collect();
    let mut left_out = Vec::new();
    let length = |shown: &[usize]| shown.iter().map(|column| widths[*column] + 2).sum::<usize>() - 2;
    for column in SPARED {
        if length(&shown) <= width {
            break;
        }
        shown.retain(|other| *other != column);
        left_out.push(TITLES[column]);
    }
    let cell = |row: &[String; COLUMNS], column: usize| match (&row[column], widths[column]) {
        (cell, width) if column == 0 => format!("{cell:<width$}"),
        (cell, _) if column == COLUMNS - 1 => cell.clone(),
        (cell, width) => format!("{cell:>width$}"),
    };
    let line = |row: &[String; COLUMNS]| {
        shown.iter().map(|column| cell(row, *column)).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    (rows.iter().map(line).collect(), left_out)
}

fn row(service: &ServiceStatus, pool: &PoolStatus) -> [String; COLUMNS] {
    let weight = service.weights.0.iter().find(|(name, _)| name.as_str() == pool.name);
    let weight = weight.map_or_else(|| pool.weight.to_string(), |(_, weight)| weight.to_string());
    let minute = pool.last_minute.as_ref();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let coarse = |value: Option<f64>| or_dash(value.map(|ratio| format!("{:.1}%", ratio * 100.0)));
    let fine = |value: Option<f64>| or_dash(value.map(|ratio| format!("{:.2}%", ratio * 100.0)));
    let time = |pick: fn(&Minute) -> Option<f64>| or_dash(minute.and_then(pick).map(milliseconds));
    [
        printable(&pool.name),
        weight,
        coarse(Some(pool.configured_share)),
        coarse(minute.and_then(|minute| minute.effective_share)),
        or_dash(minute.map(|minute| format!("{:.1}", minute.requests_per_s))),
        fine(minute.and_then(|minute| minute.failed_ratio)),
        fine(minute.and_then(|minute| minute.error_ratio)),
        time(|minute| minute.p50_ms),
        time(|minute| minute.p95_ms),
        time(|minute| minute.p99_ms),
        pool.in_flight.to_string(),
        printable(state(pool)),
    ]
}

/// What the breaker of a pool says, unless there is nothing that could serve.
pub(super) fn state(pool: &PoolStatus) -> &str {
    if pool.state == "serving" && !serves(pool) { "down" } else { &pool.state }
}

pub(super) fn serves(pool: &PoolStatus) -> bool {
    pool.endpoints.iter().any(|endpoint| endpoint.state == "serving")
}

/// The part of a pool's requests that failed in the last minute, by whichever of both is worse.
pub(super) fn failed(pool: &PoolStatus) -> f64 {
    let minute = pool.last_minute.as_ref();
    let of = |pick: fn(&Minute) -> Option<f64>| minute.and_then(pick).unwrap_or(0.0);
    of(|minute| minute.failed_ratio).max(of(|minute| minute.error_ratio))
}
