//! What the process takes: resident memory and descriptors, by the second, and the line that fits best.

use std::time::{Duration, Instant};

use super::Error;

/// Descriptors that may be more at the end than at the beginning: the watch of a directory, a kept admin connection.
const DESCRIPTORS_MORE_MAX: usize = 2;

/// How long after the end descriptors may take to come back: idle connections of clients, then of endpoints (h2c: a
/// minute).
const SETTLE: Duration = Duration::from_secs(75);

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: usize,
}

pub(crate) fn take(id: i32) -> Result<Sample, Error> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    let descriptors = std::fs::read_dir(format!("/proc/{id}/fd"))?.count();
    Ok(Sample { resident_bytes: kib * 1024, descriptors })
}

/// The first look at which descriptors are back where they were, or the last one.
pub(crate) async fn settled(id: i32, descriptors: usize) -> Result<Sample, Error> {
    let began = Instant::now();
    loop {
        let sample = take(id)?;
        if is_back(sample.descriptors, descriptors) || began.elapsed() > SETTLE {
            return Ok(sample);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub(crate) fn is_back(now: usize, before: usize) -> bool {
    now <= before + DESCRIPTORS_MORE_MAX
}

/// Growth by the line through the samples (least squares), bytes per second.
pub(crate) fn slope(samples: &[(Duration, Sample)]) -> f64 {
    let n = samples.len() as f64;
    let points = || samples.iter().map(|(at, sample)| (at.as_secs_f64(), sample.resident_bytes as f64));
    let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (over, under) = points().fold((0.0, 0.0), |(over, under), (x, y)| {
        (over + (x - mean_x) * (y - mean_y), under + (x - mean_x) * (x - mean_x))
    });
    if under == 0.0 { 0.0 } else { over / under }
}
