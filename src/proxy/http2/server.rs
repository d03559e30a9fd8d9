//! The role of a server: requests come, answers go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::{PREFACE, Shared};
use super::drive::{Drive, Turn};
use super::error::{By, Error, Reason};
use super::handles::{Hold, Inflow, Outflow};
use super::head::{HeadWriter, Request};
use super::send::{Kind, WAITING_BYTES_MAX};
use super::settings::Config;

/// A client's connection. It has to be polled for anything to move.
#[derive(Debug)]
pub(crate) struct Connection<S>(pub(super) Drive<S>);

/// A request, what follows its head, and the way back.
pub(crate) type Accepted = (Request, Inflow, Respond);

/// A stream's way back.
#[derive(Debug)]
pub(crate) struct Respond(Hold);

/// Says what weir is and awaits the preface; ready when that was right.
pub(crate) async fn handshake<S>(stream: S, config: &Config) -> Result<Connection<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Shared::new(config, false, stream.is_write_vectored());
    let mut drive = Drive::new(stream, shared);
    let mut left = &PREFACE[..];
    let shaken = std::future::poll_fn(|cx| {
        ready!(drive.poll_write(cx))?;
        while !left.is_empty() {
            let mut bytes = [0; PREFACE.len()];
            let mut buf = ReadBuf::new(&mut bytes[..left.len()]);
            ready!(Pin::new(drive.io()).poll_read(cx, &mut buf))?;
            let came = buf.filled();
            if came.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            match left.strip_prefix(came) {
                Some(rest) => left = rest,
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    });
    match shaken.await {
        Ok(true) => Ok(Connection(drive)),
        Ok(false) => Err(Error::GoAway(Reason::PROTOCOL_ERROR, By::Us)),
        Err(error) => Err(Error::Io(io::Error::kind(&error))),
    }
}

// === impl Connection ===

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Drives the connection: reads, writes, and hands out requests. `None`: it is over.
    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Accepted, Error>>> {
        loop {
            while let Some((taken, is_over)) = self.take() {
                // What weir itself has reset for an error in it is not served: whoever has it do so a thousand times
                // would have a thousand requests sent to endpoints (CVE-2025-8671).
                if !is_over {
                    return Poll::Ready(Some(Ok(taken)));
                }
            }
            match ready!(self.0.poll(cx)) {
                Turn::Requests => {}
                Turn::Over(Ok(())) => return Poll::Ready(None),
                Turn::Over(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// The next request that has come, and whether weir has reset its stream since.
    fn take(&mut self) -> Option<(Accepted, bool)> {
        let shared = &self.0.shared;
        let core = &mut *shared.core.borrow_mut();
        let key = core.next_request()?;
        let stream = &mut core.streams[key];
        let request = stream.request.take()?;
        let is_over = matches!(stream.gone, Some(Error::Reset(_, By::Us)));
        let inflow = Inflow::new(Hold::new(shared, core, key));
        Some(((request, inflow, Respond(Hold::new(shared, core, key))), is_over))
    }

    /// Ends it in two steps (RFC 9113 §6.8), so that no request that is on its way is lost; its streams go on.
    pub(crate) fn graceful_shutdown(&mut self) {
        self.0.shared.core.borrow_mut().warn();
    }

    /// Ends it now, all streams with it; the peer is told the reason when it is polled.
    pub(crate) fn abrupt_shutdown(&mut self, reason: Reason) {
        self.0.shared.core.borrow_mut().leave(reason);
    }

    /// What the client did that ended it, whether that could be said or not: the reason, and in which words.
    pub(crate) fn breach(&self) -> Option<(Reason, &'static str)> {
        self.0.shared.core.borrow().breach
    }

    /// Asks the peer whether it is there; written when the connection is polled. False: it is asked already.
    pub(crate) fn send_ping(&mut self) -> bool {
        self.0.shared.core.borrow_mut().ask()
    }

    /// Ready when it has answered; an error when the connection is over.
    pub(crate) fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.shared.core.borrow_mut().poll_answer(cx)
    }
}

// === impl Respond ===

impl Respond {
    /// Whether so much waits for the client that no DATA would be framed for it.
    pub(crate) fn is_laden(&self) -> bool {
        self.0.with(|core, _| core.out.len() >= WAITING_BYTES_MAX)
    }

    /// Sends an interim answer (1xx).
    pub(crate) fn send_informational<'f>(
        &mut self,
        status: u16,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(), Error> {
        self.0.with(|core, key| {
            core.send_head(key, Kind::Interim, |head| {
                head.status(status);
                fields.into_iter().for_each(|(name, value)| head.field(name, value));
            })
        })
    }

    /// Sends the head of the answer, once. `end`: nothing follows.
    #[inline]
    pub(crate) fn send_response(
        &mut self,
        head: impl FnOnce(&mut HeadWriter<'_>),
        end: bool,
    ) -> Result<Outflow, Error> {
        let core = &mut *self.0.shared.core.borrow_mut();
        core.send_head(self.0.key, Kind::Final { end }, head)?;
        Ok(Outflow::new(Hold::new(&self.0.shared, core, self.0.key)))
    }

    /// Sends an answer whole, once: its head, and its body if there is any.
    #[inline]
    pub(crate) fn send_whole(&mut self, head: impl FnOnce(&mut HeadWriter<'_>), body: &[u8]) -> Result<(), Error> {
        self.0.with(|core, key| {
            core.send_head(key, Kind::Final { end: body.is_empty() }, head)?;
            match body.is_empty() {
                true => Ok(()),
                false => core.send_last(key, body),
            }
        })
    }

    /// The way of an answer that is whole and has yet to go to its end; none when there is no such answer.
    #[inline]
    pub(crate) fn left(&self) -> Option<Outflow> {
        if !self.0.is_ending() {
            return None;
        }
        Some(self.0.with(|core, key| Outflow::new(Hold::new(&self.0.shared, core, key))))
    }

    /// Gives the stream up; nothing when it is over.
    pub(crate) fn send_reset(&mut self, reason: Reason) {
        self.0.with(|core, key| core.send_reset(key, reason));
    }

    /// Ready when the stream was reset, or its connection is gone (CANCEL then, if no code was given).
    #[inline]
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.0.poll_reset(cx)
    }
}
