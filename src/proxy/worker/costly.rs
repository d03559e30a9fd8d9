//! Work of a connection that takes many times as long as a request, such as a TLS handshake (some 75 µs of
//! arithmetic), or what heads of HTTP/2 unpack to: pieces of it wait for one another, in the order in which they came,
//! and one is let in in each turn of the event loop, or a few where turns are long. So a thousand clients that want to
//! shake hands at once delay requests by one handshake in a turn, not by a thousand.
//!
//! It has no limit of its own: who waits too long is ended by the one that its work has anyway.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// Those that wait.
#[derive(Debug)]
pub(crate) struct Costly {
    /// Of the time that a turn took, what lets one more in: where others keep a worker busy, and turns are long, costly
    /// work still gets its part of the time.
    one_more_for: Duration,
    waiting: RefCell<VecDeque<Rc<Place>>>,
    /// Told when one begins to wait.
    came: Notify,
}

/// A place in the queue; nobody waits in it any more when the queue alone holds it.
#[derive(Debug)]
pub(crate) struct Place {
    let_in: Cell<bool>,
    waker: RefCell<Waker>,
}

// === impl Costly ===

impl Costly {
    /// One that lets one more in for so much of a turn. It has to be some times what a piece takes: less, and each turn
    /// is longer than the one before.
    pub(crate) fn new(one_more_for: Duration) -> Self {
        Self { one_more_for, waiting: RefCell::default(), came: Notify::new() }
    }

    /// Works on `future` whenever it can go on, each time in a turn of its own.
    pub(crate) async fn in_turns<F: Future>(&self, future: F) -> F::Output {
        let (mut future, mut place) = (pin!(future), None);
        std::future::poll_fn(|cx| {
            ready!(self.poll_turn(cx, &mut place));
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Ready when it is its turn; `place` is where it waits, empty before and afterwards.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>, place: &mut Option<Rc<Place>>) -> Poll<()> {
        match place {
            Some(mine) if mine.let_in.get() => {
                *place = None;
                return Poll::Ready(());
            }
            Some(mine) => mine.waker.borrow_mut().clone_from(cx.waker()),
            None => {
                let mine = Rc::new(Place { let_in: Cell::new(false), waker: RefCell::new(cx.waker().clone()) });
                self.waiting.borrow_mut().push_back(Rc::clone(&mine));
                *place = Some(mine);
                self.came.notify_one();
            }
        }
        Poll::Pending
    }

    /// Lets the first one in that still waits; false when there is none.
    pub(in crate::proxy) fn let_one_in(&self) -> bool {
        loop {
            let Some(place) = self.waiting.borrow_mut().pop_front() else { return false };
            if Rc::strong_count(&place) > 1 {
                place.let_in.set(true);
                place.waker.borrow().wake_by_ref();
                return true;
            }
        }
    }

    /// Lets them in, turn by turn, until it is dropped.
    pub(in crate::proxy) async fn let_in(&self) {
        loop {
            self.came.notified().await;
            let mut turn = Duration::ZERO;
            loop {
                let some = 1 + turn.as_micros() / self.one_more_for.as_micros();
                if !(0..some).all(|_| self.let_one_in()) {
                    break;
                }
                let began = Instant::now();
                // Everything that is ready, and new events.
                yield_now().await;
                turn = began.elapsed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls it once.
    fn polled<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_is_let_in_after_the_other_and_who_has_left_costs_no_turn() {
        let costly = Costly::new(Duration::from_micros(200));
        let mut work: Vec<_> = (0..4).map(|n| Box::pin(costly.in_turns(async move { n }))).collect();
        assert!(work.iter_mut().all(|one| polled(one).is_pending()));
        drop(work.remove(1));
        assert!(costly.let_one_in());
        assert_eq!(polled(&mut work[0]), Poll::Ready(0));
        assert!(work[1..].iter_mut().all(|one| polled(one).is_pending()));
        assert!(costly.let_one_in());
        assert_eq!(polled(&mut work[1]), Poll::Ready(2));
        assert!(costly.let_one_in() && !costly.let_one_in());
        assert_eq!(polled(&mut work[2]), Poll::Ready(3));
    }

    #[tokio::test]
    async fn others_have_their_turn_between_two_pieces() {
        let costly = Costly::new(Duration::from_micros(200));
        let (turns, most) = (Cell::new(0_u32), Cell::new(0_u32));
        let work = async {
            let pieces = (0..20).map(|_| {
                costly.in_turns(async {
                    // Pieces that were let in since the other one had its turn.
                    turns.set(turns.get() + 1);
                    most.set(most.get().max(turns.get()));
                })
            });
            futures_of(pieces).await;
        };
        let other = async {
            loop {
                turns.set(0);
                yield_now().await;
            }
        };
        tokio::select! {
            () = work => {}
            () = costly.let_in() => {}
            () = other => {}
        }
        assert!(most.get() <= 2, "{} in a turn", most.get());
    }

    /// Runs them side by side to their end.
    async fn futures_of(futures: impl Iterator<Item = impl Future<Output = ()>>) {
        let mut futures: Vec<_> = futures.map(Box::pin).collect();
        std::future::poll_fn(|cx| {
            futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
            if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
