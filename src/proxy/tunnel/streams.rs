//! The streams of a worker that may last: who they are, how old, and which of them are to end because the weight of
//! their pool went to 0.
//!
//! A tunnel, and an answer of unknown length that has to be waited for, takes a place here and looks at it whenever it
//! waits. Nothing is shared with another worker: each sees the same publications and ends its own part, spread over
//! the same time. Only a pool whose own weight goes to 0 loses its streams; what was opened at weight 0 (by header,
//! path or listener) stays, and when the weight comes back those not closed yet stay too. How a stream ends is up to
//! whoever carries it. What is counted here is told to telemetry about once a second.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::model::{OnZeroStreams, StreamKind};
use crate::proxy::worker::Worker;
use crate::switchboard::snapshot::{Pool, Snapshot};
use crate::telemetry::clock;
use crate::upstream::pool::PoolState;

/// A worker's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Those of one pool, by identity; a place is empty when its pool has no more streams.
    groups: Vec<Option<Group>>,
}

#[derive(Debug)]
struct Entry {
    group: usize,
    kind: StreamKind,
    began: Instant,
    /// When it is to end, if it is.
    due: Option<Instant>,
    /// It has been told to end.
    over: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Group {
    pool: Arc<PoolState>,
    running: usize,
    /// The pool's weight when last looked at.
    weight: u32,
    on_zero: OnZeroStreams,
    /// Streams of the weights before end until then.
    until: Option<Instant>,
}

/// A stream's place, until it is dropped.
pub(crate) struct Stay {
    worker: Rc<Worker>,
    index: usize,
}

/// Random bits.
pub(crate) type Draw<'a> = &'a mut dyn FnMut() -> u64;

// === impl Streams ===

impl Streams {
    /// Takes a stream in. `own`: its pool as it was decided on; `live`: the same pool as it is now, if it still is.
    fn join(&mut self, own: &Pool, live: Option<&Pool>, kind: StreamKind, now: Instant, draw: Draw<'_>) -> usize {
        let weight = live.map_or(0, |pool| pool.weight);
        let known = |group: &Option<Group>| group.as_ref().is_some_and(|it| Arc::ptr_eq(&it.pool, &own.state));
        let group = self.groups.iter().position(known).unwrap_or_else(|| {
            let place = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
            self.groups.resize_with(self.groups.len().max(place + 1), || None);
            let on_zero = live.unwrap_or(own).on_zero_streams;
            self.groups[place] = Some(Group { pool: own.state.clone(), running: 0, weight, on_zero, until: None });
            place
        });
        let mut due = None;
        if let Some(group) = &mut self.groups[group] {
            group.running += 1;
            // The weight went to 0 between its decision and now: it ends with the others.
            if own.weight > 0
                && weight == 0
                && let Some(time) = time_of(group.on_zero)
            {
                let until = *group.until.get_or_insert(now + time);
                due = Some(now + until.saturating_duration_since(now).mul_f64(fraction(draw())));
            }
        }
        let entry = Some(Entry { group, kind, began: now, due, over: false, waker: None });
        match self.free.pop() {
            Some(index) => {
                self.entries[index] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        }
    }

    fn leave(&mut self, index: usize) {
        if let Some(entry) = self.entries[index].take() {
            self.free.push(index);
            if let Some(group) = &mut self.groups[entry.group] {
                group.running -= 1;
            }
        }
    }

    /// Compares the weights that are published with those seen last.
    pub(crate) fn review(&mut self, worker: usize, snapshot: &Snapshot, now: Instant, draw: Draw<'_>) {
        for index in 0..self.groups.len() {
            let Some(group) = &mut self.groups[index] else { continue };
            let live = find(snapshot, &group.pool);
            let weight = live.map_or(0, |pool| pool.weight);
            if let Some(pool) = live {
                group.on_zero = pool.on_zero_streams;
            }
            let before = std::mem::replace(&mut group.weight, weight);
            match (before > 0, weight > 0, time_of(group.on_zero)) {
                (true, false, Some(time)) => {
                    group.until = Some(now + time);
                    self.spread(index, now, time, draw);
                }
                (_, true, _) if group.until.take().is_some() => self.spare(index),
                _ => {}
            }
        }
        self.tick(worker, now);
    }

    /// Gives each stream of a group its moment within `time`: evenly spread, and each at a random place in its part.
    fn spread(&mut self, group: usize, now: Instant, time: Duration, draw: Draw<'_>) {
        let of_group = |entry: &&mut Entry| entry.group == group && !entry.over;
        let count = self.entries.iter().flatten().filter(|entry| entry.group == group && !entry.over).count();
        let part = time.div_f64(count.max(1) as f64);
        for (i, entry) in self.entries.iter_mut().flatten().filter(of_group).enumerate() {
            entry.due = Some(now + part.mul_f64(i as f64 + fraction(draw())));
        }
    }

    /// The weight came back: those that have not been told to end stay.
    fn spare(&mut self, group: usize) {
        for entry in self.entries.iter_mut().flatten().filter(|entry| entry.group == group) {
            entry.due = None;
        }
    }

    /// Tells those to end whose moment has come.
    pub(crate) fn tick(&mut self, worker: usize, now: Instant) {
        if self.groups.iter().flatten().all(|group| group.until.is_none()) {
            return;
        }
        for entry in self.entries.iter_mut().flatten() {
            let due = entry.due.is_some_and(|due| due.max(entry.began + entry.kind.long_after()) <= now);
            if due && !std::mem::replace(&mut entry.over, true) {
                if let Some(group) = &mut self.groups[entry.group] {
                    group.pool.meter.of(worker).streams_closed.add(1);
                }
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Tells telemetry what runs.
    pub(crate) fn tell(&mut self, worker: usize, now: Instant) {
        let mut told = vec![[Told::default(); StreamKind::ALL.len()]; self.groups.len()];
        for entry in self.entries.iter().flatten().filter(|entry| now >= entry.began + entry.kind.long_after()) {
            let told = &mut told[entry.group][entry.kind.index()];
            told.running += 1;
            told.draining += u64::from(entry.due.is_some());
            told.oldest = Some(told.oldest.map_or(entry.began, |oldest| oldest.min(entry.began)));
        }
        for (place, told) in self.groups.iter_mut().zip(told) {
            let Some(group) = place else { continue };
            let shard = group.pool.meter.of(worker);
            for (gauge, told) in shard.streams.iter().zip(told) {
                gauge.running.set(told.running);
                gauge.draining.set(told.draining);
                gauge.oldest_ms.set(told.oldest.map_or(0, |oldest| clock::mono_ms(oldest).max(1)));
            }
            if group.running == 0 {
                *place = None;
            }
        }
    }
}

/// What is told of one kind in one pool.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    running: u64,
    draining: u64,
    oldest: Option<Instant>,
}

/// The time that streams get at weight 0; none: they stay.
fn time_of(on_zero: OnZeroStreams) -> Option<Duration> {
    match on_zero {
        OnZeroStreams::Keep => None,
        OnZeroStreams::Drain(time) => Some(time),
        OnZeroStreams::Close => Some(Duration::ZERO),
    }
}

/// A part of one, from random bits.
fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

fn find<'s>(snapshot: &'s Snapshot, state: &Arc<PoolState>) -> Option<&'s Pool> {
    let pools = snapshot.services.iter().flat_map(|service| service.pools.iter());
    pools.into_iter().find(|pool| Arc::ptr_eq(&pool.state, state))
}

// === impl Stay ===

impl Stay {
    /// Takes a place for a stream of `own`, a pool of the snapshot that its request was decided on.
    pub(crate) fn new(worker: &Rc<Worker>, own: &Pool, kind: StreamKind) -> Self {
        let snapshot = worker.snapshot();
        let mut chance = worker.chance.borrow_mut();
        let live = find(&snapshot, &own.state);
        let index = worker.streams.borrow_mut().join(own, live, kind, Instant::now(), &mut || chance.rng.draw());
        Self { worker: Rc::clone(worker), index }
    }

    /// Ready when the stream is to end.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut streams = self.worker.streams.borrow_mut();
        let Some(entry) = &mut streams.entries[self.index] else { return Poll::Pending };
        if entry.over {
            return Poll::Ready(());
        }
        if entry.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.worker.streams.borrow_mut().leave(self.index);
    }
}
