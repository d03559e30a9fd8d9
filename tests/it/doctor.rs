//! `weir doctor` over a running weir: what it finds, what it says of endpoints that it connects to, and its exit codes.

use std::time::Duration;

use serde_json::Value;

use crate::harness::behaviour::Health;
use crate::harness::upstream::own_address;
use crate::harness::{Setup, Upstream, Weir, eventually};

fn started(stable: &Upstream, canary: &Upstream, weights: [u32; 2]) -> Weir {
    let admin = format!("address = \"{}:9901\"", own_address());
    Setup::pair(stable, canary, weights).probed().admin(&admin).start()
}

/// What it found, with its exit code.
#[track_caller]
fn doctor(weir: &Weir) -> (Option<i32>, Vec<Value>) {
    let (code, out, err) = weir.verb(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (code, report["findings"].as_array().expect("findings").clone())
}

fn is(finding: &Value, severity: &str, parts: &[&str]) -> bool {
    let text = finding.to_string();
    finding["severity"] == severity && parts.iter().all(|part| text.contains(part))
}

#[test]
fn with_nothing_wrong_it_exits_zero() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = started(&stable, &canary, [90, 10]);
    let (code, findings) = doctor(&weir);
    assert_eq!(code, Some(0), "{findings:?}");
    assert!(findings.iter().all(|finding| finding["severity"] == "note"), "{findings:?}");
    let (code, out, _) = weir.verb(&["doctor"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("nothing is wrong; weir "), "{out}");
}

#[test]
fn an_endpoint_that_refuses_and_one_that_answers_wrong_are_told_apart() {
    let (stable, mut canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = started(&stable, &canary, [90, 10]);
    canary.kill();
    let refused = canary.address().to_string();
    eventually("the refusal is found", Duration::from_secs(5), || {
        let (code, findings) = doctor(&weir);
        let parts = [refused.as_str(), "its probes fail", "from here: connection refused", "nc -vz"];
        code == Some(1) && findings.iter().any(|finding| is(finding, "error", &parts))
    });
    stable.health(Health::Fail);
    eventually("the answer of the probe is found", Duration::from_secs(5), || {
        let parts = [&stable.address().to_string(), "from here: the probe got status 503", "curl -v http://"];
        let findings = doctor(&weir).1;
        findings.iter().any(|finding| is(finding, "error", &parts.map(|part| part)))
            && findings.iter().any(|finding| is(finding, "error", &["service engine", "clients get 503"]))
    });
}

#[test]
fn files_that_do_not_hold_kills_and_no_weir_are_found_and_the_exit_says_so() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let mut weir = started(&stable, &canary, [90, 10]);
    assert_eq!(weir.verb(&["kill", "engine", "--reason", "errors on /pay"]).0, Some(0));
    let (code, findings) = doctor(&weir);
    assert_eq!(code, Some(1));
    let killed = ["errors on /pay", "everything goes to stable", "weir unkill engine"];
    assert!(findings.iter().any(|finding| is(finding, "error", &killed)), "{findings:?}");
    weir.save_weights("[engine]\nstable = 50\ncanray = 50\n");
    eventually("the failed reload is found", Duration::from_secs(3), || {
        let (code, findings) = doctor(&weir);
        let place = |it: &Value| it["place"].as_str().is_some_and(|place| place.ends_with("weights.toml:3:1"));
        // Once, with what it led to: the file is read here as well, and says no more.
        let own: Vec<&Value> = findings.iter().filter(|it| it["severity"] == "error" && place(it)).collect();
        code == Some(2) && own.len() == 1 && is(own[0], "error", &["the last reload failed", "canray"])
    });
    weir.kill();
    let (code, findings) = doctor(&weir);
    assert_eq!(code, Some(2));
    assert!(findings.iter().any(|finding| is(finding, "error", &["no weir answers", "weir run"])), "{findings:?}");
}
