//! Names in use and the addresses they stand for: looked up again and again, apart from any request.
//!
//! Each name has a task on the control thread that looks it up, notes the answer in the book and sleeps for as long
//! as the answer is good, or until somebody is in a hurry. A change is announced; the switchboard listens and
//! publishes. A name that does not resolve is no error: its pool has no endpoint until it does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::book::{self, Book};
use super::dns::Dns;
use crate::model::{Address, Origin};
use crate::telemetry::clock;

/// Least time between the beginnings of two lookups of one name, however many are in a hurry: a dead endpoint under
/// load fails thousands of times a second.
const HURRY_MIN: Duration = Duration::from_millis(250);

/// Calls in a hurry that wait to be heard; more are dropped, as they would say the same.
const HURRY_QUEUE_MAX: usize = 64;

/// The names in use. Made within the control runtime and used from any thread of the control side; [`Hurry`] is for
/// workers.
#[derive(Debug)]
pub struct Names {
    shared: Arc<Shared>,
    tasks: Mutex<HashMap<String, Follower>>,
    /// Names that are about to be followed; one for each [`Ahead`] that named it.
    ahead: Mutex<Vec<String>>,
    hurry: Hurry,
    ear: JoinHandle<()>,
    control: Handle,
}

/// A worker's way to say that a connection to an endpoint failed and its name should be looked up now.
#[derive(Debug, Clone)]
pub struct Hurry(mpsc::Sender<String>);

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookups {
    /// Name servers; none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Bounds on the time to live of an answer.
    pub ttl: RangeInclusive<Duration>,
}

/// Names that are looked up before anything is published with them; they are kept at least until this is dropped.
#[derive(Debug)]
#[must_use = "the names are forgotten at the next publication once this is dropped"]
pub struct Ahead<'a> {
    names: &'a Names,
    hosts: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    dns: Dns,
    ttl: RangeInclusive<Duration>,
    book: Mutex<Book>,
    /// Rung after each lookup.
    looked_up: Condvar,
    wakers: Mutex<HashMap<String, Arc<Notify>>>,
    changes: watch::Sender<u64>,
    lookups: watch::Sender<u64>,
    containers: Mutex<Containers>,
    /// Whether any origin stands for containers.
    wanted: watch::Sender<bool>,
}

/// The containers that were found by their labels.
#[derive(Debug, Default)]
struct Containers {
    /// By `service/pool`.
    found: BTreeMap<String, Vec<SocketAddr>>,
    problem: Option<String>,
    /// Whether they were looked for, well or badly.
    looked_up: bool,
}

#[derive(Debug)]
struct Follower(JoinHandle<()>);

impl Default for Lookups {
    /// The system's servers, and 1 to 30 s: an answer is not asked for in every second, nor believed for ten minutes.
    fn default() -> Self {
        Self { servers: Vec::new(), ttl: Duration::from_secs(1)..=Duration::from_secs(30) }
    }
}

// === impl Names ===

impl Names {
    /// No names yet. `/etc/hosts` goes before any server. Must be called within the control runtime.
    pub fn new(lookups: Lookups) -> Self {
        Self::with(Dns::new(lookups.servers), lookups.ttl)
    }

    pub(crate) fn with(dns: Dns, ttl: RangeInclusive<Duration>) -> Self {
        let shared = Arc::new(Shared {
            dns,
            ttl,
            book: Mutex::default(),
            looked_up: Condvar::new(),
            wakers: Mutex::default(),
            changes: watch::Sender::new(0),
            lookups: watch::Sender::new(0),
            containers: Mutex::default(),
            wanted: watch::Sender::new(false),
        });
        let (sender, receiver) = mpsc::channel(HURRY_QUEUE_MAX);
        let control = Handle::current();
        let ear = control.spawn(listen(Arc::clone(&shared), receiver));
        Self { shared, tasks: Mutex::default(), ahead: Mutex::default(), hurry: Hurry(sender), ear, control }
    }

    /// Follows the names of exactly these origins from now on, and those that are looked up ahead; those already
    /// followed keep their answers and times.
    pub fn follow<'a>(&self, origins: impl IntoIterator<Item = &'a Origin>) {
        let origins: Vec<&Origin> = origins.into_iter().collect();
        let wanted = origins.iter().any(|origin| origin.labelled().is_some());
        self.shared.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named: HashSet<String> = hosts(origins).map(str::to_owned).collect();
        named.extend(self.ahead.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        tasks.retain(|host, _| {
            let keep = named.contains(host);
            if !keep {
                self.shared.book().remove(host);
                self.shared.wakers().remove(host);
            }
            keep
        });
        named.iter().for_each(|host| self.begin(&mut tasks, host));
        drop(tasks);
        // A removed name may have been the last one that was waited for.
        self.shared.note_lookup();
    }

    /// Begins to follow the names of these origins besides those followed already, and waits until the new ones were
    /// looked up once, well or badly, or `limit` is over. It blocks: not for the control thread.
    pub fn look_ahead<'a>(&self, origins: impl IntoIterator<Item = &'a Origin>, limit: Duration) -> Ahead<'_> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let new = |host: &&str| !tasks.contains_key(*host) || ahead.iter().any(|other| other == host);
        let new: HashSet<&str> = hosts(origins).filter(new).collect();
        let hosts: Vec<String> = new.into_iter().map(str::to_owned).collect();
        ahead.extend_from_slice(&hosts);
        drop(ahead);
        hosts.iter().for_each(|host| self.begin(&mut tasks, host));
        drop(tasks);
        let awaited = |book: &mut Book| !hosts.iter().all(|host| book.looked_up(host));
        // Whether the time was enough is no news: without an answer the pool is empty until there is one.
        let _ = self.shared.looked_up.wait_timeout_while(self.shared.book(), limit, awaited);
        Ahead { names: self, hosts }
    }

    fn begin(&self, tasks: &mut HashMap<String, Follower>, host: &str) {
        if self.shared.book().add(host) {
            let notify = Arc::new(Notify::new());
            self.shared.wakers().insert(host.to_owned(), Arc::clone(&notify));
            let task = self.control.spawn(follow(Arc::clone(&self.shared), host.to_owned(), notify));
            tasks.insert(host.to_owned(), Follower(task));
        }
    }

    /// What an origin stands for now: itself when it is an address, else the last good answer; empty when there is
    /// none.
    pub fn answers(&self, origin: &Origin) -> Vec<Address> {
        if let Some(pool) = origin.labelled() {
            let containers = self.shared.containers();
            return containers.found.get(pool).into_iter().flatten().map(|&addr| addr.into()).collect();
        }
        match origin.literal() {
            Some(addr) => vec![addr],
            None => {
                let addrs = self.shared.book().addresses(&origin.host);
                addrs.into_iter().map(|ip| SocketAddr::new(ip, origin.port).into()).collect()
            }
        }
    }

    /// Why the origin's name does not resolve now, if it does not; the last good answer may still be in use.
    pub fn problem(&self, origin: &Origin) -> Option<String> {
        if let Some(pool) = origin.labelled() {
            let containers = self.shared.containers();
            let none = || (!containers.found.contains_key(pool)).then(|| "no container has its labels".to_owned());
            return containers.problem.clone().or_else(none);
        }
        self.shared.book().problem(&origin.host).map(str::to_owned)
    }

    /// Whether any origin stands for containers, now and whenever that changes.
    pub fn wants_containers(&self) -> watch::Receiver<bool> {
        self.shared.wanted.subscribe()
    }

    /// The containers that were found, by `service/pool`. Those that were found last are kept by [`Names::lost`].
    pub fn found(&self, found: BTreeMap<String, Vec<SocketAddr>>) {
        let mut containers = self.shared.containers();
        let changed = containers.found != found;
        *containers = Containers { found, problem: None, looked_up: true };
        drop(containers);
        self.shared.note_lookup();
        if changed {
            self.shared.changes.send_modify(|count| *count += 1);
        }
    }

    /// Why containers cannot be looked for now.
    pub fn lost(&self, problem: String) {
        let mut containers = self.shared.containers();
        containers.problem = Some(problem);
        containers.looked_up = true;
        drop(containers);
        self.shared.note_lookup();
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
            let containers = !*self.shared.wanted.borrow() || self.shared.containers().looked_up;
            if containers && self.shared.book().all_looked_up() {
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

/// The names among these origins; addresses need no lookup.
fn hosts<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> impl Iterator<Item = &'a str> {
    origins.into_iter().filter(|origin| is_name(origin)).map(|origin| &*origin.host)
}

/// Whether its host is looked up by name.
fn is_name(origin: &Origin) -> bool {
    origin.literal().is_none() && origin.labelled().is_none()
}

// === impl Ahead ===

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        let mut ahead = self.names.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        for host in &self.hosts {
            // One only: another one that looks ahead may have named it too.
            if let Some(at) = ahead.iter().position(|other| other == host) {
                ahead.swap_remove(at);
            }
        }
    }
}

// === impl Hurry ===

impl Hurry {
    /// Says that `origin` should be looked up now. Never waits: a full queue means that others have said it.
    pub fn call(&self, origin: &Origin) {
        if is_name(origin) {
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

    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits for lookups that one came to its end.
    fn note_lookup(&self) {
        self.looked_up.notify_all();
        self.lookups.send_modify(|count| *count += 1);
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
        shared.note_lookup();
        say(&shared, &host, change);
        if change.addresses {
            shared.changes.send_modify(|count| *count += 1);
        }
        let wait = book::wait(book::ttl(&answer.v4, &answer.v6), answer.docker, &shared.ttl, now_ms);
        let next = Instant::now() + wait;
        tokio::select! {
            biased; // A call in a hurry is heard even when the wait is over too, so that it is not left for later.
            () = hurry.notified() => sleep_until((began + HURRY_MIN).min(next)).await,
            () = sleep_until(next) => {}
        }
    }
}

/// One line when a name begins to fail, when it is back, and when its addresses change.
fn say(shared: &Shared, host: &str, change: book::Change) {
    let book = shared.book();
    let (addresses, problem) = (book.addresses(host), book.problem(host).map(str::to_owned));
    drop(book);
    match (change.failing, problem) {
        (Some(true), Some(reason)) => {
            let kept = addresses.len();
            tracing::warn!(host, reason, kept, "the name does not resolve; the last good addresses are kept");
        }
        _ if change.addresses => tracing::info!(host, ?addresses, "the name has these addresses now"),
        (Some(_), _) => tracing::info!(host, ?addresses, "the name resolves again"),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::model::Protocol;
    use crate::upstream::book::Reply;
    use crate::upstream::testing::{NameServer, Says, until};

    const LONG: Duration = Duration::from_secs(5);

    fn origin(host: &str) -> Origin {
        Origin { protocol: Protocol::Http1, host: host.into(), port: 8080 }
    }

    fn answers(names: &Names, host: &str) -> Vec<String> {
        names.answers(&origin(host)).iter().map(ToString::to_string).collect()
    }

    /// A file of this test alone, gone with its value.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, text: &str) -> Self {
            let scratch = Self(std::env::temp_dir().join(format!("weir-names-{}-{name}", std::process::id())));
            scratch.write(text);
            scratch
        }

        fn write(&self, text: &str) {
            std::fs::File::create(&self.0).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // Whether it is still there does not matter to the test.
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn without_hosts(server: &NameServer) -> Names {
        let nowhere = Path::new("/nonexistent/weir");
        Names::with(Dns::with_files(vec![server.addr], nowhere, nowhere), Lookups::default().ttl)
    }

    #[tokio::test]
    async fn every_address_of_both_families_is_an_answer() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.2", "10.0.0.1", "fd00::1"], 1);
        server.addresses("v6-only", &["fd00::6"], 1);
        server.addresses("project_engine_1", &["10.0.0.7"], 1);
        let names = without_hosts(&server);
        names.follow(&[origin("engine"), origin("v6-only"), origin("project_engine_1")]);
        assert!(names.first_round(LONG).await);
        assert_eq!(answers(&names, "engine"), ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080"]);
        assert_eq!(answers(&names, "v6-only"), ["[fd00::6]:8080"]);
        assert_eq!(answers(&names, "project_engine_1"), ["10.0.0.7:8080"]);
        assert_eq!(answers(&names, "127.0.0.1"), ["127.0.0.1:8080"]);
        assert_eq!(answers(&names, "::1"), ["[::1]:8080"]);
        assert_eq!(*names.changes().borrow(), 3);
    }

    #[tokio::test]
    async fn fifty_records_are_fifty_answers() {
        let server = NameServer::start().await;
        let many: Vec<String> = (1..=50).map(|n| format!("10.0.0.{n}")).collect();
        server.addresses("engine", &many.iter().map(String::as_str).collect::<Vec<_>>(), 1);
        let names = without_hosts(&server);
        names.follow(&[origin("engine")]);
        assert!(names.first_round(LONG).await);
        assert_eq!(answers(&names, "engine").len(), 50);
    }

    #[tokio::test]
    async fn a_flip_is_seen_within_about_a_second_and_announced() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.1"], 0);
        let names = without_hosts(&server);
        let mut changes = names.changes();
        names.follow(&[origin("engine")]);
        changes.changed().await.expect("the first answer");
        server.addresses("engine", &["10.0.0.2"], 0);
        let began = Instant::now();
        changes.changed().await.expect("the flip");
        assert_eq!(answers(&names, "engine"), ["10.0.0.2:8080"]);
        assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn errors_and_silence_keep_the_last_good_answer() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.1"], 1);
        let names = without_hosts(&server);
        names.follow(&[origin("engine")]);
        assert!(names.first_round(LONG).await);
        let mut lookups = names.shared.lookups.subscribe();
        for says in [Says::ServFail, Says::NxDomain, Says::Addresses(vec![], 1), Says::Nothing] {
            server.tell("engine", says.clone());
            lookups.mark_unchanged();
            names.hurry(&origin("engine"));
            lookups.changed().await.expect("a lookup");
            assert_eq!(answers(&names, "engine"), ["10.0.0.1:8080"], "{says:?}");
        }
        server.addresses("engine", &["10.0.0.2"], 1);
        until("the new answer", || answers(&names, "engine") == ["10.0.0.2:8080"]).await;
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_at_first_is_found_when_it_does() {
        let server = NameServer::start().await;
        let names = without_hosts(&server);
        names.follow(&[origin("late")]);
        assert!(names.first_round(LONG).await);
        assert!(answers(&names, "late").is_empty());
        assert_eq!(names.problem(&origin("late")).as_deref(), Some("no such name"));
        server.addresses("late", &["10.0.0.1"], 5);
        until("the late name", || answers(&names, "late") == ["10.0.0.1:8080"]).await;
    }

    #[tokio::test]
    async fn a_name_with_a_long_time_to_live_is_asked_once_and_again_in_a_hurry() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.1"], 3_600);
        let names = without_hosts(&server);
        names.follow(&[origin("engine")]);
        assert!(names.first_round(LONG).await);
        assert_eq!(server.asked(), 2, "A and AAAA");
        server.addresses("engine", &["10.0.0.2"], 3_600);
        let (began, hurry) = (Instant::now(), names.hurried());
        // A storm of failures from a worker thread.
        let storm = std::thread::spawn(move || (0..10_000).for_each(|_| hurry.call(&origin("engine"))));
        until("the hurried answer", || answers(&names, "engine") == ["10.0.0.2:8080"]).await;
        // The answer was good for thirty seconds.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        storm.join().expect("the worker");
        let lookups_max = began.elapsed().as_millis() as usize / HURRY_MIN.as_millis() as usize + 2;
        assert!(server.asked() <= 2 * (1 + lookups_max), "{} questions", server.asked());
    }

    #[tokio::test]
    async fn localhost_and_the_hosts_file_need_no_name_server() {
        let hosts = Scratch::new("hosts", "10.1.1.1 engine other\nfd00::1 engine\n");
        let dns = Dns::with_files(vec![], Path::new("/nonexistent/resolv.conf"), &hosts.0);
        let names = Names::with(dns, Lookups::default().ttl);
        names.follow(&[origin("localhost"), origin("engine"), origin("nowhere")]);
        assert!(names.first_round(LONG).await);
        assert_eq!(answers(&names, "localhost"), ["127.0.0.1:8080"]);
        assert_eq!(answers(&names, "engine"), ["10.1.1.1:8080", "[fd00::1]:8080"]);
        assert!(answers(&names, "nowhere").is_empty());
        // The file changes: its names follow.
        hosts.write("10.1.1.222 engine\n");
        until("the changed hosts file", || answers(&names, "engine") == ["10.1.1.222:8080"]).await;
    }

    #[tokio::test]
    async fn a_name_that_is_looked_up_ahead_is_known_when_it_is_published() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.1"], 60);
        server.addresses("next", &["10.0.0.2"], 60);
        server.tell("silent", Says::Nothing);
        let names = Arc::new(without_hosts(&server));
        names.follow(&[origin("engine")]);
        let looking = Arc::clone(&names);
        let look = move || {
            let ahead = looking.look_ahead(&[origin("engine"), origin("next"), origin("10.0.0.9")], LONG);
            // Another publication meanwhile does not know of it.
            looking.follow(&[origin("engine")]);
            assert_eq!(answers(&looking, "next"), ["10.0.0.2:8080"]);
            looking.follow(&[origin("engine"), origin("next")]);
            drop(ahead);
            assert_eq!(answers(&looking, "next"), ["10.0.0.2:8080"]);
            let (began, limit) = (std::time::Instant::now(), Duration::from_millis(50));
            drop(looking.look_ahead(&[origin("silent")], limit));
            assert!(began.elapsed() >= limit && began.elapsed() < LONG, "{:?}", began.elapsed());
            // What was not published is forgotten with the next publication.
            looking.follow(&[origin("engine")]);
            assert!(answers(&looking, "next").is_empty());
        };
        tokio::task::spawn_blocking(look).await.expect("it holds");
    }

    #[tokio::test]
    async fn a_changed_resolv_conf_is_read_again() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.1"], 1);
        let resolv = Scratch::new("resolv", "# empty\n");
        let dns = Dns::with_files(vec![], &resolv.0, Path::new("/nonexistent/hosts"));
        let answer = dns.lookup("engine").await;
        assert!(matches!(&answer.v4, Reply::Failed(reason) if reason.starts_with("no name server")), "{answer:?}");
        // resolv.conf has no ports, so that what is asserted is that the server it names now is asked in vain.
        resolv.write("nameserver 127.0.0.11\noptions ndots:0\n");
        let answer = dns.lookup("engine").await;
        assert!(answer.docker);
        assert!(matches!(&answer.v4, Reply::Failed(reason) if !reason.starts_with("no name server")), "{answer:?}");
    }

    #[tokio::test]
    async fn a_name_that_is_no_longer_followed_is_forgotten_and_not_asked_again() {
        let server = NameServer::start().await;
        server.addresses("engine", &["10.0.0.1"], 0);
        server.addresses("other", &["10.0.0.3"], 0);
        let names = without_hosts(&server);
        names.follow(&[origin("engine")]);
        assert!(names.first_round(LONG).await);
        names.follow(&[origin("other")]);
        assert!(names.first_round(LONG).await);
        assert!(answers(&names, "engine").is_empty());
        assert_eq!(answers(&names, "other"), ["10.0.0.3:8080"]);
    }
}
