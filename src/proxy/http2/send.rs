//! What goes: heads at once, since their order is that of the encoder's table, and bodies as the windows allow
//! (RFC 9113 §5.2), one frame of each stream in turn.

use bytes::Bytes;

use super::core::Core;
use super::error::{Error, Reason};
use super::frame::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, head, push_head};
use super::head::{HeadWriter, put_fields, spare_fields};
use super::streams::{End, Key, Side};

/// Bytes that wait to be written before no more DATA is framed: some rounds of what a socket takes at once.
pub(super) const WAITING_BYTES_MAX: usize = 128 * 1024;

/// The longest DATA frame, whatever the peer takes: one stream's frame holds up the others.
const DATA_BYTES_MAX: usize = 16 * 1024;

/// What a head is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Interim,
    /// `end`: nothing follows.
    Final {
        end: bool,
    },
}

// === impl Core ===

impl Core {
    /// Sends a head on a stream on which none has gone.
    pub(super) fn send_head(
        &mut self,
        key: Key,
        kind: Kind,
        write: impl FnOnce(&mut HeadWriter<'_>),
    ) -> Result<(), Error> {
        let stream = &mut self.streams[key];
        if let Some(error) = stream.gone {
            return Err(error);
        }
        if stream.send != Side::Head {
            return Err(Error::User);
        }
        let id = stream.id;
        let end = kind == Kind::Final { end: true };
        let to_head = self.write_block(id, end, write);
        self.streams[key].to_head = to_head;
        match kind {
            Kind::Interim => {}
            Kind::Final { end: true } => self.sent_end(key),
            Kind::Final { end: false } => self.streams[key].send = Side::Open,
        }
        self.wake_driver();
        Ok(())
    }

    /// Writes a header block; see [`HeadWriter::to_head`].
    fn write_block(&mut self, id: u32, end: bool, write: impl FnOnce(&mut HeadWriter<'_>)) -> bool {
        let out = &mut self.out.buf;
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        let at = out.len();
        push_head(out, 0, HEADERS, flags, id);
        self.encoder.begin(out);
        let mut writer = HeadWriter { encoder: &mut self.encoder, out, to_head: false };
        write(&mut writer);
        let to_head = writer.to_head;
        let length = out.len() - at - HEAD_BYTES;
        if length <= self.peer.frame_max {
            let [_, a, b, c] = (length as u32).to_be_bytes();
            out[at..at + 3].copy_from_slice(&[a, b, c]);
        } else {
            split(out, at, self.peer.frame_max);
        }
        to_head
    }

    /// Whether more may be sent on a stream.
    fn is_sendable(&self, key: Key) -> Result<(), Error> {
        let stream = &self.streams[key];
        match stream.gone {
            Some(error) => Err(error),
            None if stream.send == Side::Open => Ok(()),
            None => Err(Error::User),
        }
    }

    /// Sends bytes, or has them wait.
    pub(super) fn send_data(&mut self, key: Key, mut data: Bytes, end: bool) -> Result<(), Error> {
        self.is_sendable(key)?;
        if data.is_empty() && !end {
            return Ok(());
        }
        let stream = &mut self.streams[key];
        if stream.queue.is_empty() && self.ready.is_empty() {
            while let Some(done) = self.frame_one(key, &mut data, end) {
                if done {
                    if end {
                        self.sent_end(key);
                    }
                    self.wake_driver();
                    return Ok(());
                }
            }
        }
        let stream = &mut self.streams[key];
        if !data.is_empty() {
            stream.queue.push_back(data);
        }
        if end {
            (stream.send, stream.end) = (Side::Ending, End::Data);
        }
        self.make_ready(key);
        self.wake_driver();
        Ok(())
    }

    /// Sends the bytes that are all of a body; copied, where they may go at once.
    pub(super) fn send_last(&mut self, key: Key, data: &[u8]) -> Result<(), Error> {
        let stream = &mut self.streams[key];
        let most = stream.room.bytes().min(self.room.bytes()).min(DATA_BYTES_MAX);
        if stream.gone.is_some() || data.len() > most || !self.ready.is_empty() || !self.is_open() {
            return self.send_data(key, Bytes::copy_from_slice(data), true);
        }
        let stream = &mut self.streams[key];
        stream.room.take(data.len());
        self.room.take(data.len());
        push_head(&mut self.out.buf, data.len(), DATA, END_STREAM, stream.id);
        self.out.buf.extend_from_slice(data);
        self.sent_end(key);
        self.wake_driver();
        Ok(())
    }

    /// Ends a stream with trailers, behind what waits.
    pub(super) fn send_trailers<'f>(
        &mut self,
        key: Key,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(), Error> {
        self.is_sendable(key)?;
        let stream = &mut self.streams[key];
        if stream.queue.is_empty() {
            let id = stream.id;
            self.write_block(id, true, |head| fields.into_iter().for_each(|(name, value)| head.field(name, value)));
            self.sent_end(key);
        } else {
            let mut trailers = spare_fields();
            fields.into_iter().for_each(|(name, value)| trailers.push(name, value));
            (stream.send, stream.end) = (Side::Ending, End::Trailers(trailers));
        }
        self.wake_driver();
        Ok(())
    }

    /// Its end has gone.
    fn sent_end(&mut self, key: Key) {
        let stream = &mut self.streams[key];
        stream.send = Side::Closed;
        if !self.is_client && stream.handles == 0 && !stream.is_over() {
            // §8.1; see `let_go`.
            return self.reset(key, Reason::NO_ERROR);
        }
        self.settle(key);
    }

    /// Gives a stream up; nothing when it is over.
    pub(super) fn send_reset(&mut self, key: Key, reason: Reason) {
        if !self.streams[key].is_over() {
            self.reset(key, reason);
        }
    }

    /// Whether DATA may be framed, as far as the connection goes.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.room.is_open() && self.out.len() < WAITING_BYTES_MAX
    }

    /// Frames what fits one frame of `data`. `None`: nothing may go; else whether that was all of it.
    #[inline]
    fn frame_one(&mut self, key: Key, data: &mut Bytes, end: bool) -> Option<bool> {
        let stream = &mut self.streams[key];
        let most = stream.room.bytes().min(self.room.bytes()).min(self.peer.frame_max).min(DATA_BYTES_MAX);
        if !data.is_empty() && (most == 0 || self.out.len() >= WAITING_BYTES_MAX) {
            return None;
        }
        let piece = if data.len() <= most { std::mem::take(data) } else { data.split_to(most) };
        stream.room.take(piece.len());
        self.room.take(piece.len());
        self.out.push_data(stream.id, piece, end && data.is_empty());
        Some(data.is_empty())
    }

    /// Lines a stream up that has something to send, and a window for it.
    fn make_ready(&mut self, key: Key) {
        let stream = &mut self.streams[key];
        let can = stream.room.is_open() || stream.queue.is_empty();
        let has = !stream.queue.is_empty() || !matches!(stream.end, End::None);
        if can && has && !std::mem::replace(&mut stream.is_ready, true) {
            self.ready.push_back(key);
        }
    }

    /// The window of a stream may have opened.
    pub(super) fn opened(&mut self, key: Key) {
        self.make_ready(key);
        let stream = &mut self.streams[key];
        if stream.has_room() && stream.send_waker.is_some() {
            self.wait_for_room(key);
        }
    }

    /// Has a stream's task told when there is room on the connection.
    pub(super) fn wait_for_room(&mut self, key: Key) {
        if !std::mem::replace(&mut self.streams[key].is_waiting, true) {
            self.waiting.push_back(key);
        }
    }

    /// Frames what may go by now, one frame of each stream in turn, and tells those that may send more.
    pub(super) fn go_on(&mut self) {
        if self.openers_wait_for_writes && self.out.len() < WAITING_BYTES_MAX {
            self.wake_openers();
        }
        while let Some(key) = self.ready.pop_front() {
            if !self.is_open() && !self.streams[key].queue.is_empty() {
                self.ready.push_front(key);
                break;
            }
            self.streams[key].is_ready = false;
            self.frame_next(key);
        }
        if self.waiting.is_empty() || !self.is_open() {
            return;
        }
        for key in std::mem::take(&mut self.waiting) {
            let stream = &mut self.streams[key];
            stream.is_waiting = false;
            if stream.has_room() {
                stream.wake_send();
            }
        }
    }

    /// One frame of what waits on a stream.
    fn frame_next(&mut self, key: Key) {
        let stream = &mut self.streams[key];
        let front = stream.queue.pop_front().unwrap_or_default();
        let ends = matches!(stream.end, End::Data) && stream.queue.is_empty();
        let mut data = front;
        if data.is_empty() && !ends {
            return;
        }
        let framed = self.frame_one(key, &mut data, ends);
        let stream = &mut self.streams[key];
        if framed != Some(true) {
            stream.queue.push_front(data);
        } else if stream.queue.is_empty() {
            match std::mem::replace(&mut stream.end, End::None) {
                End::None if self.room.is_open() => stream.wake_send(),
                End::None if stream.send_waker.is_some() => self.wait_for_room(key),
                End::None => {}
                End::Data => {
                    stream.wake_send();
                    self.sent_end(key);
                }
                End::Trailers(fields) => {
                    stream.wake_send();
                    let id = stream.id;
                    self.write_block(id, true, |head| fields.iter().for_each(|(name, value)| head.field(name, value)));
                    put_fields(fields);
                    self.sent_end(key);
                }
            }
            return;
        }
        self.make_ready(key);
    }
}

/// Cuts the block at the end of `out`, which begins with its head at `at`, into frames that the peer takes (§6.10).
#[cold]
fn split(out: &mut Vec<u8>, at: usize, frame_max: usize) {
    let block = out.split_off(at + HEAD_BYTES);
    let (flags, id) = (out[at + 4], [out[at + 5], out[at + 6], out[at + 7], out[at + 8]]);
    let id = u32::from_be_bytes(id);
    out.truncate(at);
    let mut pieces = block.chunks(frame_max).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let ends_stream = if kind == HEADERS { flags & END_STREAM } else { 0 };
        let ends_block = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        out.extend_from_slice(&head(piece.len(), kind, ends_stream | ends_block, id));
        out.extend_from_slice(piece);
        kind = CONTINUATION;
    }
}
