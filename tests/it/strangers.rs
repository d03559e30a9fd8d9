//! The guard against swapped addresses: an endpoint must say who it is, and one that is somebody else gets nothing.

use std::time::Duration;

use crate::harness::{Setup, Upstream, eventually};

const HEALTH: &str = "path = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"200ms\"\nfall = 1000\nrise = 1\n\
                      expect_headers = { x-upstream = \"{pool}\" }";

#[test]
fn an_address_that_another_program_got_is_taken_out_by_its_first_answer() {
    let (stable, mut canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [50, 50]).table("health", HEALTH).start();
    let state = || weir.status()["services"][0]["pools"][1]["endpoints"][0].clone();
    assert_eq!(state()["state"], "serving");
    canary.kill();
    // Its address goes to another program, which answers every probe with 200. Failed connects alone would not take it
    // out: `fall` is 1000.
    let other = Upstream::at("stable", canary.address());
    eventually("it is noticed", Duration::from_secs(3), || state()["state"] == "down");
    let told = state()["last_error"].to_string();
    assert!(told.contains("somebody else") && told.contains("x-upstream: canary"), "{told}");
    other.forget();
    for _ in 0..20 {
        assert_eq!(weir.client().get("/").status, 200);
    }
    assert_eq!(other.count(), 0, "what was meant for the canary never went to a stranger");
    drop(other);
    canary.restart();
    eventually("the right one is back", Duration::from_secs(3), || state()["state"] == "serving");
}

#[test]
fn a_pool_of_strangers_never_serves() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("beta"));
    let weir = Setup::pair(&stable, &canary, [0, 100]).table("health", HEALTH).start();
    // On a busy machine the first probe of stable may be late.
    eventually("stable serves", Duration::from_secs(3), || weir.client().get("/").status == 200);
    for _ in 0..10 {
        assert_eq!(weir.client().get("/").upstream(), "stable", "failover: the canary is somebody else");
    }
    assert_eq!(canary.count(), 0);
}
