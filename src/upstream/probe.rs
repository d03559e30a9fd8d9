//! Active probes: one task per probed endpoint on the control thread, with its own schedule.
//!
//! A task lives as long as its endpoint is a target with the same policy, so that a publication neither restarts a
//! schedule nor forgets what was shown. What a result means is the ledger's business (`gate`); how a probe
//! goes over the wire is in `check`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::check::{CheckError, Whom, check};
use super::endpoint::{Endpoint, StateKind};
use super::gate::mixed;
use crate::model::{Health, Identity, ProbeKind, ProxyVersion};
use crate::telemetry::clock;
use crate::tls::pool::PoolTls;

/// Probes under way at a time; more wait their turn. Each takes a descriptor and at most its timeout.
const PARALLEL_MAX: usize = 64;

/// Time between probes while the verdict may change soon (HAProxy's `fastinter`).
const QUICK: Duration = Duration::from_millis(500);

/// Changes of one endpoint that are logged within [`FLAPPING_MS`]; the rest are only counted.
const CHANGES_LOGGED_MAX: u32 = 6;

/// The span in which an endpoint that changes often is quiet in the log.
const FLAPPING_MS: u64 = 60_000;

/// An endpoint and how it is probed.
#[derive(Debug, Clone)]
pub struct Target {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// How; none: not at all.
    pub health: Option<Health>,
    /// What it is spoken to with, where it speaks TLS.
    pub tls: Option<Arc<PoolTls>>,
    /// How it is told that a connection is weir's own; none: not at all.
    pub proxy: Option<ProxyVersion>,
}

/// The probes under way.
#[derive(Debug)]
pub(crate) struct Prober {
    tasks: Mutex<HashMap<u64, Task>>,
    turns: Arc<Semaphore>,
    /// How many endpoints had their first probe.
    firsts: watch::Sender<u64>,
    control: Handle,
}

#[derive(Debug)]
struct Task {
    health: Health,
    tls: Option<Arc<PoolTls>>,
    proxy: Option<ProxyVersion>,
    first: watch::Receiver<bool>,
    handle: JoinHandle<()>,
}

/// How often an endpoint's changes were logged lately.
#[derive(Debug, Default)]
struct Chatter {
    since_ms: u64,
    logged: u32,
}

// === impl Prober ===

impl Prober {
    /// No probes yet; they will run on the current runtime.
    pub(crate) fn new() -> Self {
        Self {
            tasks: Mutex::default(),
            turns: Arc::new(Semaphore::new(PARALLEL_MAX)),
            firsts: watch::Sender::new(0),
            control: Handle::current(),
        }
    }

    /// Probes exactly these endpoints from now on.
    pub(crate) fn set<'a>(&self, targets: impl IntoIterator<Item = &'a Target>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = HashMap::new();
        for target in targets {
            let serial = target.endpoint.serial;
            match (&target.health, tasks.remove(&serial)) {
                (Some(health), Some(task)) if task.probes(health, target) && !task.handle.is_finished() => {
                    kept.insert(serial, task);
                }
                (Some(health), _) => {
                    kept.insert(serial, self.begin(target, health.clone()));
                }
                (None, _) => target.endpoint.unprobed(clock::now().mono_ms),
            }
        }
        *tasks = kept;
        self.firsts.send_modify(|count| *count += 1);
    }

    /// Waits until every target had its first probe, passed or failed. False when the time was too short.
    pub(crate) async fn first_round(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut firsts = self.firsts.subscribe();
        loop {
            let done = {
                let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                tasks.values().all(|task| *task.first.borrow())
            };
            if done {
                return true;
            }
            if timeout_at(deadline, firsts.changed()).await.is_err() {
                return false;
            }
        }
    }

    fn begin(&self, target: &Target, health: Health) -> Task {
        let (endpoint, tls, proxy) = (Arc::clone(&target.endpoint), target.tls.clone(), target.proxy);
        let (sender, first) = watch::channel(false);
        let (turns, firsts, policy) = (Arc::clone(&self.turns), self.firsts.clone(), health.clone());
        let kept = tls.clone();
        let handle = self.control.spawn(async move {
            let mut chatter = Chatter::default();
            loop {
                probe(&endpoint, &policy, (tls.as_deref(), proxy), &turns, &mut chatter).await;
                if !sender.send_replace(true) {
                    firsts.send_modify(|count| *count += 1);
                }
                sleep(pause(&policy, endpoint.in_transition(), endpoint.serial ^ clock::now().mono_ms)).await;
            }
        });
        Task { health, tls: kept, proxy, first, handle }
    }
}

// === impl Task ===

impl Task {
    /// Whether it does so in this way already.
    fn probes(&self, health: &Health, target: &Target) -> bool {
        self.health == *health
            && self.proxy == target.proxy
            && self.tls.as_ref().map(Arc::as_ptr) == target.tls.as_ref().map(Arc::as_ptr)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

// === impl Chatter ===

impl Chatter {
    /// Whether a change at `now_ms` is worth a line, and whether it is the last for a while.
    fn line(&mut self, now_ms: u64) -> Option<bool> {
        if now_ms >= self.since_ms + FLAPPING_MS {
            *self = Self { since_ms: now_ms, logged: 0 };
        }
        self.logged += u32::from(self.logged <= CHANGES_LOGGED_MAX);
        (self.logged <= CHANGES_LOGGED_MAX).then_some(self.logged == CHANGES_LOGGED_MAX)
    }
}

/// The time to the next probe: the interval, or less while something changes, 10 % earlier or later by `draw`.
fn pause(health: &Health, in_transition: bool, draw: u64) -> Duration {
    let nominal = if in_transition { health.interval.min(QUICK) } else { health.interval };
    let unit = (mixed(draw) >> 11) as f64 / (1u64 << 53) as f64;
    // At least a millisecond: an interval of 0 would spin.
    nominal.mul_f64(0.9 + 0.2 * unit).max(Duration::from_millis(1))
}

async fn probe(
    endpoint: &Endpoint,
    health: &Health,
    (tls, proxy): (Option<&PoolTls>, Option<ProxyVersion>),
    turns: &Semaphore,
    chatter: &mut Chatter,
) {
    let Ok(turn) = turns.acquire().await else { return };
    let whom = Whom::of(endpoint, tls, proxy);
    let result = check(&whom, health).await;
    drop(turn);
    // Another program at this address may be another service: that is no matter of chance, so once is enough.
    let stranger = matches!(result, Err(CheckError::Stranger { .. }));
    let fall = if stranger { 1 } else { health.fall };
    let reason = match result {
        Ok(()) => None,
        Err(CheckError::Ours(error)) => {
            tracing::debug!(%error, addr = %endpoint.id.addr, "a probe could not be made");
            return;
        }
        Err(error) => Some(error.to_string()),
    };
    match &reason {
        Some(reason) => endpoint.note_error(reason),
        None => warm(endpoint, health, &whom, turns).await,
    }
    let now_ms = clock::now().mono_ms;
    let change = endpoint.probed(reason.is_none(), now_ms, health.rise, fall);
    if change.is_some_and(|(_, after)| after == StateKind::Down) {
        endpoint.set_warm(false);
    }
    if let Some(((before, after), last)) = change.zip(change.and_then(|_| chatter.line(now_ms))) {
        say(endpoint, before, after, reason.as_deref().unwrap_or("it passed its probes"));
        if last {
            tracing::warn!(addr = %endpoint.id.addr, "it changes often; further changes are not logged for a while");
        }
    }
}

/// Gives an endpoint its warm-up, before the pass that makes it serve is taken note of: requests for a path, whatever
/// their answers, within a deadline.
async fn warm(endpoint: &Endpoint, health: &Health, whom: &Whom<'_>, turns: &Semaphore) {
    let Some(policy) = health.warm_up.as_ref().filter(|_| !endpoint.is_warm()) else { return };
    let host = match &health.kind {
        ProbeKind::Http { host, .. } | ProbeKind::Grpc { host, .. } => host.clone(),
        ProbeKind::Tcp => None,
    };
    let kind = ProbeKind::Http { path: policy.path.clone(), host, expect: 0..=u16::MAX };
    let request = Health { kind, timeout: policy.deadline, identity: Identity::default(), ..health.clone() };
    let (began, mut answers) = (Instant::now(), 0);
    let asking = async {
        for _ in 0..policy.requests {
            let Ok(_turn) = turns.acquire().await else { return };
            answers += u32::from(check(whom, &request).await.is_ok());
        }
    };
    // What is not done by then is left undone.
    let _ = tokio::time::timeout(policy.deadline, asking).await;
    endpoint.set_warm(true);
    let (service, pool, addr) = (&*endpoint.id.service, &*endpoint.id.pool, &endpoint.id.addr);
    let asked = policy.requests;
    tracing::info!(service, pool, %addr, answers, asked, took = ?began.elapsed(), "an endpoint was warmed up");
}

fn say(endpoint: &Endpoint, before: StateKind, after: StateKind, reason: &str) {
    let (service, pool, addr) = (&*endpoint.id.service, &*endpoint.id.pool, &endpoint.id.addr);
    let (before, after) = (before.as_str(), after.as_str());
    tracing::warn!(service, pool, %addr, before, after, reason, "an endpoint changed by its probes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_at_their_interval_within_a_tenth_and_quicker_in_transition() {
        let health = Health::default();
        for draw in 0..1_000 {
            let steady = pause(&health, false, draw).as_millis();
            assert!((1_800..=2_200).contains(&steady), "{steady}");
            let quick = pause(&health, true, draw).as_millis();
            assert!((450..=550).contains(&quick), "{quick}");
        }
        let eager = Health { interval: Duration::from_millis(100), ..health };
        assert!(pause(&eager, true, 1) <= Duration::from_millis(110));
        assert!(pause(&Health { interval: Duration::ZERO, ..eager }, false, 1) > Duration::ZERO);
    }

    #[test]
    fn an_endpoint_that_changes_every_second_does_not_flood_the_log() {
        let mut chatter = Chatter::default();
        let lines = (0..600).filter(|second| chatter.line(100_000 + second * 1_000).is_some()).count();
        assert_eq!(lines, 60);
    }
}
