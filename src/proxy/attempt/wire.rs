//! What carries bytes to an endpoint: a plain TCP connection, which has its own code all the way, or any other kind,
//! which is told apart only where it is read and written.
//!
//! It does not say how connections are opened: that is [`super::reach`]; idle ones are kept in [`super::conns`].

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::conns::Conns;
use super::exchange::{Conn, Failure};
use super::lines::Lines;
use super::reach::{self, Reach};
use crate::model::ProxyVersion;
use crate::proxy::arrival::secure::Secure;
use crate::proxy::worker::timer::Timer;
use crate::switchboard::snapshot::Pool;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::preface::{self, Ends};

/// A connection to an endpoint.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Sized + fmt::Debug + 'static {
    /// Whether bytes of the socket itself are those of the peer: only then may they go past this process.
    const IS_TCP: bool;

    /// What a request must have in common with a connection that is to serve it, beside the endpoint.
    type Mark: Copy + PartialEq + fmt::Debug;

    /// The TCP socket below, if there is one, for its options and, when [`Wire::IS_TCP`], for its bytes.
    fn tcp(&self) -> Option<&TcpStream>;

    /// Ready when there is something to read: bytes, their end or an error.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether something that was written has yet to reach the socket.
    fn is_laden(&self) -> bool;

    /// Whether an idle connection has neither been closed nor said something unasked.
    fn is_quiet(&mut self) -> bool;

    /// Whether it is what carries requests to that endpoint over HTTP/1.
    fn carries(pool: &Pool, endpoint: &Endpoint) -> bool;

    /// One to an endpoint that it carries requests to.
    fn open(reach: &Reach<'_>, timer: &mut Timer) -> impl Future<Output = Result<Conn<Self>, Failure>>;

    /// Where idle ones are kept.
    fn idle(lines: &Lines) -> &RefCell<Conns<Self>>;
}

/// A connection of a kind that is known only at run time.
pub(crate) enum AnyWire {
    /// TCP, of which the endpoint knows whose connection it is.
    Tcp(TcpStream),
    /// TLS.
    Tls(Secure<ClientConnection>),
    /// A socket in the file system.
    Unix(UnixStream),
}

/// What a request and an [`AnyWire`] have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AnyMark {
    /// The terms of TLS; see [`crate::tls::pool::Terms::number`].
    pub(crate) terms: Option<u64>,
    /// Whose connection it is, as the endpoint was told.
    pub(crate) named: Option<(ProxyVersion, Ends)>,
}

// === impl AnyMark ===

impl AnyMark {
    /// What stands first on a connection with this mark.
    pub(crate) fn preface(&self) -> Vec<u8> {
        self.named.map(|(version, ends)| preface::header(version, Some(ends))).unwrap_or_default()
    }
}

// === impl TcpStream ===

impl Wire for TcpStream {
    const IS_TCP: bool = true;

    type Mark = ();

    #[inline]
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    #[inline]
    fn is_laden(&self) -> bool {
        false
    }

    /// Costs no system call unless the reactor has seen an event.
    #[inline]
    fn is_quiet(&mut self) -> bool {
        matches!(self.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    #[inline]
    fn carries(pool: &Pool, endpoint: &Endpoint) -> bool {
        reach::is_plain(pool, endpoint)
    }

    #[inline]
    fn open(reach: &Reach<'_>, timer: &mut Timer) -> impl Future<Output = Result<Conn<Self>, Failure>> {
        reach::open_tcp(reach, timer)
    }

    #[inline]
    fn idle(lines: &Lines) -> &RefCell<Conns<Self>> {
        &lines.conns
    }
}

// === impl AnyWire ===

impl Wire for AnyWire {
    const IS_TCP: bool = false;

    type Mark = AnyMark;

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(link) => Some(link.tcp()),
            Self::Unix(_) => None,
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Tls(link) => link.poll_plain(cx).map_ok(drop),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    fn is_laden(&self) -> bool {
        match self {
            Self::Tls(link) => link.wants_write(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_quiet(),
            Self::Tls(link) => link.is_quiet(),
            Self::Unix(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
        }
    }

    fn carries(pool: &Pool, endpoint: &Endpoint) -> bool {
        !reach::is_plain(pool, endpoint) && !reach::is_http2_only(pool, endpoint)
    }

    fn open(reach: &Reach<'_>, timer: &mut Timer) -> impl Future<Output = Result<Conn<Self>, Failure>> {
        reach::open_any(reach, timer)
    }

    fn idle(lines: &Lines) -> &RefCell<Conns<Self>> {
        &lines.any_conns
    }
}

impl AsyncRead for AnyWire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(link) => {
                let before = buf.filled().len();
                ready!(Pin::new(&mut *link).poll_read(cx, buf))?;
                match buf.filled().len() == before && link.is_torn() {
                    true => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                    false => Poll::Ready(Ok(())),
                }
            }
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for AnyWire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(link) => Pin::new(link).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(link) => Pin::new(link).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(link) => Pin::new(link).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for AnyWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Tls(_) => "Tls",
            Self::Unix(_) => "Unix",
        })
    }
}
