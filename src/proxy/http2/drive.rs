//! Moves the bytes of a connection: reads what there is, has it handled, and writes all that is ready at once. Where
//! the heads that came are enough for a turn ([`effort`](super::effort)), what is left of them waits for another, with
//! all other connections of the worker that want one.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Shared;
use super::error::Error;
use super::frame::{HEAD_BYTES, PAYLOAD_MAX};
use super::output::Output;
use super::send::WAITING_BYTES_MAX;
use super::streams::keep;
use crate::proxy::worker::costly::Place;

/// Read at once, behind the beginning of a frame that has come before, where bodies fill what is read.
const READ_BYTES: usize = 64 * 1024;

/// Read at once where requests come: thousands of them would fit into more, and all that is read is handled before the
/// errors in it are told and booked.
const WARY_READ_BYTES: usize = 8 * 1024;

/// What is handled of one read at most, with that beginning.
pub(super) const READ_MAX: usize = READ_BYTES + HEAD_BYTES + PAYLOAD_MAX;

/// Bytes that wait to be written before nothing more is read: what answers to PINGs, SETTINGS and requests come to
/// beside [`WAITING_BYTES_MAX`] of DATA. A peer that reads nothing is not answered without end.
const ANSWERS_BYTES_MAX: usize = 64 * 1024;

/// Reads in a row before others have their turn.
const READS_MAX: usize = 16;

thread_local! {
    /// What all connections of a thread are read into, one after another.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection, and what it goes over.
#[derive(Debug)]
pub(super) struct Drive<S> {
    pub(super) shared: Rc<Shared>,
    io: S,
    /// Whether what was written may not have gone.
    unflushed: bool,
    /// Whether requests have been handed out, and whoever serves them has had no turn since.
    handed_out: bool,
    /// Where it waits for its next turn.
    place: Option<Rc<Place>>,
    /// How much is read at once.
    room: usize,
    /// Whether nothing was read, because too much waits to be written.
    held_back: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Open,
    /// What waits is written, and then the end.
    Closing(Result<(), Error>),
    Over(Result<(), Error>),
}

/// What came of a turn.
#[derive(Debug)]
pub(super) enum Turn {
    /// There are requests to be taken.
    Requests,
    Over(Result<(), Error>),
}

// === impl Drive ===

impl<S> Drive<S> {
    pub(super) fn new(io: S, shared: Rc<Shared>) -> Self {
        Self {
            shared,
            io,
            unflushed: false,
            handed_out: false,
            place: None,
            room: WARY_READ_BYTES,
            held_back: false,
            phase: Phase::Open,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drive<S> {
    pub(super) fn io(&mut self) -> &mut S {
        &mut self.io
    }

    /// Moves what moves.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            match self.phase {
                Phase::Open => {
                    if let Some(turn) = ready!(self.poll_open(cx)) {
                        return Poll::Ready(turn);
                    }
                }
                Phase::Closing(how) => {
                    // A last word that cannot be said changes nothing of why it was to be.
                    if ready!(self.poll_write(cx)).is_ok() {
                        let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                    }
                    self.phase = Phase::Over(how);
                }
                Phase::Over(how) => return Poll::Ready(Turn::Over(how)),
            }
        }
    }

    /// Reads and writes until nothing moves. None: it has ended.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        {
            let core = &mut *self.shared.core.borrow_mut();
            core.is_awake = true;
            keep(&mut core.driver, cx.waker());
            // What follows from requests is more work than taking them is: others come first, whoever sends how many.
            if std::mem::take(&mut self.handed_out) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let mut reads = 0;
        loop {
            let came = self.poll_read(cx);
            match &came {
                Poll::Ready(Ok(0)) => self.shared.core.borrow_mut().end(Ok(())),
                Poll::Ready(Ok(n)) => {
                    reads += 1;
                    self.room = if *n == self.room { READ_BYTES } else { WARY_READ_BYTES };
                }
                Poll::Ready(Err(error)) => return Poll::Ready(self.lose(error)),
                Poll::Pending => {}
            }
            // Errors are told before the requests beside them are served, so that a flood of them is seen at once.
            let written = self.poll_write(cx);
            if let Poll::Ready(Err(error)) = &written {
                return Poll::Ready(self.lose(error));
            }
            if self.shared.core.borrow_mut().has_requests() {
                (self.handed_out, self.room) = (true, WARY_READ_BYTES);
                return Poll::Ready(Some(Turn::Requests));
            }
            let core = &mut *self.shared.core.borrow_mut();
            core.end_if_done(self.shared.senders.get() > 0);
            if let Some(how) = core.ended {
                self.phase = Phase::Closing(how);
                return Poll::Ready(None);
            }
            core.go_on();
            let more = came.is_ready() || (written.is_ready() && (self.held_back || !core.out.is_empty()));
            if !more {
                core.out.rest();
                // What cannot be written need not be told of: who is woken when it can be looks at all.
                core.is_awake = written.is_pending();
                return Poll::Pending;
            }
            // Where much waits, who is to take it has a turn as often as more comes.
            if reads >= READS_MAX || (reads > 0 && core.config.purse.is_pressed()) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// It broke.
    #[cold]
    fn lose(&mut self, error: &io::Error) -> Option<Turn> {
        let how = Err(Error::Io(error.kind()));
        self.shared.core.borrow_mut().end(how);
        self.phase = Phase::Over(how);
        None
    }

    /// Reads once, unless there is something left of the turn before, and has what came handled. 0: it has ended, or
    /// weir wants no more of it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (kept, is_behind) = {
            let core = &mut *self.shared.core.borrow_mut();
            self.held_back = core.out.len() >= WAITING_BYTES_MAX + ANSWERS_BYTES_MAX;
            if core.ended.is_some() || self.held_back {
                return Poll::Pending;
            }
            if core.is_spent() {
                if let Some(turns) = &core.config.turns {
                    ready!(turns.poll_turn(cx, &mut self.place));
                }
                core.effort.rest();
            }
            (core.rest.len(), core.is_behind)
        };
        let mut scratch = SCRATCH.take();
        scratch.resize(READ_MAX, 0);
        let (read, n) = if is_behind {
            (Poll::Ready(Ok(())), 0)
        } else {
            let mut buf = ReadBuf::new(&mut scratch[kept..kept + self.room]);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buf);
            (read, buf.filled().len())
        };
        if read.is_pending() {
            // What comes now comes in another turn.
            self.shared.core.borrow_mut().effort.rest();
        } else if is_behind || (n > 0 && matches!(read, Poll::Ready(Ok(())))) {
            let core = &mut *self.shared.core.borrow_mut();
            scratch[..kept].copy_from_slice(&core.rest);
            core.rest.clear();
            core.receive(&scratch[..kept + n]);
            if core.rest.is_empty() && core.rest.capacity() > 0 {
                core.rest = Vec::new();
            }
        }
        SCRATCH.set(scratch);
        read.map_ok(|()| if is_behind { kept } else { n })
    }

    /// Writes all that waits.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let core = &mut *self.shared.core.borrow_mut();
        while !core.out.is_empty() {
            let io = Pin::new(&mut self.io);
            let n = match core.out.single() {
                Some(slice) => ready!(io.poll_write(cx, slice))?,
                None => {
                    let mut slices = Output::no_slices();
                    let count = core.out.slices(&mut slices);
                    ready!(io.poll_write_vectored(cx, &slices[..count]))?
                }
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            core.out.written(n);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for Drive<S> {
    fn drop(&mut self) {
        // Who holds streams of it hears that nobody moves their bytes any more.
        let core = &mut *self.shared.core.borrow_mut();
        core.end(Err(Error::Io(io::ErrorKind::BrokenPipe)));
        core.driver = None;
    }
}
