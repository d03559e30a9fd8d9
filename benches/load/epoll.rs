//! The few lines of epoll that the load clients need: readable, level-triggered; for attacks both ways, by edges.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Wake-ups taken from the kernel at once.
const BATCH: usize = 256;

pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed; the returned descriptor is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    /// Reports `socket` under `token` whenever it is readable or its peer has closed.
    pub(crate) fn add(&self, socket: &impl AsRawFd, token: usize) -> io::Result<()> {
        self.add_for(socket, token, libc::EPOLLIN | libc::EPOLLRDHUP)
    }

    /// Reports `socket` under `token` whenever something comes, leaves, or ends: once each time.
    pub(crate) fn add_edges(&self, socket: &impl AsRawFd, token: usize) -> io::Result<()> {
        self.add_for(socket, token, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    fn add_for(&self, socket: &impl AsRawFd, token: usize, interest: libc::c_int) -> io::Result<()> {
        let interest = interest.cast_unsigned();
        let mut event = libc::epoll_event { events: interest, u64: token as u64 };
        // SAFETY: both descriptors are open and `event` lives through the call.
        let done =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Tokens that are ready, waiting at most `wait_ms` milliseconds (0: only look).
    pub(crate) fn ready(&mut self, wait_ms: i32) -> io::Result<impl Iterator<Item = usize> + use<'_>> {
        // SAFETY: the buffer holds BATCH events and outlives the call.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), BATCH.cast_signed() as i32, wait_ms)
        };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => 0,
            Err(_) => return Err(io::Error::last_os_error()),
        };
        Ok(self.events[..count].iter().map(|event| event.u64 as usize))
    }
}
