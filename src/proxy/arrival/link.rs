//! What carries a client's bytes: a plain socket, or one with TLS over it. Everything that serves a client is generic
//! over it, so that the plain path is compiled as if there were no other.

use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A client's connection.
pub(crate) trait Link: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Whether bytes written to the socket itself arrive as they are: only then may they go past this process.
    const IS_PLAIN: bool;

    /// Bytes that are written to one client before others have their turn: about 200 µs of work.
    const TURN_BYTES_MAX: usize;

    /// The socket, for its options and, when the link is plain, for its bytes.
    fn socket(&self) -> &TcpStream;

    /// Ready when there is something to read: bytes or their end. False when there never will be.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<bool>;

    /// Ready when the client has gone; `Some` when it has sent something instead, which stays to be read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone>;

    /// Whether something that was written has yet to reach the socket.
    fn is_laden(&self) -> bool;

    /// Says that nothing more comes, as far as that can be done at once. Not said after an answer that was cut.
    fn bid_farewell(&mut self);
}

/// What a look for the client's end found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It has ended.
    Yes,
    /// It is there, and has sent something.
    Sent,
}

// === impl Link ===

impl Link for TcpStream {
    const IS_PLAIN: bool = true;
    const TURN_BYTES_MAX: usize = 2 * 1024 * 1024;

    #[inline]
    fn socket(&self) -> &TcpStream {
        self
    }

    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll_read_ready(cx).map(|ready: io::Result<()>| ready.is_ok())
    }

    #[inline]
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let mut byte = [0_u8; 1];
        let mut buf = ReadBuf::new(&mut byte);
        self.poll_peek(cx, &mut buf).map(|peeked| match peeked {
            Ok(n) if n > 0 => Gone::Sent,
            _ => Gone::Yes,
        })
    }

    #[inline]
    fn is_laden(&self) -> bool {
        false
    }

    #[inline]
    fn bid_farewell(&mut self) {}
}

/// The socket as rustls wants it.
pub(crate) struct Socket<'a>(pub(crate) &'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
