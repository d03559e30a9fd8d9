//! Promises of the writer over real files: who wins, what the file says afterwards, what a broken file changes.

use super::change::{Cause, Change, How, Refused};
use super::testing::{Bench, CONFIG, Dir, engine, runtime, weights};
use super::writer::{Mode, Switchboard};
use crate::config::Config;
use crate::upstream::names::Lookups;
use crate::upstream::upstreams::Upstreams;

const NINETY: &str = "# ours\n[engine]\nstable = 90 # most\ncanary = 10\n";

#[test]
fn a_saved_weights_file_is_live_when_the_answer_is_there() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert_eq!((bench.live(), bench.generation()), ((90, 10), 1));
    let mut told = bench.board.subscribe();
    let applied = bench.save_weights("[engine]\nstable = 1\ncanary = 1\n").expect("applied");
    assert!(applied.changed);
    assert_eq!((bench.live(), bench.generation()), ((1, 1), 2));
    assert!(told.has_changed().expect("the switchboard lives"));
    assert_eq!(*told.borrow_and_update(), applied.revision);
}

#[test]
fn new_weights_are_in_the_file_with_its_comments_and_count_once() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let applied = bench.set(50, 50, None).expect("applied");
    assert_eq!(bench.weights_text(), "# ours\n[engine]\nstable = 50 # most\ncanary = 50\n");
    let seen = bench.seen(None, Some(&bench.weights_text())).expect("nothing new");
    assert!(!seen.changed);
    assert_eq!((bench.generation(), seen.revision), (applied.generation, applied.revision));
}

#[test]
fn of_two_writers_that_saw_one_generation_the_second_is_told_the_current_one() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let seen = bench.generation();
    let first = bench.set(50, 50, Some(seen)).expect("the first wins");
    match bench.set(0, 100, Some(seen)) {
        Err(Refused::Conflict { expected, current }) => assert_eq!((expected, current), (seen, first.generation)),
        other => panic!("the second must lose: {other:?}"),
    }
    assert_eq!(bench.live(), (50, 50));
}

#[test]
fn an_edit_that_nobody_announced_is_taken_in_before_an_expected_generation_is_compared() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let seen = bench.generation();
    std::fs::write(bench.weights_path(), "[engine]\nstable = 70\ncanary = 30\n").expect("written");
    assert!(matches!(bench.set(0, 100, Some(seen)), Err(Refused::Conflict { .. })));
    assert_eq!(bench.live(), (70, 30));
}

#[test]
fn what_the_watcher_read_before_a_change_was_written_does_not_come_back() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    bench.set(50, 50, None).expect("applied");
    let late = bench.seen(None, Some(NINETY)).expect("it is not there any more");
    assert_eq!((late.changed, bench.live()), (false, (50, 50)));
}

#[test]
fn a_bad_file_changes_nothing_and_shows_as_failed() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let refused = bench.save_weights("[engine]\nstable = 0\ncanary = 0\n");
    assert!(matches!(refused, Err(Refused::Problems(_))), "{refused:?}");
    let status = bench.board.status();
    assert!(!status.last_reload.ok);
    assert!(status.last_reload.problems[0].contains("weights.toml:1:"), "{:?}", status.last_reload.problems);
    assert_eq!((bench.live(), bench.generation()), ((90, 10), 1));
    assert!(bench.set(50, 50, None).is_ok(), "a file that can be edited is mended by new weights");
    assert!(bench.board.status().last_reload.ok);
}

#[test]
fn new_weights_are_refused_while_the_file_is_not_toml() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(bench.save_weights("[engine\nstable 90").is_err());
    assert!(matches!(bench.set(50, 50, None), Err(Refused::FileBroken(_))));
    assert_eq!(bench.weights_text(), "[engine\nstable 90");
}

#[test]
fn rollback_moves_the_traffic_although_the_file_is_broken_and_says_what_is_left_to_do() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(bench.save_weights("[engine\nstable 90").is_err());
    let applied = bench.rollback().expect("never refused");
    assert_eq!(bench.live(), (100, 0));
    let note = applied.pending.expect("the file still has to be changed");
    assert!(note.contains("stable=100 canary=0"), "{note}");
    assert_eq!(bench.board.status().services[0].pending, Some(note));
    bench.save_weights("[engine]\nstable = 80\ncanary = 20\n").expect("mended");
    assert_eq!(bench.live(), (80, 20), "the operator's edit wins");
    assert_eq!(bench.board.status().services[0].pending, None);
}

#[test]
fn rollback_mends_a_file_that_only_its_own_service_breaks() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(bench.save_weights("# keep\n[engine]\nstable = 0\ncanary = 0\n").is_err());
    let applied = bench.rollback().expect("never refused");
    assert_eq!(applied.pending, None);
    assert_eq!(bench.weights_text(), "# keep\n[engine]\nstable = 100\ncanary = 0\n");
    assert!(bench.board.status().last_reload.ok);
}

#[test]
fn a_read_only_file_refuses_new_weights_but_not_a_rollback() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    bench.make_read_only();
    assert!(matches!(bench.set(50, 50, None), Err(Refused::ReadOnly { .. })));
    assert_eq!(bench.live(), (90, 10));
    let applied = bench.rollback().expect("never refused");
    assert!(applied.pending.is_some());
    assert_eq!((bench.live(), bench.weights_text()), ((100, 0), NINETY.to_owned()));
    let again = bench.apply(Change::Reload, How::Signal).expect("the files hold");
    assert!(!again.changed, "a reload of the same file does not undo a rollback");
    assert_eq!(bench.live(), (100, 0));
    let bench = bench.restarted(Mode::Normal);
    assert_eq!(bench.live(), (100, 0), "nor does a restart");
    assert!(bench.board.status().services[0].pending.is_some());
    bench.make_writable();
    bench.rollback().expect("never refused");
    assert!(bench.weights_text().contains("canary = 0"));
    assert_eq!(bench.board.status().services[0].pending, None);
}

#[test]
fn undo_of_a_rollback_that_could_not_be_written_needs_no_file() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    bench.make_read_only();
    bench.rollback().expect("never refused");
    bench.undo().expect("the file says so already");
    assert_eq!(bench.live(), (90, 10));
    assert_eq!(bench.board.status().services[0].pending, None);
}

#[test]
fn undo_goes_back_one_change_and_survives_a_restart() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(matches!(bench.undo(), Err(Refused::NothingToUndo(_))));
    bench.set(50, 50, None).expect("applied");
    let generation = bench.generation();
    let bench = bench.restarted(Mode::Normal);
    assert!(bench.generation() > generation, "a generation is never used twice");
    bench.undo().expect("applied");
    assert_eq!(bench.live(), (90, 10));
    assert!(bench.weights_text().starts_with("# ours\n"));
    bench.undo().expect("applied");
    assert_eq!(bench.live(), (50, 50));
}

#[test]
fn the_history_says_who_changed_what_and_is_bounded() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    for canary in 1..60 {
        bench.set(100, canary, None).expect("applied");
    }
    let history = bench.board.status().history;
    assert_eq!(history.len(), super::history::HISTORY_MAX);
    let newest = &history[0];
    assert_eq!((newest.generation, newest.cause.how), (bench.generation(), How::Api));
    let change = &newest.changes[0];
    assert_eq!(change.before.as_ref().expect("before").to_string(), "stable=100 canary=58");
    assert_eq!(change.after.to_string(), "stable=100 canary=59");
}

#[test]
fn a_missing_weights_file_sends_everything_to_stable_and_is_made_by_the_first_change() {
    let bench = Bench::new(CONFIG, None);
    assert_eq!(bench.live(), (100, 0));
    bench.apply(Change::Reload, How::Signal).expect("nothing is wrong");
    bench.set(90, 10, None).expect("applied");
    assert_eq!(bench.weights_text(), "[engine]\nstable = 90\ncanary = 10\n");
}

#[test]
fn a_weights_file_that_vanishes_or_is_emptied_changes_nothing() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    std::fs::remove_file(bench.weights_path()).expect("removed");
    assert!(bench.seen(None, Some("")).is_err());
    assert_eq!(bench.live(), (90, 10));
    assert!(bench.save_weights("# soon\n").is_err());
    assert_eq!((bench.live(), bench.generation()), ((90, 10), 1));
    bench.save_weights(NINETY).expect("back");
    assert_eq!((bench.board.status().last_reload.ok, bench.generation()), (true, 1));
}

#[test]
fn a_broken_configuration_does_not_keep_weights_from_moving() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(bench.save_config("[services.engine").is_err());
    assert!(bench.save_weights("[engine]\nstable = 100\ncanary = 0\n").is_err(), "the reload as a whole failed");
    assert_eq!(bench.live(), (100, 0), "the weights moved all the same");
    assert!(!bench.board.status().last_reload.ok);
}

#[test]
fn a_pool_and_its_weight_may_be_saved_in_either_order() {
    let third = format!("{CONFIG}\n[services.engine.pools.next]\nendpoints = [\"http://127.0.0.1:8003\"]\n");
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(bench.save_weights("[engine]\nstable = 90\nnext = 10\n").is_err());
    bench.save_config(&third).expect("now it names what there is");
    assert_eq!(bench.board.snapshot().load().services[0].weights.of("next"), 10);
    assert!(bench.save_config(CONFIG).is_err(), "a pool that has weight cannot go");
    bench.save_weights(NINETY).expect("both at once");
    assert_eq!(bench.board.snapshot().load().services[0].pools.len(), 2);
}

#[test]
fn a_reload_of_the_same_text_is_no_new_generation() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    assert!(!bench.apply(Change::Reload, How::Signal).expect("the files hold").changed);
    assert!(!bench.save_config(&format!("# a comment\n{CONFIG}")).expect("it holds").changed);
    assert_eq!(bench.generation(), 1);
}

#[test]
fn live_state_survives_a_reload() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let before = bench.board.snapshot().load_full();
    bench.save_config(&format!("{CONFIG}\n[services.engine.retry]\nattempts = 0\n")).expect("it holds");
    let after = bench.board.snapshot().load_full();
    assert_eq!(after.generation, before.generation + 1);
    let endpoint = |snapshot: &super::snapshot::Snapshot| snapshot.services[0].pools[0].endpoints[0].clone();
    assert!(std::sync::Arc::ptr_eq(&endpoint(&before), &endpoint(&after)));
}

#[test]
fn what_needs_a_restart_is_refused_by_name() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let text = format!("workers = 3\n{CONFIG}\n[listeners.public]\naddress = \"127.0.0.1:1\"\n");
    let Err(Refused::Problems(problems)) = bench.save_config(&text) else { panic!("it must be refused") };
    let text = problems.to_string();
    assert!(text.contains("workers") && text.contains("public"), "{text}");
    assert_eq!(bench.generation(), 1);
}

#[test]
fn safe_mode_sends_everything_to_stable_whatever_the_file_says() {
    let bench = Bench::new(CONFIG, Some(NINETY)).restarted(Mode::Safe);
    assert_eq!(bench.live(), (100, 0));
    bench.save_weights("[engine]\nstable = 1\ncanary = 1\n").expect("it holds");
    assert_eq!(bench.live(), (100, 0));
    assert!(matches!(bench.set(50, 50, None), Err(Refused::SafeMode)));
    assert!(bench.board.status().safe_mode);
    let bench = bench.restarted(Mode::Normal);
    assert_eq!(bench.live(), (1, 1));
    bench.undo().expect("the edit is on record");
    assert_eq!(bench.live(), (90, 10), "safe mode is nothing to go back to");
}

#[test]
fn weights_of_unknown_services_and_pools_are_refused() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let name = |text| crate::model::Name::new(text).expect("a name");
    let change = Change::Weights { service: name("motor"), weights: weights(1, 1) };
    assert!(matches!(bench.apply(change, How::Api), Err(Refused::UnknownService(_))));
    let entry = (name("nowhere"), crate::model::Weight::Relative(1));
    let change =
        Change::Weights { service: engine(), weights: crate::model::Weights::new(vec![entry]).expect("weights") };
    let Err(refused) = bench.apply(change, How::Api) else { panic!("it must be refused") };
    assert_eq!(refused.to_string(), "service \"engine\" has no pool \"nowhere\"; it has stable, canary");
}

#[test]
fn a_drain_keeps_bound_clients_and_a_rollback_does_not() {
    let config = format!("{CONFIG}\n[services.engine.affinity]\nby = \"cookie\"\non_zero = \"drain\"\n");
    let bench = Bench::new(&config, Some(NINETY));
    let draining = || bench.board.snapshot().load().services[0].draining.clone();
    bench.set(100, 0, None).expect("applied");
    assert_eq!(draining().map(|drain| drain.pools), Some([false, true].into()));
    bench.save_config(&format!("# touched\n{config}\n[services.engine.retry]\nattempts = 0\n")).expect("it holds");
    assert!(draining().is_some(), "another reload does not end it");
    bench.set(90, 10, None).expect("applied");
    assert!(draining().is_none());
    bench.rollback().expect("applied");
    assert!(draining().is_none(), "a rollback always evicts");
}

#[test]
fn whoever_is_told_of_a_publication_finds_the_endpoints_that_left_draining() {
    let bench = Bench::new(CONFIG, Some(NINETY));
    let other = CONFIG.replace(":8002", ":8003");
    let canary = || bench.board.snapshot().load_full().services[0].pools[1].endpoints[0].clone();
    for text in [&*other, CONFIG].into_iter().cycle().take(200) {
        let (left, told) = (canary(), bench.board.subscribe());
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                while !told.has_changed().expect("the switchboard lives") {
                    std::hint::spin_loop();
                }
                left.is_draining()
            });
            bench.save_config(text).expect("it holds");
            assert!(worker.join().expect("a worker"), "told too early");
        });
    }
}

#[test]
fn a_host_name_that_nobody_answers_for_delays_its_own_reload_and_no_other_change() {
    // Nothing drives the runtime of the bench, so no lookup ever ends.
    let bench = Bench::new(CONFIG, Some(NINETY));
    let named = CONFIG.replace("127.0.0.1:8002", "canary.test:8002");
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| bench.save_config(&named).map(|_| began.elapsed()));
        let mut moved = 0;
        while !reload.is_finished() {
            bench.set(50, 50 + moved, None).expect("nothing is in its way");
            moved += 1;
        }
        let took = reload.join().expect("no panic").expect("it holds");
        assert!(took >= std::time::Duration::from_secs(1), "{took:?}");
        assert!(moved >= 4, "weights moved {moved} times while the reload waited for a name");
    });
    assert!(bench.board.snapshot().load().services[0].pools[1].endpoints.is_empty());
}

#[test]
fn the_token_file_of_the_command_line_holds_over_a_reload() {
    let dir = Dir::new();
    let (path, token) = (dir.path().join("weir.toml"), dir.path().join("admin.token"));
    // It also makes an address good that other machines reach.
    let text = format!("[admin]\naddress = \"0.0.0.0:9901\"\n{CONFIG}");
    std::fs::write(&path, &text).expect("written");
    let config = Config::load_with(&path, Some(&token)).expect("it names a token file");
    assert_eq!(config.admin.token_file.as_deref(), Some(&*token));
    let runtime = runtime();
    let _within = runtime.enter();
    let upstreams = Upstreams::start(1, Lookups::default());
    let board = Switchboard::open(config, Mode::Normal, 1, upstreams).expect("a switchboard");
    std::fs::write(&path, text.replace(":8002", ":8003")).expect("written");
    let applied = board.apply(Change::Reload, &Cause::by(How::Signal), None).expect("the files hold");
    assert!(applied.changed);
}
