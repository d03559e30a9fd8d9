//! Says at once when one of the two files changed. One thread: file events of every directory that the files are
//! reached through (`chain`), and a poll each second, because bind mounts on some hosts raise no events.
//!
//! A closed write, a rename and a new link are read and reported at once; there is no settling delay and no throttle.
//! Only what looks half written gets a grace (`judge`). The watcher parses no more than it needs for that, and it
//! does not know what the proxy wrote itself: **the receiver compares [`Reading::hash`]** with the hash of the text
//! that it applied last, and takes an equal one as "the file agrees again". So no state is shared with the writer, and
//! a write that failed leaves nothing behind. Content that was reported is not reported twice in a row.
//!
//! A log file that is written often does not belong into a watched directory: each of its writes wakes the watcher's
//! event thread (it is then ignored by name).

mod chain;
mod judge;
mod stale;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest, Sha256};

use self::chain::{Chain, chain};
use self::judge::{Judge, Seen, Trigger};
use super::ReadError;

/// How often the files are read even if nothing was heard (Caddy's poll).
const POLL: Duration = Duration::from_secs(1);

/// How often a stale mount is reported again.
const STALE_AGAIN: Duration = Duration::from_secs(30);

/// SHA-256 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

/// What happened. A receiver must not block for long: it is called on the watcher's thread.
#[derive(Debug)]
pub enum Event {
    /// One or both files hold something else than was reported before.
    Changed {
        /// `weir.toml`, when it changed.
        main: Option<Reading>,
        /// `weights.toml`, when it changed.
        weights: Option<Reading>,
    },
    /// The file is a bind mount of a single file that was replaced outside: no later edit can ever arrive here.
    /// Repeated every 30 s while it lasts. The fix is to mount the directory instead of the file.
    Stale {
        /// The file.
        path: PathBuf,
    },
    /// File events do not work; changes are found by the poll, within about a second.
    PollOnly {
        /// Why.
        reason: String,
    },
}

/// What a file held when it was read.
#[derive(Debug)]
pub struct Reading {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its text. A text that stayed empty or broken over the grace is given as it is; parsing it says what is wrong.
    pub text: Result<String, ReadError>,
    /// Hash of the text; of nothing when there is none.
    pub hash: ContentHash,
    /// When it was read.
    pub at: Instant,
}

/// A running watcher; dropping it ends its thread.
#[derive(Debug)]
pub struct Watcher {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told. It has no queue: what it is told is that it should look.
#[derive(Debug, Default)]
struct Inbox {
    told: Mutex<Told>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    /// Whether a file event named the main file, the weights file.
    touched: [bool; 2],
    /// The weights file is another one now.
    weights: Option<PathBuf>,
    stop: bool,
}

/// One watched file.
struct Watched {
    path: PathBuf,
    chain: Chain,
    judge: Judge,
    stale_said: Option<Instant>,
}

/// Starts watching. `known_main` and `known_weights` are the hashes of the texts that are loaded already; none for a
/// file that was missing.
pub fn spawn(
    main: impl Into<PathBuf>,
    known_main: Option<ContentHash>,
    weights: impl Into<PathBuf>,
    known_weights: Option<ContentHash>,
    emit: impl FnMut(Event) + Send + 'static,
) -> io::Result<Watcher> {
    let files = [Watched::new(main.into(), known_main), Watched::new(weights.into(), known_weights)];
    let inbox = Arc::new(Inbox::default());
    let names = Arc::new(Mutex::new([files[0].chain.names(), files[1].chain.names()]));
    let mut run =
        Run { inbox: inbox.clone(), names, files, directories: HashMap::new(), events: None, deaf: None, emit };
    run.listen();
    let thread = std::thread::Builder::new().name("weir-watch".into()).spawn(move || run.run())?;
    Ok(Watcher { inbox, thread: Some(thread) })
}

/// A poisoned lock only means that another thread panicked between two plain stores.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl ContentHash ===

impl ContentHash {
    /// The hash of a text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// === impl Watcher ===

impl Watcher {
    /// Looks at both files now, as after SIGHUP; what did not change is not reported.
    pub fn look(&self) {
        self.tell(|told| told.touched = [true; 2]);
    }

    /// Watches another weights file from now on, because `weights` in the main file changed.
    pub fn set_weights(&self, path: PathBuf) {
        self.tell(|told| told.weights = Some(path));
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut lock(&self.inbox.told));
        self.inbox.bell.notify_one();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tell(|told| told.stop = true);
        if let Some(thread) = self.thread.take() {
            // A receiver may hold the watcher and drop it from within: then the thread ends by itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

// === impl Watched ===

impl Watched {
    fn new(path: PathBuf, known: Option<ContentHash>) -> Self {
        let chain = chain(&path);
        Self { path, chain, judge: Judge::new(known), stale_said: None }
    }

    fn look(&mut self, trigger: Trigger, now: Instant) -> Option<Reading> {
        let text = super::read_text(&self.path);
        let hash = ContentHash::of(text.as_deref().unwrap_or_default());
        let seen = Seen::new(&text, hash);
        let report = self.judge.report(seen, || judge::is_finished(&text), trigger, now);
        report.then(|| Reading { path: self.path.clone(), text, hash, at: now })
    }

    fn stale(&mut self, now: Instant) -> Option<Event> {
        if !stale::is_stale(&self.path) {
            self.stale_said = None;
            return None;
        }
        if self.stale_said.is_some_and(|said| now < said + STALE_AGAIN) {
            return None;
        }
        self.stale_said = Some(now);
        Some(Event::Stale { path: self.path.clone() })
    }
}

/// The names that matter in any watched directory, per file.
type Names = Arc<Mutex<[Vec<std::ffi::OsString>; 2]>>;

/// The thread.
struct Run<E> {
    inbox: Arc<Inbox>,
    names: Names,
    files: [Watched; 2],
    /// Which directories are watched, and their identity when the watch was set.
    directories: HashMap<PathBuf, (u64, u64)>,
    events: Option<RecommendedWatcher>,
    /// Why there are no file events, until it was said.
    deaf: Option<String>,
    emit: E,
}

// === impl Run ===

impl<E: FnMut(Event)> Run<E> {
    /// Opens the source of file events. When this returns, no later change is missed.
    fn listen(&mut self) {
        let (inbox, names) = (self.inbox.clone(), self.names.clone());
        let heard = move |event: notify::Result<notify::Event>| {
            let touched = touched(&event, &lock(&names));
            if touched != [false; 2] {
                let mut told = lock(&inbox.told);
                told.touched = [told.touched[0] | touched[0], told.touched[1] | touched[1]];
                drop(told);
                inbox.bell.notify_one();
            }
        };
        match notify::recommended_watcher(heard) {
            Ok(events) => {
                self.events = Some(events);
                self.follow();
            }
            Err(error) => self.deaf = Some(error.to_string()),
        }
    }

    fn run(mut self) {
        let mut next_poll = Instant::now();
        loop {
            if let Some(reason) = self.deaf.take() {
                (self.emit)(Event::PollOnly { reason });
            }
            let deadlines = self.files.iter().filter_map(|file| file.judge.deadline());
            let wake = deadlines.fold(next_poll, Instant::min);
            let told = self.wait(wake);
            if told.stop {
                return;
            }
            if let Some(path) = told.weights {
                self.files[1] = Watched::new(path, None);
                self.follow();
            }
            let now = Instant::now();
            let poll = now >= next_poll;
            self.look(told.touched, now);
            if poll {
                next_poll = now + POLL;
                self.follow();
                let stale: Vec<Event> = self.files.iter_mut().filter_map(|file| file.stale(now)).collect();
                stale.into_iter().for_each(&mut self.emit);
            }
        }
    }

    fn wait(&self, until: Instant) -> Told {
        let mut told = lock(&self.inbox.told);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if told.stop || told.weights.is_some() || told.touched != [false; 2] || left.is_zero() {
                return std::mem::take(&mut told);
            }
            told = self.inbox.bell.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn look(&mut self, touched: [bool; 2], now: Instant) {
        let trigger = |touched| if touched { Trigger::Event } else { Trigger::Poll };
        let [main, weights] = &mut self.files;
        let main = main.look(trigger(touched[0]), now);
        let weights = weights.look(trigger(touched[1]), now);
        if main.is_some() || weights.is_some() {
            (self.emit)(Event::Changed { main, weights });
            // After the report, because it only matters for the next one: a swapped link leads elsewhere now.
            self.follow();
        }
    }

    /// Watches exactly the directories that the files are reached through now.
    fn follow(&mut self) {
        for file in &mut self.files {
            file.chain = chain(&file.path);
        }
        *lock(&self.names) = [self.files[0].chain.names(), self.files[1].chain.names()];
        let Some(events) = &mut self.events else { return };
        let wanted: Vec<&Path> = self.files.iter().flat_map(|file| file.chain.directories()).collect();
        self.directories.retain(|directory, identity| {
            // A directory that was replaced by another of its name has a watch that hears nothing any more.
            let stays = wanted.contains(&directory.as_path()) && chain::identity(directory) == Some(*identity);
            if !stays {
                // It may be gone already, and its watch with it.
                let _ = events.unwatch(directory);
            }
            stays
        });
        for directory in wanted {
            let Some(identity) = chain::identity(directory) else { continue };
            if self.directories.contains_key(directory) {
                continue;
            }
            match events.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.directories.insert(directory.to_owned(), identity)),
                Err(error) => {
                    // Out of watches, most likely. The poll finds every change; say so once.
                    self.deaf = Some(error.to_string());
                    self.events = None;
                    return;
                }
            }
        }
    }
}

/// Which of the files an event speaks of. Plain writes are not waited for but their close; reads are ours.
fn touched(event: &notify::Result<notify::Event>, names: &[Vec<std::ffi::OsString>; 2]) -> [bool; 2] {
    use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
    let Ok(event) = event else { return [true; 2] };
    if event.need_rescan() {
        return [true; 2];
    }
    let matters = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(kind) => matches!(kind, ModifyKind::Name(_) | ModifyKind::Metadata(_)),
        EventKind::Any | EventKind::Create(_) | EventKind::Remove(_) | EventKind::Other => true,
    };
    let named = |names: &Vec<std::ffi::OsString>| {
        let name = |path: &PathBuf| path.file_name().is_some_and(|name| names.iter().any(|known| known == name));
        matters && event.paths.iter().any(name)
    };
    [named(&names[0]), named(&names[1])]
}
