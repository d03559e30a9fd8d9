//! Admin safety: loopback or a token, no other origin, no forged host, problems that say what is wrong.

use std::time::Duration;

use crate::harness::client::request;
use crate::harness::{Answer, Client, Setup, Upstream, Weir};

const WEIGHTS: &str = "/api/v1/services/engine/weights";

fn started() -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [90, 10]).start();
    (stable, canary, weir)
}

#[track_caller]
fn is_problem(answer: &Answer, statuses: &[u16]) {
    assert!(statuses.contains(&answer.status), "{}: {}", answer.status, answer.text());
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{problem}");
    assert!(problem["title"].is_string(), "{problem}");
}

#[test]
fn health_readiness_metrics_status_and_openapi_are_there() {
    let (_stable, _canary, weir) = started();
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status", WEIGHTS, "/api/v1/openapi.json"] {
        assert_eq!(weir.admin_get(path).status, 200, "{path}");
    }
    let openapi = weir.admin_get("/api/v1/openapi.json").json();
    for path in ["status", "services/{service}/weights", "services/{service}/rollback", "explain", "reload"] {
        assert!(openapi["paths"][format!("/api/v1/{path}")].is_object(), "{path}");
    }
    assert_eq!(weir.admin("HEAD", "/healthz", &[], "").status, 200);
}

#[test]
fn what_does_not_exist_is_a_problem_document() {
    let (_stable, _canary, weir) = started();
    is_problem(&weir.admin_get("/api/v1/nothing"), &[404]);
    is_problem(&weir.admin_get("/api/v1/services/nobody/weights"), &[404]);
    is_problem(&weir.admin("DELETE", WEIGHTS, &[], ""), &[405]);
    is_problem(&weir.admin("POST", "/api/v1/services/%2e%2e%2fetc/rollback", &[], "{}"), &[400, 404]);
}

#[test]
fn a_get_changes_nothing_whatever_it_claims_to_be() {
    let (_stable, _canary, weir) = started();
    for fields in [[("x-http-method-override", "PUT")], [("x-method-override", "POST")], [("x-http-method", "PUT")]] {
        weir.admin("GET", WEIGHTS, &fields, "{\"stable\":0,\"canary\":1}");
        weir.admin("GET", "/api/v1/services/engine/rollback?_method=POST", &fields, "{}");
    }
    assert_eq!(weir.split(), [90, 10]);
}

#[test]
fn a_browser_on_another_origin_can_change_nothing() {
    let (_stable, _canary, weir) = started();
    let own = format!("http://{}", weir.admin_address());
    let body = "{\"stable\":0,\"canary\":1}";
    for fields in [
        &[("origin", "http://evil.example")][..],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1.evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "http://evil.example"), ("content-type", "text/plain")],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "multipart/form-data; boundary=x")],
    ] {
        for (method, path) in [("PUT", WEIGHTS), ("POST", "/api/v1/services/engine/rollback")] {
            is_problem(&weir.admin(method, path, fields, body), &[400, 403, 415]);
        }
    }
    assert_eq!(weir.split(), [90, 10]);
    let preflight = weir.admin("OPTIONS", WEIGHTS, &[("origin", "http://evil.example")], "");
    assert_eq!(preflight.field("access-control-allow-origin"), None);
    let answer = weir.admin("PUT", WEIGHTS, &[("origin", &own), ("sec-fetch-site", "same-origin")], body);
    assert_eq!(answer.status, 200, "the own origin may: {}", answer.text());
}

#[test]
fn a_forged_host_is_refused_even_for_reading() {
    let (_stable, _canary, weir) = started();
    for host in ["evil.example", "evil.example:9901", "127.0.0.1.evil.example", "2130706433", "[::ffff:6.6.6.6]"] {
        let mut client = Client::to(weir.admin_address()).host(host);
        for (method, path) in [("GET", "/api/v1/status"), ("PUT", WEIGHTS), ("GET", WEIGHTS)] {
            let answer = client.try_ask(method, path, &[("content-type", "application/json")], b"{\"stable\":1}");
            let answer = answer.unwrap_or_else(|error| panic!("{host}: {error}"));
            assert!(matches!(answer.status, 400 | 403 | 421), "{host}: {}", answer.status);
            client = Client::to(weir.admin_address()).host(host);
        }
    }
    assert_eq!(weir.split(), [90, 10]);
    let mut local = Client::to(weir.admin_address()).host(&format!("localhost:{}", weir.admin_address().port()));
    assert_eq!(local.get("/api/v1/status").status, 200);
}

#[test]
fn beyond_loopback_it_does_not_start_without_a_token() {
    let stable = Upstream::named("stable");
    let failure = Setup::single(&stable).admin("address = \"0.0.0.0:0\"").try_start().expect_err("it must not start");
    assert_eq!(failure.code, Some(2), "{failure:?}");
    assert!(failure.log.contains("token"), "it says what is missing: {}", failure.log);
}

#[test]
fn with_a_token_every_change_needs_it() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let setup = Setup::pair(&stable, &canary, [90, 10]).admin("token_file = \"token\"");
    let weir = setup.file("token", "s3cret-token-of-32-characters-xx\n").start();
    let body = "{\"stable\":0,\"canary\":1}";
    for fields in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer s3cret-token-of-32-characters-x")],
        &[("authorization", "Bearer s3cret-token-of-32-characters-xxx")],
        &[("authorization", "Basic czNjcmV0OnM=")],
        &[("authorization", "Bearer ")],
    ] {
        let answer = weir.admin("PUT", WEIGHTS, fields, body);
        is_problem(&answer, &[401, 403]);
        assert!(!answer.text().contains("s3cret"));
    }
    for path in ["/api/v1/services/engine/rollback", "/api/v1/services/engine/undo", "/api/v1/reload"] {
        is_problem(&weir.admin("POST", path, &[], "{}"), &[401, 403]);
    }
    let path = format!("{WEIGHTS}?token=s3cret-token-of-32-characters-xx");
    is_problem(&weir.admin("PUT", &path, &[], body), &[400, 401, 403]);
    let good = [("authorization", "Bearer s3cret-token-of-32-characters-xx")];
    assert_eq!(weir.admin("PUT", WEIGHTS, &good, body).status, 200);
    assert_eq!(weir.admin_get("/healthz").status, 200, "health needs none");
    assert_eq!(weir.log().count("s3cret"), 0, "the log does not tell it");
}

#[test]
fn large_deep_and_slow_bodies_are_refused_and_cost_little() {
    let (_stable, _canary, weir) = started();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    is_problem(&weir.admin("PUT", WEIGHTS, &[], &deep), &[400, 413, 422]);
    let before = weir.resident_bytes();
    let mut client = Client::to(weir.admin_address()).host(&weir.admin_address().to_string());
    let head = format!(
        "PUT {WEIGHTS} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n",
        weir.admin_address()
    );
    client.send(head.as_bytes()).expect("it is sent");
    let block = vec![b' '; 1 << 20];
    let _ = (0..32).try_for_each(|_| client.send(&block));
    let _ = client.answer();
    assert!(weir.resident_bytes().saturating_sub(before) < 8 << 20);
    assert_eq!(weir.split(), [90, 10]);
}

#[test]
fn a_reason_of_any_text_is_kept_as_text() {
    let (_stable, _canary, weir) = started();
    let reason = "<script>alert(1)</script>\r\nfake: line\u{1b}[31m";
    assert_eq!(weir.rollback(reason).status, 200);
    let answer = weir.admin_get("/api/v1/status");
    assert!(answer.field("content-type").is_some_and(|v| v.starts_with("application/json")));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert!(weir.log().lines().iter().all(|line| !line.starts_with("fake:")), "one line stays one line");
}

#[test]
fn the_admin_listener_reads_requests_as_strictly_as_the_public_one() {
    let (_stable, _canary, weir) = started();
    let address = weir.admin_address();
    let body = "{\"stable\":0,\"canary\":1}";
    let smuggled = String::from_utf8(request(
        "PUT",
        WEIGHTS,
        &address.to_string(),
        &[("content-type", "application/json")],
        body.as_bytes(),
    ))
    .expect("it is text");
    for framing in ["Content-Length: 0\r\nTransfer-Encoding: chunked", "Transfer-Encoding: xchunked"] {
        let mut client = Client::to(address).patience(Duration::from_secs(2));
        let text = format!("POST /api/v1/reload HTTP/1.1\r\nHost: evil\r\n{framing}\r\n\r\n{smuggled}");
        client.send(text.as_bytes()).expect("it is sent");
        let _ = client.rest(Duration::from_millis(300));
        assert_eq!(weir.split(), [90, 10], "{framing}");
    }
}

#[test]
fn the_admin_listener_is_not_reachable_through_the_proxy() {
    let (_stable, canary, weir) = started();
    let host = weir.admin_address().to_string();
    let mut client = weir.client().host(&host);
    let answer = client.ask("PUT", WEIGHTS, &[("content-type", "application/json")], b"{\"stable\":0,\"canary\":1}");
    assert_ne!(answer.upstream(), "", "it went to an upstream as any request");
    let target = format!("http://{host}{WEIGHTS}");
    let mut client = weir.client().host(&host);
    let answer = client.ask("GET", &target, &[], b"");
    assert!(answer.status == 400 || !answer.upstream().is_empty());
    assert_eq!(weir.split(), [90, 10]);
    drop(canary);
}

#[test]
fn readiness_is_about_serving() {
    let stable = Upstream::named("stable");
    let weir = Setup::single(&stable).probed().start();
    assert_eq!(weir.admin_get("/readyz").status, 200);
    stable.health(crate::harness::Health::Fail);
    crate::harness::eventually("it is not ready", Duration::from_secs(3), || weir.admin_get("/readyz").status == 503);
    assert_eq!(weir.admin_get("/healthz").status, 200);
}

#[test]
fn a_token_may_what_its_role_says_and_is_who_did_it() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let mut setup = Setup::pair(&stable, &canary, [50, 50]);
    for (name, role) in [("vera", "viewer"), ("olga", "operator"), ("ada", "admin")] {
        let token = format!("[[tokens]]\nname = \"{name}\"\nrole = \"{role}\"\nfile = \"{name}.token\"");
        setup = setup.text(&token).file(&format!("{name}.token"), &format!("token-of-{name}-0123456789\n"));
    }
    let weir = setup.start();
    let ask = |who: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer token-of-{who}-0123456789");
        weir.admin(method, path, &[("authorization", &bearer)], body)
    };
    let (rollback, kill) = ("/api/v1/services/engine/rollback", "/api/v1/kill");
    assert_eq!(ask("nobody", "GET", "/api/v1/status", "").status, 401);
    assert_eq!(ask("vera", "GET", "/api/v1/status", "").status, 200);
    let refused = ask("vera", "POST", rollback, "{}");
    assert_eq!((refused.status, refused.json()["role"].as_str()), (403, Some("operator")), "{}", refused.text());
    assert_eq!(ask("olga", "POST", rollback, r#"{"reason":"errors"}"#).status, 200);
    let refused = ask("olga", "POST", kill, r#"{"scope":"system"}"#);
    assert_eq!((refused.status, refused.json()["role"].as_str()), (403, Some("admin")), "{}", refused.text());
    assert_eq!(ask("ada", "POST", kill, r#"{"scope":"system"}"#).status, 200);
    let log = ask("vera", "GET", "/api/v1/audit", "").json();
    let who: Vec<_> = log["entries"].as_array().expect("a list").iter().map(|entry| entry["who"].clone()).collect();
    assert_eq!(who, ["ada", "olga"]);
}
