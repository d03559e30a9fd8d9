//! Header blocks that have come whole: heads and trailers (RFC 9113 §8).

use super::check::{self, Bad, Facts, Look};
use super::core::Core;
use super::effort::{self, EXCESS_MAX};
use super::error::Reason;
use super::flow::{Intake, Room};
use super::frame::{END_HEADERS, END_STREAM, HEADERS, push_head, push_reset};
use super::head::{Head, Request, put_fields, spare_fields};
use super::recv::{BROKEN, Fault, Outcome};
use super::streams::{Key, Side};
use crate::proxy::hpack::decoder::Decoded;
use crate::proxy::hpack::fields::Fields;

/// Interim answers on a stream that wait to be taken. Together they count no more than one head may: compressed, many
/// are a few bytes.
const INTERIM_MAX: usize = 64;

/// A request whose head is larger than is taken (RFC 6585 §5).
const TOO_LARGE: u16 = 431;

/// A block that cannot be read: what follows cannot be either, since the table is shared (§4.3).
const UNCLEAR: Fault = Fault::Connection(Reason::COMPRESSION_ERROR, "");

/// A head that is far larger than is taken, in few bytes.
const BOMB: Fault = Fault::Connection(Reason::ENHANCE_YOUR_CALM, "head_far_too_large");

/// A head on a stream that is closed.
const OVER: Fault = Fault::Connection(Reason::STREAM_CLOSED, "");

/// What is known of a block.
#[derive(Clone, Copy)]
struct Whole {
    /// It ends its stream.
    end: bool,
    /// Its stream was said to depend on itself.
    looped: bool,
    /// All of its list is there.
    is_whole: bool,
    /// And it is no larger than is taken.
    fits: bool,
    look: Look,
}

// === impl Core ===

impl Core {
    /// A whole block. `end`: it ends its stream; `looped`: its stream was said to depend on itself.
    pub(super) fn recv_block(&mut self, id: u32, end: bool, looped: bool, block: &[u8]) -> Outcome {
        let mut fields = spare_fields();
        let decoded = self.decoder.decode(block, self.config.list_max as usize, &mut fields).map_err(|_| UNCLEAR)?;
        let is_whole = match decoded {
            Decoded::Whole => true,
            Decoded::TooLarge => false,
            Decoded::FarTooLarge => return Err(BOMB),
        };
        self.effort.add(&fields);
        let excess = effort::excess(block, &fields);
        if excess > 0 {
            self.config.excess.set(self.config.excess.get() + excess);
        }
        let found = self.streams.find(id);
        // What a head that is not well-formed, or not looked at, has put into the table is not known to be sound.
        let trusted = std::mem::replace(&mut self.look, Look::Whole);
        let fits = is_whole && (self.is_client || excess <= EXCESS_MAX);
        let taken = self.take_block(id, found, Whole { end, looped, is_whole, fits, look: trusted }, fields);
        if taken == Ok(true) {
            self.look = trusted;
        }
        taken.map(drop)
    }

    /// Takes a list of fields; whether it was looked at, and is sound.
    fn take_block(&mut self, id: u32, found: Option<Key>, whole: Whole, fields: Fields) -> Result<bool, Fault> {
        match found {
            _ if whole.looped => {
                self.last_begun = self.last_begun.max(if self.is_client { 0 } else { id });
                Err(Fault::Stream(id, Reason::PROTOCOL_ERROR))
            }
            Some(key) if self.streams[key].recv != Side::Head => self.recv_trailers(key, whole, fields),
            Some(key) => self.recv_answer(key, whole, fields),
            None if self.is_passed_over(id) => Ok(false),
            None if self.is_client && !self.is_idle(id) => Err(Fault::Stream(id, Reason::STREAM_CLOSED)),
            // §5.1. Of those below it is not known whether they were ever there; §5.1.1 is right of them all.
            None if !self.is_client && id == self.last_begun => Err(OVER),
            // Numbers only grow, and those of clients are odd (§5.1.1).
            None if self.is_client || id.is_multiple_of(2) || id <= self.last_begun => Err(BROKEN),
            None => self.recv_request(id, whole, fields),
        }
    }

    fn recv_request(&mut self, id: u32, whole: Whole, all: Fields) -> Result<bool, Fault> {
        let Whole { end, is_whole, fits, look, .. } = whole;
        self.last_begun = id;
        let malformed = Fault::Stream(id, Reason::PROTOCOL_ERROR);
        let facts = match check::request(&all, self.config.enable_connect, look) {
            Ok(facts) => facts,
            Err(Bad::Unreadable) => return Err(BROKEN),
            // What is missing may be what was too much.
            Err(Bad::Malformed) if is_whole => return Err(malformed),
            Err(Bad::Malformed) => Facts::default(),
        };
        if self.config.streams_max.is_some_and(|max| self.streams.linked() >= max as usize) {
            return Err(Fault::Stream(id, Reason::REFUSED_STREAM));
        }
        self.last_taken = id;
        if !fits {
            self.refuse_head(id);
            return Ok(is_whole);
        }
        if end && facts.length.is_some_and(|length| length > 0) {
            return Err(malformed);
        }
        let key = self.begin(id);
        let stream = &mut self.streams[key];
        stream.recv = if end { Side::Closed } else { Side::Open };
        stream.length = facts.length;
        let path = check::value_at(&all, facts.pseudo.path).unwrap_or_default();
        let path_bytes = memchr::memchr(b'#', path).unwrap_or(path.len());
        stream.request = Some(Request { all, pseudo: facts.pseudo, path_bytes });
        // It is held by the queue.
        (stream.pending, stream.handles) = (true, 1);
        self.accept.push_back(key);
        Ok(true)
    }

    /// A stream that begins, with the windows that hold now.
    pub(super) fn begin(&mut self, id: u32) -> Key {
        let key = self.streams.insert(id);
        let stream = &mut self.streams[key];
        stream.intake = Intake::new(self.own_window);
        stream.room = Room::new(self.peer.stream_window);
        key
    }

    /// Answers a request whose head is too large, and gives its stream up.
    #[cold]
    fn refuse_head(&mut self, id: u32) {
        let out = &mut self.out.buf;
        push_head(out, 0, HEADERS, END_HEADERS | END_STREAM, id);
        let at = out.len();
        self.encoder.begin(out);
        self.encoder.status(TOO_LARGE, out);
        let length = out.len() - at;
        out[at - 7] = length as u8;
        push_reset(out, id, Reason::PROTOCOL_ERROR);
        self.streams.note_reset(id);
    }

    fn recv_answer(&mut self, key: Key, whole: Whole, all: Fields) -> Result<bool, Fault> {
        let Whole { end, is_whole, look, .. } = whole;
        let stream = &mut self.streams[key];
        let malformed = Fault::Stream(stream.id, Reason::PROTOCOL_ERROR);
        let facts = match check::answer(&all, look) {
            Ok(facts) if is_whole => facts,
            Err(Bad::Unreadable) => return Err(BROKEN),
            Ok(_) | Err(Bad::Malformed) => return Err(malformed),
        };
        // What pseudo-fields of requests hold is not looked at here.
        let is_plain = facts.pseudo.count == 1;
        let head = Head { status: facts.status, all, pseudo: facts.pseudo.count };
        if facts.status < 200 {
            let waiting: usize = stream.interim.iter().map(Head::list_size).sum();
            let fits = waiting + head.list_size() <= self.config.list_max as usize;
            if end || !fits || stream.interim.len() >= INTERIM_MAX {
                return Err(malformed);
            }
            stream.interim.push_back(head);
            stream.wake_recv();
            return Ok(is_plain);
        }
        // What has no content says how long it would be (RFC 9110 §8.6).
        stream.length = match facts.status {
            _ if stream.to_head => Some(0),
            204 | 304 => None,
            _ => facts.length,
        };
        if end && stream.length.is_some_and(|length| length > 0) {
            return Err(malformed);
        }
        stream.recv = if end { Side::Closed } else { Side::Open };
        stream.answer = Some(head);
        stream.wake_recv();
        if end {
            self.settle(key);
        }
        Ok(is_plain)
    }

    fn recv_trailers(&mut self, key: Key, whole: Whole, all: Fields) -> Result<bool, Fault> {
        let Whole { end, fits, look, .. } = whole;
        let stream = &mut self.streams[key];
        if stream.recv == Side::Closed {
            // §5.1
            return Err(Fault::Stream(stream.id, Reason::STREAM_CLOSED));
        }
        let malformed = Fault::Stream(stream.id, Reason::PROTOCOL_ERROR);
        let facts = match check::trailers(&all, look) {
            Ok(facts) if fits && end && stream.length.is_none_or(|left| left == 0) => facts,
            Err(Bad::Unreadable) => return Err(BROKEN),
            Ok(_) | Err(Bad::Malformed) => return Err(malformed),
        };
        stream.recv = Side::Closed;
        if stream.inflow {
            stream.trailers = Some(match facts.pseudo.count {
                0 => all,
                pseudo => {
                    let mut own = spare_fields();
                    all.iter().skip(usize::from(pseudo)).for_each(|(name, value)| own.push(name, value));
                    put_fields(all);
                    own
                }
            });
        }
        stream.wake_recv();
        self.settle(key);
        // What pseudo-fields hold is not looked at here.
        Ok(facts.pseudo.count == 0)
    }
}
