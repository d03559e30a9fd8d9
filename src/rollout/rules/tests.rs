//! What plain rules promise.

use super::*;
use crate::model::rollout::{Gate, PlainMetric};
use crate::rollout::testing::{plan, second};
use crate::telemetry::histogram::Histogram;

fn rule(metric: PlainMetric, operator: Operator, threshold: f64) -> PlainRule {
    PlainRule {
        metric,
        operator,
        threshold,
        must: false,
        window: Duration::from_secs(1),
        hold: Duration::ZERO,
        consecutive_failures: 1,
        total_failures: None,
        min_samples: 0,
        warn_only: false,
    }
}

fn rules(rule: PlainRule) -> Rules {
    Rules::new(&plan(&[5.0], vec![Gate { name: "rule".into(), dry_run: false, ask: Ask::Plain(rule) }]))
}

fn look(rules: &mut Rules, candidate: [u64; 2], control: [u64; 2]) -> Verdict {
    let nothing = Summary::default();
    rules.observe(&second(0.05, candidate, control), [&nothing, &nothing])[0].verdict
}

#[test]
fn failures_in_a_row_and_in_all_are_counted_apart() {
    let failing = |consecutive: u32, total: Option<u32>| PlainRule {
        consecutive_failures: consecutive,
        total_failures: total,
        ..rule(PlainMetric::ErrorRate, Operator::GreaterThan, 1.0)
    };
    let (mut row, mut all) = (rules(failing(2, None)), rules(failing(9, Some(3))));
    for (index, errors) in [10, 0, 10, 0, 10].into_iter().enumerate() {
        assert_eq!(look(&mut row, [100, errors], [100, 0]), Verdict::ShownSafe, "{index}");
        let expected = if index == 4 { Verdict::Fail } else { Verdict::ShownSafe };
        assert_eq!(look(&mut all, [100, errors], [100, 0]), expected, "{index}");
    }
    assert_eq!(look(&mut row, [100, 10], [100, 0]), Verdict::Fail);
}

#[test]
fn deltas_are_percent_of_the_control_and_something_over_nothing_is_beyond_any() {
    for (threshold, candidate, control, expected) in [
        (50.0, [1000, 14], [1000, 10], Verdict::ShownSafe),
        (50.0, [1000, 16], [1000, 10], Verdict::Fail),
        (50.0, [1000, 0], [1000, 0], Verdict::ShownSafe),
        (1000.0, [1000, 1], [1000, 0], Verdict::Fail),
    ] {
        let mut rules = rules(rule(PlainMetric::ErrorRateDelta, Operator::GreaterThan, threshold));
        assert_eq!(look(&mut rules, candidate, control), expected, "{candidate:?} {control:?}");
    }
}

#[test]
fn latency_deltas_are_ms_between_quantiles() {
    let of = |us: u64| {
        let histogram = Histogram::default();
        (0..100).for_each(|_| histogram.record_us(us));
        Summary::of([&histogram])
    };
    let tick = second(0.5, [100, 0], [100, 0]);
    for (slow, expected) in [(300_000, Verdict::ShownSafe), (700_000, Verdict::Fail)] {
        let metric = PlainMetric::LatencyDelta { quantile: 0.95 };
        let mut rules = rules(rule(metric, Operator::GreaterThan, 500.0));
        assert_eq!(rules.observe(&tick, [&of(slow), &of(10_000)])[0].verdict, expected, "{slow}");
    }
}

#[test]
fn a_criterion_must_hold_for_its_time_and_is_no_failure_before() {
    let mut criterion = rule(PlainMetric::Availability, Operator::GreaterThan, 99.0);
    (criterion.must, criterion.hold) = (true, Duration::from_secs(3));
    let mut rules = rules(criterion);
    for (errors, expected) in [
        (0, Verdict::Inconclusive),
        (0, Verdict::Inconclusive),
        (5, Verdict::Inconclusive),
        (0, Verdict::Inconclusive),
        (0, Verdict::Inconclusive),
        (0, Verdict::ShownSafe),
    ] {
        assert_eq!(look(&mut rules, [100, errors], [100, 0]), expected);
    }
}

#[test]
fn too_few_samples_and_no_traffic_are_neither_good_nor_bad() {
    let mut few = rule(PlainMetric::FailedUnitRate, Operator::GreaterThan, 10.0);
    (few.min_samples, few.window) = (100, Duration::from_secs(60));
    let mut rules = rules(few);
    let mut tick = second(0.5, [50, 30], [50, 0]);
    let nothing = Summary::default();
    (tick.candidate.units, tick.candidate.first_errors) = (50, 30);
    assert_eq!(rules.observe(&tick, [&nothing, &nothing])[0].verdict, Verdict::Inconclusive);
    assert_eq!(rules.observe(&tick, [&nothing, &nothing])[0].verdict, Verdict::Fail);
    let mut idle = self::rules(rule(PlainMetric::ErrorRate, Operator::GreaterThan, 1.0));
    assert_eq!(look(&mut idle, [0, 0], [100, 0]), Verdict::NoTraffic);
}

#[test]
fn a_window_forgets_what_is_older_and_holds_a_bounded_number_of_slots() {
    let mut long = rule(PlainMetric::ErrorRate, Operator::GreaterThan, 1.0);
    long.window = Duration::from_secs(10);
    let mut rules = rules(long);
    assert_eq!(look(&mut rules, [100, 50], [100, 0]), Verdict::Fail);
    let verdicts: Vec<Verdict> = (0..10).map(|_| look(&mut rules, [100, 0], [100, 0])).collect();
    assert_eq!((verdicts[8], verdicts[9]), (Verdict::Fail, Verdict::ShownSafe));
    let mut window = Window::new(Duration::from_secs(300), true);
    let (nothing, tick) = (Summary::default(), Tick { elapsed_ms: 50, ..Tick::default() });
    for _ in 0..100_000 {
        window.add(&tick, [&nothing, &nothing]);
    }
    assert_eq!(window.sums().elapsed_ms, 300_000);
}

#[test]
fn a_warning_is_told_and_never_fails() {
    let mut warns = rule(PlainMetric::Throughput, Operator::LessThan, 1000.0);
    warns.warn_only = true;
    let mut rules = rules(warns);
    let nothing = Summary::default();
    let said = rules.observe(&second(0.5, [100, 0], [100, 0]), [&nothing, &nothing]).remove(0);
    assert_eq!(said.verdict, Verdict::ShownSafe);
    assert_eq!(said.detail, "warning: throughput is 100.00 /s, limit < 1000.00 /s");
}
