//! What waits to be taken on all connections of a worker together, and what becomes of streams when that is too much.
//!
//! The windows bound what waits on one stream and on one connection (RFC 9113 §5.2), and nothing bounds how many of
//! them there are. Above half of the bound, streams of which nothing was taken for a while are given up, and above all
//! of it sooner; where they come faster than that, above twice the bound, also one that gets still more than waits on
//! it already. Who takes what comes is not touched.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::core::{Core, Shared};
use super::drive::READ_MAX;
use super::error::{By, Error, Reason};
use super::streams::{Key, Side};

/// What may wait on a stream whatever waits elsewhere, so long as something is taken now and then: as much may come at
/// once, before anybody has the time to take it.
const SPARED_BYTES: usize = READ_MAX;

/// What may wait on a stream of which nothing is taken.
const STILL_BYTES: usize = 16 * 1024;

/// How long nothing is taken of a stream that is given up: once this, and at most twice.
const STILL: Duration = Duration::from_secs(1);

/// The same when all of the bound is reached.
const STILL_WHEN_FULL: Duration = Duration::from_millis(200);

/// The account of a worker's connections.
pub(crate) struct Purse {
    held: Cell<usize>,
    max: Cell<usize>,
    /// Told of each stream that is given up; whether its peer is a server.
    told: Box<dyn Fn(bool)>,
    members: RefCell<Vec<Weak<Shared>>>,
    /// When all streams were last looked at.
    swept: Cell<Option<Instant>>,
}

// === impl Purse ===

impl Purse {
    /// One of so many bytes. `told` hears of each stream that is given up, and whether it is one to a server.
    pub(crate) fn new(max: usize, told: impl Fn(bool) + 'static) -> Self {
        let members = RefCell::default();
        Self { held: Cell::new(0), max: Cell::new(max), told: Box::new(told), members, swept: Cell::new(None) }
    }

    /// Has another bound hold from now on.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.set(max);
    }

    /// Bytes that wait.
    pub(super) fn held(&self) -> usize {
        self.held.get()
    }

    /// So many more wait; whether something is to be done about it.
    #[inline]
    pub(super) fn put(&self, bytes: usize) -> bool {
        self.held.set(self.held.get() + bytes);
        self.is_pressed()
    }

    /// So many wait no more.
    #[inline]
    pub(super) fn take(&self, bytes: usize) {
        debug_assert!(bytes <= self.held.get());
        self.held.set(self.held.get().saturating_sub(bytes));
    }

    /// Whether more than half of the bound waits.
    #[inline]
    pub(super) fn is_pressed(&self) -> bool {
        self.held.get() > self.max.get() / 2
    }

    /// Whether more than the bound waits.
    fn is_full(&self) -> bool {
        self.held.get() > self.max.get()
    }

    /// Whether so much does that who takes little of it at a time cannot be told from who takes nothing.
    fn is_over(&self) -> bool {
        self.held.get() > self.max.get().saturating_mul(2)
    }

    /// A connection begins.
    pub(super) fn join(&self, shared: &Rc<Shared>) {
        let mut members = self.members.borrow_mut();
        shared.seat.set(members.len());
        members.push(Rc::downgrade(shared));
    }

    /// The connection with this seat has ended.
    pub(super) fn leave(&self, seat: usize) {
        let mut members = self.members.borrow_mut();
        members.swap_remove(seat);
        if let Some(moved) = members.get(seat).and_then(Weak::upgrade) {
            moved.seat.set(seat);
        }
    }

    /// Whether all streams are to be looked at now.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        let still = if self.is_full() { STILL_WHEN_FULL } else { STILL };
        let due = self.swept.get().is_none_or(|last| now.duration_since(last) >= still);
        if due {
            self.swept.set(Some(now));
        }
        due
    }

    /// Looks at the streams of all connections but that which is borrowed.
    fn sweep(&self) {
        let members: Vec<_> = self.members.borrow().iter().filter_map(Weak::upgrade).collect();
        for shared in members {
            if let Ok(mut core) = shared.core.try_borrow_mut() {
                core.sweep(None);
            }
        }
    }
}

impl Default for Purse {
    /// One without a bound.
    fn default() -> Self {
        Self::new(usize::MAX, |_| {})
    }
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purse").field("held", &self.held).field("max", &self.max).finish_non_exhaustive()
    }
}

// === impl Core ===

impl Core {
    /// Much waits, and a stream gets more: whether it is to be given up instead.
    #[cold]
    pub(super) fn is_too_much(&mut self, key: Key) -> bool {
        let purse = Rc::clone(&self.config.purse);
        if purse.is_due() {
            purse.sweep();
            self.sweep(Some(key));
        }
        purse.is_over() && self.streams[key].waiting() > SPARED_BYTES
    }

    /// Gives up streams on which much waits, and of which nothing has been taken since they were last looked at.
    fn sweep(&mut self, but: Option<Key>) {
        for key in self.streams.laden() {
            let stream = &mut self.streams[key];
            if Some(key) == but || stream.waiting() <= STILL_BYTES {
                continue;
            }
            if std::mem::replace(&mut stream.takes_then, stream.takes) == stream.takes {
                self.unload(key);
            }
        }
    }

    /// Gives a stream up for what waits on it, and lets go of that.
    #[cold]
    pub(super) fn unload(&mut self, key: Key) {
        let reason = if self.is_client { Reason::CANCEL } else { Reason::ENHANCE_YOUR_CALM };
        let stream = &mut self.streams[key];
        stream.inflow = false;
        if stream.recv == Side::Closed {
            // What is left must not look whole.
            stream.recv = Side::Open;
        }
        let (waited, unreleased) = (stream.drop_data(), stream.intake.unreleased() as usize);
        self.config.purse.take(waited);
        (self.config.purse.told)(self.is_client);
        if unreleased > 0 {
            self.release(key, unreleased);
        }
        let stream = &mut self.streams[key];
        if stream.linked {
            return self.reset(key, reason);
        }
        stream.gone.get_or_insert(Error::Reset(reason, By::Us));
        stream.wake_recv();
        stream.wake_send();
    }
}
