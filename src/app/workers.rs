//! The worker threads: how many, what each is handed, and when they end. What a worker does is in [`crate::proxy`].

use std::io;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::model::Origin;
use crate::switchboard::snapshot::Snapshot;
use crate::telemetry::access_log::Logger;
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::WorkerShard;

/// The variable that sets the number of workers; it wins over the file.
pub const WORKERS_ENV: &str = "WEIR_WORKERS";

/// Most workers: the bound of the key `workers`.
const WORKERS_MAX: usize = 1024;

/// How far the end of the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// No new connection; what is in flight finishes, every answer closes its connection.
    Draining,
    /// Everything ends now.
    Ended,
}

/// What a worker thread is handed.
pub struct Berth {
    /// Its index, from 0.
    pub index: usize,
    /// Its sockets, listening and not blocking, in the order of [`Snapshot::listeners`].
    pub listeners: Vec<TcpListener>,
    /// Where snapshots are published.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// The number of the newest snapshot; changes after it is published.
    pub revision: watch::Receiver<u64>,
    /// How far the end is. Its sender being gone means [`Phase::Ended`].
    pub phase: watch::Receiver<Phase>,
    /// Counters that belong to no pool.
    pub meter: Arc<Sharded<WorkerShard>>,
    /// Its access log.
    pub logger: Logger,
    /// Asks for a name to be resolved at once, after a connection to one of its addresses failed.
    pub hurry: Arc<dyn Fn(&Origin) + Send + Sync>,
    /// This process in `Via`, such as `weir-1f2e3d4c`.
    pub instance: Arc<str>,
}

/// Says when worker threads end: one index each.
pub(super) type Ends = mpsc::UnboundedReceiver<usize>;

/// Why the number of workers is none.
#[derive(Debug, thiserror::Error)]
#[error("{WORKERS_ENV}={0} is not a number of workers: write 1 to {WORKERS_MAX}")]
pub struct InvalidWorkers(String);

/// The number of workers: the environment, else the file, else one per core that the process may use. The last honours
/// CPU affinity and the quota of cgroup v1 and v2 (`std::thread::available_parallelism`).
pub fn count(file: Option<usize>) -> Result<usize, InvalidWorkers> {
    match std::env::var(WORKERS_ENV).ok().filter(|text| !text.is_empty()) {
        Some(text) => parse(&text),
        None => Ok(file.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get))),
    }
}

fn parse(text: &str) -> Result<usize, InvalidWorkers> {
    let count = text.trim().parse::<usize>().ok().filter(|count| (1..=WORKERS_MAX).contains(count));
    count.ok_or_else(|| InvalidWorkers(text.chars().take(40).collect()))
}

/// Starts one thread per berth; each runs `work` to its end.
pub(super) fn spawn(berths: Vec<Berth>, work: fn(Berth) -> io::Result<()>) -> io::Result<Ends> {
    let (ended, ends) = mpsc::unbounded_channel();
    for berth in berths {
        let (index, ended) = (berth.index, ended.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_workers_is_one_or_more() {
        assert_eq!(parse(" 4 ").expect("a number"), 4);
        for bad in ["0", "-1", "two", "1025"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(count(None).expect("a number") >= 1);
        assert_eq!(count(Some(3)).expect("a number"), 3);
    }
}
