//! The table and the verdict. The last line is `N passed, N failed`, as for all of `tests/run`.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Stage;
use super::faults::Mode;
use super::ledger::Ledger;
use super::sample::{Sample, is_back, slope};

/// Growth of resident memory over the measured time, by the line through all samples, that counts as none. Memory goes
/// up and down by as much with what is in flight; in half an hour it is two bytes for each of eight million requests.
const GROWTH_BYTES_MAX: f64 = 16.0 * 1024.0 * 1024.0;

const MIB: f64 = 1024.0 * 1024.0;

/// What was seen.
pub(crate) struct Report<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) time: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) samples: Vec<(Duration, Sample)>,
    pub(crate) at_rest: Sample,
    pub(crate) left: Sample,
    pub(crate) status: serde_json::Value,
}

/// One line for who watches, each half minute.
pub(crate) fn progress(at: Duration, sample: Option<&(Duration, Sample)>, ledger: &Ledger) {
    if !at.as_secs().is_multiple_of(30) {
        return;
    }
    if let Some((_, sample)) = sample {
        let counts = ledger.counts();
        let failed: u64 = counts.values().map(|counts| counts.failed).sum();
        let (memory, descriptors) = (sample.resident_bytes as f64 / MIB, sample.descriptors);
        eprintln!("{:>5} s: {memory:.1} MiB, {descriptors} descriptors, {failed} failed", at.as_secs());
    }
}

/// What was right, and what was not.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn tick(&mut self, fine: bool) -> &'static str {
        match fine {
            true => self.passed += 1,
            false => self.failed += 1,
        }
        if fine { "✓" } else { "✗" }
    }
}

// === impl Report ===

impl Report<'_> {
    /// Prints everything; whether all of it is as it should be.
    pub(crate) fn print(&self) -> bool {
        let mut tally = Tally::default();
        self.protocols(&mut tally);
        println!("\n| | | |\n|---|---|---|");
        self.memory(&mut tally);
        self.descriptors(&mut tally);
        self.changes(&mut tally);
        println!("| the program | one upgrade under load | |\n");
        if self.status["last_reload"]["ok"] != true {
            println!("last reload: {}", self.status["last_reload"]);
        }
        for (key, counts) in self.stage.ledger.counts() {
            counts.told.iter().for_each(|told| println!("{key}: {told}"));
        }
        println!("{} passed, {} failed", tally.passed, tally.failed);
        tally.failed == 0
    }

    fn protocols(&self, tally: &mut Tally) {
        let (minutes, seconds) = (self.time.as_secs_f64() / 60.0, self.time.as_secs_f64());
        println!("| {minutes:.0} minutes | done | a second | failed with their endpoint | failed | |");
        println!("|---|---|---|---|---|---|");
        for (key, counts) in self.stage.ledger.counts() {
            let rate = counts.good as f64 / seconds;
            let mark = tally.tick(counts.failed == 0 && counts.good > 0);
            println!("| {key} | {} | {rate:.1} | {} | {} | {mark} |", counts.good, counts.excused, counts.failed);
        }
    }

    fn memory(&self, tally: &mut Tally) {
        let measured: Vec<_> = self.samples.iter().copied().filter(|(at, _)| *at > self.warm_up).collect();
        let span = self.time.saturating_sub(self.warm_up).as_secs_f64().max(1.0);
        let growth = slope(&measured) * span;
        let all = || measured.iter().map(|(_, sample)| sample.resident_bytes as f64 / MIB);
        let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
        let mark = tally.tick(growth <= GROWTH_BYTES_MAX);
        let (rises, bound) = (growth / MIB / span * 60.0, GROWTH_BYTES_MAX / MIB / span * 60.0);
        let after = self.warm_up.as_secs_f64();
        println!(
            "| memory after {after:.0} s | {least:.1} to {most:.1} MiB; the line through it rises by {rises:.2} MiB a \
             minute, at most {bound:.2} | {mark} |"
        );
    }

    fn descriptors(&self, tally: &mut Tally) {
        let peak = self.samples.iter().map(|(_, sample)| sample.descriptors).max().unwrap_or_default();
        let (before, after) = (self.at_rest.descriptors, self.left.descriptors);
        let mark = tally.tick(is_back(after, before));
        println!("| descriptors | {before} at rest, at most {peak}, {after} afterwards | {mark} |");
    }

    fn changes(&self, tally: &mut Tally) {
        let (faults, changes) = (&self.stage.faults, &self.stage.site.changes);
        let (gone, resets, stalls) = (faults.count(Mode::Gone), faults.count(Mode::Resets), faults.count(Mode::Stalls));
        println!("| endpoints that failed | {gone} gone, {resets} reset, {stalls} stalled | |");
        let (weights, config) = (changes.weights.load(Relaxed), changes.config.load(Relaxed));
        // The process that took over counts from the beginning, and changes may come together.
        let live = self.status["generation"].as_u64().unwrap_or_default();
        let mark = tally.tick(self.status["last_reload"]["ok"] == true && live > (weights + config) / 2);
        println!("| changes | {weights} of weights, {config} of endpoints; generation {live} in the end | {mark} |");
        println!("| certificates | {} renewed | |", changes.certificates.load(Relaxed));
    }
}
