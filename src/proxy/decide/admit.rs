//! A place for a request among those in flight, where its service or pool is capped: before it is forwarded, and before
//! its head is written, since a pool without a place may hand it to stable.
//!
//! What a full pool cannot take **spills** to stable at once, if it may leave its pool. What has nowhere else to go
//! waits in a bounded queue for a bounded time, and is answered 503 then.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use super::balance::pick;
use super::dice::Rng;
use super::{Decision, Question};
use crate::model::{OnPoolDown, Why};
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::switchboard::snapshot::Service;
use crate::throttle::gate::{Cap, Place, Ticket};

/// The places that a request has; empty where nothing is capped.
#[derive(Debug, Default)]
pub(crate) struct Places(Option<Box<Held>>);

#[derive(Debug, Default)]
struct Held {
    service: Option<Place>,
    pool: Option<Place>,
    /// When it had them, if it waited.
    since: Option<Instant>,
}

/// What [`admit`] finds.
pub(crate) type Admitted = Result<(Decision, Places), Refusal>;

/// Finds a place for a request that was decided: the decision that holds, and its places. `gone` is ready when the
/// client has left. Boxed, so that a request without a cap carries nothing of it.
#[inline(never)]
pub(crate) fn admit<'a>(
    worker: &'a Worker,
    question: &'a Question<'a>,
    decision: Decision,
    timer: &'a mut Timer,
    gone: impl FnMut(&mut Context<'_>) -> Poll<()> + 'a,
) -> Pin<Box<dyn Future<Output = Admitted> + 'a>> {
    Box::pin(async move {
        let mut seeker = Seeker { question, timer, gone, waited: false };
        let mut found = seeker.seek(worker, decision).await;
        if let (true, Ok((_, Places(Some(held))))) = (seeker.waited, &mut found) {
            held.since = Some(Instant::now());
        }
        let to = |found: &Decision| (found.pool, found.endpoint);
        if found.as_ref().map_or(true, |(found, _)| to(found) != to(&decision)) {
            leave(question, &decision);
        }
        found
    })
}

/// Tells the endpoint that was decided for that it will not hear of this request: perhaps it was chosen for its trial.
pub(crate) fn leave(question: &Question<'_>, decision: &Decision) {
    let service = &question.snapshot.services[decision.service];
    service.pools[decision.pool].endpoints[decision.endpoint].give_back_trial(question.now.mono_ms);
}

struct Seeker<'a, G> {
    question: &'a Question<'a>,
    timer: &'a mut Timer,
    gone: G,
    waited: bool,
}

// === impl Seeker ===

impl<G: FnMut(&mut Context<'_>) -> Poll<()>> Seeker<'_, G> {
    async fn seek(&mut self, worker: &Worker, decision: Decision) -> Admitted {
        let service = &self.question.snapshot.services[decision.service];
        let mut places = Held::default();
        if let Some(cap) = &service.cap {
            places.service = Some(match cap.enter() {
                Some(place) => place,
                None => self.wait(service, cap, || format!("service {}", service.name)).await?,
            });
        }
        let Some(cap) = &service.pools[decision.pool].cap else {
            return Ok((decision, places.into()));
        };
        places.pool = cap.enter();
        if places.pool.is_some() {
            return Ok((decision, places.into()));
        }
        let spilled = spill(self.question, &decision, &mut worker.chance.borrow_mut().rng);
        let Some(decision) = spilled else {
            places.pool = Some(self.wait_for_pool(service, decision.pool, cap).await?);
            return Ok((decision, places.into()));
        };
        cap.gate.spilled.fetch_add(1, Ordering::Relaxed);
        if let Some(cap) = &service.pools[decision.pool].cap {
            places.pool = Some(match cap.enter() {
                Some(place) => place,
                None => self.wait_for_pool(service, decision.pool, cap).await?,
            });
        }
        Ok((decision, places.into()))
    }

    async fn wait_for_pool(&mut self, service: &Service, pool: usize, cap: &Cap) -> Result<Place, Refusal> {
        let what = || format!("pool {} of service {}", service.pools[pool].name, service.name);
        self.wait(service, cap, what).await
    }

    async fn wait(&mut self, service: &Service, cap: &Cap, what: impl Fn() -> String) -> Result<Place, Refusal> {
        let refused = || {
            cap.gate.refused.fetch_add(1, Ordering::Relaxed);
            Refusal::Full(what().into())
        };
        self.waited = true;
        let queue = &service.spec.queue;
        let ticket: Ticket = cap.queue(queue.max).ok_or_else(refused)?;
        let mut place = pin!(ticket.place());
        let gone = &mut self.gone;
        let waiting = std::future::poll_fn(|cx| match place.as_mut().poll(cx) {
            Poll::Ready(place) => Poll::Ready(Ok(place)),
            Poll::Pending => gone(cx).map(|()| Err(Refusal::ClientGone)),
        });
        match self.timer.limit(Instant::now() + queue.wait, waiting).await {
            Ok(Ok(place)) => {
                cap.gate.waited.fetch_add(1, Ordering::Relaxed);
                Ok(place)
            }
            Ok(Err(gone)) => Err(gone),
            Err(_) => Err(refused()),
        }
    }
}

// === impl Places ===

impl Places {
    /// When the request could be sent: when it came, or when it had waited for its place.
    #[inline]
    pub(crate) fn began(&self, came: Instant) -> Instant {
        self.0.as_ref().and_then(|held| held.since).unwrap_or(came)
    }

    /// The place in another pool (or the same one) for the next attempt; false when there is none. A retry never waits.
    pub(crate) fn move_to(&mut self, service: &Service, from: usize, to: usize) -> bool {
        if from == to {
            return true;
        }
        let place = service.pools[to].cap.as_ref().map(Cap::enter);
        if matches!(place, Some(None)) {
            return false;
        }
        self.0.get_or_insert_default().pool = place.flatten();
        true
    }
}

impl From<Held> for Places {
    fn from(held: Held) -> Self {
        Self(Some(Box::new(held)))
    }
}

/// Where a request goes whose pool is full: to stable, as after a failover; none when it named its pool, stays in it by
/// policy, or nothing of stable serves.
fn spill(question: &Question<'_>, decision: &Decision, rng: &mut Rng) -> Option<Decision> {
    let service = &question.snapshot.services[decision.service];
    let stable = service.stable;
    if !decision.may_leave || decision.pool == stable || service.spec.on_pool_down == OnPoolDown::Strict {
        return None;
    }
    let endpoint = pick(question, &service.pools[stable], |_| false, rng)?;
    Some(Decision { pool: stable, endpoint, why: Why::Spill, ..*decision })
}

/// What would become of it now, for `explain`: nothing is taken, and nobody waits.
pub(crate) fn foresee(question: &Question<'_>, decision: Decision, rng: &mut Rng) -> Decision {
    let pool = &question.snapshot.services[decision.service].pools[decision.pool];
    let full = decision.why != Why::Spill && pool.cap.as_ref().is_some_and(Cap::is_full);
    if full { spill(question, &decision, rng).unwrap_or(decision) } else { decision }
}
