//! All workers of the process, as each of them sees the others: how loaded they are, and how a connection gets to one.
//! It decides who has the fewest connections; what is done with one is for [`listen`](super::listen).

use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::visitor::Guest;

/// All workers, as each of them sees the others.
#[derive(Debug)]
pub struct Crew {
    mates: Box<[Mate]>,
}

/// A connection on its way to another worker.
#[derive(Debug)]
pub struct Handed {
    pub(in crate::proxy) stream: StdStream,
    pub(in crate::proxy) guest: Guest,
}

/// One worker, as the others see it. Written once per connection, never per request.
#[derive(Debug)]
#[repr(align(128))]
struct Mate {
    load: AtomicUsize,
    hand: mpsc::Sender<Handed>,
}

/// Connections on their way to one worker; more wait in the sender's accept queue.
const HANDED_MAX: usize = 256;

// === impl Crew ===

impl Crew {
    /// A crew of `workers`, and each one's end of the hand-over.
    pub fn new(workers: usize) -> (Arc<Self>, Vec<mpsc::Receiver<Handed>>) {
        let (mates, handed) = (0..workers)
            .map(|_| {
                let (hand, handed) = mpsc::channel(HANDED_MAX);
                (Mate { load: AtomicUsize::new(0), hand }, handed)
            })
            .collect::<(Vec<_>, Vec<_>)>();
        (Arc::new(Self { mates: mates.into() }), handed)
    }

    /// The worker with the fewest connections; `own` when none has fewer than it.
    pub(in crate::proxy) fn least_loaded(&self, own: usize) -> usize {
        let load = |index: usize| self.mates[index].load.load(Ordering::Relaxed);
        let least = (0..self.mates.len()).min_by_key(|&index| load(index)).unwrap_or(own);
        if load(least) < load(own) { least } else { own }
    }

    /// How many workers there are.
    pub(in crate::proxy) fn workers(&self) -> usize {
        self.mates.len()
    }

    /// Connections of one worker, those on their way to it included.
    pub(in crate::proxy) fn load(&self, worker: usize) -> usize {
        self.mates[worker].load.load(Ordering::Relaxed)
    }

    /// Hands a connection to another worker, where its place goes with it; back when too many are on their way to it,
    /// or it has ended.
    pub(in crate::proxy) fn hand(self: &Arc<Self>, to: usize, handed: Handed) -> Result<(), Handed> {
        // The receiver holds the place; on the way the load is already counted.
        let place = Place::take(self, to);
        match self.mates[to].hand.try_send(handed) {
            Ok(()) => {
                std::mem::forget(place);
                Ok(())
            }
            Err(refused) => Err(refused.into_inner()),
        }
    }
}

/// Takes a connection's place in the load of its worker, until it is dropped.
pub(in crate::proxy) struct Place {
    crew: Arc<Crew>,
    index: usize,
}

// === impl Place ===

impl Place {
    /// Counts one more.
    pub(in crate::proxy) fn take(crew: &Arc<Crew>, index: usize) -> Self {
        crew.mates[index].load.fetch_add(1, Ordering::Relaxed);
        Self { crew: Arc::clone(crew), index }
    }

    /// That of a connection that was handed over, which is counted already.
    pub(in crate::proxy) fn handed(crew: &Arc<Crew>, index: usize) -> Self {
        Self { crew: Arc::clone(crew), index }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crew.mates[self.index].load.fetch_sub(1, Ordering::Relaxed);
    }
}
