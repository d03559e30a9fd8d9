//! The program under test: started, upgraded, asked, stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Error;
use super::link::Addresses;

/// How long starting, upgrading and stopping may take; draining is 10 s of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running weir.
#[derive(Debug)]
pub(crate) struct Process {
    first: Child,
    id: i32,
    room: PathBuf,
    addresses: Addresses,
    admin: SocketAddr,
}

impl Process {
    pub(crate) async fn start(program: &Path, room: &Path) -> Result<Self, Error> {
        // What an upgrade starts becomes a child of this process when the first one ends, and can be waited for.
        rustix::process::set_child_subreaper(rustix::process::getpid().into())?;
        let ports = room.join("ports");
        let log = std::fs::File::create(room.join("log"))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(room.join("weir.toml")).env("WEIR_PORTS_FILE", &ports);
        let first =
            command.env("WEIR_LOG", "warn").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let began = Instant::now();
        let text = loop {
            match std::fs::read_to_string(&ports) {
                Ok(text) => break text,
                Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(_) => return Err(format!("weir does not listen: {}", log_of(room)).into()),
            }
        };
        let ports: serde_json::Value = serde_json::from_str(&text)?;
        let address = |found: &serde_json::Value| -> Result<SocketAddr, Error> {
            Ok(found.as_str().ok_or("no address in the file of ports")?.parse()?)
        };
        let listeners = &ports["listeners"];
        let addresses = Addresses { plain: address(&listeners["plain"])?, secure: address(&listeners["secure"])? };
        let id = i32::try_from(first.id())?;
        Ok(Self { first, id, room: room.to_owned(), addresses, admin: address(&ports["admin"])? })
    }

    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Has another process take over, and waits until the old one has ended.
    pub(crate) async fn upgrade(&mut self) -> Result<(), Error> {
        signal(self.id, libc::SIGUSR2)?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let told = std::fs::read_to_string(self.room.join("weir.pid")).unwrap_or_default();
            match told.trim().parse() {
                Ok(id) if id != self.id && self.first.try_wait()?.is_some() => {
                    self.id = id;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(format!("the upgrade did not come to its end: {}", log_of(&self.room)).into())
    }

    /// What `/api/v1/status` says.
    pub(crate) async fn status(&self) -> Result<serde_json::Value, Error> {
        let mut stream = tokio::net::TcpStream::connect(self.admin).await?;
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (_, body) = text.split_once("\r\n\r\n").ok_or("no answer of the admin listener")?;
        let (from, to) = (body.find('{').ok_or("no JSON")?, body.rfind('}').ok_or("no JSON")?);
        Ok(serde_json::from_str(&body[from..=to])?)
    }

    /// Ends it, and says whether it ended well.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        signal(self.id, libc::SIGTERM)?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let pid = rustix::process::Pid::from_raw(self.id);
            match rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG)? {
                Some((_, status)) if status.exit_status() == Some(0) => return Ok(()),
                Some((_, status)) => return Err(format!("weir ended with {status:?}: {}", log_of(&self.room)).into()),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        Err("weir does not end".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only a process that stands under us still is ended.
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{}/cmdline", self.id))
            && text.contains(&*self.room.to_string_lossy())
        {
            let _ = signal(self.id, libc::SIGKILL);
        }
    }
}

fn signal(id: i32, signal: i32) -> Result<(), Error> {
    // SAFETY: no memory is involved.
    match unsafe { libc::kill(id, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn log_of(room: &Path) -> String {
    std::fs::read_to_string(room.join("log")).unwrap_or_default()
}
