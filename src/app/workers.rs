//! The worker threads: how many, what each is handed, and when they end. What a worker does is in [`crate::proxy`].

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::sync::mpsc;

use crate::proxy::listen::Berth;

/// The variable that sets the number of workers; it wins over the file.
pub const WORKERS_ENV: &str = "WEIR_WORKERS";

/// Most workers: the bound of the key `workers`.
const WORKERS_MAX: usize = 1024;

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
