//! weir as a child process of the demo: started, watched, ended with it.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use super::directory::Directory;

/// Time until it listens; the first round of probes takes at most a second of it.
const START: Duration = Duration::from_secs(10);

/// Time until it ended: its own drain of 10 s and a little more.
const STOP: Duration = Duration::from_secs(12);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Lines of its log that are shown when it fails.
const LAST_LINES: usize = 8;

/// Variables that would make it another weir than the one of the demo.
const FOREIGN: [&str; 5] =
    ["WEIR_CONFIG", "WEIR_ADMIN", "WEIR_ADMIN_TOKEN_FILE", "WEIR_SAFE_MODE", crate::app::PORTS_ENV];

/// The process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    log: std::path::PathBuf,
}

// === impl Child ===

impl Child {
    /// Starts it. Must be called by a thread that lives as long as the demo: the child ends with that thread.
    pub(super) fn start(directory: &Directory) -> Result<Self, Failure> {
        let log = directory.log();
        let _ = std::fs::remove_file(directory.ports());
        let mut command = Command::new(std::env::current_exe()?);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.arg("run").arg("--config").arg(directory.config()).env(crate::app::PORTS_ENV, directory.ports());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        command.process_group(0);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and takes plain numbers.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        Ok(Self { process: command.spawn()?, log })
    }

    /// Waits until it says where it listens.
    pub(super) fn wait_until_it_serves(&mut self, directory: &Directory) -> Result<(), Failure> {
        let began = Instant::now();
        while !directory.ports().exists() {
            self.check()?;
            if began.elapsed() > START {
                return Err(Failure::failed(format!("weir does not start{}", self.last_words())));
            }
            std::thread::sleep(PAUSE);
        }
        let _ = std::fs::remove_file(directory.ports());
        Ok(())
    }

    /// Fails when it ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Failure::failed(format!("weir ended by itself ({status}){}", self.last_words()))),
        }
    }

    /// Ends it gracefully, and by force when it takes too long.
    pub(super) fn stop(mut self) -> io::Result<()> {
        if self.process.try_wait()?.is_none() {
            let pid = libc::pid_t::try_from(self.process.id()).map_err(io::Error::other)?;
            // SAFETY: a plain system call; the process was not waited for, so the id is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let began = Instant::now();
        while self.process.try_wait()?.is_none() && began.elapsed() < STOP {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        last.iter().map(|line| format!("\n  {line}")).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
