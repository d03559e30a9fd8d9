//! One worker: a thread with its own runtime, connections, splitters, buffers and counters. Nothing here is shared with
//! another worker but what is read only, or written by this worker alone.

pub(in crate::proxy) mod buffers;
pub(in crate::proxy) mod costly;
pub mod crew;
pub mod listen;
pub mod porter;
pub(in crate::proxy) mod pulse;
pub(in crate::proxy) mod timer;
pub(in crate::proxy) mod turn;
pub(in crate::proxy) mod upkeep;
pub(in crate::proxy) mod visitor;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::Notify;

use self::buffers::{BUFFER_BYTES, Buffers};
use self::costly::Costly;
use self::pulse::Shed;
use self::timer::Timers;
use self::turn::Turns;
use crate::model::{Head, Now, Origin};
use crate::proxy::attempt::budget::Budgets;
use crate::proxy::attempt::hedge::Paces;
use crate::proxy::attempt::lines::{Lines, Purpose};
use crate::proxy::bodies::splice::Pipes;
use crate::proxy::clients::hands::Hands;
use crate::proxy::decide::dice::{Rng, Splitters};
use crate::proxy::heads::trace::Trace;
use crate::proxy::http2::purse::Purse;
use crate::proxy::tunnel::streams::Streams;
use crate::routing::cookie::TicketCache;
use crate::switchboard::snapshot::Snapshot;
use crate::telemetry::access_log::Logger;
use crate::telemetry::clock;
use crate::telemetry::count::Sharded;
use crate::telemetry::flood::{Flood, Side};
use crate::telemetry::meter::WorkerShard;
use crate::telemetry::pair::Tap;
use crate::telemetry::spans::Spans;
use crate::tls::challenges::Challenges;
use crate::tls::site::Site;

/// What a worker is handed at its start.
pub struct Seat {
    /// Its index, from 0.
    pub index: usize,
    /// Where snapshots are published.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// Counters that belong to no pool.
    pub meter: Arc<Sharded<WorkerShard>>,
    /// Its access log.
    pub logger: Logger,
    /// Asks for a name to be resolved at once, after a connection to one of its addresses failed.
    pub hurry: Arc<dyn Fn(&Origin) + Send + Sync>,
    /// Where spans of recorded traces go.
    pub spans: Arc<Spans>,
    /// This process in `Via`, such as `weir-1f2e3d4c`.
    pub instance: Arc<str>,
    /// What each listener speaks TLS from, in the order of the snapshot's listeners; none: plain HTTP.
    pub sites: Arc<[Option<Arc<Site>>]>,
    /// Where captured pairs go, once somebody wants them.
    pub pairs: Arc<Tap>,
    /// What ACME authorities are answered; none without `[acme]`.
    pub challenges: Option<Arc<Challenges>>,
}

/// A worker's state; everything runs on its thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    /// When to send what.
    pub(crate) turns: Turns,
    /// Handshakes, which must not be done all at once.
    pub(crate) costly: Costly,
    /// The same of requests over HTTP/2, where there are more or larger ones than a connection may bring in one turn.
    pub(crate) heavy: Rc<Costly>,
    /// What to turn away because the event loop is late.
    pub(crate) shed: Shed,
    cache: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    current: RefCell<Rc<Lease>>,
    pub(crate) chance: RefCell<Chance>,
    /// Connections to endpoints for clients' requests.
    pub(crate) lines: Lines,
    /// Those for copies of requests.
    pub(crate) copies: Lines,
    pub(crate) pairs: Arc<Tap>,
    /// Streams that may last.
    pub(crate) streams: RefCell<Streams>,
    pub(crate) buffers: RefCell<Buffers>,
    pub(crate) pipes: RefCell<Pipes>,
    pub(crate) budgets: RefCell<Budgets>,
    pub(crate) paces: RefCell<Paces>,
    /// Spare heads, each with its list of fields, and with its bytes where they are few.
    heads: RefCell<Vec<Head>>,
    pub(crate) timers: RefCell<Timers>,
    /// What waits on connections of HTTP/2 to be taken.
    pub(crate) purse: Rc<Purse>,
    /// Tasks that wait for a stream of HTTP/2 to serve.
    pub(crate) hands: Hands,
    pub(crate) logger: RefCell<Logger>,
    pub(crate) meter: Arc<Sharded<WorkerShard>>,
    pub(crate) hurry: Arc<dyn Fn(&Origin) + Send + Sync>,
    pub(crate) spans: Arc<Spans>,
    pub(crate) instance: Arc<str>,
    sites: Arc<[Option<Arc<Site>>]>,
    pub(crate) challenges: Option<Arc<Challenges>>,
    /// When draining began.
    draining: Cell<Option<Instant>>,
    /// Connections between two requests that are ready for the next.
    pub(crate) ready: Cell<u32>,
    /// Wakes connections that wait for a request: when draining begins, and when some of them should give way.
    pub(crate) drain: Notify,
    /// Who of those that wait should give way.
    squeeze: Cell<Squeeze>,
    /// Told whenever a client connection has ended.
    pub(crate) closed: Notify,
    /// The wall clock in microseconds as read at a moment, so that a request costs one clock reading instead of two.
    unix: Cell<(Instant, u64)>,
}

/// A worker's hold on a snapshot. Requests share it by a count of this thread's own, so that the count which all
/// threads share is touched once per publication and not once per request.
pub(crate) struct Lease(Arc<Snapshot>);

impl std::ops::Deref for Lease {
    type Target = Snapshot;
    fn deref(&self) -> &Snapshot {
        &self.0
    }
}
/// Who gives way to new clients.
#[derive(Debug, Clone, Copy, Default)]
struct Squeeze {
    /// When they were asked.
    at: Option<Instant>,
    /// How many still should.
    left: u64,
    /// How many did.
    gone: u64,
    /// Whether those that were served before are meant as well: only when nobody else was there to go.
    kept_too: bool,
}

/// Between two times that idle clients are asked to give way.
const SQUEEZE_EVERY: Duration = Duration::from_millis(50);

/// Of the time that a turn of the event loop took, what lets one more handshake in: about a quarter of the time, at
/// half a handshake (50 µs) for each that is let in.
const HANDSHAKE_FOR: Duration = Duration::from_micros(200);

/// The same of a connection of HTTP/2 that has brought as much as it may: what it brings then takes 100 µs (a head of
/// 30 kB on its way to an endpoint) to 500 µs (some dozen ordinary requests).
const HEAVY_FOR: Duration = Duration::from_millis(1);

/// Spare heads kept per worker: as many as are in use at once on a busy one.
const HEADS_SPARE_MAX: usize = 512;

/// A worker's sources of chance.
#[derive(Debug)]
pub(crate) struct Chance {
    pub(crate) splitters: Splitters,
    pub(crate) tickets: TicketCache,
    pub(crate) rng: Rng,
}

// === impl Worker ===

impl Worker {
    pub(crate) fn new(seat: Seat) -> Rc<Self> {
        let mut seed = [0_u8; 8];
        // Without the system's randomness there is still the address of the seat and its index; nothing secret hangs
        // on this generator.
        if getrandom::fill(&mut seed).is_err() {
            seed = (seat.index as u64 + 0x9e37_79b9_7f4a_7c15).to_ne_bytes();
        }
        let mut cache = Cache::new(seat.published);
        let current = Rc::new(Lease(Arc::clone(cache.load())));
        let (shards, index) = (Arc::clone(&seat.meter), seat.index);
        let purse = Rc::new(Purse::new(current.limits.h2_buffered_max, move |to_server| {
            let side = if to_server { Side::Endpoint } else { Side::Client };
            shards.of(index).floods.ended(side, Flood::Buffered);
        }));
        let chance = Chance {
            splitters: Splitters::default(),
            tickets: TicketCache::new(),
            rng: Rng::new(u64::from_ne_bytes(seed)),
        };
        Rc::new(Self {
            index: seat.index,
            cache: RefCell::new(cache),
            current: RefCell::new(current),
            chance: RefCell::new(chance),
            lines: Lines::default(),
            copies: Lines::default(),
            pairs: seat.pairs,
            streams: RefCell::default(),
            buffers: RefCell::default(),
            pipes: RefCell::default(),
            budgets: RefCell::default(),
            paces: RefCell::default(),
            heads: RefCell::default(),
            timers: RefCell::default(),
            purse,
            hands: Hands::default(),
            logger: RefCell::new(seat.logger),
            meter: seat.meter,
            hurry: seat.hurry,
            spans: seat.spans,
            instance: seat.instance,
            sites: seat.sites,
            challenges: seat.challenges,
            turns: Turns::default(),
            costly: Costly::new(HANDSHAKE_FOR),
            heavy: Rc::new(Costly::new(HEAVY_FOR)),
            shed: Shed::default(),
            draining: Cell::new(None),
            ready: Cell::new(0),
            drain: Notify::new(),
            squeeze: Cell::default(),
            closed: Notify::new(),
            unix: Cell::new((Instant::now(), unix_us_now())),
        })
    }

    /// The snapshot that is published now. One atomic load when it has not changed; the count that keeps it alive for
    /// the request is this thread's own.
    #[inline]
    pub(crate) fn snapshot(&self) -> Rc<Lease> {
        let mut cache = self.cache.borrow_mut();
        let latest = cache.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(latest, &current.0) {
            *current = Rc::new(Lease(Arc::clone(latest)));
        }
        Rc::clone(&current)
    }

    /// The trace that a request belongs to; none where traces are nobody's business.
    #[inline]
    pub(crate) fn trace(&self, snapshot: &Snapshot, head: &Head, trusted: bool) -> Option<Box<Trace>> {
        let tracing = snapshot.tracing.as_ref()?;
        Some(Box::new(Trace::new(head, tracing, trusted, &mut self.chance.borrow_mut().rng)))
    }

    /// `at` in microseconds since the Unix epoch; the wall clock is read once a second.
    #[inline]
    pub(crate) fn unix_us(&self, at: Instant) -> u64 {
        let (read_at, unix_us) = self.unix.get();
        let since = at.saturating_duration_since(read_at).as_micros() as u64;
        if since < 1_000_000 {
            return unix_us + since;
        }
        let unix_us = unix_us_now();
        self.unix.set((at, unix_us));
        unix_us
    }

    /// `at` on both clocks.
    #[inline]
    pub(crate) fn now(&self, at: Instant) -> Now {
        Now { mono_ms: clock::mono_ms(at), unix_s: self.unix_us(at) / 1_000_000 }
    }

    /// A head to fill. Its fields are those of another request until then.
    pub(crate) fn take_head(&self) -> Head {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a head back; a buffer that it was read into goes to the buffers.
    pub(crate) fn put_head(&self, mut head: Head) {
        if head.bytes.capacity() >= BUFFER_BYTES {
            self.buffers.borrow_mut().put(std::mem::take(&mut head.bytes));
        }
        head.bytes.clear();
        let mut heads = self.heads.borrow_mut();
        if heads.len() < HEADS_SPARE_MAX {
            heads.push(head);
        }
    }

    /// What a listener speaks TLS from; none: plain HTTP.
    #[inline]
    pub(crate) fn site(&self, listener: usize) -> Option<&Arc<Site>> {
        self.sites.get(listener)?.as_ref()
    }

    /// This worker's counters.
    #[inline]
    pub(crate) fn shard(&self) -> &WorkerShard {
        self.meter.of(self.index)
    }

    /// Since when it has been draining.
    #[inline]
    pub(crate) fn draining(&self) -> Option<Instant> {
        self.draining.get()
    }

    /// Begins to drain: every answer closes its connection.
    pub(crate) fn begin_drain(&self) {
        if self.draining.get().is_none() {
            self.draining.set(Some(Instant::now()));
        }
        self.drain.notify_waiters();
    }

    /// Closes idle connections over TLS, each of which holds the worker.
    pub(crate) fn let_go(&self) {
        for lines in [&self.lines, &self.copies] {
            lines.let_go();
        }
    }

    /// The connections for a purpose.
    #[inline]
    pub(crate) fn lines_for(&self, purpose: Purpose) -> &Lines {
        match purpose {
            Purpose::Clients => &self.lines,
            Purpose::Copies => &self.copies,
        }
    }

    /// Asks some client connections that wait for a request to close, because new clients wait for their places: an
    /// eighth of what is open, and those that never asked anything before those that did.
    pub(crate) fn squeeze(&self) {
        let (now, before) = (Instant::now(), self.squeeze.get());
        if before.at.is_some_and(|last| now.duration_since(last) < SQUEEZE_EVERY) {
            return;
        }
        let kept_too = !before.kept_too && before.gone == 0;
        let left = (self.shard().open.value() / 8).max(1);
        self.squeeze.set(Squeeze { at: Some(now), left, gone: 0, kept_too });
        self.drain.notify_waiters();
    }

    /// Whether a connection that waits, for its first request or a further one, and was woken without a drain is to
    /// close.
    pub(crate) fn gives_way(&self, first: bool) -> bool {
        let mut squeeze = self.squeeze.get();
        let fresh = squeeze.at.is_some_and(|last| last.elapsed() < SQUEEZE_EVERY);
        if !fresh || squeeze.left == 0 || (!first && !squeeze.kept_too) {
            return false;
        }
        squeeze.left -= 1;
        squeeze.gone += 1;
        self.squeeze.set(squeeze);
        true
    }

    /// Closes all idle connections to endpoints; false when there was none.
    pub(crate) fn make_room(&self) -> bool {
        self.lines.clear() | self.copies.clear()
    }

    /// Takes note of what was published: streams of pools whose weight went to 0 are to end, and idle connections of
    /// endpoints that are no longer named are closed.
    pub(crate) fn follow(&self) {
        let snapshot = self.snapshot();
        self.purse.set_max(snapshot.limits.h2_buffered_max);
        let mut chance = self.chance.borrow_mut();
        self.streams.borrow_mut().review(self.index, &snapshot, Instant::now(), &mut || chance.rng.draw());
        drop(chance);
        let pools = snapshot.services.iter().flat_map(|service| service.pools.iter());
        let endpoints: std::collections::HashSet<(u32, u64)> =
            pools.flat_map(|pool| pool.endpoints.iter()).map(|endpoint| (endpoint.slot, endpoint.serial)).collect();
        for lines in [&self.lines, &self.copies] {
            lines.retain(|slot, serial| endpoints.contains(&(slot, serial)));
        }
    }
}

fn unix_us_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as u64
}
