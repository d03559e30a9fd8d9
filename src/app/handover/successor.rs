//! The side of the old process: starts the new one, hands it the sockets, hears how far it is, and ends it when it does
//! not come to serve.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::wire::{DESCRIPTORS_MAX, Wire};
use super::{
    BUCKET_ENTRIES, ENV, HandoverError, Memory, Message, Parcel, STATE_ENTRIES, STATE_VERSION, VERSION, system,
};
use crate::throttle::handed::Remembered;

/// Time that the new process gets to read its configuration and certificates. Generous: until then nothing has changed.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);

/// Time that it gets to come to serve from there on: a second for its first probes, three for a journal on a slow disk,
/// and as much again. Meanwhile commands wait.
const SERVE_PATIENCE: Duration = Duration::from_secs(10);

/// Time that a process which gave up gets to end by itself, so that its exit code can be told.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Variables that speak of this process alone (sd_listen_fds(3), sd_watchdog_enabled(3)).
const OWN_VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A new process on its way to take over. Dropped before it serves, it is ended.
#[derive(Debug)]
pub(in crate::app) struct Successor {
    wire: Wire,
    child: Option<Child>,
    binary: PathBuf,
}

/// How far the new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum Step {
    /// It could serve.
    Checked,
    /// It serves.
    Serving,
}

// === impl Successor ===

impl Successor {
    /// Starts `binary` with the arguments of this process and hands it the sockets. Blocks for a moment.
    pub(in crate::app) fn start(binary: &Path, parcels: &[Parcel]) -> Result<Self, HandoverError> {
        let (wire, other) = Wire::pair().map_err(system("cannot make a line to a new process"))?;
        let mut command = Command::new(binary);
        command.args(std::env::args_os().skip(1)).env(ENV, "1").stdin(Stdio::from(other));
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        let child = command.spawn();
        // The command holds the other end until it is dropped: only then an end of the child is an end of the line.
        drop(command);
        let child =
            child.map_err(|error| HandoverError::Refused(format!("cannot start {}: {error}", binary.display())))?;
        let this = Self { wire, child: Some(child), binary: binary.to_owned() };
        let sent = this.offer(parcels);
        match sent {
            Ok(()) => Ok(this),
            Err(error) => Err(this.blame(error)),
        }
    }

    /// Its process id.
    pub(in crate::app) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits until it is that far. Blocks.
    pub(in crate::app) fn wait_for(mut self, step: Step) -> Result<Self, HandoverError> {
        let (word, patience) = match step {
            Step::Checked => (Message::Checked, CHECK_PATIENCE),
            Step::Serving => (Message::Serving, SERVE_PATIENCE),
        };
        match self.wire.receive(patience) {
            Ok((said, _)) if said == word => Ok(self),
            Ok((Message::Failed { why }, _)) => {
                self.end();
                Err(HandoverError::Refused(why))
            }
            Ok((other, _)) => Err(HandoverError::Unexpected(format!("{other:?}"))),
            Err(error) => Err(self.blame(error)),
        }
    }

    /// Its turn, with what this process remembers, which let go of what only one may write. Blocks.
    pub(in crate::app) fn go(&self, memory: &Memory) -> Result<(), HandoverError> {
        for some in memory.closed.chunks(STATE_ENTRIES) {
            self.wire.send(&Message::State { version: STATE_VERSION, closed: some.to_vec() }, &[])?;
        }
        self.tell(&memory.buckets)?;
        self.wire.send(&Message::Go, &[])
    }

    /// It leads from here on, with what rate limits counted meanwhile, and outlives this process. Blocks.
    pub(in crate::app) fn leads(mut self, buckets: &[Remembered]) {
        if let Err(error) = self.tell(buckets) {
            tracing::warn!(%error, "what rate limits counted last is not handed over");
        }
        let _ = self.wire.send(&Message::Leads, &[]);
        self.child = None;
    }

    fn tell(&self, buckets: &[Remembered]) -> Result<(), HandoverError> {
        for Remembered { limit, secret, buckets } in buckets {
            // One without buckets is told as well: what it counts from here on goes by the same hashes.
            for at in (0..buckets.len().max(1)).step_by(BUCKET_ENTRIES) {
                let some = buckets[at..].iter().take(BUCKET_ENTRIES).copied().collect();
                let part = Remembered { limit: limit.clone(), secret: *secret, buckets: some };
                self.wire.send(&Message::Buckets(part), &[])?;
            }
        }
        Ok(())
    }

    fn offer(&self, parcels: &[Parcel]) -> Result<(), HandoverError> {
        for Parcel { what, asked, sockets } in parcels {
            let message = Message::Parcel { what: what.clone(), asked: asked.clone() };
            for some in sockets.chunks(DESCRIPTORS_MAX) {
                let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
                self.wire.send(&message, &some)?;
            }
        }
        self.wire.send(&Message::Offer { version: VERSION }, &[])
    }

    /// What is known of a process that is gone.
    fn blame(mut self, error: HandoverError) -> HandoverError {
        let HandoverError::Gone = error else { return error };
        let binary = self.binary.display().to_string();
        match self.end() {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => HandoverError::Refused(format!("{binary} ended with exit code {code}")),
                (None, signal) => {
                    HandoverError::Refused(format!("{binary} was ended by signal {}", signal.unwrap_or(0)))
                }
            },
            None => HandoverError::Refused(format!("{binary} does not take over; is it a weir?")),
        }
    }

    /// Waits a moment for its end, then ends it; how it ended by itself.
    fn end(&mut self) -> Option<std::process::ExitStatus> {
        let mut child = self.child.take()?;
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
