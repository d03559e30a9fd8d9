//! How many requests may be in flight at once, and who waits for a place: shared by all workers, one per pool or
//! service that is capped. Without a cap there is no gate, and nothing is touched.
//!
//! A place is given back by dropping it. Who comes while others wait queues with them; of the queue, whoever wakes
//! first has the place. It does not decide how long anybody waits, nor what becomes of a request without a place.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::adaptive::Adaptive;

/// What is known of one cap, by the identity of its pool or service.
#[derive(Debug, Default)]
pub struct Gate {
    /// Places that are taken.
    taken: AtomicU32,
    /// Requests that wait.
    waiting: AtomicU32,
    freed: Notify,
    /// Requests that went to another pool, because there was no place.
    pub spilled: AtomicU64,
    /// Requests that waited and got a place.
    pub waited: AtomicU64,
    /// Requests that got none.
    pub refused: AtomicU64,
}

/// A gate within a snapshot.
#[derive(Debug, Clone)]
pub struct Cap {
    /// Its live state.
    pub gate: Arc<Gate>,
    /// Most requests in flight.
    pub max: u32,
    /// What lowers that as answers slow down; none: nothing does.
    pub adaptive: Option<Arc<Adaptive>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub struct Ticket(Cap);

// === impl Gate ===

impl Gate {
    /// Places that are taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }
}

// === impl Cap ===

impl Cap {
    /// A place, if there is one and nobody waits for it.
    pub fn enter(&self) -> Option<Place> {
        if self.gate.waiting() > 0 { None } else { self.take() }
    }

    /// Most requests in flight as of now.
    pub fn max(&self) -> u32 {
        self.adaptive.as_ref().map_or(self.max, |adaptive| adaptive.limit())
    }

    /// Takes note of how long an answer took, where the limit depends on that.
    pub fn note(&self, took_us: u64, now_ms: u64) {
        let Some(adaptive) = &self.adaptive else { return };
        // For each place that there is now, somebody who waits for one.
        let risen = adaptive.note(took_us, self.gate.taken(), now_ms);
        (0..risen.min(self.gate.waiting())).for_each(|_| self.gate.freed.notify_one());
    }

    /// Whether [`Cap::enter`] would find no place now.
    pub fn is_full(&self) -> bool {
        self.gate.waiting() > 0 || self.gate.taken() >= self.max()
    }

    /// A place in the queue, if fewer than `queue_max` wait.
    pub fn queue(&self, queue_max: u32) -> Option<Ticket> {
        let more = |waiting: u32| (waiting < queue_max).then_some(waiting + 1);
        let queued = self.gate.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        queued.is_ok().then(|| Ticket(self.clone()))
    }

    fn take(&self) -> Option<Place> {
        let max = self.max();
        let more = |taken: u32| (taken < max).then_some(taken + 1);
        let taken = self.gate.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| Place(Arc::clone(&self.gate)))
    }
}

// === impl Ticket ===

impl Ticket {
    /// Waits for a place. Dropping it, before or while it waits, leaves the queue.
    pub async fn place(self) -> Place {
        loop {
            // Whoever frees a place after this line wakes somebody; whoever freed one before is seen by the try.
            let mut freed = pin!(self.0.gate.freed.notified());
            freed.as_mut().enable();
            if let Some(place) = self.0.take() {
                return place;
            }
            freed.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.gate.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting() > 0 {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cap(max: u32) -> Cap {
        Cap { gate: Arc::default(), max, adaptive: None }
    }

    #[test]
    fn there_are_as_many_places_as_the_cap_says_and_a_dropped_one_is_free() {
        let cap = cap(2);
        let (one, two) = (cap.enter(), cap.enter());
        assert!(one.is_some() && two.is_some() && cap.enter().is_none() && cap.is_full());
        drop(one);
        assert!(!cap.is_full() && cap.enter().is_some());
        drop(two);
        assert_eq!(cap.gate.taken(), 0);
    }

    #[test]
    fn a_queue_has_an_end_and_who_comes_joins_it() {
        let cap = cap(1);
        let place = cap.enter();
        let (first, second) = (cap.queue(2), cap.queue(2));
        assert!(first.is_some() && second.is_some() && cap.queue(2).is_none());
        drop(place);
        assert!(cap.enter().is_none(), "somebody waits");
        drop((first, second));
        assert!(cap.enter().is_some());
        assert!(cap.queue(0).is_none());
    }

    #[test]
    fn no_more_than_the_cap_are_in_over_threads_and_nobody_waits_for_ever() {
        let cap = cap(3);
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("one");
                    let local = tokio::task::LocalSet::new();
                    let work = async {
                        for turn in 0..400_u32 {
                            let place = match cap.enter() {
                                Some(place) => place,
                                None => {
                                    let ticket = cap.queue(100).expect("a long queue");
                                    if turn % 7 == 0 {
                                        // Somebody who leaves the queue takes nobody's turn with him.
                                        let patience = Duration::from_micros(50);
                                        match tokio::time::timeout(patience, ticket.place()).await {
                                            Ok(place) => place,
                                            Err(_) => continue,
                                        }
                                    } else {
                                        let patience = Duration::from_secs(20);
                                        tokio::time::timeout(patience, ticket.place()).await.expect("a lost wake-up")
                                    }
                                }
                            };
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(place);
                        }
                    };
                    runtime.block_on(local.run_until(work));
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!((cap.gate.taken(), cap.gate.waiting()), (0, 0));
    }
}
