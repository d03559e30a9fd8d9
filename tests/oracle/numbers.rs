//! Numbers that weir's statistics give for chosen counts, as JSON: what went in and what came out, for `check.py`
//! beside it to compute again by other means. It decides nothing itself.

use serde_json::{Value, json};
use weir::rollout::evidence::band::{distribution, wilson};
use weir::rollout::evidence::dispersion::Dispersion;
use weir::rollout::evidence::guard::{Below, Guard};
use weir::rollout::evidence::mismatch::{Mismatch, ln_factor};
use weir::rollout::evidence::ratio::{Counted, Ratio};

/// One tick: how long it was, and of candidate and control what was counted and what of it was bad.
#[derive(Clone, Copy)]
struct Second {
    elapsed_ms: u64,
    items: [u64; 2],
    bad: [u64; 2],
}

/// A fixed sequence of ticks with rates that move; no dice, so that everybody gets the same.
fn seconds(count: u64, share: f64, rates: [f64; 2]) -> Vec<Second> {
    let (mut carried, mut state) = ([0.0_f64; 2], 88_172_645_463_325_252_u64);
    let tick = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let all = 50 + state % 100;
        let own = (all as f64 * share).round() as u64;
        let items = [own, all - own];
        let bad = [0, 1].map(|arm| {
            carried[arm] += items[arm] as f64 * rates[arm] * (0.5 + (state >> (20 + arm)) as f64 % 100.0 / 100.0);
            let whole = (carried[arm].floor() as u64).min(items[arm]);
            carried[arm] -= whole as f64;
            whole
        });
        Second { elapsed_ms: 1000, items, bad }
    };
    (0..count).map(tick).collect()
}

fn shown(ticks: &[Second]) -> Vec<[u64; 5]> {
    ticks.iter().map(|it| [it.elapsed_ms, it.items[0], it.items[1], it.bad[0], it.bad[1]]).collect()
}

fn counted(tick: &Second) -> Counted {
    let total = tick.items[0] + tick.items[1];
    Counted { share: tick.items[0] as f64 / total as f64, items: tick.items, bad: tick.bad }
}

/// The tests of a ratio, over several epochs and with tempering.
fn ratios() -> Vec<Value> {
    let mut cases = Vec::new();
    for (share, rates) in [(0.01, [0.05, 0.005]), (0.05, [0.02, 0.01]), (0.5, [0.01, 0.01]), (0.25, [0.4, 0.3])] {
        for (margin, epoch_ms, dispersion) in [(1.0, 60_000, 1.0), (1.25, 30_000, 2.5)] {
            let ticks = seconds(200, share, rates);
            let mut test = Ratio::new(margin, epoch_ms);
            for tick in &ticks {
                test.pass(tick.elapsed_ms);
                test.add(&counted(tick));
            }
            cases.push(json!({
                "formula": "ratio", "margin": margin, "epochMs": epoch_ms, "dispersion": dispersion,
                "ticks": shown(&ticks), "worse": test.ln_worse(dispersion), "beyond": test.ln_beyond(dispersion),
                "notWorseThan2": test.ln_not_worse(2.0, dispersion), "excluded": test.excluded(0.05, dispersion),
                "estimate": test.estimate(),
            }));
        }
    }
    cases
}

/// One rate against a constant, either way.
fn guards() -> Vec<Value> {
    let mut cases = Vec::new();
    for (max, rate) in [(0.2, 0.4), (0.01, 0.001), (0.15, 0.15)] {
        let ticks = seconds(150, 0.3, [rate, rate]);
        let (mut above, mut below) = (Guard::new(max, 40_000), Below::new(max));
        for tick in &ticks {
            above.pass(tick.elapsed_ms);
            above.add(tick.items[0], tick.bad[0]);
            below.add(tick.items[0], tick.bad[0]);
        }
        cases.push(json!({
            "formula": "guard", "max": max, "epochMs": 40_000, "dispersion": 1.5, "ticks": shown(&ticks),
            "above": above.ln_e(1.5), "below": below.ln_e(1.5),
        }));
    }
    cases
}

/// Bayes factors of the sample ratio, alone and over a change of shares.
fn mismatches() -> Vec<Value> {
    let alone = [(0.1, [80, 920]), (0.5, [4_800, 5_200]), (0.01, [300, 9_700]), (0.25, [26_000, 74_000])];
    let mut cases: Vec<Value> = alone
        .into_iter()
        .map(|(share, counts): (f64, [u64; 2])| {
            let factor = ln_factor([share, 1.0 - share], counts.map(|count| count as f64));
            json!({ "formula": "mismatch", "parts": [[share, counts[0], counts[1]]], "value": factor })
        })
        .collect();
    let mut changed = Mismatch::default();
    changed.add(0.05, [70, 930]);
    changed.add(0.05, [60, 940]);
    changed.add(0.25, [250, 750]);
    cases.push(
        json!({ "formula": "mismatch", "parts": [[0.05, 130, 1870], [0.25, 250, 750]], "value": changed.ln_e() }),
    );
    cases
}

/// Bands for display.
fn bands() -> Vec<Value> {
    let mut cases = Vec::new();
    for alpha in [0.05, 0.025, 0.01, 0.005, 0.0005] {
        for n in [100, 1_000, 10_000, 1_000_000] {
            cases.push(json!({ "formula": "band", "n": n, "alpha": alpha, "value": distribution(n, alpha) }));
        }
    }
    for (bad, items) in [(5, 200), (1, 10_000), (37, 90)] {
        cases.push(
            json!({ "formula": "wilson", "bad": bad, "items": items, "z": 2.576, "value": wilson(bad, items, 2.576) }),
        );
    }
    cases
}

/// Two halves of stable that differ in nothing, with events in clusters.
fn spreads() -> Vec<Value> {
    let ticks = seconds(3_000, 0.5, [0.02, 0.02]);
    let clustered: Vec<Second> = ticks
        .iter()
        .enumerate()
        .map(|(i, it)| Second { bad: [[20, 0], [0, 20], [0, 0]][i * i % 7 % 3], ..*it })
        .collect();
    [ticks, clustered]
        .iter()
        .map(|ticks| {
            let mut spread = Dispersion::new(300_000);
            ticks.iter().for_each(|tick| spread.add(tick.elapsed_ms, tick.items, tick.bad));
            json!({
                "formula": "dispersion", "epochMs": 300_000, "ticks": shown(ticks),
                "estimate": spread.estimate(), "selfTest": spread.ln_self_test(),
            })
        })
        .collect()
}

fn main() {
    let cases = [ratios(), guards(), mismatches(), bands(), spreads()].concat();
    println!("{}", json!({ "cases": cases }));
}
