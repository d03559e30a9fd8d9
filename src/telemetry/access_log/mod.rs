//! The access log: a buffer per worker, one writer thread, a bounded queue between them.
//!
//! A worker formats into its own buffer and hands over full chunks with `try_send`. A queue that is full loses the
//! chunk and counts its lines; nothing here ever makes a request wait.

mod record;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use record::Record;

use crate::model::{AccessLog as Policy, LogFormat, LogSink};
use record::Clock;

/// Size at which a worker hands its lines over: about a hundred lines.
pub const CHUNK_BYTES: usize = 32 * 1024;

/// Chunks that wait for the writer; with [`CHUNK_BYTES`] it bounds the memory that a slow reader costs to about 4 MiB.
pub const CHUNKS_MAX: usize = 128;

/// Oldest age of a line that waits in a worker, when the worker calls [`Logger::flush_due`] often enough.
pub const FLUSH_MS: u64 = 100;

/// A request that failed is always logged: weir or the pool could not serve it.
const FAILED_FROM: u16 = 500;

const OFF: u8 = 0;
const JSON: u8 = 1;
const TEXT: u8 = 2;

/// The control of the access log; one per process.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    chunks: SyncSender<Chunk>,
}

/// A worker's end.
#[derive(Debug)]
pub struct Logger {
    shared: Arc<Shared>,
    chunks: SyncSender<Chunk>,
    buffer: Vec<u8>,
    lines: u64,
    clock: Clock,
    flushed_ms: u64,
}

#[derive(Debug)]
struct Shared {
    /// [`OFF`], [`JSON`] or [`TEXT`].
    mode: AtomicU8,
    /// Draws at or below it are logged.
    threshold: AtomicU64,
    sink: Mutex<LogSink>,
    /// Rises when the sink must be opened anew.
    revision: AtomicU64,
    dropped: AtomicU64,
    stopping: AtomicBool,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

// === impl AccessLog ===

impl AccessLog {
    /// Starts the writer thread. A sink that cannot be opened is said in the log, tried again every second, and its
    /// lines count as dropped: logging never keeps the proxy from serving.
    pub fn start(policy: &Policy) -> Self {
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(OFF),
            threshold: AtomicU64::new(0),
            sink: Mutex::new(LogSink::Off),
            revision: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let log = Self { shared: Arc::clone(&shared), chunks: sender };
        log.change(policy);
        let writer = writer::Writer::new(shared);
        let thread = std::thread::Builder::new().name("weir-access-log".into());
        if let Err(error) = thread.spawn(move || writer.run(&receiver)) {
            log.shared.mode.store(OFF, Ordering::Relaxed);
            log.shared.stopped.store(true, Ordering::Relaxed);
            tracing::error!(%error, "no thread for the access log; it is off");
        }
        log
    }

    /// A worker's logger.
    pub fn logger(&self) -> Logger {
        Logger {
            shared: Arc::clone(&self.shared),
            chunks: self.chunks.clone(),
            buffer: Vec::new(),
            lines: 0,
            clock: Clock::default(),
            flushed_ms: 0,
        }
    }

    /// Takes a policy over; workers follow with their next request. The file is opened anew only when its path changed.
    pub fn change(&self, policy: &Policy) {
        let mut sink = self.shared.sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *sink != policy.sink {
            sink.clone_from(&policy.sink);
            self.shared.revision.fetch_add(1, Ordering::Release);
        }
        drop(sink);
        // 1.0 times 2^64 saturates to the largest draw; 0.0 logs failed requests only.
        self.shared.threshold.store((policy.sample * 18_446_744_073_709_551_616.0) as u64, Ordering::Relaxed);
        let mode = match (&policy.sink, policy.format) {
            (LogSink::Off, _) => OFF,
            (_, LogFormat::Json) => JSON,
            (_, LogFormat::Text) => TEXT,
        };
        self.shared.mode.store(mode, Ordering::Relaxed);
    }

    /// Opens the file anew (SIGUSR1, after it was rotated away).
    pub fn reopen(&self) {
        self.shared.revision.fetch_add(1, Ordering::Release);
    }

    /// Lines lost to a slow reader or a failing disk.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Lets the writer finish what was handed over, for at most `patience`; true when it did. Blocks: to be called at
    /// the end of the process, after the workers flushed.
    pub fn stop(&self, patience: Duration) -> bool {
        self.shared.stopping.store(true, Ordering::Release);
        let deadline = Instant::now() + patience;
        while !self.shared.stopped.load(Ordering::Acquire) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

// === impl Logger ===

impl Logger {
    /// Whether a request that ended with `status` is logged; `draw` is uniform over u64. Two relaxed loads.
    #[inline]
    pub fn wants(&self, status: u16, draw: u64) -> bool {
        let threshold = self.shared.threshold.load(Ordering::Relaxed);
        self.shared.mode.load(Ordering::Relaxed) != OFF
            && (status >= FAILED_FROM || draw < threshold || threshold == u64::MAX)
    }

    /// Writes a record. The caller has asked [`Logger::wants`].
    pub fn write(&mut self, record: &Record<'_>) {
        match self.shared.mode.load(Ordering::Relaxed) {
            JSON => record.json(&mut self.clock, &mut self.buffer),
            TEXT => record.text(&mut self.clock, &mut self.buffer),
            _ => return,
        }
        self.lines += 1;
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// Hands lines over when the last time is [`FLUSH_MS`] ago; `now_ms` is monotonic.
    pub fn flush_due(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.flushed_ms) >= FLUSH_MS {
            self.flushed_ms = now_ms;
            self.flush();
        }
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let bytes = if self.buffer.len() * 2 >= CHUNK_BYTES {
            std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8))
        } else {
            // A small chunk is copied, so that a waiting one never holds more memory than it has bytes.
            self.buffer.as_slice().to_vec()
        };
        self.buffer.clear();
        let lines = std::mem::take(&mut self.lines);
        if self.chunks.try_send(Chunk { bytes, lines }).is_err() {
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
