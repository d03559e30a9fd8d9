//! The line between two processes: one message is one record of a local `SOCK_SEQPACKET` pair, with descriptors beside
//! it (unix(7), `SCM_RIGHTS`). Waits have deadlines; records have a size.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::{HandoverError, Message, system};

/// Largest message: a reason in words is far below it, and so is the system's own bound (`net.core.wmem_default`).
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Time that the other process gets to read, when what it has not read yet fills the line.
const SEND_PATIENCE: Duration = Duration::from_secs(5);

/// Descriptors beside one message; the system allows 253 (`SCM_MAX_FD`).
pub(super) const DESCRIPTORS_MAX: usize = 128;

/// One end of the line.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

// === impl Wire ===

impl Wire {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&own, Timeout::Send, Some(SEND_PATIENCE))?;
        Ok((Self(own), other))
    }

    /// An end that was handed in; refused when it is anything else.
    pub(super) fn of(end: OwnedFd) -> io::Result<Self> {
        let kind = rustix::net::sockopt::socket_type(&end)?;
        let family = rustix::net::sockopt::socket_domain(&end)?;
        if kind != SocketType::SEQPACKET || family != AddressFamily::UNIX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no line to another weir"));
        }
        Ok(Self(end))
    }

    /// Sends one message, with at most [`DESCRIPTORS_MAX`] descriptors.
    pub(super) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
        debug_assert!(descriptors.len() <= DESCRIPTORS_MAX, "callers cut them into pieces");
        let text = serde_json::to_vec(message).map_err(io::Error::other).map_err(system("cannot write a message"))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            beside.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        match sendmsg(&self.0, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Err(HandoverError::Gone),
            Err(error) => Err(system("cannot speak to the other process")(error.into())),
        }
    }

    /// Waits for the next message and its descriptors.
    pub(super) fn receive(&self, patience: Duration) -> Result<(Message, Vec<OwnedFd>), HandoverError> {
        self.wait(patience)?;
        let mut text = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        let read = match received {
            Ok(message) if message.bytes > 0 => message.bytes,
            Ok(_) | Err(rustix::io::Errno::CONNRESET) => return Err(HandoverError::Gone),
            Err(error) => return Err(system("cannot hear the other process")(error.into())),
        };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let shown = || String::from_utf8_lossy(&text[..read.min(200)]).into_owned();
        let message = serde_json::from_slice(&text[..read]).map_err(|_| HandoverError::Unexpected(shown()))?;
        Ok((message, descriptors))
    }

    /// Waits until there is something to read, or the other side is gone.
    fn wait(&self, patience: Duration) -> Result<(), HandoverError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HandoverError::Late(patience.as_secs()));
            }
            let limit = Timespec::try_from(left).ok();
            let mut polled = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
            match poll(&mut polled, limit.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(system("cannot wait for the other process")(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(2);

    #[test]
    fn messages_arrive_whole_in_their_order_and_with_their_descriptors() {
        let (one, other) = Wire::pair().expect("a pair");
        let other = Wire::of(other).expect("the other end");
        let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = socket.local_addr().expect("an address");
        let parcel = Message::Parcel { what: "listeners.public".into(), asked: Some(address.to_string()) };
        one.send(&parcel, &vec![socket.as_fd(); DESCRIPTORS_MAX]).expect("sent");
        one.send(&Message::Offer { version: 1 }, &[]).expect("sent");
        drop(socket);
        let (first, descriptors) = other.receive(SOON).expect("received");
        assert_eq!((first, descriptors.len()), (parcel, DESCRIPTORS_MAX));
        let same = TcpListener::from(descriptors.into_iter().next().expect("one"));
        assert_eq!(same.local_addr().expect("an address"), address);
        assert!(matches!(other.receive(SOON), Ok((Message::Offer { version: 1 }, none)) if none.is_empty()));
    }

    #[test]
    fn silence_has_an_end_and_so_has_a_side_that_is_gone() {
        let (one, other) = Wire::pair().expect("a pair");
        assert!(matches!(one.receive(Duration::from_millis(30)), Err(HandoverError::Late(0))));
        drop(other);
        assert!(matches!(one.receive(SOON), Err(HandoverError::Gone)));
        assert!(matches!(one.send(&Message::Go, &[]), Err(HandoverError::Gone)));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(Wire::of(file.into()).is_err());
        let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
        assert!(Wire::of(socket.into()).is_err());
    }
}
