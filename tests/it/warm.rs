//! Warm-up: an endpoint that is new, or was down, is asked for a path before it gets a client's request, and never kept
//! out for longer than the deadline.

use std::time::{Duration, Instant};

use crate::harness::{Behaviour, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(5);

fn warmed(upstream: &Upstream) -> usize {
    upstream.count_on("/warm")
}

/// One endpoint that serves, and the text of a configuration with one more.
fn one_and_another(old: &Upstream, new: &Upstream, warm_up: &str) -> (Weir, String) {
    let setup = Setup::new().pool("stable", &[old]).weights("stable = 1\n").probed();
    let weir = setup.table("warm_up", &format!("path = \"/warm\"\n{warm_up}")).start();
    let text = std::fs::read_to_string(weir.config_path()).expect("the file that runs");
    let both = text.replace(&format!("{:?}", old.url()), &format!("{:?}, {:?}", old.url(), new.url()));
    assert_ne!(text, both);
    (weir, both)
}

/// Asks until the endpoint has answered a client.
fn until_it_serves(weir: &Weir, upstream: &Upstream) {
    let (mut client, began) = (weir.client(), Instant::now());
    while client.get("/").upstream() != upstream.name() {
        assert!(began.elapsed() < SOON, "it never serves");
    }
}

#[test]
fn an_endpoint_is_warmed_up_before_its_first_request_and_again_after_it_was_down() {
    let (old, mut new) = (Upstream::named("old"), Upstream::named("new"));
    let (weir, both) = one_and_another(&old, &new, "requests = 4");
    eventually("what was there at the start is warmed up too", SOON, || warmed(&old) == 4);
    let mut client = weir.client();
    (0..20).for_each(|_| assert_eq!(client.get("/").upstream(), "old"));
    weir.save_config(&both);
    until_it_serves(&weir, &new);
    let targets = |upstream: &Upstream| upstream.seen().into_iter().map(|seen| seen.target).collect::<Vec<_>>();
    let seen = targets(&new);
    assert!(seen.len() > 4 && seen[..4].iter().all(|target| target == "/warm"), "{seen:?}");
    assert_eq!(warmed(&new), 4);
    new.forget();
    new.kill();
    let up = || weir.metrics().sum("weir_endpoint_up", &[]) as u32;
    eventually("it is down", SOON, || up() == 1);
    new.restart();
    until_it_serves(&weir, &new);
    let seen = targets(&new);
    assert!(seen[..4].iter().all(|target| target == "/warm"), "{seen:?}");
    assert_eq!((warmed(&new), warmed(&old)), (4, 4), "who served all the time is not asked again");
}

#[test]
fn an_endpoint_that_does_not_answer_its_warm_up_serves_when_the_deadline_is_over() {
    let (old, new) = (Upstream::named("old"), Upstream::named("new"));
    new.behave_on("/warm", Behaviour::StallBeforeHead);
    let (weir, both) = one_and_another(&old, &new, "deadline = \"700ms\"");
    let began = Instant::now();
    weir.save_config(&both);
    until_it_serves(&weir, &new);
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    assert_eq!(warmed(&new), 1);
}

#[test]
fn no_client_waits_for_a_warm_up() {
    let (old, new) = (Upstream::named("old"), Upstream::named("new"));
    new.behave_on("/warm", Behaviour::StallBeforeHead);
    let (weir, both) = one_and_another(&old, &new, "deadline = \"60s\"");
    weir.save_config(&both);
    eventually("it is asked", SOON, || warmed(&new) == 1);
    let began = Instant::now();
    let mut client = weir.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").upstream(), "old"));
    assert!(began.elapsed() < Duration::from_secs(5));
}
