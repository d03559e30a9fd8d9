//! The ticks of a rollout, kept in memory while it is of interest: everything at first, neighbours put together when
//! there are too many, so that a rollout of days costs no more than one of minutes. No count is ever lost.

use serde::{Deserialize, Serialize};

use super::journal::{KeptGate, KeptTick};
use super::tick::{Arm, Tick};
use super::verdict::{GateVerdict, Judgement, Verdict};

/// Records that are kept of one rollout; half an hour of seconds, then two seconds each, and so on.
pub const RECORDS_MAX: usize = 2_000;

/// What counts as lately.
const LATELY_MS: u64 = 60_000;

/// One tick, or several neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Number of the last tick in it, from 1.
    pub n: u64,
    /// When it ended, in ms since the Unix epoch.
    pub at_ms: u64,
    /// The phase.
    pub phase: usize,
    /// The counts.
    pub tick: Tick,
    /// Quantiles in it, in ms.
    pub latency: Latencies,
    /// What the gates said at its end.
    pub judgement: Said,
}

/// Quantiles of candidate and control, in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// The candidate's.
    pub candidate: Quantiles,
    /// The control's.
    pub control: Quantiles,
}

/// Three quantiles in ms; none without requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: Option<f64>,
    /// 95 % stay at or below.
    pub p95: Option<f64>,
    /// 99 % stay at or below.
    pub p99: Option<f64>,
}

/// A judgement without its words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// The worst.
    pub verdict: Verdict,
    /// By gate.
    pub gates: Vec<SaidGate>,
    /// The largest bound.
    pub bound: Option<f64>,
    /// The A/A monitor.
    pub self_test: Option<f64>,
    /// The sample-ratio check.
    pub sample_ratio: Option<f64>,
}

/// A gate without its words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SaidGate {
    /// Its name.
    pub name: String,
    /// What it said.
    pub verdict: Verdict,
    /// Evidence against the candidate and its limit.
    pub e_value: Option<f64>,
    /// See `e_value`.
    pub limit: Option<f64>,
    /// Evidence of safety and its limit.
    pub safe_e_value: Option<f64>,
    /// See `safe_e_value`.
    pub safe_limit: Option<f64>,
    /// What is excluded.
    pub bound: Option<f64>,
}

/// The records of one rollout.
#[derive(Debug, Clone, Default)]
pub struct Records(Vec<Record>);

// === impl Records ===

impl Records {
    /// Adds the newest; neighbours are put together when there are too many.
    pub fn push(&mut self, record: Record) {
        self.0.push(record);
        if self.0.len() > RECORDS_MAX {
            let mut merged: Vec<Record> = Vec::with_capacity(RECORDS_MAX / 2 + 1);
            for record in self.0.drain(..) {
                match merged.last_mut().filter(|last| last.can_take(&record)) {
                    Some(last) => last.take(record),
                    None => merged.push(record),
                }
            }
            self.0 = merged;
        }
    }

    /// Requests per second of candidate and control over the last minute, or over what there is of it; none without.
    pub fn per_s(&self) -> [Option<f64>; 2] {
        let (mut ms, mut attempts) = (0_u64, [0_u64; 2]);
        for record in self.0.iter().rev() {
            if ms >= LATELY_MS {
                break;
            }
            ms += record.tick.elapsed_ms;
            attempts[0] += record.tick.candidate.attempts;
            attempts[1] += record.tick.control.attempts;
        }
        attempts.map(|attempts| (ms > 0).then(|| attempts as f64 * 1000.0 / ms as f64))
    }

    /// All of them, oldest first.
    pub fn list(&self) -> &[Record] {
        &self.0
    }
}

// === impl Record ===

impl Record {
    /// Neighbours of the same phase and settling, pair by pair: one that took another in this round takes no more.
    fn can_take(&self, next: &Record) -> bool {
        let same = self.phase == next.phase && self.tick.settling == next.tick.settling;
        same && self.tick.share == next.tick.share && self.tick.elapsed_ms <= next.tick.elapsed_ms.saturating_mul(2)
    }

    fn take(&mut self, next: Record) {
        let Tick { elapsed_ms, candidate, control, halves, named, .. } = next.tick.clone();
        let sum = |mut own: Arm, other: &Arm| {
            own.add(other);
            own
        };
        self.tick = Tick {
            elapsed_ms: self.tick.elapsed_ms + elapsed_ms,
            candidate: sum(self.tick.candidate, &candidate),
            control: sum(self.tick.control, &control),
            halves: [sum(self.tick.halves[0], &halves[0]), sum(self.tick.halves[1], &halves[1])],
            named: sum(self.tick.named, &named),
            ..next.tick
        };
        (self.n, self.at_ms, self.judgement, self.latency) = (next.n, next.at_ms, next.judgement, next.latency);
    }
}

// === impl Record, from the journal ===

impl Record {
    /// As the journal kept it.
    pub fn of(kept: KeptTick) -> Self {
        let gate = |gate: KeptGate| SaidGate {
            name: gate.name,
            verdict: gate.verdict,
            e_value: gate.e_value,
            limit: gate.limit,
            safe_e_value: gate.safe_e_value,
            safe_limit: gate.safe_limit,
            bound: gate.bound,
        };
        let judgement = Said {
            verdict: kept.verdict,
            gates: kept.gates.into_iter().map(gate).collect(),
            bound: None,
            self_test: None,
            sample_ratio: None,
        };
        Self { n: kept.n, at_ms: kept.at_ms, phase: kept.phase, tick: kept.tick, latency: kept.latency, judgement }
    }
}

// === impl Said ===

impl Said {
    /// Without the words.
    pub fn of(judgement: &Judgement) -> Self {
        let gate = |gate: &GateVerdict| SaidGate {
            name: gate.name.clone(),
            verdict: gate.verdict,
            e_value: gate.e_value,
            limit: gate.limit,
            safe_e_value: gate.safe_e_value,
            safe_limit: gate.safe_limit,
            bound: gate.bound,
        };
        Self {
            verdict: judgement.verdict,
            gates: judgement.gates.iter().map(gate).collect(),
            bound: judgement.bound,
            self_test: judgement.self_test,
            sample_ratio: judgement.sample_ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> Record {
        let judgement = Said {
            verdict: Verdict::Inconclusive,
            gates: Vec::new(),
            bound: None,
            self_test: None,
            sample_ratio: None,
        };
        let arm = Arm { attempts: 3, errors: 1, ..Arm::default() };
        let tick = Tick { elapsed_ms: 1_000, share: 0.05, candidate: arm, control: arm, ..Tick::default() };
        Record { n, at_ms: n * 1_000, phase: 0, tick, latency: Latencies::default(), judgement }
    }

    #[test]
    fn a_rate_is_of_the_last_minute_and_of_no_time_before_the_rollout() {
        let mut records = Records::default();
        assert_eq!(records.per_s(), [None, None]);
        (1..=4).for_each(|n| records.push(record(n)));
        assert_eq!(records.per_s(), [Some(3.0), Some(3.0)], "four seconds, not sixty");
        (5..=600).for_each(|n| {
            records.push(Record { tick: Tick { candidate: Arm::default(), ..record(n).tick }, ..record(n) })
        });
        assert_eq!(records.per_s(), [Some(0.0), Some(3.0)]);
    }

    #[test]
    fn a_long_rollout_costs_no_more_and_no_count_is_lost() {
        let mut records = Records::default();
        (1..=20_000).for_each(|n| records.push(record(n)));
        assert!(records.list().len() <= RECORDS_MAX, "{}", records.list().len());
        assert!(records.list().len() > RECORDS_MAX / 4, "{}", records.list().len());
        let sum: u64 = records.list().iter().map(|record| record.tick.candidate.attempts).sum();
        assert_eq!(sum, 60_000);
        let time: u64 = records.list().iter().map(|record| record.tick.elapsed_ms).sum();
        assert_eq!((time, records.list().last().unwrap().n), (20_000_000, 20_000));
    }
}
