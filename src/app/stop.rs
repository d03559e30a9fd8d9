//! Signals: what they ask of the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM or SIGINT: stop, gracefully the first time.
    Stop(&'static str),
    /// SIGHUP: read the files again.
    Reload,
    /// SIGUSR1: open the access log anew.
    Reopen,
    /// SIGUSR2: let a new process take over.
    Upgrade,
}

/// The signals that weir listens to.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
    upgrade: Signal,
    /// A limit of file sizes that is met: taken over, it is an error of that write and not the end of the process.
    _file_size: Signal,
}

// === impl Signals ===

impl Signals {
    /// Takes the signals over from the system's defaults.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            // Stopping goes first, so that a flood of reloads cannot delay it.
            biased;
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
            _ = self.user.recv() => Wish::Reopen,
            _ = self.upgrade.recv() => Wish::Upgrade,
        }
    }
}
