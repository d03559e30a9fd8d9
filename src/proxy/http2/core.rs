//! The state of a connection, of either role: what has been said, by whom, and what is to be written. No I/O here:
//! bytes come in by [`recv`](super::recv), go out by [`Output`], and what moves them is woken when there is something.
//!
//! Wakers are woken while the state is borrowed, as tokio's may be: they schedule, and run nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use super::check::Look;
use super::effort::Effort;
use super::error::{By, Error, Reason};
use super::flow::{Intake, Room, WINDOW_AT_FIRST};
use super::frame;
use super::output::Output;
use super::settings::{Config, Peer};
use super::streams::{Key, Side, Streams};
use crate::proxy::hpack::decoder::Decoder;
use crate::proxy::hpack::encoder::Encoder;

/// What the peer's encoder may have our decoder remember: SETTINGS_HEADER_TABLE_SIZE when nothing is said (RFC 9113
/// §6.5.2).
const TABLE_BYTES: usize = 4096;

/// Streams given up for what the peer did on them, less those that came to their end, that end the connection
/// (CVE-2025-8671); as many as h2 takes.
const BLAMED_MAX: usize = 1024;

/// The preface of a client (§3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection, shared by whoever drives it and by the handles of its streams.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: RefCell<Core>,
    /// Who may begin streams on it, as a client.
    pub(super) senders: Cell<usize>,
    /// Which one it is of those that share its [`purse`](super::purse).
    pub(super) seat: Cell<usize>,
}

/// How far the end in two steps is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    None,
    /// The warning has gone, and a PING behind it.
    Warned,
    /// The last stream that is served.
    Last(u32),
}

/// The question whether the peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    None,
    Asked,
    Answered,
}

/// A header block that has begun (§4.3).
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Whose it is; 0: there is none.
    pub(super) stream: u32,
    /// Whether it ends its stream.
    pub(super) end: bool,
    /// Whether its stream was said to depend on itself.
    pub(super) looped: bool,
    /// Frames so far that did not end it.
    pub(super) pieces: usize,
    pub(super) bytes: Vec<u8>,
}

/// The state.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) is_client: bool,
    pub(super) config: Config,
    pub(super) peer: Peer,
    /// Whether the peer's SETTINGS have come.
    pub(super) greeted: bool,
    /// The window with which the peer takes streams to begin.
    pub(super) own_window: i32,

    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    /// How much of the next head has to be looked at.
    pub(super) look: Look,
    pub(super) block: Block,
    /// The beginning of a frame whose rest has not come, or frames that wait for the next turn.
    pub(super) rest: Vec<u8>,
    /// Whether there may be whole ones among them.
    pub(super) is_behind: bool,
    /// What came in this turn.
    pub(super) effort: Effort,

    pub(super) streams: Streams,
    /// The highest number of a stream that the peer has begun, and of one that was looked at.
    pub(super) last_begun: u32,
    pub(super) last_taken: u32,
    /// The number of the next stream begun here.
    pub(super) next_id: u32,
    /// Requests that have come and have not been taken.
    pub(super) accept: VecDeque<Key>,
    /// Those of them that have been reset.
    pub(super) pending_resets: usize,
    /// Streams given up for what the peer did.
    pub(super) blamed: usize,
    /// DATA frames with nothing in them, one after another.
    pub(super) empty: usize,

    pub(super) out: Output,
    pub(super) room: Room,
    pub(super) intake: Intake,
    /// Streams that have something to send, and a window for it.
    pub(super) ready: VecDeque<Key>,
    /// Streams that wait for room on the connection.
    pub(super) waiting: VecDeque<Key>,
    /// Who waits until one more stream may begin.
    pub(super) openers: Vec<Waker>,
    /// Whether it is because too much waits to be written.
    pub(super) openers_wait_for_writes: bool,

    pub(super) farewell: Farewell,
    /// What the peer's GOAWAY says: its last stream, and why.
    pub(super) goaway: Option<(u32, Reason)>,
    /// How it ended: nothing more is read, and what waits is written.
    pub(super) ended: Option<Result<(), Error>>,
    /// What the peer did that ended it.
    pub(super) breach: Option<(Reason, &'static str)>,
    pub(super) question: Question,
    pub(super) asker: Option<Waker>,
    /// Who drives it, and whether it is going to look anyway.
    pub(super) driver: Option<Waker>,
    pub(super) is_awake: bool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(config: &Config, is_client: bool, vectored: bool) -> Rc<Self> {
        let core = RefCell::new(Core::new(config, is_client, vectored));
        let shared = Rc::new(Self { core, senders: Cell::new(0), seat: Cell::new(0) });
        config.purse.join(&shared);
        shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.get_mut().config.purse.leave(self.seat.get());
    }
}

// === impl Core ===

impl Core {
    /// One that has yet to say what weir is.
    fn new(config: &Config, is_client: bool, vectored: bool) -> Self {
        let mut out = Output::new(vectored);
        if is_client {
            out.buf.extend_from_slice(PREFACE);
        }
        config.push(&mut out.buf, is_client);
        let mut intake = Intake::new(WINDOW_AT_FIRST);
        if let Some(more) = config.connection_window.checked_sub(WINDOW_AT_FIRST as u32).filter(|&more| more > 0) {
            frame::push_window_update(&mut out.buf, 0, more);
            intake.shift(more as i32);
        }
        Self {
            is_client,
            config: config.clone(),
            peer: Peer::default(),
            greeted: false,
            own_window: WINDOW_AT_FIRST,
            encoder: Encoder::new(),
            decoder: Decoder::new(TABLE_BYTES),
            look: Look::New,
            block: Block::default(),
            rest: Vec::new(),
            is_behind: false,
            effort: Effort::default(),
            streams: Streams::of(config.streams_max.unwrap_or_default() as usize),
            last_begun: 0,
            last_taken: 0,
            next_id: 1,
            accept: VecDeque::new(),
            pending_resets: 0,
            blamed: 0,
            empty: 0,
            out,
            room: Room::new(WINDOW_AT_FIRST),
            intake,
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            openers: Vec::new(),
            openers_wait_for_writes: false,
            farewell: Farewell::None,
            goaway: None,
            ended: None,
            breach: None,
            question: Question::None,
            asker: None,
            driver: None,
            is_awake: false,
        }
    }

    /// Whether what heads have come to is enough for a turn.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.effort.is_spent() && self.config.turns.is_some()
    }

    /// There is something to write, or to look at.
    #[inline]
    pub(super) fn wake_driver(&mut self) {
        if !std::mem::replace(&mut self.is_awake, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }

    pub(super) fn wake_openers(&mut self) {
        self.openers_wait_for_writes = false;
        self.openers.drain(..).for_each(Waker::wake);
    }

    /// Looks at a stream again after it has changed: whether it is over, and whether anybody holds it.
    #[inline]
    pub(super) fn settle(&mut self, key: Key) {
        let stream = &self.streams[key];
        if stream.linked {
            if !stream.is_over() {
                return;
            }
            self.unlink(key);
        }
        if self.streams[key].handles == 0 {
            self.remove(key);
        }
    }

    /// A stream is over.
    fn unlink(&mut self, key: Key) {
        if self.streams[key].gone.is_none() {
            self.blamed = self.blamed.saturating_sub(1);
        }
        self.streams.unlink(key);
        if !self.openers.is_empty() {
            self.wake_openers();
        }
        if self.streams.linked() == 0 && (self.is_client || self.is_leaving()) {
            self.wake_driver();
        }
    }

    /// Nobody holds a stream that is over.
    fn remove(&mut self, key: Key) {
        let stream = &mut self.streams[key];
        if std::mem::take(&mut stream.is_ready) {
            self.ready.retain(|&it| it != key);
        }
        if std::mem::take(&mut stream.is_waiting) {
            self.waiting.retain(|&it| it != key);
        }
        // Whoever was to take what came has let go of it (`Hold::shut`), and given it back.
        debug_assert!(self.ended.is_some() || stream.intake.unreleased() == 0);
        let left = self.streams.remove(key);
        if left > 0 {
            self.config.purse.take(left);
        }
    }

    /// A stream ends before its end.
    pub(super) fn cut(&mut self, key: Key, error: Error) {
        let stream = &mut self.streams[key];
        stream.gone.get_or_insert(error);
        stream.drop_queue();
        stream.wake_recv();
        stream.wake_send();
        self.settle(key);
    }

    /// Resets a stream that is not over; nothing of what waits on it goes.
    pub(super) fn reset(&mut self, key: Key, reason: Reason) {
        let id = self.streams[key].id;
        frame::push_reset(&mut self.out.buf, id, reason);
        self.streams.note_reset(id);
        self.cut(key, Error::Reset(reason, By::Us));
        self.wake_driver();
    }

    /// Gives a stream up for what the peer did on it, whether it is there or not (§5.4.2).
    pub(super) fn blame(&mut self, id: u32, reason: Reason) {
        self.blamed += 1;
        if self.blamed > BLAMED_MAX {
            return self.fail(Reason::ENHANCE_YOUR_CALM, "too_many_internal_resets");
        }
        match self.streams.find(id) {
            Some(key) => self.reset(key, reason),
            None => {
                frame::push_reset(&mut self.out.buf, id, reason);
                self.streams.note_reset(id);
            }
        }
    }

    /// The stream of the next request that has come; what the queue held of it is its taker's from here on.
    #[inline]
    pub(super) fn next_request(&mut self) -> Option<Key> {
        let key = self.accept.pop_front()?;
        let stream = &mut self.streams[key];
        stream.pending = false;
        stream.handles -= 1;
        if matches!(stream.gone, Some(Error::Reset(_, By::Peer))) {
            self.pending_resets -= 1;
        }
        Some(key)
    }

    /// A handle of a stream is dropped.
    pub(super) fn let_go(&mut self, key: Key) {
        let stream = &mut self.streams[key];
        stream.handles -= 1;
        if stream.handles > 0 {
            return;
        }
        stream.send_waker = None;
        match stream.send {
            _ if stream.is_over() => {}
            // The answer is whole, and the rest of the request of no interest (§8.1); what waits of it goes before.
            Side::Closed if !self.is_client => return self.reset(key, Reason::NO_ERROR),
            Side::Ending if !self.is_client => {}
            Side::Head | Side::Open | Side::Ending | Side::Closed => return self.reset(key, Reason::CANCEL),
        }
        self.settle(key);
    }
}
