//! Promises of the watcher: every way to save is seen at once, half files are waited for, nothing is said twice.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use weir::config::watch::{ContentHash, Event, Reading, Watcher, spawn};
use weir::config::write_weights;

const OLD: &str = "[engine]\nstable = 90\ncanary = 10\n";
const NEW: &str = "[engine]\nstable = 50\ncanary = 50\n";
const MAIN: &str = "[services.engine.pools.stable]\nendpoints = [\"http://a\"]\n";

/// Long enough for a slow machine; every wait ends as soon as the event is there.
const SOON: Duration = Duration::from_secs(10);

struct Bed {
    dir: PathBuf,
    events: Receiver<(Event, Instant)>,
    watcher: Option<Watcher>,
}

impl Bed {
    /// A directory with both files, and a watcher that knows them.
    fn new(name: &str) -> Self {
        let bed = Self::with(name, |dir| {
            std::fs::write(dir.join("weights.toml"), OLD).expect("it can be written");
        });
        bed.settle();
        bed
    }

    fn with(name: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = std::env::temp_dir().join(format!("weir-watch-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
        std::fs::write(dir.join("weir.toml"), MAIN).expect("it can be written");
        prepare(&dir);
        let (tell, events) = channel();
        let known = std::fs::read_to_string(dir.join("weights.toml")).ok().map(|text| ContentHash::of(&text));
        let emit = move |event| drop(tell.send((event, Instant::now())));
        let main = Some(ContentHash::of(MAIN));
        let watcher =
            spawn(dir.join("weir.toml"), main, dir.join("weights.toml"), known, emit).expect("threads are there");
        Self { dir, events, watcher: Some(watcher) }
    }

    fn weights(&self) -> PathBuf {
        self.dir.join("weights.toml")
    }

    /// The first poll is over: from here on only file events are quick.
    fn settle(&self) {
        self.silent(Duration::from_millis(30));
    }

    fn silent(&self, time: Duration) {
        match self.events.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("{other:?}"),
        }
    }

    fn next(&self) -> (Option<Reading>, Option<Reading>, Instant) {
        match self.events.recv_timeout(SOON).expect("an event") {
            (Event::Changed { main, weights }, at) => (main, weights, at),
            other => panic!("{other:?}"),
        }
    }

    fn next_weights(&self) -> String {
        let (main, weights, _) = self.next();
        assert!(main.is_none());
        weights.expect("the weights changed").text.expect("a text")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.watcher.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn rename_over(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text).expect("it can be written");
    std::fs::rename(&temporary, path).expect("it can be renamed");
}

#[test]
fn in_place_saves_and_renames_are_seen_at_once() {
    let bed = Bed::new("latency");
    let mut waits = Vec::new();
    for round in 0..40 {
        let text = if round % 2 == 0 { NEW } else { OLD };
        if round % 4 < 2 {
            std::fs::write(bed.weights(), text).expect("it can be written");
        } else {
            rename_over(&bed.weights(), text);
        }
        let saved = Instant::now();
        let (_, weights, at) = bed.next();
        assert_eq!(weights.and_then(|reading| reading.text.ok()).as_deref(), Some(text));
        waits.push(at.saturating_duration_since(saved));
    }
    waits.sort();
    println!("from the end of the save to the event: median {:?}, worst {:?}", waits[20], waits[39]);
    // The promise is well below 1 ms; a machine that runs many tests at once gets some room, far below the poll.
    assert!(waits[20] < Duration::from_millis(20), "{waits:?}");
}

#[test]
fn what_was_reported_is_not_reported_again() {
    let bed = Bed::new("twice");
    rename_over(&bed.weights(), OLD);
    bed.silent(Duration::from_millis(300));
    write_weights(bed.weights(), NEW).expect("it can be written");
    let (_, weights, _) = bed.next();
    assert_eq!(
        weights.map(|reading| reading.hash),
        Some(ContentHash::of(NEW)),
        "the receiver knows its own write by it"
    );
    write_weights(bed.weights(), NEW).expect("it can be written");
    bed.silent(Duration::from_millis(300));
}

#[test]
fn a_half_written_file_is_waited_for_and_a_bad_one_is_reported_after_its_grace() {
    let bed = Bed::new("grace");
    let from = Instant::now();
    std::fs::write(bed.weights(), "").expect("it can be written");
    std::fs::write(bed.weights(), NEW).expect("it can be written");
    assert_eq!(bed.next_weights(), NEW, "never the empty one");
    assert!(from.elapsed() < Duration::from_millis(150), "a good save ends the grace");
    let from = Instant::now();
    std::fs::write(bed.weights(), "[engine").expect("it can be written");
    assert_eq!(bed.next_weights(), "[engine");
    assert!((Duration::from_millis(50)..Duration::from_secs(1)).contains(&from.elapsed()), "{:?}", from.elapsed());
    std::fs::write(bed.weights(), OLD).expect("it can be written");
    assert_eq!(bed.next_weights(), OLD);
}

#[test]
fn a_removed_file_is_reported_and_its_return_too() {
    let bed = Bed::new("missing");
    std::fs::remove_file(bed.weights()).expect("it can be removed");
    let (_, weights, _) = bed.next();
    assert!(weights.is_some_and(|reading| reading.text.is_err()));
    std::fs::write(bed.weights(), NEW).expect("it can be written");
    assert_eq!(bed.next_weights(), NEW);
}

#[test]
fn a_swapped_link_is_seen_at_once_again_and_again() {
    // As Kubernetes mounts a ConfigMap: weights.toml → ..data/weights.toml, ..data → a directory that is swapped.
    let bed = Bed::with("links", |dir| {
        for (version, text) in [("v1", OLD), ("v2", NEW)] {
            std::fs::create_dir(dir.join(version)).expect("it can be made");
            std::fs::write(dir.join(version).join("weights.toml"), text).expect("it can be written");
        }
        std::os::unix::fs::symlink("v1", dir.join("..data")).expect("links can be made");
        std::os::unix::fs::symlink("..data/weights.toml", dir.join("weights.toml")).expect("links can be made");
    });
    bed.settle();
    for round in 0..6 {
        let (version, text) = if round % 2 == 0 { ("v2", NEW) } else { ("v1", OLD) };
        let temporary = bed.dir.join("..data_tmp");
        std::os::unix::fs::symlink(version, &temporary).expect("links can be made");
        std::fs::rename(&temporary, bed.dir.join("..data")).expect("it can be renamed");
        let from = Instant::now();
        assert_eq!(bed.next_weights(), text);
        assert!(from.elapsed() < Duration::from_millis(500), "found by an event, not by the poll");
    }
    // The watch has followed the link: a save in the directory that it leads to is seen as well.
    std::fs::write(bed.dir.join("v1/weights.toml"), "[engine]\nstable = 1\n").expect("it can be written");
    assert_eq!(bed.next_weights(), "[engine]\nstable = 1\n");
}

#[test]
fn a_replaced_directory_is_watched_again_by_the_poll() {
    let bed = Bed::with("directory", |dir| {
        std::fs::create_dir(dir.join("d")).expect("it can be made");
        std::fs::write(dir.join("d/weights.toml"), OLD).expect("it can be written");
        std::os::unix::fs::symlink("d/weights.toml", dir.join("weights.toml")).expect("links can be made");
    });
    bed.settle();
    std::fs::rename(bed.dir.join("d"), bed.dir.join("old")).expect("it can be renamed");
    std::fs::create_dir(bed.dir.join("d")).expect("it can be made");
    std::fs::write(bed.dir.join("d/weights.toml"), NEW).expect("it can be written");
    let mut seen = String::new();
    while seen != NEW {
        let (_, weights, _) = bed.next();
        seen = weights.and_then(|reading| reading.text.ok()).unwrap_or_default();
    }
}

#[test]
fn the_main_file_and_another_weights_file_are_watched_too() {
    let bed = Bed::new("main");
    let main = format!("weights = \"other.toml\"\n{MAIN}");
    rename_over(&bed.dir.join("weir.toml"), &main);
    let (read, weights, _) = bed.next();
    assert!(weights.is_none());
    assert_eq!(read.and_then(|reading| reading.text.ok()), Some(main));
    std::fs::write(bed.dir.join("other.toml"), NEW).expect("it can be written");
    bed.silent(Duration::from_millis(100));
    bed.watcher.as_ref().expect("it runs").set_weights(bed.dir.join("other.toml"));
    assert_eq!(bed.next_weights(), NEW);
    std::fs::write(bed.dir.join("other.toml"), OLD).expect("it can be written");
    assert_eq!(bed.next_weights(), OLD);
}

/// Puts this thread into a mount namespace of its own, with `from` mounted over `onto`; false where that is forbidden.
fn mount_alone(from: &Path, onto: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let c_path = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL in it");
    let (root, from, onto) = (c_path(Path::new("/")), c_path(from), c_path(onto));
    let none = std::ptr::null();
    // SAFETY: the calls take NUL-terminated paths that outlive them, and change only this thread's namespace.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root.as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
            && libc::mount(from.as_ptr(), onto.as_ptr(), none, libc::MS_BIND, none.cast()) == 0
    }
}

#[test]
fn a_single_file_mount_is_written_in_place_and_named_when_it_goes_stale() {
    let host = std::env::temp_dir().join(format!("weir-watch-{}-host", std::process::id()));
    std::fs::create_dir_all(&host).expect("the temporary directory can be written");
    let outside = host.join("weights.toml");
    std::fs::write(&outside, OLD).expect("it can be written");
    // Channels and not barriers: a panic on either side ends the other one's wait.
    let ((ready, is_ready), (go, may_go)) = (channel(), channel::<()>());
    std::thread::scope(|scope| {
        let outside = &outside;
        scope.spawn(move || {
            // In a container: only the file is mounted. The threads of the watcher inherit the namespace.
            let inside = std::env::temp_dir().join(format!("weir-watch-{}-inside.toml", std::process::id()));
            std::fs::write(&inside, "").expect("it can be written");
            let mounted = mount_alone(outside, &inside);
            if mounted {
                assert_eq!(write_weights(&inside, NEW).ok(), Some(weir::config::Written::InPlace));
                assert_eq!(std::fs::read_to_string(outside).ok().as_deref(), Some(NEW));
            }
            ready.send(()).expect("the host waits");
            may_go.recv().expect("the host goes on");
            if mounted {
                let (tell, events) = channel();
                let known = Some(ContentHash::of(NEW));
                let watcher = spawn("/nonexistent", None, &inside, known, move |event| drop(tell.send(event)));
                let event = events.recv_timeout(SOON).expect("an event");
                assert!(matches!(&event, Event::Stale { path } if *path == inside), "{event:?}");
                assert!(events.recv_timeout(Duration::from_millis(1500)).is_err(), "it is not said every second");
                drop(watcher);
            } else {
                println!("mounts are forbidden here; the container test covers this");
            }
            let _ = std::fs::remove_file(&inside);
        });
        is_ready.recv().expect("the container is set up");
        // On the host: an editor saves by renaming.
        rename_over(outside, OLD);
        go.send(()).expect("the container waits");
    });
    let _ = std::fs::remove_dir_all(&host);
}

#[test]
fn the_last_of_many_quick_saves_is_what_is_reported_last_and_no_part_of_one_ever_is() {
    let bed = Bed::new("storm");
    let text = |n: u32| format!("[engine]\nstable = {n}\ncanary = {}\n# {}\n", 1000 - n, "x".repeat(n as usize * 20));
    let writer = std::thread::spawn({
        let path = bed.weights();
        move || {
            for n in 1..=300 {
                match n % 3 {
                    0 => std::fs::write(&path, text(n)).expect("it can be written"),
                    1 => rename_over(&path, &text(n)),
                    _ => drop(write_weights(&path, &text(n)).expect("it can be written")),
                }
            }
        }
    });
    loop {
        let seen = bed.next_weights();
        let n: u32 =
            seen.lines().nth(1).and_then(|line| line.strip_prefix("stable = ")?.parse().ok()).expect("a whole file");
        assert_eq!(seen, text(n));
        if n == 300 {
            break;
        }
    }
    writer.join().expect("it wrote everything");
    bed.silent(Duration::from_millis(300));
}
