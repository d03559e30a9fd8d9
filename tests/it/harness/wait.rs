//! Waiting for a fact instead of sleeping for a while.

use std::time::{Duration, Instant};

/// How long a fact may take before the test fails.
pub type Patience = Duration;

/// Returns as soon as `fact` holds; fails the test, naming `what`, when it does not hold within `patience`.
#[track_caller]
pub fn eventually(what: &str, patience: Patience, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Watches for the whole of `time` that `event` does not happen. Only for promises of absence, where time must pass.
#[track_caller]
pub fn never(what: &str, time: Duration, mut event: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(!event(), "happened after {:?}: {what}", began.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
}
