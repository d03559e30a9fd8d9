//! Split: relative weights, exact zero, nearly exact shares, one refusal for the whole file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Client, Setup, Upstream, Weir, eventually};

fn pair() -> (Upstream, Upstream) {
    (Upstream::named("stable"), Upstream::named("canary"))
}

/// Which of `count` requests on one connection reached the canary.
fn picks(client: &mut Client, count: usize) -> Vec<bool> {
    (0..count).map(|_| client.get("/").upstream() == "canary").collect()
}

fn count(picks: &[bool]) -> usize {
    picks.iter().filter(|canary| **canary).count()
}

#[test]
fn a_tenth_is_six_to_fifteen_of_any_hundred_and_ninety_to_hundred_and_ten_of_any_thousand() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).workers(1).start();
    let picks = picks(&mut weir.client(), 3_000);
    for window in picks.windows(100) {
        assert!((6..=15).contains(&count(window)), "{} of 100", count(window));
    }
    for window in picks.windows(1_000) {
        assert!((90..=110).contains(&count(window)), "{} of 1000", count(window));
    }
}

#[test]
fn a_client_that_walks_a_loop_of_urls_meets_both_pools_on_each_of_them() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).workers(1).start();
    for length in [10, 34] {
        let mut by_url = vec![0; length];
        let mut client = weir.client();
        for _ in 0..100 {
            for (url, canaries) in by_url.iter_mut().enumerate() {
                *canaries += usize::from(client.get(&format!("/{url}")).upstream() == "canary");
            }
        }
        // Of 100 random draws at 0.1, fewer than 1 or more than 27 come up less than once in 30 000.
        assert!(by_url.iter().all(|canaries| (1..=27).contains(canaries)), "loop of {length}: {by_url:?}");
    }
}

#[test]
fn a_pool_at_zero_gets_no_request_at_all() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 0]).start();
    for _ in 0..5 {
        picks(&mut weir.client(), 60);
    }
    assert_eq!((stable.count(), canary.count()), (300, 0));
    weir.save_split([0, 7]);
    let mut client = weir.client();
    eventually("the canary serves", Duration::from_secs(2), || client.get("/").upstream() == "canary");
    stable.forget();
    picks(&mut client, 300);
    assert_eq!(stable.count(), 0);
}

#[test]
fn weights_are_relative_and_need_no_particular_sum() {
    let (stable, canary) = pair();
    for weights in [[3, 1], [750_000, 250_000]] {
        let weir = Setup::pair(&stable, &canary, weights).workers(1).start();
        let canaries = count(&picks(&mut weir.client(), 1_000));
        assert!((225..=275).contains(&canaries), "{weights:?}: {canaries}");
    }
}

#[test]
fn any_number_of_pools_share_by_their_weights() {
    let names = ["stable", "blue", "green", "canary", "dark"];
    let pools = names.map(Upstream::named);
    let setup = pools.iter().fold(Setup::new().workers(1), |setup, pool| setup.pool(pool.name(), &[pool]));
    let weir = setup.weights("stable = 40\nblue = 30\ngreen = 20\ncanary = 10\ndark = 0\n").start();
    let mut client = weir.client();
    (0..2_000).for_each(|_| drop(client.get("/")));
    for (pool, expected) in pools.iter().zip([800, 600, 400, 200, 0]) {
        let slack = if expected == 0 { 0 } else { 80 };
        assert!(pool.count().abs_diff(expected) <= slack, "{}: {} of 2000", pool.name(), pool.count());
    }
}

#[test]
fn percents_that_sum_to_a_hundred_are_weights() {
    let (stable, canary) = pair();
    let setup = Setup::pair(&stable, &canary, [1, 1]).workers(1);
    let weir = setup.weights("stable = \"75%\"\ncanary = \"25%\"\n").start();
    let canaries = count(&picks(&mut weir.client(), 1_000));
    assert!((225..=275).contains(&canaries), "{canaries}");
}

#[test]
fn a_weights_file_with_one_bad_value_is_refused_as_a_whole() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 0]).start();
    let bad = [
        ("all zero", "stable = 0\ncanary = 0"),
        ("negative", "stable = 1\ncanary = -1"),
        ("unknown pool", "stable = 0\ncanary = 1\ncanray = 1"),
        ("unknown service", "stable = 0\ncanary = 1\n[engin]\nstable = 1"),
        ("not a number", "stable = 0\ncanary = \"many\""),
        ("a fraction", "stable = 0\ncanary = 0.5"),
        ("not finite", "stable = 0\ncanary = nan"),
        ("too large", "stable = 0\ncanary = 99999999999999999999"),
        ("percents below a hundred", "stable = \"0%\"\ncanary = \"90%\""),
        ("percents above a hundred", "stable = \"90%\"\ncanary = \"20%\""),
        ("a percent beside a weight", "stable = 0\ncanary = \"100%\""),
        ("a pool twice", "stable = 0\ncanary = 1\ncanary = 2"),
    ];
    for (what, lines) in bad {
        let before = weir.metrics().sum("weir_config_reloads_total", &[]);
        weir.save_weights(&format!("[engine]\n{lines}\n"));
        eventually(&format!("{what} is seen"), Duration::from_secs(3), || {
            let metrics = weir.metrics();
            metrics.sum("weir_config_last_reload_successful", &[]) == 0.0
                && metrics.sum("weir_config_reloads_total", &[]) > before
        });
        assert_eq!(count(&picks(&mut weir.client(), 20)), 0, "{what}");
        assert_eq!(weir.split(), [1, 0], "{what}");
    }
    weir.save_split([0, 1]);
    eventually("a good file serves", Duration::from_secs(2), || weir.split() == [0, 1]);
    assert_eq!(weir.metrics().sum("weir_config_last_reload_successful", &[]), 1.0);
}

#[test]
fn streams_of_one_http2_connection_are_split_like_requests() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [50, 50]).workers(1).start();
    let mut client = weir.h2();
    let canaries = (0..10)
        .flat_map(|_| client.many(20, "/"))
        .filter(|answer| answer.as_ref().expect("an answer").upstream() == "canary")
        .count();
    assert!((85..=115).contains(&canaries), "{canaries} of 200");
}

#[test]
fn without_a_weights_file_everything_goes_to_stable_and_the_log_says_so() {
    let (stable, canary) = pair();
    let weir = Setup::new().pool("stable", &[&stable]).pool("canary", &[&canary]).start();
    picks(&mut weir.client(), 100);
    assert_eq!((stable.count(), canary.count()), (100, 0));
    assert!(weir.log().count("weights.toml") > 0, "{}", weir.log().text());
    weir.save_split([0, 1]);
    let mut client = weir.client();
    eventually("the file that appeared serves", Duration::from_secs(3), || client.get("/").upstream() == "canary");
}

#[test]
fn each_service_has_weights_of_its_own() {
    let (stable, canary) = pair();
    let other = Upstream::named("other");
    let text = format!(
        "[services.shop.pools.stable]\nendpoints = [\"{}\"]\n\
         [[routes]]\nservice = \"shop\"\nmatch.path_prefix = \"/shop\"\n\
         [[routes]]\nservice = \"engine\"\nmatch.path_prefix = \"/\"\n",
        other.url()
    );
    let weir = Setup::pair(&stable, &canary, [0, 1])
        .text(&text)
        .weights("stable = 0\ncanary = 1\n[shop]\nstable = 1\n")
        .start();
    let mut client = weir.client();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..20 {
        for path in ["/", "/shop/x"] {
            *seen.entry(client.get(path).upstream().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(seen, BTreeMap::from([("canary".to_owned(), 20), ("other".to_owned(), 20)]));
}

#[test]
fn workers_together_keep_the_share_that_each_keeps() {
    let (stable, canary) = pair();
    let weir: Weir = Setup::pair(&stable, &canary, [90, 10]).workers(4).start();
    let canaries: usize = (0..20).map(|_| count(&picks(&mut weir.client(), 100))).sum();
    // Four workers, each within 90 to 110 of a thousand and at worst 6 to 15 of a hundred at its edges.
    assert!((150..=250).contains(&canaries), "{canaries} of 2000");
}
