//! The screens of `weir doctor`, compared with golden files: pure functions of files, answers and a time.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(name)
}

#[track_caller]
fn golden(name: &str, mut findings: Vec<Finding>) {
    findings.sort_by_key(|finding| finding.severity);
    let actual = finding::screen("weir 0.1.0 at http://127.0.0.1:9901, generation 12", &findings, Paint::plain());
    for line in actual.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    let path = file(name);
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &actual).expect("the golden directory can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, actual, "WEIR_UPDATE_GOLDEN=1 refreshes {}", path.display());
}

fn answers(change: impl FnOnce(&mut Value)) -> Answers {
    let text = std::fs::read_to_string(file("status.json")).expect("the status is there");
    let mut raw: Value = serde_json::from_str(&text).expect("it is JSON");
    change(&mut raw);
    let status = serde_json::from_value(raw.clone()).expect("it is a status");
    Answers { status: Some((status, raw)), ..Answers::default() }
}

fn at(status: &Answers) -> Timestamp {
    let (status, _) = status.status.as_ref().expect("a status");
    let began: Timestamp = status.started_at.parse().expect("a time");
    Timestamp::from_second(began.as_second() + i64::try_from(status.uptime_s).expect("it fits")).expect("a time")
}

/// Nothing wrong: what the status of the golden files has wrong is taken out.
fn quiet(raw: &mut Value) {
    raw["stale"] = Value::Null;
    raw["last_reload"]["ok"] = true.into();
    raw["services"].as_array_mut().expect("services").truncate(1);
    raw["services"][0]["pending"] = Value::Null;
    raw["services"][0]["draining"] = Value::Null;
    for pool in raw["services"][0]["pools"].as_array_mut().expect("pools") {
        pool["state"] = "serving".into();
        pool["weight"] = 50.into();
        pool["configured_share"] = 0.5.into();
        pool["last_minute"] = Value::Null;
        pool["endpoints"] = json!([{ "address": "10.0.3.7:8080", "origin": "http://engine:8080", "state": "serving",
            "last_error": null, "in_flight": 0, "ejections": 0 }]);
    }
    for pool in ["tls", "upstream_tls"] {
        raw[pool] = json!([]);
    }
}

#[test]
fn a_night_with_everything_wrong_is_told_in_the_order_of_mending() {
    let mut answers = answers(|raw| {
        raw["acme"] = json!([
            { "name": "shop.example", "state": "missing", "failures": 3, "next": "2026-11-21T03:08:00Z",
              "error": "the authority refuses: unauthorized: 404 at /.well-known", "next_unix_s": 1_795_230_480 },
            { "name": "www.shop.example", "state": "held", "failures": 1, "next": "2026-11-21T03:02:00Z",
              "error": "the authority is not done with the order yet", "next_unix_s": 1_795_230_120 },
            { "name": "new.shop.example", "state": "ordering", "failures": 0, "next": "2026-11-21T03:00:00Z",
              "error": null, "next_unix_s": 1_795_230_000 },
        ]);
        let address = |at: &str, left: u64| json!({ "address": at, "seconds_left": left });
        let longest = [address("203.0.113.9", 64), address("2001:db8::", 8), address("10.1.1.1", 4)];
        raw["resting"] = json!({ "addresses": 5, "longest": longest });
    });
    answers.samples = Samples::read(
        "process_open_fds 950\nprocess_max_fds 1024\nweir_access_log_dropped_total 17\n\
         weir_shed_ratio{worker=\"0\"} 0\nweir_shed_ratio{worker=\"1\"} 0.25\nweir_shed_total 4711\n\
         weir_rate_limited_total{limit=\"per-client\",outcome=\"allowed\"} 900\n\
         weir_rate_limited_total{limit=\"per-client\",outcome=\"refused\"} 30\n\
         weir_overflow_total{service=\"engine\",pool=\"canary\",outcome=\"spill\"} 12\n\
         weir_overflow_total{service=\"engine\",pool=\"canary\",outcome=\"refused\"} 3\n",
    );
    let view = json!({ "rolloutId": "w7", "service": "engine", "state": "rolling_out", "phase": 1,
        "phases": [{}, {}, {}], "currentPercentage": 5.0, "verdict": "pass",
        "waitingFor": "1 of 2 approvals (ann, bob)" });
    answers.rollouts = rollout::view::View::read(&view).into_iter().collect();
    let now = at(&answers) + jiff::SignedDuration::from_secs(90);
    golden("doctor.txt", judged(&Files { ok: true, ..Files::default() }, &answers, Some(8), now));
}

#[test]
fn a_quiet_night_has_no_findings() {
    let answers = answers(quiet);
    let cores = answers.status.as_ref().map(|(status, _)| status.workers);
    let findings = judged(&Files { ok: true, ..Files::default() }, &answers, cores, at(&answers));
    assert_eq!(findings, []);
    golden("doctor-quiet.txt", findings);
}

#[test]
fn load_that_is_shed_is_an_error_while_it_lasts_and_a_warning_afterwards() {
    let found = |text: &str| {
        let mut answers = answers(quiet);
        answers.samples = Samples::read(text);
        let cores = answers.status.as_ref().map(|(status, _)| status.workers);
        let findings = judged(&Files { ok: true, ..Files::default() }, &answers, cores, at(&answers));
        findings.into_iter().map(|finding| (finding.severity, finding.found)).collect::<Vec<_>>()
    };
    let ratio = |share: f64| format!("weir_shed_ratio{{worker=\"0\"}} {share}\nweir_shed_total 7\n");
    let [(Severity::Error, text)] = &found(&ratio(0.5))[..] else { panic!("one error") };
    assert!(text.contains("50.0 % of its requests 503 now, since the start 7"), "{text}");
    let [(Severity::Warning, text)] = &found(&ratio(0.0))[..] else { panic!("one warning") };
    assert!(text.contains("no worker sheds now, since the start 7"), "{text}");
    assert_eq!(found("weir_shed_ratio{worker=\"0\"} 0\nweir_shed_total 0\n"), []);
}

#[test]
fn shares_that_differ_from_the_weights_say_why() {
    let minute = |requests: u64, share: f64| {
        json!({ "seconds": 60.0, "requests": requests, "requests_per_s": 10.0, "effective_share": share,
            "error_ratio": 0.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0 })
    };
    let off = |canary: u64| {
        let mut answers = answers(|raw| {
            quiet(raw);
            let pools = raw["services"][0]["pools"].as_array_mut().expect("pools");
            pools[0]["last_minute"] = minute(1000 - canary, (1000 - canary) as f64 / 1000.0);
            pools[1]["last_minute"] = minute(canary, canary as f64 / 1000.0);
        });
        answers.samples = Samples::read(
            "weir_decisions_total{service=\"engine\",pool=\"stable\",why=\"bucket\"} 900\n\
             weir_decisions_total{service=\"engine\",pool=\"stable\",why=\"failover\"} 100\n",
        );
        let cores = answers.status.as_ref().map(|(status, _)| status.workers);
        judged(&Files { ok: true, ..Files::default() }, &answers, cores, at(&answers))
    };
    assert_eq!(off(490), [], "chance");
    golden("doctor-shares.txt", off(200));
}

#[test]
fn what_weir_and_this_machine_say_of_one_endpoint_is_one_finding() {
    let finding = |found: &str| Severity::Error.of("10.0.0.1:1 (canary of engine)", found);
    let mut findings = vec![finding("its probes fail: connect: refused")];
    let reached = vec![finding("from here: connection refused").next("nc -vz 10.0.0.1 1")];
    merge(&mut findings, reached.clone(), None);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].found, "its probes fail: connect: refused; from here: connection refused");
    assert_eq!(findings[0].next, "nc -vz 10.0.0.1 1");
    let mut serving = Vec::new();
    merge(&mut serving, reached.clone(), answers(|_| {}).status.as_ref().map(|(status, _)| status));
    assert_eq!(serving[0].severity, Severity::Note, "weir reaches it");
    let mut alone = Vec::new();
    merge(&mut alone, reached, None);
    assert_eq!(alone[0].severity, Severity::Error);
}
