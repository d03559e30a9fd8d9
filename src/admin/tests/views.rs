//! What the API shows: probes, metrics, its own description.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::changes::{REASON, WHO};
use super::super::problem::Code;
use super::super::routes::routes;
use super::super::views::OPENAPI;
use super::stage::Stage;
use crate::telemetry::names;

#[test]
fn ready_is_between_listening_and_draining() {
    let stage = Stage::open();
    let ready = || stage.ask("GET /readyz", &[], "");
    assert_eq!((ready().status, &*ready().body), (503, "starting\n"));
    stage.readiness.listening();
    assert_eq!((ready().status, &*ready().body), (200, "ready\n"));
    let verbose = stage.ask("GET /readyz?verbose", &[], "");
    assert!(verbose.body.contains("[+] listening\n") && verbose.body.contains("engine/canary: "), "{}", verbose.body);
    stage.readiness.draining();
    stage.readiness.listening();
    assert_eq!((ready().status, &*ready().body), (503, "draining\n"));
    assert_eq!(stage.ask("GET /healthz", &[], "").body, "ok\n");
}

#[test]
fn the_description_has_every_path_and_method_and_no_other() {
    let spec: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in spec["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            described.insert((path.clone(), method.to_uppercase()));
        }
    }
    let served = routes().into_iter().flat_map(|(path, methods, _)| {
        methods.iter().map(move |(method, _)| (path.to_owned(), (*method).to_owned())).collect::<Vec<_>>()
    });
    assert_eq!(described, served.collect());
    let text = spec.to_string();
    for (asked, header) in
        [("weights/put", WHO), ("weights/put", REASON), ("weights/put", "if-match"), ("rollback/post", WHO)]
    {
        let parameters = spec.pointer(&format!("/paths/~1api~1v1~1services~1{{service}}~1{asked}/parameters")).unwrap();
        let named = parameters.as_array().unwrap().iter().filter_map(|parameter| {
            let pointer = parameter["$ref"].as_str()?.strip_prefix('#')?;
            spec.pointer(pointer)?["name"].as_str()
        });
        assert!(named.into_iter().any(|name| name.eq_ignore_ascii_case(header)), "{asked} does not name {header}");
    }
    for (at, _) in text.match_indices("\"$ref\":\"#") {
        let pointer = text[at + 9..].split('"').next().unwrap();
        assert!(spec.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}

#[test]
fn every_problem_code_is_in_the_description() {
    let spec: Value = serde_json::from_str(OPENAPI).unwrap();
    let described = spec.pointer("/components/schemas/Problem/properties/code/enum").unwrap();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(*described, serde_json::json!(codes));
}

#[test]
fn a_wrong_method_is_told_the_right_ones_on_every_path() {
    let stage = Stage::open();
    for (path, methods, _) in routes() {
        let path = path.replace("{service}", "engine");
        let reply = stage.ask(&format!("DELETE {path}"), &[], "");
        reply.refused(405, "method_not_allowed");
        let allow = reply.header("allow").unwrap_or_default().to_uppercase();
        assert!(methods.iter().all(|(method, _)| allow.contains(method)), "{path} allows {allow}");
    }
    for path in ["/", "/api", "/api/v1/services/engine", "/api/v2/status", "/healthz/", "//healthz"] {
        stage.ask(&format!("GET {path}"), &[], "").refused(404, "not_found");
    }
}

#[test]
fn every_answer_says_how_a_browser_must_treat_it() {
    let stage = Stage::open();
    let replies = [
        stage.ask("GET /api/v1/status", &[], ""),
        stage.ask("GET /healthz", &[], ""),
        stage.ask("GET /nothing", &[], ""),
        stage.ask("DELETE /healthz", &[], ""),
        stage.ask("GET /healthz", &["Host: attacker.example"], ""),
    ];
    for reply in replies {
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
        assert!(!reply.head.contains("access-control-"), "{}", reply.head);
    }
}

#[test]
fn the_metrics_are_well_formed_and_every_name_is_known() {
    crate::telemetry::control::install();
    let stage = Stage::open();
    let snapshot = stage.board.snapshot().load_full();
    let pool = &snapshot.services[0].pools[1];
    pool.state.meter.of(0).lanes[0].latency.record_us(1_500);
    pool.state.meter.of(0).why[0].add(3);
    pool.endpoints[0].meter.of(0).code(200);
    (100..400).for_each(|code| pool.endpoints[1].meter.of(0).code(code));
    stage.workers.of(0).accepted.add(4);
    stage.ask("GET /nothing", &[], "").refused(404, "not_found");
    let reply = stage.ask("GET /metrics", &[], "");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut series = BTreeSet::new();
    for line in reply.body.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} is there twice");
            assert!(names::ALL.iter().any(|metric| metric.name == name), "{name} is not in names.rs");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{name} is there twice");
            let family = name.split('{').next().unwrap();
            let base = family.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
            assert!(kinds.contains_key(family) || kinds.contains_key(base), "{line} has no family");
        }
    }
    for line in [
        "weir_connections_total 4",
        "weir_split_configured_ratio{service=\"engine\",pool=\"canary\"} 0.1",
        "weir_pool_weight{service=\"engine\",pool=\"stable\"} 90",
        "weir_decisions_total{service=\"engine\",pool=\"canary\",why=\"weight\"} 3",
        "weir_requests_total{service=\"engine\",pool=\"canary\",endpoint=\"127.0.0.1:8002\",code=\"200\"} 1",
        "weir_requests_total{service=\"engine\",pool=\"canary\",endpoint=\"127.0.0.1:8003\",code=\"other\"} 260",
        "weir_request_duration_seconds_bucket{service=\"engine\",pool=\"canary\",le=\"0.0025\"} 1",
        "weir_config_last_reload_successful 1",
        "weir_rollback_pending{service=\"engine\"} 0",
        "weir_admin_refused_total{code=\"not_found\"} 1",
        "weir_metrics_samples_left_out 0",
    ] {
        assert!(reply.body.lines().any(|found| found == line), "{line} is missing in\n{}", reply.body);
    }
}

#[test]
fn a_described_request_reaches_the_explanation_in_canonical_form() {
    let stage = Stage::open();
    let body = r#"{"method":"PUT","host":"Example.org:80","path":"/a?b=c","cookies":{"a":"1","c":"2"},
        "headers":{"X-Beta":["1","2"]},"client_ip":"192.0.2.9"}"#;
    let value = stage.json("POST /api/v1/explain", body).value();
    assert_eq!(value["seen"], "PUT example.org /a?b=c 1");
    assert_eq!((value["ip"].as_str(), value["generation"].as_u64()), (Some("192.0.2.9"), Some(stage.generation())));
    assert_eq!(stage.ask("POST /api/v1/explain", &[], "").value()["seen"], "GET localhost / ");
    let tunnel = stage.json("POST /api/v1/explain", r#"{"method":"CONNECT","host":"DB.internal:5432"}"#).value();
    assert_eq!(tunnel["seen"], "CONNECT db.internal  ");
    for (wrong, code) in [
        (r#"{"path":"no-slash"}"#, 422),
        (r#"{"path":"/a b"}"#, 422),
        (r#"{"method":"G T"}"#, 422),
        (r#"{"host":"a/b"}"#, 422),
        (r#"{"method":"CONNECT","host":"a"}"#, 422),
        (r#"{"method":"CONNECT","host":"a:1","path":"/"}"#, 422),
        (r#"{"headers":{"x":"a\r\nb: c"}}"#, 422),
        (r#"{"headers":{"x y":"a"}}"#, 422),
        (r#"{"cookies":{"x":"a; b=c"}}"#, 422),
        (r#"{"client_ip":"nobody"}"#, 422),
        (r#"{"headers":{"x":1}}"#, 400),
        (r#"{"verb":"GET"}"#, 400),
    ] {
        let reply = stage.json("POST /api/v1/explain", wrong);
        reply.refused(code, if code == 400 { "bad_body" } else { "invalid" });
    }
}
