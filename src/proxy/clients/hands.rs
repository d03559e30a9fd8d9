//! The tasks that serve streams of HTTP/2, each one stream after the other: a task and a future of its own for each
//! stream cost some 2 000 instructions of its request. What serving is, is for [`super::stream`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::spawn_local;

use super::stream::Task;

/// Tasks kept per worker that have nothing to do: as many as streams end at once on a busy one. Each holds the future
/// of a request, some kilobytes.
const IDLE_MAX: usize = 256;

/// A worker's tasks that have nothing to do.
#[derive(Default)]
pub(crate) struct Hands(RefCell<Vec<Rc<Hand>>>);

/// One task.
#[derive(Default)]
struct Hand {
    /// What it is to do next.
    task: RefCell<Option<Box<Task>>>,
    waker: RefCell<Option<Waker>>,
    /// It is not needed any more.
    over: Cell<bool>,
}

// === impl Hands ===

impl Hands {
    /// Has a stream served.
    pub(crate) fn serve(&self, task: Box<Task>) {
        match self.0.borrow_mut().pop() {
            Some(hand) => hand.take_up(task),
            None => {
                let hand = Rc::new(Hand { task: RefCell::new(Some(task)), ..Hand::default() });
                // Boxed, because a task is moved before it runs.
                spawn_local(Box::pin(work(hand)));
            }
        }
    }

    /// Takes one back that is done; false when there are enough.
    fn put(&self, hand: &Rc<Hand>) -> bool {
        let mut idle = self.0.borrow_mut();
        let kept = idle.len() < IDLE_MAX;
        if kept {
            idle.push(Rc::clone(hand));
        }
        kept
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        for hand in self.0.borrow_mut().drain(..) {
            hand.over.set(true);
            hand.wake();
        }
    }
}

async fn work(hand: Rc<Hand>) {
    while let Some(task) = std::future::poll_fn(|cx| hand.poll_next(cx)).await {
        let worker = Rc::clone(task.worker());
        task.run().await;
        if !worker.hands.put(&hand) {
            return;
        }
    }
}

// === impl Hand ===

impl Hand {
    fn take_up(&self, task: Box<Task>) {
        *self.task.borrow_mut() = Some(task);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The next stream; none when it is not needed any more.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Box<Task>>> {
        if let Some(task) = self.task.borrow_mut().take() {
            return Poll::Ready(Some(task));
        }
        if self.over.get() {
            return Poll::Ready(None);
        }
        // It is always the same task that waits.
        self.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone());
        Poll::Pending
    }
}
