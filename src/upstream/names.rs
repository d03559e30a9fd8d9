//! Names in use and the addresses they stand for: looked up again and again, apart from any request.
//!
//! Each name has a task on the control thread that looks it up, notes the answer in the [`Book`] and sleeps for as long
//! as the answer is good, or until somebody is in a hurry. A change is announced; the switchboard listens and publishes.
//! A name that does not resolve is no error: its pool has no endpoint until it does.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::book::{self, Book, Reply};
use super::dns::Dns;
use crate::model::Origin;
use crate::telemetry::clock;

/// Least time between the beginnings of two lookups of one name, however many are in a hurry: a dead endpoint under
/// load fails thousands of times a second.
const HURRY_MIN: Duration = Duration::from_millis(250);

/// Calls in a hurry that wait to be heard; more are dropped, as they would say the same.
const HURRY_QUEUE_MAX: usize = 64;

/// The names in use. Made and used on the control runtime; [`Hurry`] is for workers.
#[derive(Debug)]
pub struct Names {
    shared: Arc<Shared>,
    tasks: Mutex<HashMap<String, Follower>>,
    hurry: Hurry,
    ear: JoinHandle<()>,
}

/// A worker's way to say that a connection to an endpoint failed and its name should be looked up now.
#[derive(Debug, Clone)]
pub struct Hurry(mpsc::Sender<String>);

#[derive(Debug)]
struct Shared {
    dns: Dns,
    book: Mutex<Book>,
    wakers: Mutex<HashMap<String, Arc<Notify>>>,
    changes: watch::Sender<u64>,
    lookups: watch::Sender<u64>,
}

#[derive(Debug)]
struct Follower(JoinHandle<()>);

// === impl Names ===

impl Names {
    /// No names yet. Asks `servers`, or those of `/etc/resolv.conf` when there are none; `/etc/hosts` goes first either
    /// way. Must be called within the control runtime.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self::with(Dns::new(servers))
    }

    pub(crate) fn with(dns: Dns) -> Self {
        let shared = Arc::new(Shared {
            dns,
            book: Mutex::default(),
            wakers: Mutex::default(),
            changes: watch::Sender::new(0),
            lookups: watch::Sender::new(0),
        });
        let (sender, receiver) = mpsc::channel(HURRY_QUEUE_MAX);
        let ear = tokio::spawn(listen(Arc::clone(&shared), receiver));
        Self { shared, tasks: Mutex::default(), hurry: Hurry(sender), ear }
    }

    /// Follows the names of exactly these origins from now on; those already followed keep their answers and times.
    pub fn follow<'a>(&self, origins: impl IntoIterator<Item = &'a Origin>) {
        let named: HashSet<&str> =
            origins.into_iter().filter(|origin| origin.literal().is_none()).map(|origin| &*origin.host).collect();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|host, _| {
            let keep = named.contains(host.as_str());
            if !keep {
                self.shared.book().remove(host);
                self.shared.wakers().remove(host);
            }
            keep
        });
        for host in named {
            if self.shared.book().add(host) {
                let notify = Arc::new(Notify::new());
                self.shared.wakers().insert(host.to_owned(), Arc::clone(&notify));
                let task = tokio::spawn(follow(Arc::clone(&self.shared), host.to_owned(), notify));
                tasks.insert(host.to_owned(), Follower(task));
            }
        }
        // A removed name may have been the last one that was waited for.
        self.shared.lookups.send_modify(|count| *count += 1);
    }

    /// What an origin stands for now: itself when it is an address, else the last good answer; empty when there is none.
    pub fn answers(&self, origin: &Origin) -> Vec<SocketAddr> {
        match origin.literal() {
            Some(addr) => vec![addr],
            None => {
                let addrs = self.shared.book().addresses(&origin.host);
                addrs.into_iter().map(|ip| SocketAddr::new(ip, origin.port)).collect()
            }
        }
    }

    /// Announces changes of any name's addresses; the value only counts them.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Looks the origin's name up at once, but not more often than four times a second.
    pub fn hurry(&self, origin: &Origin) {
        self.hurry.call(origin);
    }

    /// For workers: the same without a lock.
    pub fn hurried(&self) -> Hurry {
        self.hurry.clone()
    }

    /// Waits until every followed name was looked up once, well or badly. False when the time was too short.
    pub async fn first_round(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut lookups = self.shared.lookups.subscribe();
        loop {
            if self.shared.book().all_looked_up() {
                return true;
            }
            if timeout_at(deadline, lookups.changed()).await.is_err() {
                return false;
            }
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.ear.abort();
    }
}

// === impl Hurry ===

impl Hurry {
    /// Says that `origin` should be looked up now. Never waits: a full queue means that others have said it.
    pub fn call(&self, origin: &Origin) {
        if origin.literal().is_none() {
            // A full queue holds names that are about to be looked up, and the next failure calls again.
            let _ = self.0.try_send(origin.host.clone());
        }
    }
}

// === impl Follower ===

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl Shared ===

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakers(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(shared: Arc<Shared>, mut calls: mpsc::Receiver<String>) {
    while let Some(host) = calls.recv().await {
        if let Some(notify) = shared.wakers().get(&host) {
            notify.notify_one();
        }
    }
}

async fn follow(shared: Arc<Shared>, host: String, hurry: Arc<Notify>) {
    loop {
        let began = Instant::now();
        let answer = shared.dns.lookup(&host).await;
        let now_ms = clock::now().mono_ms;
        let change = shared.book().note(&host, &answer.v4, &answer.v6, now_ms);
        shared.lookups.send_modify(|count| *count += 1);
        say(&shared, &host, &answer.v4, &answer.v6, change);
        if change.addresses {
            shared.changes.send_modify(|count| *count += 1);
        }
        let wait = book::wait(book::ttl(&answer.v4, &answer.v6), answer.docker, now_ms);
        let next = Instant::now() + wait;
        tokio::select! {
            biased; // A call in a hurry is heard even when the wait is over too, so that it is not left for later.
            () = hurry.notified() => sleep_until((began + HURRY_MIN).min(next)).await,
            () = sleep_until(next) => {}
        }
    }
}

/// One line when a name begins to fail, when it is back, and when its addresses change.
fn say(shared: &Shared, host: &str, v4: &Reply, v6: &Reply, change: book::Change) {
    let addresses = shared.book().addresses(host);
    match change.failing {
        Some(true) => {
            let reason = match (v4, v6) {
                (Reply::Failed(reason), _) | (_, Reply::Failed(reason)) => reason,
                _ => "no such name",
            };
            let kept = addresses.len();
            tracing::warn!(host, reason, kept, "the name does not resolve; the last good addresses are kept");
        }
        _ if change.addresses => tracing::info!(host, ?addresses, "the name has these addresses now"),
        Some(false) => tracing::info!(host, ?addresses, "the name resolves again"),
        None => {}
    }
}
