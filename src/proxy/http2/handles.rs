//! The two directions of a stream, as whoever serves it holds them.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::super::hpack::Fields;
use super::error::{Error, Reason};

/// What comes on a stream behind the head.
#[derive(Debug)]
pub(crate) struct Inflow(());

/// What goes on a stream behind the head.
#[derive(Debug)]
pub(crate) struct Outflow(());

// === impl Inflow ===

impl Inflow {
    /// The next bytes, never none at all. `None`: the end of the body; trailers may follow.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let _ = cx;
        unimplemented!()
    }

    /// The trailers behind the body, once all of that has been taken. They hold no pseudo-fields.
    pub(crate) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Fields>, Error>> {
        let _ = cx;
        unimplemented!()
    }

    /// Whether the peer has ended its side, and all that came has been taken.
    pub(crate) fn is_end_stream(&self) -> bool {
        unimplemented!()
    }

    /// So many bytes that were handed out have been dealt with: the peer may send as many more.
    pub(crate) fn release(&mut self, bytes: usize) {
        let _ = bytes;
        unimplemented!()
    }
}

// === impl Outflow ===

impl Outflow {
    /// Ready when at least one byte may go now and nothing of this stream waits.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let _ = cx;
        unimplemented!()
    }

    /// Whether [`Outflow::poll_room`] would be ready with room.
    pub(crate) fn has_room(&self) -> bool {
        unimplemented!()
    }

    /// Sends bytes; what exceeds the windows waits. `end`: nothing follows.
    pub(crate) fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), Error> {
        let _ = (data, end);
        unimplemented!()
    }

    /// Ends with trailers, behind what waits.
    pub(crate) fn send_trailers<'f>(
        &mut self,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(), Error> {
        let _ = fields;
        unimplemented!()
    }

    /// Gives the stream up, with what waits; nothing when it is over.
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
