//! The role of a client: requests go, answers come.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::core::{Core, Shared};
use super::drive::{Drive, Turn};
use super::error::{By, Error};
use super::handles::{Hold, Inflow, Outflow};
use super::head::{Head, HeadWriter};
use super::send::{Kind, WAITING_BYTES_MAX};
use super::settings::Config;
use super::streams::{Side, keep};

/// The highest number of a stream (RFC 9113 §5.1.1).
const ID_MAX: u32 = 0x7fff_ffff;

/// Bytes that wait to be written before no more streams begin: what a peer does not read holds the heads of requests
/// too, also of those that have been given up since, which nobody counts. DATA alone comes to half of it at most.
const UNWRITTEN_BYTES_MAX: usize = 2 * WAITING_BYTES_MAX;

/// A connection to a server. It has to be polled for anything to move, and ends by itself when no [`Sender`] and no
/// stream are left.
#[derive(Debug)]
pub(crate) struct Connection<S>(pub(super) Drive<S>);

/// Begins streams on a connection.
pub(crate) struct Sender(pub(super) Rc<Shared>);

/// A wait until one more stream may begin. Dropped, it is forgotten.
#[derive(Debug)]
pub(crate) struct Wait {
    shared: Rc<Shared>,
    /// Who waits, if somebody does.
    waker: Option<Waker>,
}

/// The answer that is waited for. Dropped, it is of no interest; see [`Inflow`] and [`Outflow`] for the rest.
#[derive(Debug)]
pub(crate) struct Answered {
    hold: Hold,
    /// Whether somebody else takes what follows.
    handed_on: bool,
}

/// Gets the preface ready, and what weir says of itself; the peer's SETTINGS are not waited for.
#[expect(clippy::unused_async, reason = "as that of a server, which waits")]
pub(crate) async fn handshake<S>(stream: S, config: &Config) -> Result<(Sender, Connection<S>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Shared::new(config, true, stream.is_write_vectored());
    Ok((Sender::new(&shared), Connection(Drive::new(stream, shared))))
}

// === impl Connection ===

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Drives the connection. Ready: it is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match ready!(self.0.poll(cx)) {
                Turn::Over(how) => return Poll::Ready(how),
                // A server begins none.
                Turn::Requests => {}
            }
        }
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

// === impl Sender ===

impl Sender {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.senders.set(shared.senders.get() + 1);
        Self(Rc::clone(shared))
    }

    /// How many streams the peer allows at once; none before its SETTINGS came, `usize::MAX` where they say nothing.
    pub(crate) fn streams_max(&self) -> Option<usize> {
        let core = self.0.core.borrow();
        core.greeted.then_some(core.peer.streams_max)
    }

    /// Whether the peer takes an extended CONNECT (RFC 8441).
    pub(crate) fn is_extended_connect(&self) -> bool {
        self.0.core.borrow().peer.enable_connect
    }

    /// A wait until one more stream may begin.
    pub(crate) fn wait(&self) -> Wait {
        Wait { shared: Rc::clone(&self.0), waker: None }
    }

    /// Begins a stream. `end`: the head is all of the request. An error: nothing was sent, because the connection is
    /// over, is being ended by the peer, carries as many streams as the peer allows, or is not read by it.
    pub(crate) fn send_request(
        &self,
        head: impl FnOnce(&mut HeadWriter<'_>),
        end: bool,
    ) -> Result<(Answered, Outflow), Error> {
        let core = &mut *self.0.core.borrow_mut();
        if !may_begin(core)? {
            return Err(Error::User);
        }
        let key = core.begin(core.next_id);
        core.next_id += 2;
        core.send_head(key, Kind::Final { end }, head)?;
        let hold = Hold::new(&self.0, core, key);
        let outflow = Outflow::new(Hold::new(&self.0, core, key));
        Ok((Answered { hold, handed_on: false }, outflow))
    }
}

/// Whether one more stream may begin now; an error when none ever will.
fn may_begin(core: &Core) -> Result<bool, Error> {
    match (core.ended, core.goaway) {
        (Some(how), _) => Err(how.err().unwrap_or(Error::Io(io::ErrorKind::BrokenPipe))),
        (None, Some((_, reason))) => Err(Error::GoAway(reason, By::Peer)),
        (None, None) if core.next_id > ID_MAX => Err(Error::User),
        (None, None) => {
            let room = core.streams.linked() < core.peer.streams_max && core.out.len() < UNWRITTEN_BYTES_MAX;
            Ok(core.greeted && room)
        }
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if self.0.senders.get() == 0 {
            self.0.core.borrow_mut().wake_driver();
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

// === impl Wait ===

impl Wait {
    /// Ready when one more stream may begin; an error when none ever will.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let core = &mut *self.shared.core.borrow_mut();
        match may_begin(core) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                if !core.openers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    core.openers.push(cx.waker().clone());
                }
                core.openers_wait_for_writes |= core.out.len() >= UNWRITTEN_BYTES_MAX;
                keep(&mut self.waker, cx.waker());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(waker) = &self.waker else { return };
        let core = &mut *self.shared.core.borrow_mut();
        if let Some(at) = core.openers.iter().position(|opener| opener.will_wake(waker)) {
            // Another wait of the same task looks again, and is remembered then.
            core.openers.swap_remove(at).wake();
        }
    }
}

// === impl Answered ===

impl Answered {
    /// The next interim answer (1xx). `None`: there are no more.
    pub(crate) fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Option<Head>> {
        self.hold.with(|core, key| {
            let stream = &mut core.streams[key];
            if let Some(head) = stream.interim.pop_front() {
                return Poll::Ready(Some(head));
            }
            if stream.recv != Side::Head || stream.gone.is_some() {
                return Poll::Ready(None);
            }
            keep(&mut stream.recv_waker, cx.waker());
            Poll::Pending
        })
    }

    /// The head of the final answer, once. Interim answers that were not asked for are passed over.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Inflow), Error>> {
        let core = &mut *self.hold.shared.core.borrow_mut();
        let stream = &mut core.streams[self.hold.key];
        if let Some(head) = stream.answer.take() {
            self.handed_on = true;
            let inflow = Inflow::new(Hold::new(&self.hold.shared, core, self.hold.key));
            return Poll::Ready(Ok((head, inflow)));
        }
        if stream.recv != Side::Head {
            return Poll::Ready(Err(Error::User));
        }
        match stream.gone {
            Some(error) => Poll::Ready(Err(error)),
            None => {
                keep(&mut stream.recv_waker, cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if !self.handed_on {
            self.hold.shut();
        }
    }
}
