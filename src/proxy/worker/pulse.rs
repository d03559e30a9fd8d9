//! How late this worker's event loop is, and how much of what comes it turns away for that. Felt by a timer of its own:
//! the time between when it was due and when it ran is what every other event waits as well. Nothing is shared between
//! workers; what a request sees of it is one number of this thread.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::proxy::decide::dice::Rng;
use crate::throttle::shed::{Shedder, TICK};

/// Time between two looks where nothing hangs on them.
const CALM_TICK: Duration = Duration::from_millis(100);

/// The whole of what comes, as [`Shed`] counts it.
const ALL: f64 = 65_536.0;

/// The share of requests that a worker turns away.
#[derive(Debug, Default)]
pub(crate) struct Shed {
    /// Of 65 536.
    share: Cell<u32>,
}

// === impl Shed ===

impl Shed {
    /// Whether any are turned away.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.share.get() > 0
    }

    /// Whether one that drew this number is.
    pub(crate) fn takes(&self, draw: u64) -> bool {
        (draw >> 48) < u64::from(self.share.get())
    }
}

/// Feels the event loop until the worker ends.
pub(in crate::proxy) async fn feel(worker: Rc<Worker>) {
    let mut shedder = Shedder::default();
    let mut before = Instant::now();
    loop {
        let bound = worker.snapshot().limits.delay_max;
        let due = Instant::now() + if bound.is_zero() { CALM_TICK } else { TICK };
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        let (late, passed) = (now.saturating_duration_since(due), now - before);
        before = now;
        worker.shard().delay.record_us(late.as_micros() as u64);
        let share = match bound.is_zero() {
            false => shedder.step(late, passed, bound),
            true => {
                shedder = Shedder::default();
                0.0
            }
        };
        worker.shed.share.set((share * ALL) as u32);
        worker.shard().shed_share.set((share * ALL) as u64);
    }
}

/// Whether this request is turned away, of which nothing is known but that it came.
#[cold]
pub(crate) fn sheds(worker: &Worker, rng: &mut Rng) -> bool {
    let sheds = worker.shed.takes(rng.draw());
    if sheds {
        worker.shard().shed.add(1);
    }
    sheds
}
