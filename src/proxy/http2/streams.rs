//! The streams of a connection: their states, where they are kept, and how they are found by number. Pure.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut, RangeInclusive};
use std::task::Waker;

use bytes::Bytes;

use super::error::Error;
use super::flow::{Intake, Room};
use super::head::{Head, Request, put_fields};
use super::ids::Ids;
use crate::proxy::hpack::fields::Fields;

/// Places that are kept when a connection has no streams.
const PLACES_KEPT: usize = 4;
const PLACES_KEPT_FROM: usize = 32;

/// Streams of which it is remembered that they were reset here, so that what is still under way on them is passed over
/// (RFC 9113 §5.1): twice as many as the connection may have, all of which may be given up at once, within these.
const RESETS_KEPT: RangeInclusive<usize> = 256..=4096;

/// Where a stream is kept. It is another's once nobody holds the stream and it is over.
pub(super) type Key = u32;

/// How far one direction of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Its head has not come, or gone.
    Head,
    /// More may follow.
    Open,
    /// Its end is known, and has not gone.
    Ending,
    /// It has ended.
    Closed,
}

/// How a direction ends, behind what waits.
#[derive(Debug)]
pub(super) enum End {
    None,
    Data,
    Trailers(Fields),
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// The peer's direction, and ours.
    pub(super) recv: Side,
    pub(super) send: Side,
    /// Why it ended before its end.
    pub(super) gone: Option<Error>,
    /// Whether it is found by its number, and counted.
    pub(super) linked: bool,
    /// Who holds it: handles, and the queue of those to be taken.
    pub(super) handles: u8,
    /// Whether somebody is to take what comes.
    pub(super) inflow: bool,
    /// Whether it has yet to be taken by a server.
    pub(super) pending: bool,

    pub(super) intake: Intake,
    /// Bytes that its Content-Length leaves; none when it has none.
    pub(super) length: Option<u64>,
    /// Of a client: whether it asked by HEAD.
    pub(super) to_head: bool,
    pub(super) request: Option<Request>,
    pub(super) answer: Option<Head>,
    pub(super) interim: VecDeque<Head>,
    /// What has come and has not been taken.
    pub(super) data: VecDeque<Vec<u8>>,
    /// How often of it was taken, and how often when it was last looked whether it is.
    pub(super) takes: u32,
    pub(super) takes_then: u32,
    pub(super) trailers: Option<Fields>,
    pub(super) recv_waker: Option<Waker>,

    pub(super) room: Room,
    /// What is to go, none of it empty, and what behind it.
    pub(super) queue: VecDeque<Bytes>,
    pub(super) end: End,
    /// Whether it is among those that have something to send and a window for it.
    pub(super) is_ready: bool,
    /// Whether it is among those that wait for room on the connection.
    pub(super) is_waiting: bool,
    pub(super) send_waker: Option<Waker>,
}

// === impl Stream ===

impl Stream {
    fn new(id: u32) -> Self {
        Self {
            id,
            recv: Side::Head,
            send: Side::Head,
            gone: None,
            linked: true,
            handles: 0,
            inflow: true,
            pending: false,
            intake: Intake::new(0),
            length: None,
            to_head: false,
            request: None,
            answer: None,
            interim: VecDeque::new(),
            data: VecDeque::new(),
            takes: 1,
            takes_then: 0,
            trailers: None,
            recv_waker: None,
            room: Room::new(0),
            queue: VecDeque::new(),
            end: End::None,
            is_ready: false,
            is_waiting: false,
            send_waker: None,
        }
    }

    /// Makes a used place one for another stream. What [`Streams::remove`] has let go of is let go of.
    fn renew(&mut self, id: u32) {
        debug_assert!(self.handles == 0 && !self.pending && !self.is_ready && !self.is_waiting);
        (self.id, self.linked, self.inflow) = (id, true, true);
        (self.recv, self.send, self.gone) = (Side::Head, Side::Head, None);
        (self.length, self.to_head) = (None, false);
        (self.takes, self.takes_then) = (1, 0);
    }

    /// Whether both directions have ended, or it ended before.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.gone.is_some() || (self.recv == Side::Closed && self.send == Side::Closed)
    }

    /// Whether nothing waits, and something might go as far as this stream goes.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.queue.is_empty() && self.send == Side::Open && self.room.is_open()
    }

    pub(super) fn wake_recv(&mut self) {
        if let Some(waker) = self.recv_waker.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_send(&mut self) {
        if let Some(waker) = self.send_waker.take() {
            waker.wake();
        }
    }

    /// Lets go of what is to be sent.
    #[inline]
    pub(super) fn drop_queue(&mut self) {
        if !self.queue.is_empty() || !matches!(self.end, End::None) {
            self.queue.clear();
            self.end = End::None;
        }
    }

    /// Bytes that have come and have not been taken.
    pub(super) fn waiting(&self) -> usize {
        self.data.iter().map(Vec::len).sum()
    }

    /// Lets go of these; how many they were.
    #[inline]
    pub(super) fn drop_data(&mut self) -> usize {
        if self.data.is_empty() {
            return 0;
        }
        let bytes = self.waiting();
        self.data.clear();
        bytes
    }

    /// Lets go of what has come; how many bytes of a body that was.
    pub(super) fn drop_inflow(&mut self) -> usize {
        let bytes = self.drop_data();
        if !self.interim.is_empty() {
            self.interim.clear();
        }
        self.answer = None;
        self.recv_waker = None;
        if let Some(trailers) = self.trailers.take() {
            put_fields(trailers);
        }
        bytes
    }
}

/// Remembers a waker, unless it is remembered.
#[inline]
pub(super) fn keep(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Stream>,
    free: Vec<Key>,
    ids: Ids,
    /// Those that were reset here, the oldest first.
    resets: VecDeque<u32>,
    /// How many of these are remembered.
    resets_kept: usize,
}

// === impl Streams ===

impl Index<Key> for Streams {
    type Output = Stream;

    #[inline]
    fn index(&self, key: Key) -> &Stream {
        &self.places[key as usize]
    }
}

impl IndexMut<Key> for Streams {
    #[inline]
    fn index_mut(&mut self, key: Key) -> &mut Stream {
        &mut self.places[key as usize]
    }
}

impl Streams {
    /// For a connection that may have so many.
    pub(super) fn of(streams_max: usize) -> Self {
        let resets_kept = streams_max.saturating_mul(2).clamp(*RESETS_KEPT.start(), *RESETS_KEPT.end());
        Self { resets_kept, ..Self::default() }
    }

    /// A new one.
    pub(super) fn insert(&mut self, id: u32) -> Key {
        let key = match self.free.pop() {
            Some(key) => {
                self.places[key as usize].renew(id);
                key
            }
            None => {
                self.places.push(Stream::new(id));
                (self.places.len() - 1) as Key
            }
        };
        self.ids.insert(id, key);
        key
    }

    /// The one of that number, unless it is over.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<Key> {
        self.ids.find(id)
    }

    /// How many are not over.
    #[inline]
    pub(super) fn linked(&self) -> usize {
        self.ids.len()
    }

    /// It is over: its number is nobody's.
    pub(super) fn unlink(&mut self, key: Key) {
        let stream = &mut self.places[key as usize];
        if std::mem::replace(&mut stream.linked, false) {
            self.ids.remove(stream.id);
        }
    }

    /// Nobody holds it any more; how many bytes of a body were left.
    pub(super) fn remove(&mut self, key: Key) -> usize {
        let stream = &mut self.places[key as usize];
        debug_assert!(!stream.linked && stream.handles == 0 && !stream.is_ready && !stream.is_waiting);
        stream.drop_queue();
        let left = stream.drop_inflow();
        (stream.request, stream.send_waker) = (None, None);
        self.free.push(key);
        if self.free.len() == self.places.len() && self.places.len() >= PLACES_KEPT_FROM {
            self.places.truncate(PLACES_KEPT);
            self.places.shrink_to_fit();
            self.free.clear();
            self.free.extend(0..PLACES_KEPT as Key);
        }
        left
    }

    /// Those that are not over.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let linked = |(key, stream): (usize, &Stream)| stream.linked.then_some(key as Key);
        let keys: Vec<Key> = self.places.iter().enumerate().filter_map(linked).collect();
        keys.into_iter()
    }

    /// Those on which something waits to be taken, over or not.
    pub(super) fn laden(&self) -> impl Iterator<Item = Key> + use<> {
        let laden = |(key, stream): (usize, &Stream)| (!stream.data.is_empty()).then_some(key as Key);
        let keys: Vec<Key> = self.places.iter().enumerate().filter_map(laden).collect();
        keys.into_iter()
    }

    /// Whether every place is free.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Remembers one that was reset here.
    pub(super) fn note_reset(&mut self, id: u32) {
        if self.resets.len() >= self.resets_kept {
            self.resets.pop_front();
        }
        self.resets.push_back(id);
    }

    /// Whether it is remembered as reset here.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.resets.contains(&id)
    }
}
