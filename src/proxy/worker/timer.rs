//! One timer per connection or stream, moved lazily: a deadline that only ever moves away costs no work in the timer
//! wheel. A spare timer stays armed; its next owner's deadlines lie later, so that it costs no work either.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// The deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// A timer that many waits of one task share.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// None until something had to be waited for.
    sleep: Option<Pin<Box<Sleep>>>,
    armed_for: Option<Instant>,
    /// The task that the sleep wakes, by the address of what its waker holds, which is no other's for as long as the
    /// sleep keeps the waker; 0: none. It need not be told again: that was 3 % of a request over HTTP/2.
    told: usize,
}

/// A worker's spare timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    spare: Vec<Timer>,
}

/// Spare timers kept per worker: as many as streams or short connections end at once on a busy one.
const SPARE_MAX: usize = 512;

// === impl Timers ===

impl Timers {
    /// A timer.
    pub(crate) fn take(&mut self) -> Timer {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a timer back. When it fires it wakes a task that is over, which does nothing.
    pub(crate) fn put(&mut self, timer: Timer) {
        if timer.sleep.is_some() && self.spare.len() < SPARE_MAX {
            self.spare.push(timer);
        }
    }
}

// === impl Timer ===

impl Timer {
    /// Runs `future` until it is done or `deadline` has passed.
    pub(crate) async fn limit<F: Future>(&mut self, deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
        self.limit_from(|| deadline, future).await
    }

    /// The same for a deadline that is asked for once there is something to wait for: most things are done at once, and
    /// the clock need not be read for them.
    pub(crate) async fn limit_from<F: Future>(
        &mut self,
        deadline: impl Fn() -> Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let (mut future, mut limit) = (pin!(future), None);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let limit = *limit.get_or_insert_with(&deadline);
            self.poll_elapsed(cx, limit).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Ready when `deadline` has passed.
    pub(crate) fn poll_elapsed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        // Armed for an earlier moment is good enough: it fires, and is armed anew for what is left.
        if self.armed_for.is_none_or(|armed| armed > deadline) {
            self.arm(deadline);
        }
        let asks = cx.waker().data().addr();
        if self.told == asks && asks != 0 && self.sleep.as_ref().is_some_and(|sleep| !sleep.is_elapsed()) {
            return Poll::Pending;
        }
        // Out of its budget, a task is woken at once, and the sleep does not look at its waker.
        let listens = tokio::task::coop::has_budget_remaining();
        while self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            if Instant::now() >= deadline {
                self.armed_for = None;
                return Poll::Ready(());
            }
            self.arm(deadline);
        }
        self.told = if listens { asks } else { 0 };
        Poll::Pending
    }

    fn arm(&mut self, deadline: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline.into()),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline.into()))),
        }
        (self.armed_for, self.told) = (Some(deadline), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_deadline_fires_whether_it_moved_away_or_closer() {
        let mut timer = Timer::default();
        for ms in [30, 60, 10] {
            let deadline = Instant::now() + Duration::from_millis(ms);
            assert_eq!(timer.limit(deadline, std::future::pending::<()>()).await, Err(Elapsed));
            assert!(Instant::now() >= deadline);
            let _ = timer.limit(Instant::now() + Duration::from_millis(5), async {}).await;
        }
    }

    #[tokio::test]
    async fn what_is_done_in_time_is_returned() {
        let mut timer = Timer::default();
        let deadline = Instant::now() + Duration::from_secs(5);
        assert_eq!(timer.limit(deadline, async { 7 }).await, Ok(7));
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(timer.limit(soon, std::future::pending::<()>()).await, Err(Elapsed));
        assert!(Instant::now() >= soon);
    }

    #[tokio::test]
    async fn a_spare_timer_fires_for_its_next_owner_too() {
        let mut timers = Timers::default();
        for ms in [20, 40, 10] {
            let mut timer = timers.take();
            let deadline = Instant::now() + Duration::from_millis(ms);
            assert_eq!(timer.limit(deadline, std::future::pending::<()>()).await, Err(Elapsed));
            assert!(Instant::now() >= deadline);
            let _ = timer.limit(Instant::now() + Duration::from_millis(15), tokio::task::yield_now()).await;
            timers.put(timer);
        }
    }
}
