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
