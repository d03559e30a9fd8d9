//! The role of a server: requests come, answers go.

use std::marker::PhantomData;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::error::{Error, Reason};
use super::handles::{Inflow, Outflow};
use super::head::{HeadWriter, Request};
use super::settings::Config;

/// A client's connection. It has to be polled for anything to move.
#[derive(Debug)]
pub(crate) struct Connection<S>(PhantomData<S>);

/// A stream's way back.
#[derive(Debug)]
pub(crate) struct Respond(());

/// Says what weir is and awaits the preface; ready when that was right.
pub(crate) async fn handshake<S>(stream: S, config: &Config) -> Result<Connection<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = (stream, config);
    unimplemented!()
}

// === impl Connection ===

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Drives the connection: reads, writes, and hands out requests. `None`: it is over.
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(Request, Inflow, Respond), Error>>> {
        let _ = cx;
        unimplemented!()
    }

    /// Ends it in two steps (RFC 9113 §6.8), so that no request that is on its way is lost; its streams go on.
    pub(crate) fn graceful_shutdown(&mut self) {
        unimplemented!()
    }

    /// Ends it now, all streams with it; the peer is told the reason when it is polled.
    pub(crate) fn abrupt_shutdown(&mut self, reason: Reason) {
        let _ = reason;
        unimplemented!()
    }

    /// Asks the peer whether it is there; written when the connection is polled. False: it is asked already.
    pub(crate) fn send_ping(&mut self) -> bool {
        unimplemented!()
    }

    /// Ready when it has answered; an error when the connection is over.
    pub(crate) fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let _ = cx;
        unimplemented!()
    }
}

// === impl Respond ===

impl Respond {
    /// Sends an interim answer (1xx).
    pub(crate) fn send_informational<'f>(
        &mut self,
        status: u16,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(), Error> {
        let _ = (status, fields);
        unimplemented!()
    }

    /// Sends the head of the answer, once. `end`: nothing follows.
    pub(crate) fn send_response(
        &mut self,
        head: impl FnOnce(&mut HeadWriter<'_>),
        end: bool,
    ) -> Result<Outflow, Error> {
        let _ = (head, end);
        unimplemented!()
    }

    /// Gives the stream up; nothing when it is over.
    pub(crate) fn send_reset(&mut self, reason: Reason) {
        let _ = reason;
        unimplemented!()
    }

    /// Ready when the stream was reset, or its connection is gone (CANCEL then, if no code was given).
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        let _ = cx;
        unimplemented!()
    }
}
