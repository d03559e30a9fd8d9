//! Promises over a restart: what a weights file that does not hold changes then, and what `undo` goes back to.

use super::change::{Change, How};
use super::testing::{Bench, CONFIG, Dir, engine, open, runtime, weights};
use super::writer::Mode;
use crate::model::Scope;

const NINETY: &str = "# ours\n[engine]\nstable = 90 # most\ncanary = 10\n";
const TYPO: &str = "[engine]\nstable = 90\ncanary = 10x\n";
const TWO: &str = "
[services.shop.pools.stable]
endpoints = [\"http://127.0.0.1:8003\"]
[services.shop.pools.canary]
endpoints = [\"http://127.0.0.1:8004\"]
[[routes]]
match.path_prefix = \"/shop\"
service = \"shop\"
[[routes]]
service = \"engine\"
";

fn broken(bench: &Bench, text: &str) {
    std::fs::write(bench.weights_path(), text).expect("written");
}

#[test]
fn a_bad_weights_file_changes_nothing_over_a_restart_either() {
    for file in [Some(TYPO), Some("[engine]\nstable = 0\n"), Some("# nothing yet\n"), None] {
        let bench = Bench::new(CONFIG, Some(NINETY));
        match file {
            Some(text) => broken(&bench, text),
            None => std::fs::remove_file(bench.weights_path()).expect("it was there"),
        }
        let bench = bench.restarted(Mode::Normal);
        assert_eq!(bench.live(), (90, 10), "{file:?}");
        let reload = bench.board.status().last_reload;
        let by = "weir was started by what was live before: engine stable=90 canary=10";
        assert!(!reload.ok && reload.problems.iter().any(|it| it.contains(by)), "{:?}", reload.problems);
        // Another look at the same file moves nothing, and a mended one is taken over.
        assert!(bench.apply(Change::Reload, How::Signal).is_err());
        assert_eq!(bench.live(), (90, 10), "{file:?}");
        bench.save_weights("[engine]\nstable = 1\ncanary = 1\n").expect("it holds");
        assert_eq!((bench.live(), bench.board.status().last_reload.ok), ((1, 1), true));
    }
}

#[test]
fn a_start_with_a_bad_weights_file_and_nothing_on_record_is_refused_but_in_safe_mode() {
    let dir = Dir::new();
    std::fs::write(dir.path().join("weir.toml"), CONFIG).expect("written");
    std::fs::write(dir.path().join("weights.toml"), TYPO).expect("written");
    let runtime = runtime();
    let Err(refused) = open(&dir, Mode::Normal, &runtime) else { panic!("it must be refused") };
    let text = refused.to_string();
    assert!(text.contains("weights.toml:3:10: 10x is no value") && text.contains("--safe-mode"), "{text}");
    let board = open(&dir, Mode::Safe, &runtime).expect("everything to stable is safe");
    let status = board.status();
    assert!(status.safe_mode && !status.last_reload.ok && status.services[0].weights.0.of("stable") == 100);
}

#[test]
fn safe_mode_starts_with_a_bad_weights_file() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    broken(&bench, TYPO);
    let bench = bench.restarted(Mode::Safe);
    assert_eq!(bench.live(), (100, 0));
    let status = bench.board.status();
    assert!(status.safe_mode && !status.last_reload.ok);
    let bench = bench.restarted(Mode::Normal);
    assert_eq!(bench.live(), (90, 10), "safe mode is nothing to start by");
}

#[test]
fn weights_that_no_longer_fit_the_plan_are_nothing_to_start_by() {
    let before = format!("{}{TWO}", CONFIG.replace("canary", "beta"));
    let good = "[engine]\nstable = 90\nbeta = 10\n[shop]\nstable = 50\ncanary = 50\n";
    let bench = Bench::new(&before, Some(good));
    std::fs::write(bench.dir.path().join("weir.toml"), format!("{CONFIG}{TWO}")).expect("written");
    broken(&bench, TYPO);
    let bench = bench.restarted(Mode::Normal);
    let weights = |at: usize| bench.board.snapshot().load().services[at].weights.of("stable");
    assert_eq!((weights(0), weights(1)), (100, 50));
}

#[test]
fn of_a_bad_file_what_brings_traffic_to_stable_counts_at_the_start() {
    let config = format!("{CONFIG}{TWO}");
    let good = "[engine]\nstable = 0\ncanary = 100\n[shop]\nstable = 50\ncanary = 50\n";
    let start = |text: &str| {
        let bench = Bench::new(&config, Some(good));
        broken(&bench, text);
        let bench = bench.restarted(Mode::Normal);
        let snapshot = bench.board.snapshot().load_full();
        let of = |at: usize| (snapshot.services[at].weights.of("stable"), snapshot.services[at].killed.is_some());
        (of(0), of(1))
    };
    let rolled_back = start("[engine]\nstable = 100\ncanary = 0\n[shop]\nstable = 50\ncanary = 5o\n");
    assert_eq!(rolled_back, ((100, false), (50, false)));
    let killed = start("[engine]\nstable = 0\ncanary = 100\nkill = \"bad\"\n[shop]\nstable = 50\ncanary = 5o\n");
    assert_eq!(killed, ((100, true), (50, false)));
    let of_another = start("[engine]\nstable = 0\ncanary = 100\n[shop]\nstable = 100\ncanary = 5o\n");
    assert_eq!(of_another, ((0, false), (50, false)), "a table with an error says nothing");
}

#[test]
fn what_was_killed_stays_killed_over_a_restart_with_a_bad_file() {
    let bench = Bench::new(CONFIG, Some(&format!("{NINETY}kill = \"bad build\"\n")));
    broken(&bench, TYPO);
    let bench = bench.restarted(Mode::Normal);
    let killed = bench.board.snapshot().load().services[0].killed.clone();
    assert_eq!((bench.live(), killed.map(|it| it.reason).as_deref()), ((100, 0), Some("bad build")));
    bench.save_weights(NINETY).expect("it holds");
    assert_eq!(bench.live(), (90, 10));
}

#[test]
fn undo_knows_changes_of_weights_and_not_what_is_above_them() {
    let bench = Bench::new(CONFIG, Some("[engine]\nstable = 100\n"));
    bench.set(90, 10, None).expect("applied");
    let undo = |bench: &Bench| bench.board.status().services[0].undo.clone().map(|record| record.0);
    let hundred = undo(&bench).expect("one change");
    // By the file, at its top, and let go again.
    let text = bench.weights_text();
    bench.save_weights(&format!("kill = \"leaks\"\n{text}")).expect("it holds");
    assert_eq!((bench.live(), undo(&bench)), ((100, 0), Some(hundred.clone())));
    bench.save_weights(&text).expect("it holds");
    assert_eq!(undo(&bench), Some(hundred.clone()));
    // By command, over a restart.
    let kill = Change::Kill { scope: Scope::Service(engine()), reason: "bad".into() };
    bench.apply(kill, How::Cli).expect("never refused");
    let bench = bench.restarted(Mode::Normal);
    assert_eq!(undo(&bench), Some(hundred.clone()));
    let unkill = Change::Unkill { scope: Scope::Service(engine()), only: None };
    bench.apply(unkill, How::Cli).expect("taken back");
    assert_eq!((bench.live(), undo(&bench)), ((90, 10), Some(hundred)));
    bench.undo().expect("applied");
    assert_eq!((bench.live(), undo(&bench)), ((100, 0), Some(weights(90, 10))));
}

#[test]
fn what_is_live_is_compared_with_what_is_saved() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let compared = |bench: &Bench| bench.board.unsaved().expect("the files hold");
    assert_eq!(compared(&bench), super::unsaved::Unsaved { changes: Vec::new(), restart: Vec::new() });
    // Saved, and refused by the running weir; or not seen yet.
    let listen = format!("[listeners.other]\naddress = \"127.0.0.1:1\"\n{CONFIG}");
    assert!(bench.save_config(&listen).is_err());
    broken(&bench, "[engine]\nstable = 1\ncanary = 1\n");
    let unsaved = compared(&bench);
    assert!(unsaved.restart.iter().any(|key| key.starts_with("listeners")), "{unsaved:?}");
    assert!(unsaved.changes.len() == 1 && unsaved.changes[0].contains("canary 10 % → 50 %"), "{unsaved:?}");
    broken(&bench, TYPO);
    assert!(bench.board.unsaved().is_err());
}
