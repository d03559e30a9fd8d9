//! Faults under a modest load, by the ids of the fault matrix, each with its pass criterion.

use std::time::Duration;

use crate::harness::{Setup, Upstream};

mod around;
mod machine;
mod mixed;
mod upstreams;

/// How long a fact may take.
const SOON: Duration = Duration::from_secs(4);

/// Between two requests of a load client.
const PAUSE: Duration = Duration::from_millis(10);

/// Two endpoints in one pool, probed often.
fn twins() -> (Upstream, Upstream, Setup) {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let setup = Setup::new().pool("stable", &[&one, &two]).weights("stable = 1\n").probed();
    (one, two, setup)
}

fn wait(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
