//! What the API changes, and what it refuses to change.

use super::stage::Stage;

const WEIGHTS: &str = "PUT /api/v1/services/engine/weights";

#[test]
fn an_answered_put_is_live_and_in_the_file() {
    let stage = Stage::open();
    let reply = stage.json(WEIGHTS, r#"{"stable":50,"canary":50}"#);
    assert_eq!((reply.status, stage.live()), (200, (50, 50)), "{}", reply.body);
    let file = std::fs::read_to_string(stage.weights_file()).unwrap();
    assert!(file.starts_with("# kept\n") && file.contains("stable = 50"), "{file}");
    let value = reply.value();
    assert_eq!(value["weights"]["canary"], 50);
    assert_eq!(value["changed"], true);
    assert_eq!(value["generation"], stage.generation());
    assert_eq!(reply.header("etag"), Some(&*format!("\"{}\"", stage.generation())));
    let shown = stage.ask("GET /api/v1/services/engine/weights", &[], "");
    assert_eq!(shown.header("etag"), reply.header("etag"));
    assert_eq!(shown.value()["weights"], value["weights"]);
    assert_eq!(shown.value()["undo"]["canary"], 10);
}

#[test]
fn percents_are_weights_too() {
    let stage = Stage::open();
    let reply = stage.json(WEIGHTS, r#"{"stable":"99.5%","canary":"0.5%"}"#);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(stage.live(), (995_000, 5_000));
}

#[test]
fn of_two_operators_who_saw_the_same_generation_one_wins() {
    let stage = Stage::open();
    let generation = stage.generation();
    let quoted = format!("If-Match: \"{generation}\"");
    let json = "Content-Type: application/json";
    assert_eq!(stage.ask(WEIGHTS, &[json, &quoted], r#"{"stable":60,"canary":40}"#).status, 200);
    let bare = format!("If-Match: {generation}");
    let problem = stage.ask(WEIGHTS, &[json, &bare], r#"{"stable":1,"canary":99}"#).refused(409, "conflict");
    assert_eq!(problem["generation"], generation + 1);
    assert_eq!(stage.live(), (60, 40));
    stage.ask(WEIGHTS, &[json, "If-Match: W/\"1\""], r#"{"stable":1,"canary":99}"#).refused(400, "bad_if_match");
}

#[test]
fn rollback_and_undo_are_answered_when_they_are_live_and_tell_who_and_why() {
    let stage = Stage::open();
    let headers = ["Content-Type: application/json", "X-Weir-Who: kim"];
    let rollback = "POST /api/v1/services/engine/rollback";
    let reply = stage.ask(rollback, &headers, r#"{"reason":"errors"}"#);
    assert_eq!((reply.status, stage.live().1), (200, 0), "{}", reply.body);
    let status = stage.ask("GET /api/v1/status", &[], "").value();
    let cause = &status["history"][0]["cause"];
    assert_eq!((cause["who"].as_str(), cause["reason"].as_str()), (Some("kim"), Some("errors")), "{status}");
    assert_eq!(cause["how"], "api");
    assert_eq!(stage.ask("POST /api/v1/services/engine/undo", &[], "").status, 200);
    assert_eq!(stage.live(), (90, 10));
}

#[test]
fn neither_a_stale_generation_nor_an_odd_reason_stands_in_the_way_of_a_rollback() {
    let stage = Stage::open();
    let body = format!(r#"{{"reason":"a\nb\u001b{}"}}"#, "x".repeat(5_000));
    let headers = ["Content-Type: application/json", "If-Match: \"0\""];
    assert_eq!(stage.ask("POST /api/v1/services/engine/rollback", &headers, &body).status, 200);
    assert_eq!(stage.live().1, 0);
    let status = stage.ask("GET /api/v1/status", &[], "").value();
    let reason = status["history"][0]["cause"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("a b x") && reason.len() == 500, "{reason}");
}

#[test]
fn what_does_not_hold_changes_nothing_and_is_told_in_words() {
    let stage = Stage::open();
    for (body, status, code, words) in [
        (r#"{"stable":0,"canary":0}"#, 422, "invalid_weights", "0"),
        (r#"{"stable":50,"nobody":50}"#, 422, "unknown_pool", "nobody"),
        (r#"{"stable":"60%","canary":"30%"}"#, 422, "invalid_weights", "100"),
        (r#"{"stable":"60%","canary":40}"#, 422, "invalid_weights", "mixed"),
        (r#"{"stable":-1,"canary":2}"#, 400, "bad_body", "negative"),
        (r#"{"stable":1.5,"canary":2}"#, 400, "bad_body", "whole"),
        (r#"{"stable":1e999,"canary":2}"#, 400, "bad_body", "number"),
        (r#"{"stable":NaN}"#, 400, "bad_body", "expected"),
        (r#"{"stable":1,"stable":2}"#, 400, "bad_body", "twice"),
        (r#"{"stable":true}"#, 422, "invalid", "truth"),
        (r#"{"stable":1000001,"canary":1}"#, 422, "invalid", "1000001"),
        (r#"{"../../etc":1}"#, 422, "invalid", "not a name"),
        (r#"{"stable":"a lot"}"#, 422, "invalid", "a lot"),
        ("[]", 400, "bad_body", "object"),
        ("{}", 400, "bad_body", "weights"),
        ("{", 400, "bad_body", "EOF"),
    ] {
        let problem = stage.json(WEIGHTS, body).refused(status, code);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{body} gave {problem}");
    }
    let put = "PUT /api/v1/services";
    stage.json(&format!("{put}/nobody/weights"), r#"{"stable":1}"#).refused(404, "unknown_service");
    stage.json(&format!("{put}/..%2f..%2fetc/weights"), r#"{"stable":1}"#).refused(404, "unknown_service");
    stage.json(&format!("{put}/%ff/weights"), r#"{"stable":1}"#).refused(404, "unknown_service");
    let rollback = "POST /api/v1/services/engine/rollback";
    stage.json(rollback, r#"{"why":"x"}"#).refused(400, "bad_body");
    stage.ask("POST /api/v1/services/engine/undo", &[], "").refused(409, "nothing_to_undo");
    assert_eq!(stage.live(), (90, 10));
}

#[test]
fn a_reload_of_files_that_do_not_hold_lists_every_problem() {
    let stage = Stage::open();
    std::fs::write(stage.weights_file(), "[engine]\nstable = -1\nnobody = 5\n").unwrap();
    let problem = stage.ask("POST /api/v1/reload", &[], "").refused(422, "invalid_config");
    let problems = problem["problems"].as_array().unwrap();
    assert!(problems.len() >= 2, "{problem}");
    assert_eq!(problems[0]["line"], 2, "{problem}");
    assert!(stage.ask("GET /metrics", &[], "").body.contains("\nweir_config_last_reload_successful 0\n"));
    std::fs::write(stage.weights_file(), "[engine]\nstable = 1\ncanary = 3\n").unwrap();
    assert_eq!(stage.ask("POST /api/v1/reload", &[], "").value()["changed"], true);
    assert_eq!(stage.live(), (1, 3));
}

#[test]
fn the_log_level_is_taken_or_refused() {
    let stage = Stage::open();
    assert_eq!(stage.json("PUT /api/v1/log-level", r#"{"level":"weir=debug"}"#).status, 200);
    stage.json("PUT /api/v1/log-level", r#"{"level":"nonsense"}"#).refused(422, "invalid");
    stage.json("PUT /api/v1/log-level", r#"{"level":1}"#).refused(400, "bad_body");
    stage.json("PUT /api/v1/log-level", "").refused(400, "bad_body");
}
