//! What the journal promises.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::read::Reader;
use super::*;
use crate::model::rollout::Share;
use crate::rollout::event::{Kind, Severity};
use crate::rollout::judge::Judge;
use crate::rollout::machine::{Command, Input, State};
use crate::rollout::record::{Quantiles, Said};
use crate::rollout::testing::{errors, plan, second};
use crate::rollout::verdict::Judgement;

/// A directory of its own, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-journal-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn rollout(id: &str, started_ms: u64) -> Rollout {
    let mut rollout =
        Rollout::new(id.into(), plan(&[5.0], vec![errors()]), "ann".into(), "why".into(), started_ms, Share::ZERO);
    rollout.step(started_ms, Input::Start { window_closed: None }).expect("no command");
    rollout
}

fn record(n: u64, at_ms: u64, tick: &Tick, judgement: &Judgement) -> Record {
    let own = Quantiles { p50: Some(n as f64), p95: Some(2.5), p99: None };
    let latency = Latencies { candidate: own, ..Latencies::default() };
    Record { n, at_ms, phase: 0, tick: tick.clone(), latency, judgement: Said::of(judgement) }
}

fn entry(action: &str) -> Entry {
    Entry { action: action.into(), who: "ann".into(), ..Entry::default() }
}

fn event(id: u64) -> Event {
    Event {
        id,
        at_ms: id,
        kind: Kind::RolloutInitiated,
        severity: Severity::Info,
        service: "engine".into(),
        rollout_id: None,
        who: "ann".into(),
        message: "it begins".into(),
        data: serde_json::Value::Null,
    }
}

#[tokio::test]
async fn what_was_persisted_is_there_for_the_next_process_bit_by_bit() {
    let place = Place::new();
    let mut judge = Judge::new(&plan(&[5.0], vec![errors()]));
    let mut judgements = Vec::new();
    let journal = Journal::open(&place.0).expect("a journal");
    let mut one = rollout("r-1", 1);
    for n in 1..=50 {
        let tick = second(0.05, [10, n % 3], [190, n % 2]);
        let judgement = judge.observe(&tick);
        journal.tick("r-1", &record(n, n * 1000, &tick, &judgement));
        judgements.push((tick, judgement));
    }
    let beside = serde_json::to_vec(&judge).expect("it is data");
    journal.persist(&one, beside.clone()).await.expect("kept");
    journal.event(&event(1));
    drop(journal);
    let reader = Reader::open(&place.0).expect("a reader");
    let live = reader.live().expect("read");
    assert_eq!((live.len(), &live[0].rollout, &live[0].beside), (1, &one, &beside));
    let again: Judge = serde_json::from_slice(&live[0].beside).expect("it is its own");
    assert_eq!(again, judge);
    let ticks = reader.ticks("r-1", 0).expect("read");
    assert_eq!((ticks.len(), reader.last_tick("r-1").expect("read")), (50, 50));
    for (kept, (tick, said)) in ticks.into_iter().zip(&judgements) {
        let mut whole = record(kept.n, kept.n * 1000, tick, said);
        (whole.judgement.bound, whole.judgement.self_test, whole.judgement.sample_ratio) = (None, None, None);
        assert_eq!(Record::of(kept), whole, "nothing of a chart is lost");
    }
    let journal = Journal::open(&place.0).expect("again");
    let command = Input::Command { command: Command::Rollback, who: "ann".into(), reason: String::new() };
    one.step(2, command).expect("legal");
    assert_eq!(one.state, State::RolledBack);
    one.inner.retreat = None;
    journal.persist(&one, Vec::new()).await.expect("kept");
    assert!(reader.live().expect("read").is_empty());
    assert_eq!(reader.events(0, 10).expect("read").len(), 1);
}

#[tokio::test]
async fn the_events_of_a_rollout_are_found_among_all_others_the_newest_first() {
    let place = Place::new();
    let journal = Journal::open(&place.0).expect("a journal");
    for id in 1..=60 {
        let rollout_id = (id % 3 > 0).then(|| format!("r-{}", id % 3));
        journal.event(&Event { rollout_id, ..event(id) });
    }
    journal.flush().await;
    let reader = Reader::open(&place.0).expect("a reader");
    let ids = |events: Vec<Event>| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(reader.events_of("r-1", u64::MAX, 3).expect("read")), [52, 55, 58]);
    assert_eq!(ids(reader.events_of("r-2", 12, 10).expect("read")), [2, 5, 8, 11]);
    assert!(reader.events_of("r-3", 100, 10).expect("read").is_empty());
}

#[tokio::test]
async fn what_is_older_than_the_retention_is_forgotten_and_what_holds_a_service_is_not() {
    let place = Place::new();
    let journal = Journal::open(&place.0).expect("a journal");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let ended = |id: &str, at_ms: u64| {
        let mut ended = rollout(id, at_ms);
        (ended.state, ended.ended_at_ms) = (State::RolledBack, Some(at_ms));
        ended
    };
    let tick = second(0.05, [10, 0], [190, 0]);
    let judgement = Judge::new(&plan(&[5.0], vec![errors()])).judgement();
    for (kept, at_ms) in [("old", now - 7_200_000), ("new", now - 1_000)] {
        journal.persist(&ended(kept, at_ms), Vec::new()).await.expect("kept");
        journal.tick(kept, &record(1, at_ms, &tick, &judgement));
    }
    journal.persist(&rollout("live", now - 7_200_000), Vec::new()).await.expect("kept");
    for (id, at_ms) in [(1, now - 7_200_000), (2, now - 1_000), (3, now - 7_200_000)] {
        journal.event(&Event { at_ms, ..event(id) });
    }
    journal.audit(entry("old"));
    journal.retain(Some(Duration::from_secs(3600)));
    journal.flush().await;
    drop(journal);
    // The first batch of a process looks for what is too old.
    let journal = Journal::open(&place.0).expect("again");
    journal.audit(entry("new"));
    journal.flush().await;
    assert_eq!(journal.health(), Health::default());
    drop(journal);
    let reader = Reader::open(&place.0).expect("a reader");
    println!(
        "{:?} {:?}",
        reader.note("retention_ms"),
        reader
            .rollouts(10)
            .unwrap()
            .iter()
            .map(|k| (k.rollout.id.clone(), k.rollout.holds_service(), k.rollout.ended_at_ms))
            .collect::<Vec<_>>()
    );
    let rollouts: Vec<String> = reader.rollouts(10).expect("read").into_iter().map(|kept| kept.rollout.id).collect();
    assert_eq!(rollouts, ["new", "live"]);
    assert_eq!((reader.last_tick("old").expect("read"), reader.last_tick("new").expect("read")), (0, 1));
    let events: Vec<u64> = reader.events(0, 10).expect("read").iter().map(|event| event.id).collect();
    assert_eq!(events, [2, 3], "the newest number stays");
    assert_eq!((reader.audit(10).expect("read").len(), reader.verify_audit().expect("read").ok), (2, true));
}

#[tokio::test]
async fn a_change_of_the_past_shows_wherever_it_is_made() {
    let place = Place::new();
    let journal = Journal::open(&place.0).expect("a journal");
    for number in 0..20 {
        journal.audit(entry(&format!("weights-{number}")));
    }
    journal.flush().await;
    let reader = Reader::open(&place.0).expect("a reader");
    let verified = reader.verify_audit().expect("read");
    assert!(verified.ok && verified.entries == 20, "{verified:?}");
    assert_eq!(reader.audit(1).expect("read")[0].seq, 20);
    for (change, expected) in [
        ("UPDATE audit SET document = replace(document, 'ann', 'eve') WHERE seq = 7", "entry 7 was changed"),
        ("UPDATE audit SET hash = hash || '0' WHERE seq = 3", "entry 3 was changed"),
        ("DELETE FROM audit WHERE seq = 11", "entry 11 is missing"),
        ("DELETE FROM audit WHERE seq = 20", "the log ends at entry 19"),
    ] {
        let copy = place.0.join("copy.db");
        let _ = std::fs::remove_file(&copy);
        let source = rusqlite::Connection::open(place.0.join(FILE)).expect("open");
        source.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).expect("copied");
        let tampered = rusqlite::Connection::open(&copy).expect("open");
        tampered.execute(change, []).expect("tampered");
        let verified = audit::verify(&tampered).expect("read");
        assert!(verified.broken.as_deref().is_some_and(|why| why.starts_with(expected)), "{change}: {verified:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_quickly_and_what_could_not_be_written_waits() {
    let place = Place::new();
    let path = place.0.join("small.db");
    let journal = {
        let (file, _) = schema::open(&path).expect("a journal");
        let pages: i64 = file.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
        file.execute_batch(&format!("PRAGMA max_page_count = {};", pages + 1)).expect("a small disk");
        Journal::start(Some(path.clone()), file, None, None).expect("started")
    };
    let mut large = rollout("r-1", 1);
    large.because = "x".repeat(20_000);
    let began = std::time::Instant::now();
    let refused = journal.persist(&large, Vec::new()).await.expect_err("no room");
    assert!(began.elapsed() < PATIENCE && matches!(refused, JournalError::Failing(_)), "{refused}");
    let health = journal.health();
    assert!(health.failing.is_some_and(|why| !why.is_empty()) && health.waiting == 1);
}

#[tokio::test]
async fn of_what_waits_for_a_full_disk_only_the_newest_state_is_kept() {
    let place = Place::new();
    let path = place.0.join("small.db");
    let (file, _) = schema::open(&path).expect("a journal");
    let pages: i64 = file.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
    file.execute_batch(&format!("PRAGMA max_page_count = {};", pages + 1)).expect("a small disk");
    let journal = Journal::start(Some(path.clone()), file, None, None).expect("started");
    let mut large = rollout("r-1", 1);
    large.because = "x".repeat(20_000);
    for _ in 0..500 {
        journal.keep(&large, Vec::new());
    }
    assert!(journal.persist(&large, Vec::new()).await.is_err(), "no room");
    assert_eq!(journal.health().waiting, 1);
}

#[tokio::test]
async fn a_journal_that_is_taken_away_is_begun_anew_and_said() {
    let place = Place::new();
    let journal = Journal::open(&place.0).expect("a journal");
    journal.persist(&rollout("r-1", 1), Vec::new()).await.expect("kept");
    std::fs::remove_dir_all(&place.0).expect("taken away");
    let began = std::time::Instant::now();
    while journal.health().found.is_none() && began.elapsed() < 5 * PATIENCE {
        journal.persist(&rollout("r-1", 1), Vec::new()).await.expect("kept");
    }
    assert!(journal.health().found.is_some_and(|found| found.contains("taken away")));
    assert_eq!(Reader::open(&place.0).expect("a reader").rollouts(10).expect("read").len(), 1);
}

#[tokio::test]
async fn a_service_is_held_by_one_process_and_taken_over_from_a_dead_one() {
    let place = Place::new();
    let journal = Journal::open(&place.0).expect("a journal");
    journal.lock("engine", "r-1", false).await.expect("free");
    journal.lock("engine", "r-2", false).await.expect("of this process");
    let set = |pid: u32, born: &str, host: &str| {
        let other = rusqlite::Connection::open(place.0.join(FILE)).expect("open");
        other.execute("UPDATE locks SET pid = ?1, born = ?2, host = ?3", params(pid, born, host)).expect("set");
    };
    fn params(pid: u32, born: &str, host: &str) -> [String; 3] {
        [pid.to_string(), born.to_owned(), host.to_owned()]
    }
    let own = Holder::own();
    set(1, &Holder::own().born, "elsewhere");
    let held = journal.lock("engine", "r-3", false).await.expect_err("held elsewhere");
    assert!(matches!(held, JournalError::Held { ref host, pid: 1, .. } if host == "elsewhere"), "{held}");
    journal.lock("engine", "r-3", true).await.expect("by force");
    set(u32::MAX, "long ago", &own.host);
    journal.lock("engine", "r-4", false).await.expect("its holder is gone");
    journal.unlock("engine", "r-4");
    journal.flush().await;
}

#[tokio::test]
async fn a_broken_file_is_put_aside_and_said() {
    let place = Place::new();
    std::fs::write(place.0.join(FILE), vec![b'x'; 8192]).expect("written");
    let journal = Journal::open(&place.0).expect("a new one");
    assert!(journal.health().found.is_some_and(|found| found.contains("it is kept as")));
    journal.persist(&rollout("r-1", 1), Vec::new()).await.expect("kept");
    let newer = Place::new();
    drop(Journal::open(&newer.0).expect("a journal"));
    let other = rusqlite::Connection::open(newer.0.join(FILE)).expect("open");
    other.execute_batch("PRAGMA user_version = 99;").expect("set");
    assert!(matches!(Journal::open(&newer.0), Err(JournalError::Newer(99, 1))));
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_left_out_and_the_rest_is_read() {
    let place = Place::new();
    let journal = Journal::open(&place.0).expect("a journal");
    journal.persist(&rollout("r-1", 1), Vec::new()).await.expect("kept");
    journal.persist(&rollout("r-2", 2), Vec::new()).await.expect("kept");
    let other = rusqlite::Connection::open(place.0.join(FILE)).expect("open");
    other.execute("UPDATE rollouts SET document = '{\"id\":1}' WHERE id = 'r-1'", []).expect("set");
    let found = Reader::open(&place.0).expect("a reader").rollouts(10).expect("read");
    assert_eq!(found.iter().map(|kept| kept.rollout.id.as_str()).collect::<Vec<_>>(), ["r-2"]);
    let lost = Reader::open(&place.0).expect("a reader").unreadable().expect("read");
    assert_eq!(lost, [("r-1".to_owned(), "engine".to_owned())], "what held its service is named");
}
