//! Where a listener is: an internet address, or a file on this machine. How it is opened is not its concern.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// An address and a port; port 0 is chosen by the system.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// Its file; absolute, or relative to where the process was started.
        path: PathBuf,
        /// The file's permission bits: who may connect.
        mode: u32,
    },
}

// === impl Bind ===

impl Bind {
    /// What a unix socket's address begins with in text.
    pub const UNIX: &str = "unix:";

    /// Permission bits of a unix socket when none are named: its owner and its group may connect.
    pub const MODE: u32 = 0o660;

    /// Longest path of a unix socket, in bytes: `sun_path` of unix(7) without the zero at its end.
    pub const PATH_BYTES_MAX: usize = 107;

    /// The address, when it is one of the internet.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Bind::Tcp(address) => Some(*address),
            Bind::Unix { .. } => None,
        }
    }

    /// The file, when it is a unix socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Bind::Tcp(_) => None,
            Bind::Unix { path, .. } => Some(path),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => write!(f, "{address}"),
            Bind::Unix { path, .. } => write!(f, "{}{}", Self::UNIX, path.display()),
        }
    }
}
