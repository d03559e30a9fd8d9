//! The thread that writes access log chunks. It alone waits for disks and pipes; workers never wait for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Chunk, Shared};
use crate::model::LogSink;

/// How often the writer looks for a changed sink or the end when nothing is logged.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a sink that could not be opened is left alone.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// The sink as it is open now.
enum Sink {
    Nowhere,
    Stdout,
    File(File),
    Broken(Instant),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    revision: u64,
    /// Whether the last write ended within a line.
    torn: bool,
    complained: bool,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut writer = Self { shared, sink: Sink::Nowhere, revision: 0, torn: false, complained: false };
        writer.refresh();
        writer
    }

    /// Writes until the control is gone and everything handed over before is written.
    pub(super) fn run(mut self, chunks: &Receiver<Chunk>) {
        loop {
            match chunks.recv_timeout(LOOK_AGAIN) {
                Ok(chunk) => {
                    self.refresh();
                    self.write(&chunk);
                }
                Err(RecvTimeoutError::Timeout) if !self.shared.stopping.load(Ordering::Acquire) => self.refresh(),
                Err(_) => break,
            }
        }
        self.shared.stopped.store(true, Ordering::Release);
    }

    fn refresh(&mut self) {
        let revision = self.shared.revision.load(Ordering::Acquire);
        let due = matches!(self.sink, Sink::Broken(since) if since.elapsed() >= OPEN_AGAIN);
        if revision == self.revision && !due {
            return;
        }
        self.revision = revision;
        let wanted = self.shared.sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        self.torn = false;
        self.sink = match wanted {
            LogSink::Off => Sink::Nowhere,
            LogSink::Stdout => Sink::Stdout,
            LogSink::File(path) => match open(&path) {
                Ok(file) => Sink::File(file),
                Err(error) => {
                    self.complain(&error, &path.display().to_string());
                    Sink::Broken(Instant::now())
                }
            },
        };
    }

    fn write(&mut self, chunk: &Chunk) {
        let result = match &mut self.sink {
            Sink::Nowhere => return,
            Sink::Broken(_) => Err((io::ErrorKind::NotFound.into(), 0)),
            Sink::Stdout => write(&mut io::stdout().lock(), &chunk.bytes, self.torn),
            Sink::File(file) => write(file, &chunk.bytes, self.torn),
        };
        match result {
            Ok(()) => (self.torn, self.complained) = (false, false),
            Err((error, written)) => {
                let whole = chunk.bytes[..written].iter().filter(|&&b| b == b'\n').count() as u64;
                self.shared.dropped.fetch_add(chunk.lines.saturating_sub(whole), Ordering::Relaxed);
                if written > 0 {
                    self.torn = chunk.bytes[written - 1] != b'\n';
                }
                if !matches!(self.sink, Sink::Broken(_)) {
                    self.complain(&error, "access log");
                }
            }
        }
    }

    /// Says once what is wrong; the metric counts on.
    fn complain(&mut self, error: &io::Error, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, what, "access log lines are lost until this is mended");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Client addresses are personal data: nobody but the owner and the group reads them.
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// Writes everything or says how much of `bytes` was written.
fn write(sink: &mut impl Write, bytes: &[u8], torn: bool) -> Result<(), (io::Error, usize)> {
    if torn {
        sink.write_all(b"\n").map_err(|error| (error, 0))?;
    }
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, written)),
        }
    }
    sink.flush().map_err(|error| (error, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes and then fails, as a full disk does.
    struct Full(Vec<u8>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.1);
            self.1 -= n;
            self.0.extend_from_slice(&bytes[..n]);
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_reports_how_far_it_came_and_the_next_line_starts_fresh() {
        let mut disk = Full(Vec::new(), 5);
        let (_, written) = write(&mut disk, b"one\ntwo\n", false).unwrap_err();
        assert_eq!(written, 5);
        disk.1 = 100;
        write(&mut disk, b"three\n", true).map_err(|(error, _)| error).unwrap();
        assert_eq!(disk.0, b"one\nt\nthree\n");
    }
}
