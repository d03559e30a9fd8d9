//! What a page in a browser, a stranger or a broken client must not be able to do.

use std::io::{Read, Write};

use super::stage::{Stage, TOKEN};

const WEIGHTS: &str = "PUT /api/v1/services/engine/weights";
const ROLLBACK: &str = "POST /api/v1/services/engine/rollback";
const JSON: &str = "Content-Type: application/json";
const BODY: &str = r#"{"stable":1,"canary":99}"#;

#[test]
fn a_name_that_was_rebound_to_loopback_is_not_answered() {
    let stage = Stage::open();
    for host in ["attacker.example", "attacker.example:9901", "localhost.attacker.example", "10.0.0.1", "0.0.0.0"] {
        let host = format!("Host: {host}");
        stage.ask(WEIGHTS, &[JSON, &host], BODY).refused(421, "wrong_host");
        stage.ask("GET /api/v1/status", &[&host], "").refused(421, "wrong_host");
        stage.ask("GET /metrics", &[&host], "").refused(421, "wrong_host");
    }
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:9901"] {
        assert_eq!(stage.ask("GET /api/v1/status", &[&format!("Host: {host}")], "").status, 200);
    }
    stage.ask("GET /api/v1/status", &["Host: localhost", "Host: localhost"], "").refused(400, "bad_host");
    stage.raw(b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n").refused(400, "bad_host");
    let absolute = "GET http://attacker.example/version";
    stage.ask(absolute, &["Host: localhost"], "").refused(400, "bad_host");
    assert_eq!(stage.live(), (90, 10));
}

#[test]
fn a_page_of_another_origin_changes_nothing() {
    let stage = Stage::open();
    let own = format!("Origin: http://{}", stage.address);
    for foreign in [
        "Origin: http://attacker.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Origin: file://",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        stage.ask(WEIGHTS, &[JSON, foreign], BODY).refused(403, "cross_origin");
        stage.ask(ROLLBACK, &[foreign], "").refused(403, "cross_origin");
        stage.ask("POST /api/v1/reload", &[&own, foreign], "").refused(403, "cross_origin");
        stage.ask("POST /api/v1/explain", &[JSON, foreign], "{}").refused(403, "cross_origin");
    }
    let preflight = ["Origin: http://attacker.example", "Access-Control-Request-Method: PUT"];
    let reply = stage.ask("OPTIONS /api/v1/services/engine/weights", &preflight, "");
    reply.refused(405, "method_not_allowed");
    assert!(!reply.head.contains("access-control-"), "{}", reply.head);
    assert_eq!(stage.live(), (90, 10));
    assert_eq!(stage.ask(ROLLBACK, &[&own, "Sec-Fetch-Site: same-origin"], "").status, 200);
}

#[test]
fn what_a_form_can_send_is_not_read() {
    let stage = Stage::open();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json"]
    {
        let header = format!("Content-Type: {kind}");
        stage.ask(WEIGHTS, &[&header], BODY).refused(415, "not_json");
        stage.ask(ROLLBACK, &[&header], "").refused(415, "not_json");
    }
    stage.ask(WEIGHTS, &[], BODY).refused(415, "not_json");
    stage.ask(ROLLBACK, &["Transfer-Encoding: chunked"], "").refused(415, "not_json");
    stage.ask(WEIGHTS, &[JSON, "Content-Type: text/plain"], BODY).refused(415, "not_json");
    assert_eq!(stage.live(), (90, 10));
    let override_method = ["X-HTTP-Method-Override: PUT", JSON];
    stage.ask("POST /api/v1/services/engine/weights", &override_method, BODY).refused(405, "method_not_allowed");
    assert_eq!(stage.ask(WEIGHTS, &["Content-Type: Application/JSON; charset=utf-8"], BODY).status, 200);
}

#[test]
fn with_a_token_nothing_but_probes_and_metrics_is_open() {
    let stage = Stage::with_token();
    stage.readiness.listening();
    for open in ["/healthz", "/readyz", "/metrics"] {
        // Probes of an orchestrator name the address of a pod.
        assert_eq!(stage.ask(&format!("GET {open}"), &["Host: 10.1.2.3:9901"], "").status, 200, "{open}");
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let cut = &bearer[..bearer.len() - 1];
    let basic = format!("Authorization: Basic {TOKEN}");
    let longer = format!("{bearer}x");
    for path in ["GET /api/v1/status", "GET /version", "GET /nothing", ROLLBACK, "POST /api/v1/reload"] {
        let reply = stage.ask(path, &[], "");
        reply.refused(401, "unauthorized");
        assert!(reply.header("www-authenticate").unwrap().starts_with("bearer"));
    }
    for wrong in [cut, &basic, &longer, "Authorization: Bearer", "Authorization:"] {
        stage.ask(WEIGHTS, &[JSON, wrong], BODY).refused(401, "unauthorized");
    }
    stage.ask(WEIGHTS, &[JSON, &bearer, &bearer], BODY).refused(401, "unauthorized");
    assert_eq!(stage.live(), (90, 10));
    // The token does not make a page of another origin an operator.
    stage.ask(WEIGHTS, &[JSON, &bearer, "Origin: http://attacker.example"], BODY).refused(403, "cross_origin");
    assert_eq!(stage.ask("GET /api/v1/status", &[&bearer, "X-Forwarded-For: 1.2.3.4"], "").status, 200);
    assert_eq!(stage.ask(WEIGHTS, &[JSON, &bearer, "Host: weir.internal"], BODY).status, 200);
    assert_eq!(stage.live(), (1, 99));
}

#[test]
fn a_token_in_an_address_is_refused() {
    let stage = Stage::with_token();
    for query in [format!("token={TOKEN}"), format!("a=b&access_token={TOKEN}"), "API_KEY=x".into()] {
        stage.ask(&format!("GET /api/v1/status?{query}"), &[], "").refused(400, "token_in_url");
    }
}

#[test]
fn guessing_tokens_is_slowed_and_a_page_cannot_lock_its_user_out() {
    let stage = Stage::with_token();
    let right = format!("Authorization: Bearer {TOKEN}");
    (0..50).for_each(|_| drop(stage.ask("GET /version", &[], "").refused(401, "unauthorized")));
    assert_eq!(stage.ask("GET /version", &[&right], "").status, 200);
    let wrong = "Authorization: Bearer 0000000000000000";
    let replies: Vec<_> = (0..40).map(|_| stage.ask("GET /version", &[wrong], "")).collect();
    let refused = replies.iter().filter(|reply| reply.status == 429).count();
    assert!(refused >= 20, "only {refused} of 40 guesses were slowed");
    assert!(replies.last().unwrap().header("retry-after").is_some());
}

#[test]
fn without_a_token_a_proxy_in_front_lends_nobody_its_address() {
    let stage = Stage::open();
    for line in ["Via: 1.1 weir", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Real-IP: 192.0.2.1"] {
        stage.ask(WEIGHTS, &[JSON, line], BODY).refused(403, "proxied");
        stage.ask("GET /api/v1/status", &[line], "").refused(403, "proxied");
    }
}

#[test]
fn large_deep_and_broken_input_is_refused() {
    let stage = Stage::open();
    let large = format!(r#"{{"stable":1,"x":"{}"}}"#, "x".repeat(70_000));
    stage.json(WEIGHTS, &large).refused(413, "body_too_large");
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    stage.json(WEIGHTS, &deep).refused(400, "bad_body");
    let head = format!("GET /version HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(stage.raw(head.as_bytes()).status, 431);
    let fields: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_eq!(stage.raw(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes()).status, 431);
    let smuggled = "PUT /api/v1/services/engine/weights HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\n\
         Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}{}";
    assert_eq!(stage.raw(smuggled.as_bytes()).status, 400);
    assert_eq!(stage.live(), (90, 10));
}

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let stage = Stage::open();
    let mut slow = stage.connect();
    slow.write_all(b"GET /version HTTP/1.1\r\nHost: local").unwrap();
    let mut rest = Vec::new();
    // The test's own deadline is the read timeout of the socket.
    slow.read_to_end(&mut rest).expect("the connection is closed by the server");
}

#[test]
fn a_body_that_does_not_end_is_given_up() {
    let stage = Stage::open();
    let head = format!("{WEIGHTS} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 28\r\n\r\n{{");
    stage.raw(head.as_bytes()).refused(408, "slow_body");
}

#[test]
fn more_connections_than_the_limit_wait_and_are_served_in_turn() {
    let stage = Stage::open();
    let idle: Vec<_> = (0..80).map(|_| stage.connect()).collect();
    assert_eq!(stage.ask("GET /healthz", &[], "").status, 200, "idle connections are given up");
    drop(idle);
}

#[test]
fn the_end_does_not_wait_for_idle_connections() {
    let mut stage = Stage::open();
    let mut kept = stage.connect();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stage.stop();
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).unwrap();
    assert!(std::net::TcpStream::connect(stage.address).is_err());
}
