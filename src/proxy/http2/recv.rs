//! Frames that come, kind by kind (RFC 9113 §6), but for header blocks ([`blocks`](super::blocks)).

use super::core::{Block, Core, Farewell};
use super::error::{By, Error, Reason};
use super::flow::Overflow;
use super::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEAD_BYTES, HEADERS, PAYLOAD_MAX, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, number, push_head, push_window_update, unpadded,
};
use super::streams::{Key, Side};

/// DATA frames with nothing in them that may follow each other, on streams where nothing else moves. A burst is bounded
/// by [`frames`](crate::proxy::frames) long before; this is for who comes slowly, and for where that is switched off.
/// h2 takes 100 in the life of a connection, which some reach by one for each body.
const EMPTY_MAX: usize = 1000;

/// Pieces of a body are joined up to here while nobody takes them, so that many small ones cost no more than a few.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// Frames of a header block that do not end it, at least; [`Config::list_max`] makes more of them, as h2 reckons.
///
/// [`Config::list_max`]: super::settings::Config::list_max
const PIECES_MIN: usize = 5;

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// An error of the connection, and what is said of it.
    Connection(Reason, &'static str),
    /// An error of a stream.
    Stream(u32, Reason),
}

pub(super) type Outcome = std::result::Result<(), Fault>;

/// The generic error of the connection.
pub(super) const BROKEN: Fault = Fault::Connection(Reason::PROTOCOL_ERROR, "");
const MISFIT: Fault = Fault::Connection(Reason::FRAME_SIZE_ERROR, "");

// === impl Core ===

impl Core {
    /// Handles the whole frames at the beginning of `bytes`, as many as one turn has room for, and keeps the rest.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while self.ended.is_none() && !self.is_spent() {
            let Some((head, behind)) = left.split_first_chunk::<HEAD_BYTES>() else { break };
            let frame = Frame::read(head);
            // A frame that would not end is not waited for (§4.2).
            let fault = match behind.split_at_checked(frame.length) {
                _ if frame.length > PAYLOAD_MAX => Err(MISFIT),
                Some((payload, after)) => {
                    left = after;
                    self.take(frame, payload)
                }
                None => break,
            };
            match fault {
                Ok(()) => {}
                Err(Fault::Connection(reason, why)) => self.fail(reason, why),
                Err(Fault::Stream(id, reason)) => self.blame(id, reason),
            }
        }
        if self.ended.is_none() {
            self.is_behind = self.is_spent() && !left.is_empty();
            self.rest.extend_from_slice(left);
            self.go_on();
        }
    }

    #[inline]
    fn take(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        if !self.greeted && (frame.kind != SETTINGS || frame.has(ACK)) {
            // §3.4
            return Err(BROKEN);
        }
        if self.block.stream != 0 && (frame.kind != CONTINUATION || frame.stream != self.block.stream) {
            // §4.3
            return Err(BROKEN);
        }
        match frame.kind {
            DATA => self.recv_data(frame, payload),
            HEADERS => self.recv_headers(frame, payload),
            CONTINUATION => self.recv_continuation(frame, payload),
            WINDOW_UPDATE => self.recv_window_update(frame, payload),
            RST_STREAM => self.recv_reset(frame, payload),
            SETTINGS => self.recv_settings(frame, payload),
            PRIORITY => self.recv_priority(frame, payload),
            PING if frame.stream != 0 => Err(BROKEN),
            PING => {
                self.recv_ping(frame.flags, payload.try_into().map_err(|_| MISFIT)?);
                Ok(())
            }
            GOAWAY => self.recv_goaway(frame, payload),
            // Push is refused (§8.4), and a client cannot push.
            PUSH_PROMISE => Err(BROKEN),
            // §5.5
            _ => Ok(()),
        }
    }

    /// Whether a stream has not begun (§5.1.1).
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match (self.is_client, id % 2 == 1) {
            (true, true) => id >= self.next_id,
            (false, true) => id > self.last_begun,
            // Nobody pushes.
            (_, false) => true,
        }
    }

    /// Whether what comes on a stream that is over is passed over: it was reset here, or is above the last one that is
    /// served (§5.1, §6.8).
    pub(super) fn is_passed_over(&self, id: u32) -> bool {
        self.streams.was_reset(id) || (!self.is_client && matches!(self.farewell, Farewell::Last(last) if id > last))
    }

    fn recv_data(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        let id = frame.stream;
        let data = unpadded(frame, payload).filter(|_| id != 0).ok_or(BROKEN)?;
        let Some(key) = self.streams.find(id) else {
            let passed_over = self.is_passed_over(id);
            if self.is_idle(id) && !passed_over {
                return Err(BROKEN);
            }
            self.intake.take(frame.length).map_err(overrun)?;
            self.release_connection(frame.length);
            return if passed_over { Ok(()) } else { Err(Fault::Stream(id, Reason::STREAM_CLOSED)) };
        };
        self.intake.take(frame.length).map_err(overrun)?;
        let stream = &mut self.streams[key];
        if stream.recv != Side::Open {
            // §8.1: DATA ahead of the head; §5.1: behind the end.
            let reason = if stream.recv == Side::Head { Reason::PROTOCOL_ERROR } else { Reason::STREAM_CLOSED };
            self.release_connection(frame.length);
            return Err(Fault::Stream(id, reason));
        }
        if stream.intake.take(frame.length).is_err() {
            self.release_connection(frame.length);
            return Err(Fault::Stream(id, Reason::FLOW_CONTROL_ERROR));
        }
        let end = frame.has(END_STREAM);
        let fits = match &mut stream.length {
            None => true,
            Some(left) => match left.checked_sub(data.len() as u64) {
                Some(less) => {
                    *left = less;
                    !end || less == 0
                }
                None => false,
            },
        };
        if !fits {
            if !stream.inflow {
                // Nobody will.
                self.release(key, frame.length);
            }
            // §8.1.1
            return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR));
        }
        let taken = stream.inflow;
        if taken && !data.is_empty() {
            if self.config.purse.put(data.len()) && self.is_too_much(key) {
                self.config.purse.take(data.len());
                self.unload(key);
                return Ok(());
            }
            let stream = &mut self.streams[key];
            match stream.data.back_mut() {
                Some(last) if last.len() + data.len() <= JOINED_BYTES_MAX => last.extend_from_slice(data),
                _ => stream.data.push_back(data.to_vec()),
            }
        }
        let stream = &mut self.streams[key];
        if end {
            stream.recv = Side::Closed;
        }
        if end || !data.is_empty() {
            stream.wake_recv();
        }
        let released = if taken { frame.length - data.len() } else { frame.length };
        if released > 0 {
            self.release(key, released);
        }
        if end {
            self.settle(key);
        }
        self.count_empty(data.is_empty() && !end)
    }

    fn count_empty(&mut self, is_empty: bool) -> Outcome {
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        match self.empty > EMPTY_MAX {
            true => Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM, "too_many_data_frames")),
            false => Ok(()),
        }
    }

    fn recv_headers(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        let mut fragment = unpadded(frame, payload).filter(|_| frame.stream != 0).ok_or(BROKEN)?;
        let mut looped = false;
        if frame.has(WITH_PRIORITY) {
            looped = depends_on(fragment).ok_or(MISFIT)? == frame.stream;
            fragment = &fragment[5..];
        }
        let end = frame.has(END_STREAM);
        if frame.has(END_HEADERS) {
            return self.recv_block(frame.stream, end, looped, fragment);
        }
        self.block = Block { stream: frame.stream, end, looped, pieces: 0, bytes: fragment.to_vec() };
        Ok(())
    }

    fn recv_continuation(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        if self.block.stream == 0 {
            return Err(BROKEN);
        }
        self.block.bytes.extend_from_slice(payload);
        if !frame.has(END_HEADERS) {
            self.block.pieces += 1;
            let needed = self.config.list_max as usize / PAYLOAD_MAX;
            return match self.block.pieces > (needed + needed / 4).max(PIECES_MIN) {
                true => Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM, "too_many_continuations")),
                false => Ok(()),
            };
        }
        let block = std::mem::take(&mut self.block);
        self.recv_block(block.stream, block.end, block.looped, &block.bytes)
    }

    fn recv_window_update(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        let increment = number(payload).filter(|_| frame.length == 4).ok_or(MISFIT)? & 0x7fff_ffff;
        if frame.stream == 0 {
            if increment == 0 {
                return Err(BROKEN);
            }
            return self.room.change(increment as i32).map_err(overrun);
        }
        match self.streams.find(frame.stream) {
            Some(_) if increment == 0 => return Err(Fault::Stream(frame.stream, Reason::PROTOCOL_ERROR)),
            Some(key) => match self.streams[key].room.change(increment as i32) {
                Ok(()) => self.opened(key),
                Err(Overflow) => return Err(Fault::Stream(frame.stream, Reason::FLOW_CONTROL_ERROR)),
            },
            None if self.is_idle(frame.stream) && !self.is_passed_over(frame.stream) => return Err(BROKEN),
            None => {}
        }
        Ok(())
    }

    fn recv_reset(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        let reason = Reason(number(payload).filter(|_| frame.length == 4).ok_or(MISFIT)?);
        let Some(key) = self.streams.find(frame.stream) else {
            let idle = frame.stream == 0 || self.is_idle(frame.stream);
            return if idle && !self.is_passed_over(frame.stream) { Err(BROKEN) } else { Ok(()) };
        };
        if self.streams[key].pending {
            self.pending_resets += 1;
            if self.pending_resets > self.config.pending_resets_max {
                // CVE-2023-44487
                return Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM, "too_many_resets"));
            }
        }
        self.cut(key, Error::Reset(reason, By::Peer));
        Ok(())
    }

    fn recv_settings(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        if frame.stream != 0 {
            return Err(BROKEN);
        }
        if frame.has(ACK) {
            if frame.length > 0 {
                return Err(MISFIT);
            }
            // Ours hold from here on (§6.5.3); one that answers nothing changes nothing.
            let by = self.config.stream_window as i32 - self.own_window;
            self.own_window += by;
            if by != 0 {
                self.streams.keys().for_each(|key| self.streams[key].intake.shift(by));
            }
            return Ok(());
        }
        let before = self.peer.stream_window;
        self.peer.hear(payload, self.is_client).map_err(|reason| Fault::Connection(reason, ""))?;
        self.greeted = true;
        if let Some(bytes) = self.peer.table_max {
            self.encoder.set_table_max(bytes);
        }
        let by = self.peer.stream_window - before;
        if by != 0 {
            for key in self.streams.keys() {
                // §6.9.2
                self.streams[key].room.change(by).map_err(overrun)?;
                self.opened(key);
            }
        }
        push_head(&mut self.out.buf, 0, SETTINGS, ACK, 0);
        self.wake_openers();
        Ok(())
    }

    fn recv_priority(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        if frame.stream == 0 {
            return Err(BROKEN);
        }
        let depends_on = depends_on(payload).filter(|_| frame.length == 5).ok_or(MISFIT)?;
        match depends_on == frame.stream && self.streams.find(frame.stream).is_some() {
            // RFC 7540 §5.3.1
            true => Err(Fault::Stream(frame.stream, Reason::PROTOCOL_ERROR)),
            false => Ok(()),
        }
    }

    fn recv_goaway(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        if frame.stream != 0 {
            return Err(BROKEN);
        }
        let (last, reason) = number(payload).zip(payload.get(4..).and_then(number)).ok_or(MISFIT)?;
        let (last, reason) = (last & 0x7fff_ffff, Reason(reason));
        if self.goaway.is_some_and(|(before, _)| last > before) {
            // §6.8
            return Err(BROKEN);
        }
        self.goaway = Some((last, reason));
        if self.is_client {
            for key in self.streams.keys() {
                if self.streams[key].id > last {
                    self.cut(key, Error::GoAway(reason, By::Peer));
                }
            }
        }
        self.wake_openers();
        Ok(())
    }

    /// So many bytes of a stream have been dealt with.
    pub(super) fn release(&mut self, key: Key, bytes: usize) {
        let stream = &mut self.streams[key];
        // What is held back on the connection is what has not been released of its streams.
        let bytes = bytes.min(stream.intake.unreleased() as usize);
        stream.intake.release(bytes as u32);
        if stream.recv == Side::Open
            && stream.inflow
            && stream.gone.is_none()
            && let Some(increment) = stream.intake.tell()
        {
            push_window_update(&mut self.out.buf, stream.id, increment);
            self.wake_driver();
        }
        self.release_connection(bytes);
    }

    /// The same of the connection's window alone.
    pub(super) fn release_connection(&mut self, bytes: usize) {
        self.intake.release(bytes as u32);
        if self.ended.is_none()
            && let Some(increment) = self.intake.tell()
        {
            push_window_update(&mut self.out.buf, 0, increment);
            self.wake_driver();
        }
    }
}

fn overrun(_: Overflow) -> Fault {
    Fault::Connection(Reason::FLOW_CONTROL_ERROR, "")
}

/// The stream that the fields of a priority name.
fn depends_on(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<5>().and_then(|five| number(five)).map(|stream| stream & 0x7fff_ffff)
}
