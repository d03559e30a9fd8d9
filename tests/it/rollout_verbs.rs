//! Rollouts as an operator runs them: the verbs, against a running weir and real upstreams.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::upstream::own_address;
use crate::harness::{Setup, Upstream, Weir, eventually};

/// A plan that is quick and that nothing but a person ends.
const PLAN: &str = "\
service = \"engine\"
candidate = \"canary\"
on_failure = \"rollback\"
on_inconclusive = \"extend\"

[[phases]]
percent = 20
min_duration = \"1h\"
max_duration = \"2h\"

[[phases]]
percent = 100
min_duration = \"1h\"
max_duration = \"2h\"

[[gates]]
kind = \"error_rate\"
";

/// Stable and canary, with the admin API on an address that the file names, and the plan `engine-2` beside it.
fn started() -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let admin = format!("address = \"{}:9901\"", own_address());
    let weir = Setup::pair(&stable, &canary, [100, 0]).admin(&admin).start();
    let plans = weir.config_directory().join("rollouts");
    std::fs::create_dir_all(&plans).expect("the directory of plans");
    std::fs::write(plans.join("engine-2.toml"), PLAN).expect("the plan");
    (stable, canary, weir)
}

#[track_caller]
fn done(weir: &Weir, arguments: &[&str]) -> String {
    let (code, out, err) = weir.verb(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

#[track_caller]
fn json(weir: &Weir, arguments: &[&str]) -> Value {
    let out = done(weir, &[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

#[test]
fn a_rollout_is_started_paused_resumed_advanced_and_rolled_back_by_verbs() {
    let (_stable, _canary, weir) = started();
    let started = json(&weir, &["rollout", "start", "engine-2", "--reason", "nightly"]);
    let id = started["rolloutId"].as_str().expect("an id").to_owned();
    let (code, _, err) = weir.verb(&["rollout", "start", "engine-2"]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&id), "{err}");
    let state = || json(&weir, &["rollout", "status", "engine"])["state"].as_str().unwrap_or_default().to_owned();
    eventually("the first share is live", Duration::from_secs(10), || weir.split() == [80, 20]);
    assert!(done(&weir, &["rollout", "list"]).contains(&id));
    assert!(done(&weir, &["status"]).contains(&format!("rollout {id} is rolling out at 20 %")));
    let out = done(&weir, &["rollout", "pause", "engine", "--reason", "lunch"]);
    assert!(out.starts_with("engine is paused at 20 %"), "{out}");
    assert_eq!((state().as_str(), weir.split()), ("paused", [80, 20]));
    assert!(done(&weir, &["rollout", "explain", "engine"]).contains("it is paused"));
    done(&weir, &["rollout", "resume", &id]);
    assert_eq!(state(), "rolling_out");
    let (code, out, _) = weir.verb(&["rollout", "wait", "engine", "--timeout", "200ms"]);
    assert_eq!(code, Some(2));
    assert!(out.contains("CANARY INCONCLUSIVE"), "{out}");
    done(&weir, &["rollout", "rollback", "engine", "--reason", "errors on /pay"]);
    assert_eq!(weir.split(), [100, 0]);
    for _ in 0..20 {
        assert_eq!(weir.client().get("/").upstream(), "stable");
    }
    let (code, out, _) = weir.verb(&["rollout", "wait", "engine", "--timeout", "10s"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("CANARY FAILED") && out.contains("errors on /pay"), "{out}");
    assert!(done(&weir, &["rollout", "history", "engine"]).contains("rolled back"));
}

#[test]
fn the_report_is_json_and_a_page_and_events_tell_the_same() {
    let (_stable, _canary, weir) = started();
    let id = json(&weir, &["rollout", "start", "engine-2", "--id", "nightly-1"])["rolloutId"].clone();
    assert_eq!(id, "nightly-1");
    eventually("the first share is live", Duration::from_secs(10), || weir.split() == [80, 20]);
    done(&weir, &["rollout", "rollback", "nightly-1", "--reason", "only trying"]);
    let report = json(&weir, &["rollout", "report", "nightly-1"]);
    assert_eq!(report["rolloutId"], "nightly-1");
    let page = done(&weir, &["rollout", "report", "nightly-1", "--html"]);
    assert!(page.starts_with("<!doctype html>") && page.contains("only trying"), "{page:.400}");
    let events = done(&weir, &["events", "--service", "engine"]);
    assert!(events.contains("rollout initiated") && events.contains("rollback"), "{events}");
}

#[test]
fn a_drill_goes_back_to_stable_is_checked_and_goes_forth_again() {
    let (_stable, _canary, weir) = started();
    done(&weir, &["rollout", "start", "engine-2"]);
    eventually("the first share is live", Duration::from_secs(10), || weir.split() == [80, 20]);
    let out = done(&weir, &["rollback", "engine", "--drill", "--reason", "once a week"]);
    assert!(out.starts_with("drill passed: "), "{out}");
    assert_eq!(weir.split(), [80, 20]);
    assert_eq!(json(&weir, &["rollout", "status", "engine"])["state"], "rolling_out");
}

#[test]
fn a_dry_run_touches_no_weight() {
    let (_stable, _canary, weir) = started();
    let out = done(&weir, &["rollout", "start", "engine-2", "--dry-run"]);
    assert!(out.contains("dry run"), "{out}");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(weir.split(), [100, 0]);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(json(&weir, &["rollout", "status", "engine"])["dryRun"], true);
}

#[test]
fn a_kill_is_above_the_rollout_and_is_let_go_again() {
    let (_stable, _canary, weir) = started();
    done(&weir, &["rollout", "start", "engine-2"]);
    eventually("the first share is live", Duration::from_secs(10), || weir.split() == [80, 20]);
    done(&weir, &["kill", "engine", "--reason", "errors on /pay"]);
    for _ in 0..20 {
        assert_eq!(weir.client().get("/").upstream(), "stable");
    }
    assert!(done(&weir, &["kill", "--status"]).contains("errors on /pay"));
    let status = done(&weir, &["status"]);
    assert!(status.contains("killed") && status.contains("`weir unkill engine`"), "{status}");
    done(&weir, &["unkill", "engine"]);
    assert_eq!(done(&weir, &["kill", "--status"]), "nothing is killed\n");
}

#[test]
fn an_unknown_name_is_told_with_what_there_is() {
    let (_stable, _canary, weir) = started();
    let (code, _, err) = weir.verb(&["rollout", "pause", "engin"]);
    assert_eq!(code, Some(2));
    assert_eq!(err, "error: there is no rollout or service \"engin\"; did you mean \"engine\"?\n");
    let (code, _, err) = weir.verb(&["rollout", "status", "engine"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("has had no rollout"), "{err}");
}

#[test]
fn the_rollouts_of_the_demo_end_as_they_promise() {
    let endings = [("bad", "CANARY FAILED"), ("slow", "CANARY FAILED"), ("quiet", "CANARY INCONCLUSIVE")];
    let started = endings.map(|(ending, banner)| {
        let mut demo = crate::harness::weir::command();
        demo.args(["demo", "--rollout", ending, "--port", "0"]).stdout(std::process::Stdio::piped());
        (banner, demo.stderr(std::process::Stdio::piped()).spawn().expect("it starts"))
    });
    for (banner, demo) in started {
        let ended = demo.wait_with_output().expect("it ends");
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success() && out.contains(banner), "{out}{err}");
    }
}

#[test]
fn the_audit_log_tells_who_did_what_and_verifies() {
    let (_stable, _canary, weir) = started();
    done(&weir, &["rollout", "start", "engine-2", "--id", "nightly-1"]);
    done(&weir, &["rollout", "rollback", "nightly-1", "--reason", "only trying"]);
    let audit = done(&weir, &["audit"]);
    assert!(audit.contains("rollout.start") && audit.contains("only trying"), "{audit}");
    let verified = done(&weir, &["audit", "verify"]);
    assert!(verified.starts_with("ok "), "{verified}");
}

#[test]
fn a_start_that_is_refused_says_what_would_have_been_right() {
    let (_stable, _canary, weir) = started();
    let refused = |arguments: &[&str], code: i32, words: &str| {
        let (found, _, err) = weir.verb(&[&["rollout", "start"], arguments].concat());
        assert!(found == Some(code) && err.contains(words), "{arguments:?}: {found:?} {err}");
    };
    refused(&["engin-2"], 2, "error: there is no plan \"engin-2\"; did you mean \"engine-2\"?");
    refused(&["engine"], 2, "error: engine is a service, not a plan: add --profile default");
    std::fs::write(weir.config_directory().join("rollouts/bad.toml"), "service = \"engine\"\n").expect("a plan");
    refused(&["bad"], 2, "the plan does not hold");
    done(&weir, &["rollout", "start", "engine-2", "--id", "t1"]);
    refused(&["engine-2"], 1, "error: rollout t1 of service engine is under way\n  end that one");
    refused(&["engine-2"], 1, "--supersede");
}

#[test]
fn setting_weights_names_the_rollout_that_it_pauses_and_a_killed_service_says_what_its_file_says() {
    let (_stable, _canary, weir) = started();
    done(&weir, &["rollout", "start", "engine-2", "--id", "w1"]);
    eventually("the first share is live", Duration::from_secs(10), || weir.split() == [80, 20]);
    let (code, _, err) = weir.verb(&["set", "engine", "stable=70", "canary=30"]);
    assert_eq!(code, Some(0));
    assert!(err.contains("rollout w1 is paused by this; `weir rollout resume w1` sets 20 % again"), "{err}");
    done(&weir, &["kill", "engine", "--reason", "leaks"]);
    let (code, _, err) = weir.verb(&["set", "engine", "stable=60", "canary=40"]);
    assert_eq!((code, err.as_str()), (Some(1), "error: engine is killed (leaks): `weir unkill engine` first\n"));
    let out = done(&weir, &["rollback", "engine"]);
    assert_eq!(out, "engine stays killed (leaks); the file says stable=100 canary=0 (was stable=70 canary=30)\n");
    let status = done(&weir, &["status"]);
    assert!(status.contains("kill of service engine: engine stable=70 canary=30 → stable=100 canary=0"), "{status}");
    let audit = json(&weir, &["audit"]);
    let rollback = audit["entries"].as_array().and_then(|list| list.iter().find(|it| it["action"] == "rollback"));
    assert_eq!(rollback.expect("an entry")["before"]["canary"], 30, "{audit}");
    let out = done(&weir, &["unkill", "engine"]);
    assert!(out.contains("engine is at stable=100 canary=0 again; rollout w1 stays paused"), "{out}");
    assert_eq!(done(&weir, &["unkill", "engine"]), "service engine was not killed\n");
    let lets_go = json(&weir, &["audit"])["entries"]
        .as_array()
        .map(|list| list.iter().filter(|it| it["action"] == "unkilled").count());
    assert_eq!(lets_go, Some(1), "what changed nothing is not on record");
}

#[test]
fn events_without_a_weir_and_without_a_record_end_with_a_failure() {
    let (_stable, _canary, weir) = started();
    let (none, nowhere) = (own_address(), std::env::temp_dir().join("weir-no-record"));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["events", "--config", "weir.toml", "--admin", &format!("{none}:1")])
        .env_remove("WEIR_CONFIG")
        .current_dir({
            std::fs::create_dir_all(&nowhere).expect("a directory");
            let config = std::fs::read_to_string(weir.config_path()).expect("a configuration");
            let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("state_dir")).collect();
            std::fs::write(nowhere.join("weir.toml"), config.join("\n")).expect("a copy");
            &nowhere
        })
        .spawn()
        .expect("it starts");
    let began = Instant::now();
    let ended = loop {
        match child.try_wait().expect("a child") {
            Some(ended) => break Some(ended),
            None if began.elapsed() > Duration::from_secs(10) => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let _ = child.kill();
    let _ = std::fs::remove_dir_all(&nowhere);
    assert_eq!(ended.and_then(|ended| ended.code()), Some(1), "it ends, and says that there is no record");
}
