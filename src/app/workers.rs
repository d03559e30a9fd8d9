//! The worker threads: how many, what each is handed, and when they end. What a worker does is in [`crate::proxy`].

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::sync::mpsc;

use crate::proxy::worker::listen::Berth;

/// Says when worker threads end: one index each.
pub(super) type Ends = mpsc::UnboundedReceiver<usize>;

/// The number of workers: the configured one, else one per core that the process may use. The latter honours CPU
/// affinity and the quota of cgroup v1 and v2 (`std::thread::available_parallelism`).
pub(super) fn count(configured: Option<usize>) -> usize {
    configured.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// Starts one thread per berth; each runs `work` to its end.
pub(super) fn spawn(berths: Vec<Berth>, work: fn(Berth) -> io::Result<()>) -> io::Result<Ends> {
    let (ended, ends) = mpsc::unbounded_channel();
    for berth in berths {
        let (index, ended) = (berth.seat.index, ended.clone());
        let thread = thread::Builder::new().name(format!("weir-worker-{index}"));
        thread.spawn(move || {
            let ended = EndGuard { index, ended };
            if let Err(error) = work(berth) {
                tracing::error!(worker = index, %error, "a worker failed");
            }
            drop(ended);
        })?;
    }
    Ok(ends)
}

/// Tells of the end also when the thread panicked.
struct EndGuard {
    index: usize,
    ended: mpsc::UnboundedSender<usize>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        // Nobody listens any more when the process ends by force.
        let _ = self.ended.send(self.index);
    }
}
