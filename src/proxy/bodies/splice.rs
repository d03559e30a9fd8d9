//! Long bodies of known length without copying: `splice(2)` moves them from socket to socket through a pipe.
//!
//! A pipe is always emptied before it is filled again. So `EAGAIN` while filling can only mean an empty socket, never a
//! full pipe, and `EAGAIN` while emptying only a full socket: tokio's readiness of that one socket says when to go on.
//! A pipe that is dropped with bytes in it takes them with it; only empty ones are kept. Where the system refuses pipes
//! or `splice`, [`crate::proxy::clients::relay`] copies. Framing that has to be made anew, such as chunks, is not for
//! here.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::proxy::h1::response::ResponseFraming;

/// Body bytes from which a pipe is worth its system calls. CPU time per request against copying, on loopback: 10 kB
/// 1.01, 16 kB 0.97, 24 kB 0.89, 34 kB 0.73, 100 kB 0.72, 10 MB 0.66.
const LONG_BYTES: u64 = 16 * 1024;

/// Room of a pipe, bytes, where the system allows it (`fs.pipe-max-size`, 1 MiB by default). Larger ones gained nothing
/// measurable; 64 of them are half of what an unprivileged user may have (`fs.pipe-user-pages-soft`, 64 MiB).
const PIPE_BYTES: usize = 512 * 1024;

/// The least room worth having: the system's default. Beyond `fs.pipe-user-pages-soft` it gives less.
const PIPE_BYTES_MIN: usize = 64 * 1024;

/// Most pipes that a worker may have open. One is held by a transfer only while there are bytes in it, so they run out
/// when as many clients are slow; transfers beyond that are copied.
pub(crate) const PIPES_MAX: usize = 64;

/// Idle pipes that are kept: as many as large buffers.
const PIPES_SPARE_MAX: usize = 16;

/// A worker's pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: Vec<Pipe>,
    /// How many of the spare ones have not been needed since the last trimming.
    unneeded: usize,
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
    /// Sets how many there may be; at first there may be none.
    pub(crate) fn limit(&mut self, open_max: usize) {
        self.open_max = open_max;
    }

    /// An empty pipe, if there may be another one.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        match self.spare.pop() {
            Some(pipe) => {
                self.unneeded = self.unneeded.min(self.spare.len());
                Some(pipe)
            }
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

    /// Closes what has not been needed since this was last called.
    pub(crate) fn trim(&mut self) {
        self.spare.truncate(self.spare.len() - self.unneeded);
        self.unneeded = self.spare.len();
    }

    /// The system does not let sockets be spliced: nobody need try again.
    pub(crate) fn give_up(&mut self) {
        tracing::info!("the system refuses splice(2): long bodies are copied");
        self.spare.clear();
        self.unneeded = 0;
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

fn splice(from: &impl AsFd, to: &impl AsFd, bytes_max: usize) -> io::Result<usize> {
    loop {
        match rustix::pipe::splice(from, None, to, None, bytes_max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
            Err(Errno::INTR) => {}
            moved => return moved.map_err(io::Error::from),
        }
    }
}

/// Whether a body is worth a pipe.
pub(crate) fn is_long(framing: ResponseFraming) -> bool {
    matches!(framing, ResponseFraming::Length(length) if length >= LONG_BYTES)
}

/// Whether `error` says that the system does not splice these sockets, be it an old kernel or a seccomp profile, and
/// not that a peer has gone.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn a_pipe_with_bytes_in_it_is_thrown_away_and_an_empty_one_is_kept() {
        let mut pipes = Pipes::default();
        assert!(pipes.take().is_none(), "none may be open at first");
        pipes.limit(1);
        let (mut near, far) = pair().await;
        near.write_all(b"left over").await.expect("it is taken");
        let mut pipe = pipes.take().expect("one may be open");
        assert!(pipes.take().is_none(), "only one may be open");
        let filled = std::future::poll_fn(|cx| pipe.poll_fill(cx, &far, 4)).await;
        assert_eq!((filled.expect("it is there"), pipe.is_laden()), (4, true));
        pipes.put(pipe);
        assert_eq!((pipes.spare.len(), pipes.open.get()), (0, 0));

        let mut pipe = pipes.take().expect("one may be open");
        let filled = std::future::poll_fn(|cx| pipe.poll_fill(cx, &far, u64::MAX)).await;
        let emptied = std::future::poll_fn(|cx| pipe.poll_empty(cx, &far)).await;
        assert_eq!((filled.expect("the rest is there"), emptied.expect("there is room")), (5, 5));
        pipes.put(pipe);
        assert_eq!((pipes.spare.len(), pipes.open.get()), (1, 1));
    }

    #[test]
    fn pipes_that_nobody_needed_for_a_while_are_closed() {
        let mut pipes = Pipes::default();
        pipes.limit(4);
        let held: Vec<_> = (0..4).map_while(|_| pipes.take()).collect();
        assert_eq!(held.len(), 4);
        held.into_iter().for_each(|pipe| pipes.put(pipe));
        pipes.trim();
        assert_eq!(pipes.open.get(), 4, "all have been needed");
        let pipe = pipes.take().expect("one is spare");
        pipes.put(pipe);
        pipes.trim();
        assert_eq!(pipes.open.get(), 1, "one has been needed");
        pipes.give_up();
        assert!(pipes.open.get() == 0 && pipes.take().is_none());
    }

    #[test]
    fn what_the_system_refuses_is_told_from_a_peer_that_has_gone() {
        for errno in [libc::EINVAL, libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP] {
            assert!(is_refusal(&io::Error::from_raw_os_error(errno)));
        }
        for errno in [libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT, libc::EAGAIN] {
            assert!(!is_refusal(&io::Error::from_raw_os_error(errno)));
        }
    }
}
