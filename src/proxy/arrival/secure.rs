//! A connection over TLS, by rustls, from a client or to an endpoint: the handshake, and then a [`Link`] as any other,
//! or what [`crate::proxy::attempt::wire`] takes.
//!
//! Records are read from the socket in large pieces through a buffer of the worker's, which the connection holds only
//! while there is something in it (rustls alone would read 4 KiB at a time), and written with one `writev` for all that
//! is pending. What is written is encrypted at once and at most [`PENDING_BYTES_MAX`] of it wait for the socket.

use std::io::{self, BufRead, IoSlice, Write};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ProtocolVersion, ServerConnection, SideData};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::{Gone, Link, Socket};
use crate::proxy::worker::Worker;
use crate::proxy::worker::costly::Place;
use crate::telemetry::handshake::{HandshakeFault, HandshakeKind};
use crate::telemetry::uplink::UplinkFault;
use crate::tls::challenges::TLS_PROTOCOL;
use crate::tls::identity::Identity;

/// Plaintext that may wait encrypted for the socket: what rustls itself takes as a default.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// A connection over TLS; `C` is one of the two sides of rustls.
pub(crate) struct Secure<C> {
    socket: TcpStream,
    /// Boxed, because it is large and the futures that hold the link are moved.
    tls: Box<C>,
    worker: Rc<Worker>,
    /// Records that have been read from the socket and not been handed to rustls; without room while there are none.
    ahead: Vec<u8>,
    used: usize,
    /// The peer has ended its side of the socket.
    ended: bool,
    /// The end has been said.
    closing: bool,
}

/// Why a handshake failed.
enum Unshaken {
    /// The peer left.
    Gone,
    /// What rustls says; the alert has been sent.
    Tls(rustls::Error),
}

// === impl Secure ===

impl Secure<ServerConnection> {
    /// Shakes hands with a client.
    pub(crate) async fn accept(
        worker: &Rc<Worker>,
        socket: TcpStream,
        tls: ServerConnection,
    ) -> Result<Self, HandshakeFault> {
        let (mut link, mut place) = (Self::over(worker, socket, tls), None);
        let shaken = std::future::poll_fn(|cx| link.poll_handshake(cx, Some(&mut place))).await;
        shaken.map(|()| link).map_err(|error| match error {
            Unshaken::Gone => HandshakeFault::Gone,
            Unshaken::Tls(error) => HandshakeFault::of(&error),
        })
    }

    /// The client, if it showed a certificate; one that does not hold has ended the handshake.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::of(self.tls.peer_certificates()?)
    }

    /// What was agreed on.
    pub(crate) fn kind(&self) -> HandshakeKind {
        HandshakeKind { v13: self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3), resumed: self.is_resumed() }
    }
}

impl Secure<ClientConnection> {
    /// Shakes hands with an endpoint, which must prove `name`. What is left to send goes with the first request.
    pub(crate) async fn connect(
        worker: &Rc<Worker>,
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, UplinkFault> {
        let tls = ClientConnection::new(config, name).map_err(|error| UplinkFault::of(&error))?;
        let mut link = Self::over(worker, socket, tls);
        let shaken = std::future::poll_fn(|cx| link.poll_handshake(cx, None)).await;
        shaken.map(|()| link).map_err(|error| match error {
            Unshaken::Gone => UplinkFault::Closed,
            Unshaken::Tls(error) => {
                tracing::debug!(%error, "the handshake with an endpoint failed");
                UplinkFault::of(&error)
            }
        })
    }

    /// Whether the endpoint ended its side of the socket without saying that it does: what came last may have been cut
    /// off by anybody in between (RFC 9112 §9.8).
    pub(crate) fn is_torn(&mut self) -> bool {
        self.ended && self.used >= self.ahead.len() && self.tls.reader().fill_buf().is_err()
    }

    /// Whether an endpoint that nobody has asked anything has neither ended nor said something.
    pub(crate) fn is_quiet(&mut self) -> bool {
        // Tickets and key updates are taken in on the way; they say nothing.
        self.poll_plain(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
    }
}

impl<C> Secure<C> {
    fn put_ahead(&mut self) {
        if self.ahead.capacity() > 0 {
            self.worker.buffers.borrow_mut().put(std::mem::take(&mut self.ahead));
            self.used = 0;
        }
    }

    /// The socket, for its options.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.socket
    }
}

impl<C, S> Secure<C>
where
    C: Deref<Target = ConnectionCommon<S>> + DerefMut,
    S: SideData,
{
    fn over(worker: &Rc<Worker>, socket: TcpStream, mut tls: C) -> Self {
        tls.set_buffer_limit(Some(PENDING_BYTES_MAX));
        let (worker, tls) = (Rc::clone(worker), Box::new(tls));
        let (ahead, used, ended, closing) = (Vec::new(), 0, false, false);
        Self { socket, tls, worker, ahead, used, ended, closing }
    }

    /// `place`: where each step waits for its turn, before anything is read for it.
    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        mut place: Option<&mut Option<Rc<Place>>>,
    ) -> Poll<Result<(), Unshaken>> {
        loop {
            // What is left to send when it is over, such as tickets, goes with the first answer.
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.tls.wants_write() {
                ready!(self.poll_push(cx)).map_err(|_| Unshaken::Gone)?;
            }
            if let Some(place) = &mut place {
                if self.used >= self.ahead.len() {
                    ready!(self.socket.poll_read_ready(cx)).map_err(|_| Unshaken::Gone)?;
                }
                ready!(self.worker.costly.poll_turn(cx, place));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(n) if n > 0 => {}
                _ => return Poll::Ready(Err(Unshaken::Gone)),
            }
            if let Err(error) = self.digest() {
                // The alert says why.
                let _ = self.poll_push(cx);
                return Poll::Ready(Err(Unshaken::Tls(error)));
            }
        }
    }

    /// Whether HTTP/2 was agreed on (RFC 7301).
    pub(crate) fn wants_http2(&self) -> bool {
        self.tls.alpn_protocol() == Some(b"h2")
    }

    /// Whether it was a challenge of an ACME authority, after which there is nothing to say (RFC 8737 §3).
    pub(crate) fn is_challenge(&self) -> bool {
        self.tls.alpn_protocol() == Some(TLS_PROTOCOL)
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether something that was written has yet to reach the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Reads records into `ahead`, when there are none; how many bytes there are, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.used < self.ahead.len() {
            return Poll::Ready(Ok(self.ahead.len() - self.used));
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            if self.ahead.capacity() == 0 {
                self.ahead = self.worker.buffers.borrow_mut().take();
            }
            self.ahead.clear();
            self.used = 0;
            match self.socket.try_read_buf(&mut self.ahead) {
                Ok(n) => {
                    self.ended = n == 0;
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.put_ahead(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Hands records to rustls, as many as it takes before somebody reads what was in them.
    fn digest(&mut self) -> Result<(), rustls::Error> {
        while self.used < self.ahead.len() {
            let mut records = &self.ahead[self.used..];
            let before = records.len();
            // It takes nothing while what was decrypted has not been read.
            let taken = self.tls.read_tls(&mut records).unwrap_or(0);
            self.used += before - records.len();
            if taken == 0 {
                return Ok(());
            }
            let state = self.tls.process_new_packets()?;
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        if self.used == self.ahead.len() {
            self.put_ahead();
        }
        Ok(())
    }

    /// Ready when decrypted bytes are at hand: false at their end.
    pub(crate) fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            match self.tls.reader().fill_buf() {
                Ok(bytes) => return Poll::Ready(Ok(!bytes.is_empty())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer closed its socket without a word, as many do. Framing tells whether anything is missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(false)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                Poll::Ready(filled) => {
                    filled?;
                }
                Poll::Pending => {
                    // Nobody may write for a while: what is pending (tickets, alerts, key updates) must not wait.
                    if self.tls.wants_write()
                        && let Poll::Ready(pushed) = self.poll_push(cx)
                    {
                        pushed?;
                    }
                    return Poll::Pending;
                }
            }
            if let Err(error) = self.digest() {
                let _ = self.poll_push(cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }

    /// Writes pending records to the socket; ready when there are none left.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket(&self.socket)) {
                Ok(n) if n > 0 => {}
                Ok(_) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<C> Drop for Secure<C> {
    fn drop(&mut self) {
        self.put_ahead();
    }
}

impl Link for Secure<ServerConnection> {
    const IS_PLAIN: bool = false;
    // Encryption takes about 1 ms for 4 MiB.
    const TURN_BYTES_MAX: usize = 512 * 1024;

    fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll_plain(cx).map(|plain| plain.is_ok())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.poll_plain(cx).map(|plain| if matches!(plain, Ok(true)) { Gone::Sent } else { Gone::Yes })
    }

    fn is_laden(&self) -> bool {
        self.tls.wants_write()
    }

    fn bid_farewell(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            self.tls.send_close_notify();
        }
        let _ = self.poll_push(&mut Context::from_waker(std::task::Waker::noop()));
    }
}

impl<C, S> AsyncRead for Secure<C>
where
    C: Deref<Target = ConnectionCommon<S>> + DerefMut,
    S: SideData,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut got = false;
        // Everything that is at hand, so that a burst of records is one read.
        while buf.remaining() > 0 {
            match self.poll_plain(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => break,
                Poll::Ready(Err(error)) if !got => return Poll::Ready(Err(error)),
                Poll::Pending if !got => return Poll::Pending,
                // It shows again at the next read.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
            let mut reader = self.tls.reader();
            let bytes = reader.fill_buf()?;
            let n = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..n]);
            reader.consume(n);
            got = true;
            // More has to be asked of the socket only when records are at hand already.
            if self.used >= self.ahead.len() && self.tls.reader().fill_buf().is_err() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<C, S> AsyncWrite for Secure<C>
where
    C: Deref<Target = ConnectionCommon<S>> + DerefMut,
    S: SideData,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Tickets may still be pending from the handshake; they go with this.
        let mut n = self.tls.writer().write_vectored(pieces)?;
        if n == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            ready!(self.poll_push(cx))?;
            n = self.tls.writer().write_vectored(pieces)?;
        }
        if let Poll::Ready(pushed) = self.poll_push(cx) {
            pushed?;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_push(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.closing, true) {
            self.tls.send_close_notify();
        }
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
