//! What a worker does beside serving: signs of life, the access log's lines, sweeps of what is idle.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Worker;

/// How often idle endpoint connections and pipes are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// How often the access log is handed to its writer when little is logged.
const FLUSH: Duration = Duration::from_millis(100);

/// What a worker does beside serving.
pub(in crate::proxy) async fn upkeep(worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(FLUSH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0_u32;
    loop {
        tick.tick().await;
        worker.shard().beats.add(1);
        let now_ms = worker.now(Instant::now()).mono_ms;
        worker.logger.borrow_mut().flush_due(now_ms);
        worker.streams.borrow_mut().tick(worker.index, Instant::now());
        ticks = ticks.wrapping_add(1);
        if (u128::from(ticks) * FLUSH.as_millis()).is_multiple_of(SWEEP.as_millis()) {
            for lines in [&worker.lines, &worker.copies] {
                lines.sweep(now_ms, Instant::now());
            }
            worker.pipes.borrow_mut().trim();
            worker.streams.borrow_mut().tell(worker.index, Instant::now());
        }
    }
}
