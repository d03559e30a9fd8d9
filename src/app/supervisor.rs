//! Whoever watches over the process from outside: systemd, told how it is (sd_notify(3)), and readers of the pid file.
//! What cannot be told is no reason to stop.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The ways to systemd and to the pid file.
#[derive(Debug, Clone)]
pub(super) struct Supervisor {
    notify: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
    pid_file: Option<PathBuf>,
}

// === impl Supervisor ===

impl Supervisor {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`), with this pid file.
    pub(super) fn find(pid_file: Option<PathBuf>) -> Self {
        let notify = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).and_then(|path| {
            let way =
                socket_address(path.as_bytes()).and_then(|address| Ok(Arc::new((UnixDatagram::unbound()?, address))));
            way.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; systemd hears nothing")).ok()
        });
        let variable = |name: &str| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        Self { watchdog: watchdog.filter(|_| notify.is_some()), notify, pid_file }
    }

    /// It serves; `status` says what.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its files again; [`Supervisor::ready`] ends that.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reading the files again"));
    }

    /// It stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what is in flight");
    }

    /// Another process takes this one's place.
    pub(super) fn leads(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\nSTATUS=handed over to process {pid}"));
    }

    /// It works.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How often it should say that it works; none: nobody asks.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Writes the pid file. A reader sees a whole number or the old file.
    pub(super) fn write_pid(&self) {
        let Some(path) = &self.pid_file else { return };
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = std::fs::write(&draft, format!("{}\n", std::process::id()));
        if let Err(error) = written.and_then(|()| std::fs::rename(&draft, path)) {
            tracing::warn!(path = %path.display(), %error, "the pid file cannot be written");
        }
    }

    /// Takes the pid file away, if it is still this process's.
    pub(super) fn remove_pid(&self) {
        if let Some(path) = &self.pid_file
            && says(path, std::process::id())
        {
            let _ = std::fs::remove_file(path);
        }
    }

    fn tell(&self, lines: &str) {
        if let Some((socket, address)) = self.notify.as_deref()
            && let Err(error) = socket.send_to_addr(lines.as_bytes(), address)
        {
            tracing::debug!(%error, "systemd does not hear");
        }
    }
}

fn says(path: &Path, pid: u32) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == pid.to_string())
}

/// Where systemd listens: a file, or an abstract name behind `@`.
fn socket_address(text: &[u8]) -> io::Result<SocketAddr> {
    match text {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(text)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name")),
    }
}

/// Half of the time that systemd waits for a sign (sd_watchdog_enabled(3)), when it waits for this process.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let usec = usec?.parse::<u64>().ok().filter(|usec| *usec > 0)?;
    let meant = pid.is_none_or(|pid| pid == std::process::id().to_string());
    meant.then(|| Duration::from_micros((usec / 2).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_due_at_half_of_the_time_and_only_from_whom_it_is_awaited() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("10000000"), None), Some(Duration::from_secs(5)));
        assert_eq!(watchdog(Some("10000000"), Some(&own)), Some(Duration::from_secs(5)));
        assert_eq!(watchdog(Some("10000000"), Some("1")), None);
        for wrong in [None, Some(""), Some("0"), Some("x"), Some("-5")] {
            assert_eq!(watchdog(wrong, None), None);
        }
    }

    #[test]
    fn a_notify_socket_is_a_path_or_an_abstract_name() {
        assert!(socket_address(b"/run/systemd/notify").is_ok());
        assert!(socket_address(b"@weir/notify").is_ok());
        assert!(socket_address(b"vsock:2:1").is_err() && socket_address(b"").is_err());
    }
}
