//! Long bodies of known length without copying: `splice(2)` moves them from socket to socket through a pipe.
//!
//! A pipe is always emptied before it is filled again. So `EAGAIN` while filling can only mean an empty socket, never a
//! full pipe, and `EAGAIN` while emptying only a full socket: tokio's readiness of that one socket says when to go on.
//! A pipe that is dropped with bytes in it takes them with it; only empty ones are kept. Where the system refuses
//! pipes or `splice`, [`super::relay`] copies. Framing that has to be made anew, such as chunks, is not for here.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Room of a pipe, bytes, where the system allows it (`fs.pipe-max-size`, 1 MiB by default).
const PIPE_BYTES: usize = 1024 * 1024;

/// The least room worth having; what a process beyond `fs.pipe-user-pages-soft` is given is less.
const PIPE_BYTES_MIN: usize = 64 * 1024;

/// Pipes that a worker may have open; transfers beyond it are copied.
const PIPES_MAX: usize = 64;

/// Idle pipes that are kept: as many as large buffers.
const PIPES_SPARE_MAX: usize = 16;

/// A worker's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    spare: Vec<Pipe>,
    /// Pipes that exist, here or in use.
    open: Rc<Cell<usize>>,
    open_max: usize,
}

/// A pipe between two sockets, held by one transfer at a time.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    bytes_max: usize,
    held: usize,
    open: Rc<Cell<usize>>,
}

// === impl Pipes ===

impl Pipes {
    pub(crate) fn new() -> Self {
        Self { spare: Vec::new(), open: Rc::default(), open_max: PIPES_MAX }
    }

    /// An empty pipe, if there may be another one.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        match self.spare.pop() {
            Some(pipe) => Some(pipe),
            None if self.open.get() < self.open_max => Pipe::open(&self.open).ok(),
            None => None,
        }
    }

    /// Takes a pipe back.
    pub(crate) fn put(&mut self, pipe: Pipe) {
        if pipe.held == 0 && self.spare.len() < PIPES_SPARE_MAX {
            self.spare.push(pipe);
        }
    }

    /// The system does not let sockets be spliced: nobody need try again.
    pub(crate) fn refuse(&mut self) {
        self.spare.clear();
        self.open_max = 0;
    }
}

// === impl Pipe ===

impl Pipe {
    fn open(open: &Rc<Cell<usize>>) -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let bytes_max = match rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES) {
            Ok(bytes) => bytes,
            Err(_) => rustix::pipe::fcntl_getpipe_size(&write)?,
        };
        if bytes_max < PIPE_BYTES_MIN {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        open.set(open.get() + 1);
        Ok(Self { read, write, bytes_max, held: 0, open: Rc::clone(open) })
    }

    /// Whether something that went in has not come out.
    pub(crate) fn is_laden(&self) -> bool {
        self.held > 0
    }

    /// Fills the pipe, which must be empty, with at most `limit` bytes from `socket`; 0 at its end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match self.try_fill(socket, limit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => return Poll::Ready(moved),
            }
        }
    }

    /// As [`Self::poll_fill`], where nobody waits.
    pub(crate) fn try_fill(&mut self, socket: &TcpStream, limit: u64) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a pipe with bytes in it may be full, which looks like an empty socket");
        let bytes_max = usize::try_from(limit).unwrap_or(usize::MAX).min(self.bytes_max);
        self.held = socket.try_io(Interest::READABLE, || splice(socket, &self.write, bytes_max))?;
        Ok(self.held)
    }

    /// Moves what the pipe holds, or some of it, into `socket`.
    pub(crate) fn poll_empty(&mut self, cx: &mut Context<'_>, socket: &TcpStream) -> Poll<io::Result<usize>> {
        let moved = loop {
            ready!(socket.poll_write_ready(cx))?;
            let step = || splice(&self.read, socket, self.held);
            match socket.try_io(Interest::WRITABLE, step) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => break moved?,
            }
        };
        self.held -= moved;
        Poll::Ready(Ok(moved))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

/// Writes some of `bytes`, of which the kernel may keep a part back until what follows at once is there too: a head and
/// the body behind it leave as full segments.
pub(crate) fn poll_write_more(cx: &mut Context<'_>, socket: &TcpStream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let send = || SockRef::from(socket).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL);
        match socket.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
    }
}

fn splice(from: &impl std::os::fd::AsFd, to: &impl std::os::fd::AsFd, bytes_max: usize) -> io::Result<usize> {
    loop {
        match rustix::pipe::splice(from, None, to, None, bytes_max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
            Err(Errno::INTR) => {}
            moved => return moved.map_err(io::Error::from),
        }
    }
}

/// Whether `error` says that the system does not splice these sockets, be it an old kernel or a seccomp profile, and
/// not that a peer has gone.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP))
}
