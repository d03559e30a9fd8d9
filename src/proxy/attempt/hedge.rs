//! Hedging: a GET or HEAD whose answer takes long is sent to another endpoint of its pool as well, and the first answer
//! wins. The other one is cancelled: its connection is closed, and it is no failure of its endpoint.
//!
//! A hedge is paid for from the budget of the retries, so that it cannot multiply a load that is too much already. It
//! stays within the pool, so that the split is what the weights say. Only over HTTP/1 endpoints, and never with a body.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::again::{give_back, pay};
use super::exchange::{Failure, Terms, exchange};
use super::forward::{Attempt, Job};
use super::http1::{Sent, load};
use super::replay::Replay;
use super::wire::Wire;
use crate::model::{Fault, Hedge};
use crate::proxy::bodies::upload::{Downstream, Nobody};
use crate::proxy::decide::balance::pick;
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::response::Response;
use crate::proxy::worker::timer::Timer;

/// Answers after which a quantile is believed.
const SEEN_MIN: u32 = 100;

/// How much an estimate moves with each answer, of itself: a twentieth follows a change within some hundred answers.
const STEP: f64 = 0.05;

/// Shortest time before a hedge: below it there is nothing to win.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// How long answers take, by service slot and pool; a worker's own.
#[derive(Debug, Default)]
pub(crate) struct Paces(Vec<Vec<Pace>>);

/// An estimate of one quantile, which every answer moves a little (Ma, Muthukrishnan, Sandler: "Frugal streaming",
/// 2013, with steps that grow with the estimate).
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    us: f64,
    seen: u32,
}

/// Who answered first.
enum Won<W: Wire> {
    First(Result<Response, Failure>),
    Hedge(Sent<W>, Response),
}

// === impl Paces ===

impl Paces {
    fn of(&mut self, slot: usize, pool: usize) -> &mut Pace {
        let rows = &mut self.0;
        rows.resize_with(rows.len().max(slot + 1), Vec::new);
        let row = &mut rows[slot];
        row.resize(row.len().max(pool + 1), Pace::default());
        &mut row[pool]
    }
}

// === impl Pace ===

impl Pace {
    fn note(&mut self, quantile: f64, us: u64) {
        let us = us as f64;
        self.seen = self.seen.saturating_add(1);
        self.us = match () {
            () if self.seen == 1 => us.max(1.0),
            () if us > self.us => self.us * (1.0 + STEP * quantile),
            () => (self.us * (1.0 - STEP * (1.0 - quantile))).max(1.0),
        };
    }

    fn quantile(&self) -> Option<Duration> {
        (self.seen >= SEEN_MIN).then(|| Duration::from_micros(self.us as u64))
    }
}

/// How long the first attempt may take until there is a hedge; none when there is none.
#[inline]
pub(in crate::proxy) fn delay<D: Downstream>(job: &Job<'_>, replay: &Replay<'_, D>) -> Option<Duration> {
    let service = &job.snapshot.services[job.decision.service];
    let hedge = service.spec.retry.hedge?;
    let bare = job.outgoing.framing == Framing::None && replay.is_whole() && !job.outgoing.upgrade;
    if !bare || !matches!(job.question.head.method(), "GET" | "HEAD") {
        return None;
    }
    let delay = match hedge {
        Hedge::After(delay) => delay,
        Hedge::Quantile(_) => job.worker.paces.borrow_mut().of(service.slot, job.decision.pool).quantile()?,
    };
    Some(delay.max(DELAY_MIN))
}

/// Takes note of how long an answer took, where that decides about hedges.
#[inline]
pub(in crate::proxy) fn note(job: &Job<'_>, upstream_us: u64) {
    let service = &job.snapshot.services[job.decision.service];
    if let Some(Hedge::Quantile(quantile)) = service.spec.retry.hedge {
        job.worker.paces.borrow_mut().of(service.slot, job.decision.pool).note(quantile, upstream_us);
    }
}

/// Waits for the head of the first answer: that of `first`, or that of the hedge which follows it after `delay` and
/// takes its place. With a failure the endpoint of the hedge, if there was one.
pub(in crate::proxy) async fn race<W: Wire, D: Downstream>(
    job: &Job<'_>,
    first: &mut Sent<W>,
    down: &mut D,
    timer: &mut Timer,
    terms: &Terms<'_>,
    delay: Duration,
) -> (Result<Response, Failure>, Option<usize>) {
    let (begun, pool, endpoint) = (Cell::new(None), first.attempt.pool, first.attempt.endpoint);
    let (won, failed) = {
        let mut own = pin!(exchange(&mut first.conn, &mut first.upload, down, timer, terms));
        let mut hedge = pin!(hedge(job, (pool, endpoint), terms, delay, &begun));
        // Once the first has failed, the hedge may take as long as the first had, where there may be another try.
        let more = job.snapshot.services[job.decision.service].spec.retry.attempts > 0;
        let (mut failed, mut over, mut last, mut until) = (None, false, Timer::default(), None);
        let won = std::future::poll_fn(|cx| {
            if failed.is_none()
                && let Poll::Ready(done) = own.as_mut().poll(cx)
            {
                match done {
                    // The hedge may still save it.
                    Err(failure @ Failure::Endpoint { .. }) if begun.get().is_some() && !over => failed = Some(failure),
                    done => return Poll::Ready(Won::First(done)),
                }
            }
            if !over && let Poll::Ready(done) = hedge.as_mut().poll(cx) {
                match done {
                    Some((sent, response)) => return Poll::Ready(Won::Hedge(sent, response)),
                    None => over = true,
                }
            }
            if failed.is_some() && more && !over {
                let until = *until.get_or_insert_with(|| Instant::now() + delay);
                over = last.poll_elapsed(cx, until).is_ready();
            }
            match failed.take_if(|_| over) {
                Some(failure) => Poll::Ready(Won::First(Err(failure))),
                None => Poll::Pending,
            }
        });
        (won.await, failed)
    };
    let shard = job.snapshot.services[job.decision.service].pools[pool].state.meter.of(job.worker.index);
    match won {
        Won::First(done) => {
            shard.hedges_lost.add(u64::from(begun.get().is_some()));
            (done, begun.get())
        }
        Won::Hedge(sent, response) => {
            shard.hedges_won.add(1);
            match failed {
                Some(Failure::Endpoint { fault, .. }) => first.attempt.fail(fault, job.question),
                // Outrun in its trial, it has not shown that it is well again.
                _ if first.attempt.is_trial(job.question) => first.attempt.fail(Fault::UpstreamTimeout, job.question),
                _ => {}
            }
            *first = sent;
            (Ok(response), None)
        }
    }
}

/// The second request, after `delay`: its answer, or nothing when there is no other endpoint, no budget, or no answer.
async fn hedge<W: Wire>(
    job: &Job<'_>,
    (pool, endpoint): (usize, usize),
    terms: &Terms<'_>,
    delay: Duration,
    begun: &Cell<Option<usize>>,
) -> Option<(Sent<W>, Response)> {
    let mut timer = job.worker.timers.borrow_mut().take();
    let _ = timer.limit(terms.began + delay, std::future::pending::<()>()).await;
    let service = &job.snapshot.services[job.decision.service];
    let endpoints = &service.pools[pool];
    // A hedge is a request in flight, and waits for nothing.
    let mut places = [None, None];
    for (place, cap) in places.iter_mut().zip([&service.cap, &endpoints.cap]) {
        *place = cap.as_ref().map(|cap| cap.enter().ok_or(())).transpose().ok()?;
    }
    let not = |index: usize| index == endpoint || !W::carries(endpoints, &endpoints.endpoints[index]);
    let other = pick(job.question, endpoints, not, &mut job.worker.chance.borrow_mut().rng)?;
    if !pay(job) {
        give_back(job, (pool, other));
        return None;
    }
    begun.set(Some(other));
    let attempt = Attempt::begin(job, (pool, other));
    let opened = W::open(&attempt.reach(job, false), &mut timer).await;
    let done = match opened.and_then(|conn| Ok((conn, load(job, &attempt, &[], true)?))) {
        Ok((mut conn, mut upload)) => {
            let terms = Terms { began: Instant::now(), patience: None, ..*terms };
            let done = exchange(&mut conn, &mut upload, &mut Nobody, &mut timer, &terms).await;
            done.map(|response| (conn, upload, response))
        }
        Err(failure) => Err(failure),
    };
    job.worker.timers.borrow_mut().put(timer);
    match done {
        Ok((conn, upload, response)) => Some((Sent { attempt, conn, upload }, response)),
        Err(Failure::Endpoint { fault, .. }) => {
            attempt.fail(fault, job.question);
            None
        }
        Err(Failure::Client(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_finds_its_quantile_and_follows_when_answers_get_slower() {
        let mut pace = Pace::default();
        // Every time from 1 to 10 ms equally often, in an order without pattern.
        let mut run = |n: u64, slower: u64| {
            (0..n).for_each(|i| pace.note(0.95, slower * (1_000 + (i * 7_919) % 9_000)));
            pace.us
        };
        let first = run(5_000, 1);
        assert!((8_500.0..10_500.0).contains(&first), "{first}");
        let slower = run(5_000, 10);
        assert!((85_000.0..105_000.0).contains(&slower), "{slower}");
    }

    #[test]
    fn a_pace_is_not_believed_before_it_has_seen_enough() {
        let mut pace = Pace::default();
        (1..SEEN_MIN).for_each(|_| pace.note(0.9, 5_000));
        assert_eq!(pace.quantile(), None);
        pace.note(0.9, 5_000);
        assert!(pace.quantile().is_some());
    }
}
