//! What the judge promises.

use super::*;
use crate::rollout::testing::{cached, caches, errors, latency, plan, second};
use std::time::Duration;

fn gate<'a>(judgement: &'a Judgement, name: &str) -> &'a GateVerdict {
    judgement.gates.iter().find(|gate| gate.name == name).unwrap_or_else(|| panic!("no gate {name}"))
}

fn run(judge: &mut Judge, seconds: usize, tick: &Tick) -> Judgement {
    (0..seconds).map(|_| judge.observe(tick)).last().expect("at least a second")
}

#[test]
fn a_flawless_service_is_shown_safe_after_a_few_hundred_requests_and_not_before() {
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    assert_eq!(run(&mut judge, 10, &second(0.05, [10, 0], [190, 0])).verdict, Verdict::Inconclusive);
    let judgement = run(&mut judge, 30, &second(0.05, [10, 0], [190, 0]));
    assert_eq!(judgement.verdict, Verdict::ShownSafe, "{}", judgement.reason);
    assert!(gate(&judgement, "error_rate").detail.contains("1.00 % or more is excluded"), "{judgement:?}");
}

#[test]
fn a_candidate_that_fails_every_fifth_request_has_failed_within_seconds() {
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    let failed = (1..20).find(|_| judge.observe(&second(0.05, [5, 1], [95, 0])).verdict == Verdict::Fail);
    assert!(failed.is_some_and(|seconds| seconds <= 4), "{failed:?}");
    let judgement = judge.judgement();
    assert!(judgement.reason.contains("false alarm") && !judgement.may_wait, "{}", judgement.reason);
    assert_eq!(gate(&judgement, "error_rate").limit.map(f64::round), Some(200.0));
}

#[test]
fn the_limits_are_those_of_the_shares_of_alpha() {
    let mut judge = Judge::new(&plan(&[5.0], vec![errors(), latency()]));
    let judgement = judge.observe(&second(0.05, [5, 0], [95, 0]));
    let limit = |name: &str| gate(&judgement, name).limit.map(f64::round);
    assert_eq!([limit("error_rate"), limit("latency"), limit(GUARD)], [Some(200.0), Some(250.0), Some(1000.0)]);
}

#[test]
fn no_request_of_the_candidate_is_no_traffic_and_neither_good_nor_bad() {
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    let judgement = run(&mut judge, 300, &second(0.05, [0, 0], [0, 0]));
    assert_eq!(judgement.verdict, Verdict::NoTraffic);
    assert!(judgement.sample_ratio.is_some_and(|e| e <= 1.0 + 1e-9));
}

#[test]
fn an_outage_of_stable_is_never_held_against_the_candidate() {
    let mut judge = Judge::new(&plan(&[50.0], vec![errors()]));
    run(&mut judge, 60, &second(0.5, [50, 0], [50, 0]));
    let judgement = run(&mut judge, 15, &second(0.5, [50, 40], [50, 40]));
    assert_eq!(judgement.verdict, Verdict::EnvironmentDegraded, "{}", judgement.reason);
    let judgement = run(&mut judge, 15, &second(0.5, [50, 0], [50, 50]));
    assert_eq!(judgement.verdict, Verdict::EnvironmentDegraded, "{}", judgement.reason);
}

#[test]
fn a_candidate_without_endpoints_has_failed_after_five_seconds() {
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    let dead = Tick { serving: false, ..second(0.05, [0, 0], [100, 0]) };
    assert_ne!(run(&mut judge, 4, &dead).verdict, Verdict::Fail);
    assert_eq!(run(&mut judge, 2, &dead).verdict, Verdict::Fail);
}

#[test]
fn while_traffic_settles_nothing_is_compared_but_who_fails_everything_is_found() {
    let settling = |bad| Tick { settling: true, ..second(0.05, [10, bad], [190, 0]) };
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    assert_ne!(run(&mut judge, 50, &settling(1)).verdict, Verdict::Fail, "a tenth is for the comparison");
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    let found = run(&mut judge, 2, &settling(10));
    assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
    assert!(found.reason.starts_with("guard"), "{}", found.reason);
}

#[test]
fn a_heavy_tail_fails_and_an_equal_one_is_shown_safe() {
    for (slow, expected) in [(25, Verdict::Fail), (5, Verdict::ShownSafe)] {
        let mut judge = Judge::new(&plan(&[50.0], vec![latency()]));
        judge.begin_phase(0, |_| Some(10_000), |us| us);
        assert_eq!(judge.levels()[0].above_us, Some([16_000, 10_000]));
        let mut tick = second(0.5, [100, 0], [100, 0]);
        tick.candidate.slow[0] = slow;
        tick.control.slow[0] = 5;
        assert_eq!(run(&mut judge, 30, &tick).verdict, expected, "{slow}");
    }
}

#[test]
fn a_split_that_is_not_as_intended_pauses() {
    let mut judge = Judge::new(&plan(&[50.0], vec![errors()]));
    let judgement = run(&mut judge, 60, &second(0.5, [20, 0], [80, 0]));
    assert_eq!(judgement.verdict, Verdict::EnvironmentDegraded);
    assert!(judgement.reason.contains("not split as intended"));
}

#[test]
fn dry_run_gates_are_shown_and_do_not_count() {
    let mut dry = errors();
    dry.dry_run = true;
    let mut judge = Judge::new(&plan(&[5.0], vec![dry]));
    let judgement = run(&mut judge, 20, &second(0.05, [5, 1], [95, 0]));
    assert_eq!((judgement.verdict, gate(&judgement, "error_rate").verdict), (Verdict::ShownSafe, Verdict::Fail));
}

#[test]
fn at_a_hundred_percent_there_is_nothing_to_compare_and_guards_decide() {
    let mut judge = Judge::new(&plan(&[100.0], vec![errors()]));
    let judgement = run(&mut judge, 20, &second(1.0, [100, 5], [0, 0]));
    assert_eq!(judgement.verdict, Verdict::ShownSafe);
    assert_eq!(judgement.reason, "every gate that can be compared holds");
    let errors = gate(&judgement, "error_rate");
    assert_eq!(errors.verdict, Verdict::NotCompared, "nothing was shown");
    assert!(errors.detail.starts_with("only one of the two has a share, so there is nothing to compare"), "{errors:?}");
    assert_eq!(run(&mut judge, 60, &second(1.0, [100, 60], [0, 0])).verdict, Verdict::Fail);
}

#[test]
fn what_was_shown_before_one_of_the_two_had_everything_stays_shown() {
    let mut judge = Judge::new(&plan(&[50.0, 100.0], vec![errors()]));
    assert_eq!(run(&mut judge, 40, &second(0.5, [100, 0], [100, 0])).verdict, Verdict::ShownSafe);
    judge.begin_phase(1, |_| None, |us| us);
    let judgement = run(&mut judge, 5, &second(1.0, [200, 0], [0, 0]));
    assert_eq!((judgement.verdict, gate(&judgement, "error_rate").verdict), (Verdict::ShownSafe, Verdict::ShownSafe));
    assert_eq!(judgement.reason, "every gate holds");
}

#[test]
fn after_a_rollback_without_a_request_nothing_is_green() {
    let mut judge = Judge::new(&plan(&[5.0], vec![errors(), latency()]));
    run(&mut judge, 5, &second(0.05, [0, 0], [0, 0]));
    let judgement = run(&mut judge, 60, &second(0.0, [0, 0], [100, 0]));
    let said = ["error_rate", "latency"].map(|name| gate(&judgement, name).verdict);
    assert_eq!(said, [Verdict::NotCompared; 2], "{judgement:?}");
    let detail = &gate(&judgement, "error_rate").detail;
    assert_eq!(detail, "only one of the two has a share, so there is nothing to compare");
}

#[test]
fn requests_that_are_not_scored_are_no_missing_requests() {
    let mut judge = Judge::new(&plan(&[50.0], vec![errors(), latency()]));
    let details = |judgement: &Judgement| ["error_rate", "latency"].map(|name| gate(judgement, name).detail.clone());
    let [errors, latency] = details(&judge.judgement());
    assert_eq!([errors, latency].map(|it| it == "no request of the candidate yet"), [true, true]);
    let settling = Tick { settling: true, ..second(0.5, [34, 0], [34, 0]) };
    let [errors, latency] = details(&run(&mut judge, 2, &settling));
    assert_eq!(errors, "68 requests, none scored yet: the first 5 s after a change do not count");
    assert!(latency.starts_with("68 requests, none timed yet: the first 5 s after a change, and"), "{latency}");
    let cold = Tick {
        candidate: Arm { timed: 0, ..second(0.5, [34, 0], [34, 0]).candidate },
        ..second(0.5, [34, 0], [34, 0])
    };
    let [errors, latency] = details(&judge.observe(&cold));
    assert!(
        !errors.contains("none scored") && latency.starts_with("102 requests, none timed yet"),
        "{errors} {latency}"
    );
}

#[test]
fn a_control_in_which_nothing_serves_is_named_and_its_missing_requests_are_no_wrong_split() {
    let mut judge = Judge::new(&plan(&[50.0], vec![errors()]));
    run(&mut judge, 30, &second(0.5, [50, 0], [50, 0]));
    let what = "stable (127.0.0.1:21101: connect: Connection refused)";
    let down = Tick { control_down: Some(what.into()), ..second(0.5, [50, 0], [0, 0]) };
    assert_ne!(judge.observe(&down).verdict, Verdict::EnvironmentDegraded, "a second may be a flap");
    let judgement = run(&mut judge, 30, &down);
    assert_eq!(judgement.verdict, Verdict::EnvironmentDegraded);
    assert_eq!(judgement.reason, format!("nothing serves in {what}"));
    let judgement = run(&mut judge, 1, &second(0.5, [50, 0], [50, 0]));
    assert_ne!(judgement.verdict, Verdict::EnvironmentDegraded, "{}", judgement.reason);
}

#[test]
fn a_restart_changes_no_bit_of_the_evidence() {
    let mut judge = Judge::new(&plan(&[5.0, 50.0], vec![errors(), latency()]));
    judge.begin_phase(0, |_| Some(10_000), |us| us);
    let mut other = judge.clone();
    for i in 0..600_u64 {
        let mut tick = second(0.05, [10, i % 7 / 6], [190, i % 5 / 3]);
        tick.candidate.slow[0] = i % 3;
        tick.control.slow[0] = i % 17;
        if i % 97 == 0 {
            let text = serde_json::to_string(&other).expect("it is data");
            other = serde_json::from_str(&text).expect("it is its own");
        }
        assert_eq!(judge.observe(&tick), other.observe(&tick), "second {i}");
    }
}

#[test]
fn caches_that_are_equally_good_are_shown_to_be_and_a_worse_one_fails_but_waits() {
    let judge = || Judge::new(&plan(&[50.0], vec![caches(Duration::ZERO)]));
    let judgement = run(&mut judge(), 120, &cached([45, 5], [45, 5]));
    assert_eq!(judgement.verdict, Verdict::ShownSafe, "{}", judgement.reason);
    let word = gate(&judgement, "cache_hit");
    assert_eq!((word.candidate, word.control, word.waits), (Some(0.1), Some(0.1), true));
    assert!(word.detail.contains("hits 90.0 % against 90.0 %"), "{}", word.detail);
    let judgement = run(&mut judge(), 30, &cached([30, 20], [45, 5]));
    assert_eq!((judgement.verdict, judgement.only_waits, judgement.may_wait), (Verdict::Fail, true, false));
    assert!(judgement.reason.contains("hits 60.0 % against 90.0 %"), "{}", judgement.reason);
    assert!(judgement.reason.contains("waits until it holds"), "{}", judgement.reason);
}

#[test]
fn a_cache_that_has_warmed_up_holds_again() {
    let mut judge = Judge::new(&plan(&[50.0], vec![caches(Duration::ZERO)]));
    assert_eq!(run(&mut judge, 10, &cached([0, 50], [45, 5])).verdict, Verdict::Fail);
    let well = (1..1200).find(|_| judge.observe(&cached([45, 5], [45, 5])).verdict == Verdict::ShownSafe);
    assert!(well.is_some(), "{}", judge.judgement().reason);
}

#[test]
fn what_a_cold_cache_misses_does_not_count_from_the_first_request_on() {
    let mut judge = Judge::new(&plan(&[50.0], vec![caches(Duration::from_secs(20))]));
    run(&mut judge, 60, &cached([0, 0], [0, 0]));
    let judgement = run(&mut judge, 20, &cached([0, 50], [45, 5]));
    assert_eq!(judgement.verdict, Verdict::Inconclusive, "{}", judgement.reason);
    assert!(judgement.reason.contains("may warm up for 1 s more"), "{}", judgement.reason);
    let failed = (1..20).find(|_| judge.observe(&cached([0, 50], [45, 5])).verdict == Verdict::Fail);
    assert!(failed.is_some(), "{}", judge.judgement().reason);
}

#[test]
fn answers_that_say_nothing_of_a_cache_are_neither_good_nor_bad() {
    let mut judge = Judge::new(&plan(&[50.0], vec![caches(Duration::ZERO)]));
    let judgement = run(&mut judge, 60, &second(0.5, [50, 0], [50, 0]));
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.contains("no answer that counts says what a cache did"), "{}", judgement.reason);
}

#[test]
fn beside_a_failure_that_acts_one_that_waits_says_nothing() {
    let mut judge = Judge::new(&plan(&[50.0], vec![caches(Duration::ZERO), errors()]));
    let mut tick = cached([0, 50], [45, 5]);
    tick.candidate.errors = 40;
    let judgement = run(&mut judge, 10, &tick);
    assert_eq!(gate(&judgement, "cache_hit").verdict, Verdict::Fail);
    assert_eq!((judgement.verdict, judgement.only_waits), (Verdict::Fail, false), "{}", judgement.reason);
}
