//! See: metrics by pool, the access log, and a log that never blocks.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Behaviour, Load, Setup, Upstream, Weir, eventually};

const SOON: Duration = Duration::from_secs(3);

fn pair() -> (Upstream, Upstream) {
    (Upstream::named("stable"), Upstream::named("canary"))
}

/// The access log lines that mention this path.
fn lines_of(weir: &Weir, path: &str) -> Vec<Value> {
    let lines = weir.access_log().lines();
    let parsed = lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    parsed.filter(|line: &Value| line["path"].as_str().is_some_and(|text| text.starts_with(path))).collect()
}

#[track_caller]
fn line_of(weir: &Weir, path: &str) -> Value {
    eventually(&format!("a line for {path}"), SOON, || !lines_of(weir, path).is_empty());
    lines_of(weir, path).remove(0)
}

#[test]
fn requests_are_counted_by_pool_endpoint_and_code() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [50, 50]).start();
    canary.behave(Behaviour::status(500));
    let mut client = weir.client();
    let answers: Vec<_> = (0..100).map(|_| client.get("/")).collect();
    let from = |name: &str| answers.iter().filter(|answer| answer.upstream() == name).count() as f64;
    let metrics = weir.metrics();
    let endpoint = stable.address().to_string();
    let labels = [("service", "engine"), ("pool", "stable"), ("endpoint", endpoint.as_str()), ("code", "200")];
    assert_eq!(metrics.sum("weir_requests_total", &labels), from("stable"));
    assert_eq!(metrics.sum("weir_requests_total", &[("pool", "canary"), ("code", "500")]), from("canary"));
    assert_eq!(metrics.sum("weir_request_duration_seconds_count", &[("pool", "stable")]), from("stable"));
    assert!(metrics.sum("weir_split_configured_ratio", &[("pool", "canary")]) == 0.5);
    let effective = metrics.sum("weir_split_effective_ratio", &[("pool", "canary")]);
    assert!((0.3..=0.7).contains(&effective), "{effective}");
}

#[test]
fn metrics_keep_their_number_of_series_whatever_clients_send() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 1]).start();
    let mut client = weir.client();
    (0..200).for_each(|_| drop(client.get("/")));
    let before = weir.metrics().series();
    for number in 0..300 {
        client = client.host(&format!("h{number}.example"));
        client.ask(&format!("M{number}"), &format!("/p{number}"), &[("x-user", "x")], b"");
    }
    assert_eq!(weir.metrics().series(), before);
}

#[test]
fn metrics_are_prometheus_text_with_help_and_type() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 1]).start();
    weir.client().get("/");
    let answer = weir.admin_get("/metrics");
    assert!(answer.field("content-type").is_some_and(|v| v.starts_with("text/plain; version=0.0.4")));
    let text = answer.text();
    for name in ["weir_requests_total", "weir_endpoint_up", "weir_config_generation", "weir_build_info"] {
        assert!(text.contains(&format!("# TYPE {name} ")) && text.contains(&format!("# HELP {name} ")), "{name}");
    }
}

#[test]
fn a_line_of_the_access_log_says_where_a_request_went_and_why() {
    let (stable, canary) = pair();
    let setup = Setup::pair(&stable, &canary, [0, 1]).service("direct_paths = true");
    let weir = setup.text("[access_log]\nto = \"stdout\"").start();
    let mut client = weir.client();
    client.get_with("/one?q=1", &[("user-agent", "tester/1")]);
    let line = line_of(&weir, "/one");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["path"], "/one?q=1");
    assert_eq!(line["status"], 200);
    assert_eq!((&line["pool"], &line["why"]), (&Value::from("canary"), &Value::from("weight")));
    assert_eq!(line["endpoint"], canary.address().to_string());
    assert_eq!(line["user_agent"], "tester/1");
    assert_eq!(line["client_ip"], "127.0.0.1");
    assert!(line["generation"].as_u64().is_some_and(|n| n > 0), "{line}");
    assert!(line["duration_ms"].as_f64().is_some() && line["bytes_out"].as_u64() == Some(7), "{line}");
    assert_eq!(line["request_id"].as_str(), canary.last().field("x-request-id"));
    client.get("/stable/direct");
    eventually("a line of the direct path", SOON, || !lines_of(&weir, "/stable/direct").is_empty());
    assert_eq!(lines_of(&weir, "/stable/direct")[0]["why"], "path");
}

#[test]
fn a_retry_is_one_line_that_names_both_attempts() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [0, 1]).text("[access_log]\nto = \"stdout\"").start();
    canary.behave(Behaviour::ResetAfterHead);
    assert_eq!(weir.client().get("/retried").upstream(), "stable");
    let line = line_of(&weir, "/retried");
    let attempts = line["attempts"].as_str().unwrap_or_default();
    assert!(attempts.starts_with("canary:") && attempts.contains("stable:200"), "{line}");
    assert_eq!((&line["pool"], &line["why"]), (&Value::from("stable"), &Value::from("retry")));
    assert_eq!(lines_of(&weir, "/retried").len(), 1);
}

#[test]
fn whatever_a_client_sends_a_line_stays_one_line_of_json() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 1]).text("[access_log]\nto = \"stdout\"").start();
    let mut client = weir.client();
    let agent = "\"quoted\\\" é \t end </script>";
    client.get_with("/odd%0d%0a?\"'<script>", &[("user-agent", agent)]);
    client.get("/after");
    line_of(&weir, "/after");
    assert_eq!(lines_of(&weir, "/odd").len(), 1, "{}", weir.access_log().text());
}

#[test]
fn a_refused_request_is_a_line_with_the_fault_of_the_client() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 1]).text("[access_log]\nto = \"stdout\"").start();
    let mut client = weir.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 400);
    eventually("a line", SOON, || weir.access_log().text().contains("400"));
    let line: Value = serde_json::from_str(&weir.access_log().lines()[0]).expect("a line of JSON");
    assert_eq!(line["fault"], "client", "{line}");
    assert!(weir.metrics().sum("weir_refused_total", &[("kind", "client")]) >= 1.0);
}

#[test]
fn the_access_log_is_off_unless_asked_for_and_goes_to_a_file_when_asked() {
    let (stable, canary) = pair();
    let quiet = Setup::pair(&stable, &canary, [1, 1]).start();
    quiet.client().get("/quiet");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!quiet.access_log().text().contains("/quiet") && !quiet.log().text().contains("/quiet"));
    let weir = Setup::pair(&stable, &canary, [1, 1]).text("[access_log]\nto = \"access.log\"").start();
    weir.client().get("/filed");
    let path = weir.config_directory().join("access.log");
    eventually("the file holds it", SOON, || std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/filed")));
}

#[test]
fn a_sampled_log_holds_a_part_and_all_failures() {
    let (stable, canary) = pair();
    let text = "[access_log]\nto = \"stdout\"\nsample = 0.1";
    let weir = Setup::pair(&stable, &canary, [1, 0]).text(text).start();
    let mut client = weir.client();
    (0..400).for_each(|_| drop(client.get("/fine")));
    stable.behave(Behaviour::ResetAfterHead);
    for number in 0..5 {
        client.ask("POST", &format!("/failed{number}"), &[], b"x");
    }
    eventually("all failures are there", SOON, || lines_of(&weir, "/failed").len() == 5);
    let fine = lines_of(&weir, "/fine").len();
    assert!((10..=90).contains(&fine), "{fine} of 400 at 10 %");
}

#[test]
fn a_reader_that_does_not_read_slows_no_request() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [1, 0]).text("[access_log]\nto = \"stdout\"").unread().start();
    let long = format!("/{}", "x".repeat(2_000));
    let mut client = weir.client();
    let began = Instant::now();
    (0..1_000).for_each(|_| assert_eq!(client.get(&long).status, 200));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("the loss is counted", SOON * 3, || {
        (0..500).for_each(|_| assert_eq!(client.get(&long).status, 200));
        weir.metrics().sum("weir_access_log_dropped_total", &[]) > 0.0
    });
    let load = Load::start(weir.address(), 4, Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(300));
    load.stop().assert_flawless();
}

#[test]
fn status_shows_services_pools_endpoints_weights_and_generation() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [90, 10]).start();
    let status = weir.status().to_string();
    for part in ["engine", "stable", "canary", "90", "10", "generation"] {
        assert!(status.contains(part), "{part} is not in {status}");
    }
    assert!(status.contains(&canary.address().to_string()), "{status}");
}

#[test]
fn a_canary_that_answers_500_is_shown_as_failing() {
    let (stable, canary) = pair();
    let weir = Setup::pair(&stable, &canary, [50, 50]).start();
    eventually("a first sample", SOON, || !weir.status()["services"][0]["pools"][1]["last_minute"].is_null());
    canary.behave(Behaviour::status(500));
    let mut client = weir.client();
    (0..60).for_each(|_| drop(client.get("/")));
    let minute = weir.status()["services"][0]["pools"][1]["last_minute"].clone();
    assert_eq!((minute["error_ratio"].as_f64(), minute["failed_ratio"].as_f64()), (Some(0.0), Some(1.0)), "{minute}");
    assert_eq!(minute["failed"], minute["requests"]);
    let (_, out, _) = weir.verb(&["status"]);
    assert!(out.starts_with("serving, but engine/canary failed 100.0 % of its requests in the last minute"), "{out}");
}

#[test]
fn whoever_moves_everything_to_a_dead_stable_is_told_that_clients_get_503() {
    let (mut stable, canary) = pair();
    let health = "interval = \"200ms\"\ntimeout = \"100ms\"\nfall = 1\nrise = 1";
    let weir = Setup::pair(&stable, &canary, [50, 50]).table("health", health).start();
    eventually("it is probed", SOON, || weir.admin_get("/readyz").status == 200);
    stable.kill();
    let down = || {
        drop(weir.client().get("/"));
        weir.status()["services"][0]["pools"][0]["endpoints"][0]["state"] != "serving"
    };
    eventually("stable is down", Duration::from_secs(10), down);
    assert_eq!(weir.verb(&["healthcheck", "--strict"]).0, Some(0), "the canary takes all");
    for (line, back) in [
        (["rollback", "engine"], "weir undo engine"),
        (["undo", "engine"], ""),
        (["kill", "engine"], "weir unkill engine"),
    ] {
        let (code, _, err) = weir.verb(&line);
        assert_eq!(
            (code, err.contains("clients of engine get 503 NOW")),
            (Some(0), !back.is_empty()),
            "{line:?} {err}"
        );
        assert!(err.contains(back), "{err}");
        let status = weir.client().get("/").status;
        assert!(if back.is_empty() { status == 200 } else { [502, 503].contains(&status) }, "{line:?} {status}");
        assert_eq!(weir.verb(&["healthcheck", "--strict"]).0, Some(if back.is_empty() { 0 } else { 1 }));
    }
    let (_, out, _) = weir.verb(&["status"]);
    assert!(out.starts_with("NOT SERVING: nothing serves in engine (stable)"), "{out}");
}
