//! A disk that is full, and a state directory that is taken away: traffic moves all the same, and it is said.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::{Asks, Crowd};
use crate::harness::{Setup, Upstream, Weir, eventually, never};
use crate::rows;

const PATIENCE: Duration = Duration::from_secs(20);

/// The longest that a rollback may take to answer although nothing can be written.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Nothing but a person ends its first phase.
fn plan() -> Value {
    json!({
        "service": "engine",
        "candidate": "canary",
        "phases": [{ "percent": 20, "min_duration": "1h" }, { "percent": 50, "min_duration": "1h" }],
        "gates": [{ "kind": "error_rate" }],
        "evidence": { "settle": "100ms", "warm_up": "0s" },
    })
}

fn pair() -> (Upstream, Upstream, Setup) {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    let setup = Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\ntick = \"50ms\"");
    (stable, canary, setup)
}

fn failing(weir: &Weir) -> Option<String> {
    let health = weir.admin_get("/api/v1/rollouts/status").json();
    health["journal"]["failing"].as_str().map(str::to_owned)
}

fn ticks(weir: &Weir, id: &str) -> u64 {
    weir.rollout(id)["ticks"].as_u64().expect("a number")
}

fn alarms(weir: &Weir) -> String {
    weir.log().lines().into_iter().filter(|line| line.contains("\"alarm\"")).collect::<Vec<_>>().join("\n")
}

/// Rolls back, and holds the proxy to it: nothing new to the candidate, and no request lost.
fn rolls_back_at_once(weir: &Weir, canary: &Upstream, id: &str, what: &str) {
    let began = Instant::now();
    let (status, view) = weir.command_rollout(id, "rollback", "the disk is full");
    let took = began.elapsed();
    let seen = canary.asked();
    assert_eq!((status, &view["state"], weir.split()), (200, &json!("rolled_back"), [100, 0]), "{view:#}");
    assert!(took < AT_ONCE, "{what}: answered after {took:?}");
    // What was under way when it was answered may still arrive.
    never("a request goes to the candidate", Duration::from_millis(300), || canary.asked() > seen + 6);
    rows::keep(&format!("disk-{what}"), &[format!("| {what} | rollback answered after {} ms |", took.as_millis())]);
}

#[test]
fn where_nothing_can_be_written_traffic_goes_back_at_once_and_it_is_written_when_there_is_room() {
    let (_stable, canary, setup) = pair();
    let weir = setup.start();
    let crowd = Crowd::at(weir.address(), &Asks::default());
    let id = weir.start_rollout(&plan());
    eventually("the candidate is asked", PATIENCE, || canary.asked() > 50);
    weir.limit_file_size(Some(0));
    eventually("it is said", PATIENCE, || failing(&weir).is_some());
    eventually("it is an alarm", PATIENCE, || alarms(&weir).contains("the journal cannot be written"));
    let trouble = || weir.rollout(&id)["trouble"].as_str().map(str::to_owned);
    eventually("it is shown", PATIENCE, || trouble().is_some_and(|it| it.contains("everything goes on in memory")));
    let before = ticks(&weir, &id);
    eventually("it goes on", PATIENCE, || ticks(&weir, &id) > before + 5);
    // Raising a share that could not be written down is not done; a person is asked.
    let (status, view) = weir.command_rollout(&id, "advance", "in spite of it");
    assert!(status == 200 && view["livePercentage"] == 20.0 && weir.split() == [80, 20], "{status}: {view:#}");
    rolls_back_at_once(&weir, &canary, &id, "no file can be written");
    assert!(!weir.weights_text().contains("canary = 0"), "the weights file could not be written either");
    weir.limit_file_size(None);
    eventually("it is written", PATIENCE, || failing(&weir).is_none() && weir.weights_text().contains("canary = 0"));
    let met = crowd.stop();
    assert!(met.failed.is_empty() && met.unread == 0, "{:?}", met.failed.first());
    let weir = weir.restart().expect("it starts again");
    assert_eq!((&weir.rollout(&id)["state"], weir.split()), (&json!("rolled_back"), [100, 0]));
    assert_eq!(weir.admin_get("/api/v1/audit/verify").json()["ok"], true);
}

#[test]
fn with_a_full_state_disk_everything_goes_on_and_nothing_is_lost_that_there_was_room_for() {
    let (_stable, canary, setup) = pair();
    let weir = match setup.small_state(512).try_start() {
        Ok(weir) => weir,
        Err(failure) if failure.code.is_none() => {
            println!("left out: this machine mounts nothing for us: {}", failure.log);
            return;
        }
        Err(failure) => panic!("{failure:?}"),
    };
    let crowd = Crowd::at(weir.address(), &Asks::default());
    let id = weir.start_rollout(&plan());
    eventually("the candidate is asked", PATIENCE, || canary.asked() > 20);
    let filler = weir.state_directory().join("filler");
    let fill = || std::fs::write(&filler, vec![0_u8; 1 << 20]).is_err();
    assert!(fill(), "a disk of 512 KiB takes no MiB");
    eventually("it is said", PATIENCE, || failing(&weir).is_some());
    eventually("it is an alarm", PATIENCE, || alarms(&weir).contains("the journal cannot be written"));
    let (status, view) = weir.command_rollout(&id, "advance", "the weights file has room");
    assert_eq!((status, weir.split()), (200, [50, 50]), "{view:#}");
    rolls_back_at_once(&weir, &canary, &id, "the state disk is full");
    std::fs::remove_file(&filler).expect("what was filled can be emptied");
    eventually("it is written", PATIENCE, || failing(&weir).is_none());
    let audit = weir.admin_get("/api/v1/audit").text();
    assert!(audit.contains("the weights file has room") && audit.contains("the disk is full"), "{audit}");
    assert_eq!(weir.admin_get("/api/v1/audit/verify").json()["ok"], true);
    let met = crowd.stop();
    assert!(met.failed.is_empty() && met.unread == 0, "{:?}", met.failed.first());
}

#[test]
fn a_state_directory_that_is_taken_away_is_an_alarm_and_begun_anew() {
    let (_stable, canary, setup) = pair();
    let weir = setup.start();
    let id = weir.start_rollout(&plan());
    let crowd = Crowd::at(weir.address(), &Asks::default());
    eventually("the candidate is asked", PATIENCE, || canary.asked() > 20);
    std::fs::remove_dir_all(weir.config_directory().join(".weir")).expect("taken away");
    eventually("it is an alarm", PATIENCE, || alarms(&weir).contains("taken away"));
    let before = ticks(&weir, &id);
    eventually("it goes on", PATIENCE, || ticks(&weir, &id) > before + 5);
    // What is known from now on is known to the next process.
    let mut weir = weir.restart().expect("it starts again");
    eventually("it is on disk", PATIENCE, || weir.rollout(&id)["state"] == "rolling_out");
    drop(crowd);
    let crowd = Crowd::at(weir.address(), &Asks::default());
    let seen = canary.asked();
    eventually("the candidate is asked again", PATIENCE, || canary.asked() > seen + 20);
    rolls_back_at_once(&weir, &canary, &id, "the state directory was taken away");
    crowd.stop();
    weir.kill();
    let weir = weir.restart().expect("it starts again");
    assert_eq!((&weir.rollout(&id)["state"], weir.split()), (&json!("rolled_back"), [100, 0]));
}
