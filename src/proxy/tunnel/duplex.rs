//! A stream of HTTP/2 as bytes both ways: what a tunnel runs over where one of its ends speaks HTTP/2 (RFC 8441 §5).
//!
//! The end of a direction is END_STREAM, and a stream that is dropped before is reset (CANCEL). What has been read is
//! given back to the peer's window as it is taken from here; at most one piece waits to be sent beneath.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::http2::handles::{Inflow, Outflow};

/// Both directions of a stream.
#[derive(Debug)]
pub(crate) struct Duplex {
    recv: Inflow,
    send: Outflow,
    /// What has come and has not been read.
    ahead: Bytes,
    /// END_STREAM has been sent.
    shut: bool,
}

// === impl Duplex ===

impl Duplex {
    pub(crate) fn new(recv: Inflow, send: Outflow) -> Self {
        Self { recv, send, ahead: Bytes::new(), shut: false }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.ahead = data,
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead.advance(n);
        self.recv.release(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.send.poll_room(cx))?;
        self.send.send_data(Bytes::copy_from_slice(bytes), false)?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Nothing waits here; but a reset shows to who asks, and to nobody else once the peer has ended its side.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        match self.send.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    /// Ready when the end has gone: a stream that is dropped before takes with it what waits.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.shut, true) {
            self.send.send_data(Bytes::new(), true)?;
        }
        self.send.poll_sent(cx).map(Ok)
    }
}
