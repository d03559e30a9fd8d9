//! The screens as people see them, compared with golden files: a pure function of the API's JSON.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::{Value, json};

use super::picture::{self, Room};
use super::view::View;
use super::watch::complete;
use crate::cli::screen::Paint;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli/rollout").join(name)
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    let path = file(name);
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden directory can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, actual, "WEIR_UPDATE_GOLDEN=1 refreshes {}", path.display());
}

fn rolling() -> Value {
    let text = std::fs::read_to_string(file("rolling.json")).expect("the rollout is there");
    serde_json::from_str(&text).expect("it is JSON")
}

fn now() -> Zoned {
    let now: Timestamp = "2026-11-21T02:49:22Z".parse().expect("a time");
    now.to_zoned(TimeZone::UTC)
}

fn screen(document: &Value, rows: Option<usize>) -> String {
    let view = View::read(document).expect("it is a rollout");
    picture::render(&view, &now(), Room { columns: 80, rows }, Paint::plain())
}

#[track_caller]
fn fits(text: &str, columns: usize, rows: usize) {
    assert!(text.lines().count() <= rows, "{} rows:\n{text}", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= columns, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn a_rollout_under_way_fits_a_terminal_of_80_by_24() {
    let text = screen(&rolling(), Some(24));
    fits(&text, 80, 24);
    golden("rolling-80x24.txt", &text);
    golden("rolling.txt", &screen(&rolling(), None));
}

#[test]
fn a_rollback_says_why_and_with_which_numbers() {
    let mut failed = rolling();
    failed["state"] = "rolled_back".into();
    failed["verdict"] = "fail".into();
    failed["currentPercentage"] = 0.into();
    failed["because"] =
        "error_rate failed: canary 4.10 % against 0.49 %, 8.4×; evidence 4 100, limit 200; chance of a false \
                         alarm at most 0.50 %"
            .into();
    failed["endedAt"] = "2026-11-21T02:49:20Z".into();
    failed["gates"][0]["verdict"] = "fail".into();
    failed["gates"][0]["eValue"] = 4100.into();
    failed["gates"][0]["ratio"] = 8.4.into();
    failed["gates"][0]["candidate"] = 0.041.into();
    let text = screen(&failed, Some(24));
    fits(&text, 80, 24);
    golden("rolled-back.txt", &text);
}

#[test]
fn paused_killed_pending_and_quiet_rollouts_say_what_to_do() {
    let mut text = String::new();
    let mut add = |title: &str, change: &dyn Fn(&mut Value)| {
        let mut one = rolling();
        one["events"] = json!([]);
        one["gates"] = json!([]);
        change(&mut one);
        let screen = screen(&one, Some(24));
        fits(&screen, 80, 24);
        text += &format!("--- {title}\n{screen}\n");
    };
    add("paused", &|it| {
        it["state"] = "paused".into();
        it["because"] = "ann changed the weights by hand: stable=80 canary=20".into();
    });
    add("killed", &|it| it["killed"] = "errors on /pay".into());
    add("waits for an approval", &|it| {
        it["state"] = "pending".into();
        it["waitingFor"] = "1 of 2 approvals (ann, bob); `weir rollout approve engine`".into();
    });
    add("nobody there", &|it| {
        it["verdict"] = "no_traffic".into();
        it["detail"] = "no request reached canary for 2 min".into();
    });
    add("many phases, dry run, settling", &|it| {
        let phase = |n: u32| json!({ "name": format!("phase-{n}"), "percent": n * 5, "minDurationMs": 60000 });
        it["phases"] = (1..=20).map(phase).collect();
        it["dryRun"] = true.into();
        it["settling"] = true.into();
    });
    add("frozen, with trouble", &|it| {
        it["windowClosed"] = "release freeze until Monday 08:00 Europe/Berlin".into();
        it["trouble"] = "the journal cannot be written (disk full); everything goes on in memory".into();
    });
    add("promoted", &|it| {
        it["state"] = "completed".into();
        it["currentPercentage"] = 100.into();
        it["because"] = "every gate was shown safe in every phase".into();
    });
    golden("states.txt", &text);
}

#[test]
fn any_size_of_terminal_keeps_the_top_and_never_overflows() {
    for rows in 1..60 {
        assert!(screen(&rolling(), Some(rows)).lines().count() <= rows, "{rows}");
    }
    for columns in [20, 40, 60, 100, 200] {
        let view = View::read(&rolling()).expect("a rollout");
        let text = picture::render(&view, &now(), Room { columns, rows: Some(24) }, Paint::plain());
        assert!(text.starts_with("engine: stable → canary"), "{columns}: {text}");
    }
}

#[test]
fn what_the_rollout_does_not_tell_comes_from_the_status() {
    let bare = json!({ "rolloutId": "e-1", "service": "engine", "candidate": "canary", "state": "rolling_out",
        "percent": 5.0, "currentPercentage": 5.0, "completedAt": null, "something": "new" });
    let minute = json!({ "requests_per_s": 9.5, "error_ratio": 0.1, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0,
        "effective_share": 0.09 });
    let status = json!({ "services": [{ "name": "engine", "stable": "blue", "pools": [
        { "name": "blue", "last_minute": minute }, { "name": "canary", "last_minute": minute },
    ]}]});
    let mut view = View::read(&bare).expect("a rollout");
    complete(&mut view, Some(&status));
    assert_eq!((view.control(), view.realised_percentage), ("blue".into(), Some(9.0)));
    assert_eq!(view.arms.iter().map(|arm| arm.p99_ms).collect::<Vec<_>>(), [Some(3.0), Some(3.0)]);
}

#[test]
fn a_stranger_cannot_write_to_the_terminal() {
    let mut evil = rolling();
    evil["because"] = "\u{1b}[2Jgone".into();
    evil["gates"][0]["detail"] = "\u{1b}]0;title\u{7}".into();
    evil["gates"][0]["name"] = "\u{1b}[31m".into();
    evil["events"][0]["message"] = "\u{1b}[31m".into();
    evil["startedBy"] = "\u{1b}[31m".into();
    assert!(!screen(&evil, None).contains('\u{1b}'));
}
