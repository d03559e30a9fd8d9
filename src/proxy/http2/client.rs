//! The role of a client: requests go, answers come.

use std::marker::PhantomData;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::error::Error;
use super::handles::{Inflow, Outflow};
use super::head::{Head, HeadWriter};
use super::settings::Config;

/// A connection to a server. It has to be polled for anything to move, and ends by itself when no [`Sender`] and no
/// stream are left.
#[derive(Debug)]
pub(crate) struct Connection<S>(PhantomData<S>);

/// Begins streams on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Sender(());

/// The answer that is waited for. Dropped, it is of no interest; see [`Inflow`] and [`Outflow`] for the rest.
#[derive(Debug)]
pub(crate) struct Answered(());

/// Sends the preface and what weir says of itself; the peer's SETTINGS are not waited for.
pub(crate) async fn handshake<S>(stream: S, config: &Config) -> Result<(Sender, Connection<S>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = (stream, config);
    unimplemented!()
}

// === impl Connection ===

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Drives the connection. Ready: it is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let _ = cx;
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

// === impl Sender ===

impl Sender {
    /// How many streams the peer allows at once; none before its SETTINGS came, `usize::MAX` where they say nothing.
    pub(crate) fn streams_max(&self) -> Option<usize> {
        unimplemented!()
    }

    /// Whether the peer takes an extended CONNECT (RFC 8441).
    pub(crate) fn is_extended_connect(&self) -> bool {
        unimplemented!()
    }

    /// Ready when one more stream may begin; an error when none ever will.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let _ = cx;
        unimplemented!()
    }

    /// Begins a stream. `end`: the head is all of the request. An error: nothing was sent, because the connection is
    /// over, is being ended by the peer, or carries as many streams as the peer allows.
    pub(crate) fn send_request(
        &mut self,
        head: impl FnOnce(&mut HeadWriter<'_>),
        end: bool,
    ) -> Result<(Answered, Outflow), Error> {
        let _ = (head, end);
        unimplemented!()
    }
}

// === impl Answered ===

impl Answered {
    /// The next interim answer (1xx). `None`: there are no more.
    pub(crate) fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Option<Head>> {
        let _ = cx;
        unimplemented!()
    }

    /// The head of the final answer, once. Interim answers that were not asked for are passed over.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Inflow), Error>> {
        let _ = cx;
        unimplemented!()
    }
}
