//! The two directions of a stream, as whoever serves it holds them. The connection is borrowed for no longer than a
//! call.

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::core::{Core, Shared};
use super::error::{Error, Reason};
use super::streams::{Key, Side, keep};
use crate::proxy::hpack::fields::Fields;

/// One hold on a stream.
pub(super) struct Hold {
    pub(super) shared: Rc<Shared>,
    pub(super) key: Key,
}

/// What comes on a stream behind the head.
#[derive(Debug)]
pub(crate) struct Inflow(Hold);

/// What goes on a stream behind the head.
#[derive(Debug)]
pub(crate) struct Outflow(Hold);

// === impl Hold ===

impl Hold {
    /// One more on a stream.
    pub(super) fn new(shared: &Rc<Shared>, core: &mut Core, key: Key) -> Self {
        core.streams[key].handles += 1;
        Self { shared: Rc::clone(shared), key }
    }

    /// Does something with the stream.
    #[inline]
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core, Key) -> T) -> T {
        act(&mut self.shared.core.borrow_mut(), self.key)
    }

    /// Nobody takes what comes any more.
    pub(super) fn shut(&self) {
        self.with(|core, key| {
            let stream = &mut core.streams[key];
            stream.inflow = false;
            let waited = stream.drop_inflow();
            if waited > 0 {
                core.config.purse.take(waited);
            }
            let unreleased = stream.intake.unreleased() as usize;
            if unreleased > 0 {
                core.release(key, unreleased);
            }
        });
    }

    /// Whether an end was sent that has yet to go.
    #[inline]
    pub(super) fn is_ending(&self) -> bool {
        self.with(|core, key| core.streams[key].gone.is_none() && core.streams[key].send == Side::Ending)
    }

    /// See [`Outflow::poll_reset`].
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.with(|core, key| {
            let stream = &mut core.streams[key];
            match stream.gone {
                Some(error) => Poll::Ready(error.reason().unwrap_or(Reason::CANCEL)),
                None => {
                    keep(&mut stream.send_waker, cx.waker());
                    Poll::Pending
                }
            }
        })
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.key).finish()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.with(Core::let_go);
    }
}

// === impl Inflow ===

impl Inflow {
    pub(super) fn new(hold: Hold) -> Self {
        Self(hold)
    }

    /// The next bytes, never none at all. `None`: the end of the body; trailers may follow.
    #[inline]
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        self.0.with(|core, key| {
            let stream = &mut core.streams[key];
            match (stream.data.pop_front(), stream.gone) {
                (Some(data), _) => {
                    core.config.purse.take(data.len());
                    stream.takes = stream.takes.wrapping_add(1);
                    Poll::Ready(Some(Ok(Bytes::from(data))))
                }
                // What came whole is whole, whatever became of the stream.
                (None, _) if stream.recv == Side::Closed => Poll::Ready(None),
                (None, Some(error)) => Poll::Ready(Some(Err(error))),
                (None, None) => {
                    keep(&mut stream.recv_waker, cx.waker());
                    Poll::Pending
                }
            }
        })
    }

    /// The trailers behind the body, once all of that has been taken. They hold no pseudo-fields.
    pub(crate) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Fields>, Error>> {
        self.0.with(|core, key| {
            let stream = &mut core.streams[key];
            match stream.gone {
                _ if stream.recv == Side::Closed && stream.data.is_empty() => Poll::Ready(Ok(stream.trailers.take())),
                Some(error) if stream.recv != Side::Closed => Poll::Ready(Err(error)),
                _ => {
                    keep(&mut stream.recv_waker, cx.waker());
                    Poll::Pending
                }
            }
        })
    }

    /// Whether the peer has ended its side, and all that came has been taken.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.0.with(|core, key| {
            let stream = &core.streams[key];
            stream.recv == Side::Closed && stream.data.is_empty() && stream.trailers.is_none()
        })
    }

    /// So many bytes that were handed out have been dealt with: the peer may send as many more.
    #[inline]
    pub(crate) fn release(&mut self, bytes: usize) {
        self.0.with(|core, key| core.release(key, bytes));
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        self.0.shut();
    }
}

// === impl Outflow ===

impl Outflow {
    pub(super) fn new(hold: Hold) -> Self {
        Self(hold)
    }

    /// Ready when at least one byte may go now and nothing of this stream waits.
    #[inline]
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.with(|core, key| {
            let stream = &mut core.streams[key];
            if let Some(error) = stream.gone {
                return Poll::Ready(Err(error));
            }
            if !matches!(stream.send, Side::Open) {
                return Poll::Ready(Err(Error::User));
            }
            let has_room = stream.has_room();
            if !has_room || !core.is_open() {
                keep(&mut core.streams[key].send_waker, cx.waker());
                if has_room {
                    core.wait_for_room(key);
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Whether [`Outflow::poll_room`] would be ready with room.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.0.with(|core, key| core.streams[key].gone.is_none() && core.streams[key].has_room() && core.is_open())
    }

    /// Sends bytes; what exceeds the windows waits. `end`: nothing follows.
    #[inline]
    pub(crate) fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), Error> {
        self.0.with(|core, key| core.send_data(key, data, end))
    }

    /// Whether its end was sent and has yet to go.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.0.is_ending()
    }

    /// Ready when that has gone, or never will.
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_ending() {
            return Poll::Ready(());
        }
        self.0.with(|core, key| keep(&mut core.streams[key].send_waker, cx.waker()));
        Poll::Pending
    }

    /// Ends with trailers, behind what waits.
    pub(crate) fn send_trailers<'f>(
        &mut self,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(), Error> {
        self.0.with(|core, key| core.send_trailers(key, fields))
    }

    /// Gives the stream up, with what waits; nothing when it is over.
    pub(crate) fn send_reset(&mut self, reason: Reason) {
        self.0.with(|core, key| core.send_reset(key, reason));
    }

    /// Ready when the stream was reset, or its connection is gone (CANCEL then, if no code was given).
    #[inline]
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.0.poll_reset(cx)
    }
}
