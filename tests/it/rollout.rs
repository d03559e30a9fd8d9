//! Rollouts end to end over the API: evidence moves the share up and takes it back, people move it, nothing forgets it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Behaviour, Load, Reply, Setup, Upstream, Weir, eventually};

const ROLLOUTS: &str = "/api/v1/rollouts";

/// How long something may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// A plan at accelerated time: every duration is short, no statistical number is changed.
fn plan(min: &str) -> Value {
    json!({
        "service": "engine",
        "candidate": "canary",
        "phases": [
            { "percent": 20, "min_duration": min },
            { "percent": 50, "min_duration": min },
            { "percent": 100, "min_duration": min },
        ],
        "gates": [{ "kind": "error_rate" }],
        "evidence": { "settle": "100ms", "warm_up": "0s" },
    })
}

fn setup(stable: &Upstream, canary: &Upstream) -> Setup {
    Setup::pair(stable, canary, [100, 0]).text("[rollouts]\ntick = \"50ms\"")
}

fn started() -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = setup(&stable, &canary).start();
    (stable, canary, weir)
}

#[track_caller]
fn start(weir: &Weir, plan: &Value) -> String {
    let answer = weir.admin("POST", ROLLOUTS, &[], &plan.to_string());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let body = answer.json();
    for key in ["state", "currentPercentage", "startedAt"] {
        assert!(!body[key].is_null(), "{key}: {body}");
    }
    body["rolloutId"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn view(weir: &Weir, id: &str) -> Value {
    let answer = weir.admin_get(&format!("{ROLLOUTS}/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn told(weir: &Weir, id: &str, verb: &str) -> (u16, Value) {
    let answer = weir.admin("POST", &format!("{ROLLOUTS}/{id}/{verb}"), &[], r#"{"reason":"a test"}"#);
    (answer.status, answer.json())
}

#[track_caller]
fn reaches(weir: &Weir, id: &str, state: &str, within: u64) -> Value {
    let (began, mut seen) = (Instant::now(), Value::Null);
    while began.elapsed() < Duration::from_secs(within) {
        seen = view(weir, id);
        if seen["state"] == state {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not {state} within {within} s: {seen:#}");
}

fn load(weir: &Weir) -> Load {
    Load::start(weir.address(), 4, Duration::from_millis(1))
}

/// Events of one answer that ends after what is kept.
fn events_after(weir: &Weir, id: u64) -> Vec<(u64, String)> {
    let text = weir.admin("GET", "/api/v1/events?once=true", &[("last-event-id", &id.to_string())], "").text();
    let value = |block: &str, key: &str| {
        block.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
    };
    let events = text.split("\n\n").filter_map(|block| Some((value(block, "id:")?, value(block, "event:")?)));
    events.map(|(id, name)| (id.parse().expect("a number"), name)).collect()
}

#[test]
fn a_good_canary_is_promoted_phase_by_phase_and_no_request_fails() {
    let (_stable, _canary, weir) = started();
    let load = load(&weir);
    let id = start(&weir, &plan("300ms"));
    let done = reaches(&weir, &id, "completed", 60);
    assert_eq!((done["currentPercentage"].as_f64(), weir.split()), (Some(100.0), [0, 100]));
    load.stop().assert_flawless();
    let names: Vec<String> = events_after(&weir, 0).into_iter().map(|(_, name)| name).collect();
    for name in ["rollout_initiated", "canary_started", "canary_completed", "rollout_completed"] {
        assert!(names.iter().any(|seen| seen == name), "{name} in {names:?}");
    }
    let report = weir.admin_get(&format!("{ROLLOUTS}/{id}/report")).json();
    assert_eq!((report["success"].as_bool(), report["rollback_triggered"].as_bool()), (Some(true), Some(false)));
    let ticks = report["ticks"].as_array().expect("ticks");
    let counted: u64 = ticks.iter().filter_map(|tick| tick["tick"]["candidate"]["attempts"].as_u64()).sum();
    assert_eq!(Some(counted), done["arms"][0]["requests"].as_u64(), "every tick's counts are in the report");
    assert!(report["latency"]["candidate"]["p95"]["value"].is_number(), "{}", report["latency"]);
    let page = weir.admin_get(&format!("{ROLLOUTS}/{id}/report.html"));
    assert!(page.text().contains("<svg") && page.field("content-type").is_some_and(|kind| kind.contains("html")));
    // Whatever the machine does meanwhile, judging is far below a tick.
    let metrics = weir.metrics();
    let ticks = metrics.sum("weir_rollout_ticks_total", &[]);
    assert!(metrics.sum("weir_rollout_judge_seconds_total", &[]) / ticks < 0.001, "{ticks} ticks");
}

#[test]
fn a_canary_that_fails_goes_back_to_nothing_by_itself() {
    let (_stable, canary, weir) = started();
    let load = load(&weir);
    canary.behave(Behaviour::Reply(Reply::status(500)));
    let id = start(&weir, &plan("10s"));
    let done = reaches(&weir, &id, "rolled_back", 30);
    assert_eq!((done["verdict"].as_str(), weir.split()), (Some("fail"), [100, 0]));
    let seen = canary.count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(canary.count(), seen, "no request after the rollback");
    let report = load.stop();
    assert!(report.failures.len() < 200, "{} requests failed before the rollback", report.failures.len());
    let failed = |gate: &&Value| gate["verdict"] == "fail" && gate["eValue"].as_f64() >= gate["limit"].as_f64();
    assert!(done["gates"].as_array().is_some_and(|gates| gates.iter().any(|it| failed(&it))), "{}", done["gates"]);
    assert_eq!(weir.metrics().sum("weir_rollout_rollbacks_total", &[("cause", "automatic")]), 1.0);
    eventually("the rollback is verified", PATIENCE, || {
        events_after(&weir, 0).iter().any(|(_, name)| name == "rollback_completed")
    });
    let mut by_itself = plan("10s");
    by_itself["automatic"] = true.into();
    let rests = weir.admin("POST", ROLLOUTS, &[], &by_itself.to_string());
    assert!(rests.status == 409 && rests.text().contains("rests"), "{}", rests.text());
    start(&weir, &plan("10s"));
}

#[test]
fn a_rollout_is_paused_resumed_advanced_and_rolled_back_and_illegal_moves_are_conflicts() {
    let (_stable, canary, weir) = started();
    let id = start(&weir, &plan("1h"));
    let second = weir.admin("POST", ROLLOUTS, &[], &plan("1h").to_string());
    assert_eq!((second.status, second.json()["running"].as_str()), (409, Some(&*id)));
    assert_eq!(told(&weir, &id, "resume").0, 409);
    let (status, paused) = told(&weir, &id, "pause");
    assert_eq!((status, paused["state"].as_str()), (200, Some("paused")));
    assert_eq!(told(&weir, &id, "pause").0, 409);
    assert_eq!(weir.split(), [80, 20], "a pause keeps the percent");
    assert_eq!(told(&weir, &id, "resume").1["state"], "rolling_out");
    let (status, advanced) = told(&weir, &id, "advance");
    assert_eq!((status, advanced["phase"].as_u64(), weir.split()), (200, Some(1), [50, 50]), "{advanced}");
    let load = load(&weir);
    eventually("the canary gets requests", PATIENCE, || canary.count() > 50);
    let (status, back) = told(&weir, &id, "rollback");
    let seen = canary.count();
    assert_eq!((status, back["state"].as_str(), weir.split()), (200, Some("rolled_back"), [100, 0]));
    std::thread::sleep(Duration::from_millis(200));
    // Four clients may each have had one request under way.
    assert!(canary.count() <= seen + 4, "{} after {seen}", canary.count());
    load.stop().assert_flawless();
    assert_eq!(told(&weir, &id, "advance").0, 409);
    start(&weir, &plan("1h"));
    assert_eq!(told(&weir, "nobody", "pause").0, 404);
    assert_eq!(weir.admin_get(&format!("{ROLLOUTS}/nobody")).status, 404);
}

#[test]
fn a_plan_is_started_by_name_put_twice_is_once_and_a_bad_one_is_told_in_words() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = setup(&stable, &canary).start();
    let directory = weir.config_directory().join("rollouts");
    std::fs::create_dir_all(&directory).expect("a directory");
    let text = "service = \"engine\"\n[[phases]]\npercent = 5\n[[phases]]\npercent = 100\n\
        [[gates]]\nkind = \"error_rate\"\n";
    std::fs::write(directory.join("engine-2.toml"), text).expect("a plan");
    let put = |body: &str| weir.admin("PUT", &format!("{ROLLOUTS}/ci-17"), &[], body);
    let first = put(r#"{"plan":"engine-2"}"#);
    assert_eq!((first.status, first.json()["rolloutId"].as_str()), (201, Some("ci-17")), "{}", first.text());
    assert_eq!(put(r#"{"plan":"engine-2"}"#).status, 200);
    assert_eq!(put(&plan("1s").to_string()).status, 409);
    let unknown = weir.admin("POST", ROLLOUTS, &[], r#"{"plan":"engine-3"}"#);
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("unknown_plan")));
    let bad = json!({ "service": "engine", "phases": [{ "percent": 500 }] });
    let bad = weir.admin("POST", ROLLOUTS, &[], &bad.to_string());
    assert_eq!((bad.status, bad.json()["code"].as_str()), (422, Some("invalid_plan")), "{}", bad.text());
    let checked = weir.admin("POST", "/api/v1/rollouts/check", &[], &plan("1s").to_string()).json();
    assert_eq!(checked["valid"], true, "{checked}");
    let plans = weir.admin_get("/api/v1/plans").json();
    assert_eq!(plans["plans"][0]["name"], "engine-2");
}

#[test]
fn a_hand_edit_of_the_weights_file_wins_and_pauses_the_rollout() {
    let (_stable, _canary, weir) = started();
    let id = start(&weir, &plan("1h"));
    weir.save_split([90, 10]);
    let paused = reaches(&weir, &id, "paused", 10);
    assert_eq!((weir.split(), paused["currentPercentage"].as_f64()), ([90, 10], Some(10.0)));
    assert!(paused["because"].as_str().is_some_and(|why| why.contains("weights file")), "{}", paused["because"]);
    assert_eq!(told(&weir, &id, "resume").1["state"], "rolling_out");
    assert_eq!(weir.split(), [80, 20], "resuming is going on with the plan");
}

#[test]
fn kill_nine_and_a_new_process_goes_on_where_it_was_with_its_evidence_and_its_audit() {
    let (_stable, _canary, weir) = started();
    let load = load(&weir);
    let id = start(&weir, &plan("1h"));
    assert_eq!(told(&weir, &id, "advance").0, 200);
    eventually("there is evidence", PATIENCE, || {
        view(&weir, &id)["arms"][0]["requests"].as_u64().is_some_and(|n| n > 200)
    });
    load.stop();
    std::thread::sleep(Duration::from_millis(200));
    let before = view(&weir, &id);
    let last = events_after(&weir, 0).last().expect("an event").0;
    let weir = weir.restart().expect("it starts again");
    let after = view(&weir, &id);
    for key in ["state", "phase", "currentPercentage", "startedAt"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(weir.split(), [50, 50]);
    assert_eq!(after["arms"][0]["requests"], before["arms"][0]["requests"], "no count is lost");
    eventually("its gates speak again", PATIENCE, || view(&weir, &id)["gates"][0]["safeEValue"].is_number());
    assert_eq!(view(&weir, &id)["gates"][0]["safeEValue"], before["gates"][0]["safeEValue"], "evidence is carried on");
    let audit = weir.admin_get("/api/v1/audit").json();
    let actions: Vec<_> = audit["entries"].as_array().expect("entries").iter().map(|it| it["action"].clone()).collect();
    assert!(actions.contains(&json!("rollout.start")) && actions.contains(&json!("rollout.advance")), "{actions:?}");
    assert_eq!(weir.admin_get("/api/v1/audit/verify").json()["ok"], true);
    let (status, back) = told(&weir, &id, "rollback");
    assert_eq!((status, back["state"].as_str(), weir.split()), (200, Some("rolled_back"), [100, 0]));
    let next = events_after(&weir, last);
    assert!(next.first().is_some_and(|(id, _)| *id == last + 1), "numbers go on after {last}: {next:?}");
}

#[test]
fn events_are_streamed_as_they_happen_and_replayed_from_the_last_one_seen() {
    let (_stable, _canary, weir) = started();
    let mut stream = TcpStream::connect(weir.admin_address()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", weir.admin_address());
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    let mut until = |word: &str| {
        let (began, mut chunk) = (Instant::now(), [0; 4096]);
        while !text.contains(word) && began.elapsed() < Duration::from_secs(10) {
            let read = stream.read(&mut chunk).expect("the stream goes on");
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        assert!(text.contains(word), "{word} in {text}");
    };
    until("text/event-stream");
    let id = start(&weir, &plan("1h"));
    until("event: rollout_initiated");
    until("event: canary_started");
    assert_eq!(told(&weir, &id, "pause").0, 200);
    until("event: rollout_paused");
    let all = events_after(&weir, 0);
    assert_eq!(all.first().map(|(id, _)| *id), Some(1));
    assert!(all.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{all:?}");
    let later = events_after(&weir, all[1].0);
    assert_eq!(later, all[2..], "exactly what was missed");
}

#[test]
fn a_kill_sends_everything_to_stable_by_the_api_and_by_the_file_and_pauses_the_rollout() {
    let (_stable, canary, weir) = started();
    let id = start(&weir, &plan("1h"));
    let load = load(&weir);
    eventually("the canary gets requests", PATIENCE, || canary.count() > 20);
    let body = r#"{"scope":"service","service":"engine","reason":"stop"}"#;
    let killed = weir.admin("POST", "/api/v1/kill", &[], body);
    let seen = canary.count();
    assert_eq!(killed.status, 200, "{}", killed.text());
    std::thread::sleep(Duration::from_millis(200));
    assert!(canary.count() <= seen + 4, "{} after {seen}", canary.count());
    reaches(&weir, &id, "paused", 10);
    assert_eq!(told(&weir, &id, "resume").0, 409, "nothing goes on while it is killed");
    assert!(weir.weights_text().contains("kill"), "{}", weir.weights_text());
    assert_eq!(weir.admin("POST", "/api/v1/unkill", &[], body).status, 200);
    assert_eq!(told(&weir, &id, "resume").0, 200, "at once, not after the next tick");
    load.stop().assert_flawless();
    let all = weir.admin("POST", "/api/v1/kill", &[], r#"{"scope":"system","reason":"everything"}"#);
    assert_eq!(all.json()["system"]["reason"], "everything", "{}", all.text());
}

#[test]
fn switched_off_the_proxy_serves_and_the_engine_says_why_it_does_not() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\nenabled = false").start();
    assert_eq!(weir.client().get("/").status, 200);
    for answer in [
        weir.admin_get(ROLLOUTS),
        weir.admin("POST", ROLLOUTS, &[], &plan("1s").to_string()),
        weir.admin_get("/api/v1/rollouts/status"),
        weir.admin_get("/api/v1/events"),
    ] {
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("SERVICE_UNAVAILABLE")));
        assert!(answer.json()["error"]["message"].is_string());
    }
    let health = weir.admin_get("/api/v1/rollouts/health").json();
    assert_eq!((health["enabled"].as_bool(), health["running"].as_bool()), (Some(false), Some(false)));
    let killed = weir.admin("POST", "/api/v1/kill", &[], r#"{"service":"engine"}"#);
    assert_eq!(killed.status, 200, "a kill works all the same");
}

#[test]
fn tokens_have_roles_and_names() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let text = "[[tokens]]\nname = \"vera\"\nrole = \"viewer\"\nfile = \"vera\"\n\
        [[tokens]]\nname = \"olga\"\nrole = \"operator\"\nfile = \"olga\"";
    let setup = Setup::pair(&stable, &canary, [100, 0]).text(text);
    let setup = setup.file("vera", "vera-0123456789abcdef").file("olga", "olga-0123456789abcdef");
    let weir = setup.file("root", "root-0123456789abcdef").admin("token_file = \"root\"").start();
    let ask = |who: &str, method: &str, path: &str, body: &str| {
        let token = format!("Bearer {who}-0123456789abcdef");
        weir.admin(method, path, &[("authorization", &token)], body)
    };
    assert_eq!(weir.admin_get(ROLLOUTS).status, 401);
    assert_eq!(ask("nobody", "GET", ROLLOUTS, "").status, 401);
    assert_eq!(ask("vera", "GET", ROLLOUTS, "").status, 200);
    let body = plan("1h").to_string();
    assert_eq!(ask("vera", "POST", ROLLOUTS, &body).status, 403);
    let started = ask("olga", "POST", ROLLOUTS, &body);
    assert_eq!((started.status, started.json()["startedBy"].as_str()), (201, Some("olga")), "{}", started.text());
    let system = r#"{"scope":"system","reason":"x"}"#;
    assert_eq!(ask("olga", "POST", "/api/v1/kill", system).status, 403);
    let id = started.json()["rolloutId"].as_str().expect("an id").to_owned();
    let force = ask("olga", "POST", &format!("{ROLLOUTS}/{id}/advance"), r#"{"force":true}"#);
    assert_eq!(force.status, 403, "{}", force.text());
    assert_eq!(ask("root", "POST", "/api/v1/kill", system).status, 200);
    let audit = ask("vera", "GET", "/api/v1/audit", "").json();
    assert!(audit["entries"].as_array().expect("entries").iter().any(|it| it["who"] == "olga"), "{audit}");
}

#[test]
fn a_drill_goes_to_stable_and_back_and_leaves_the_rollout_as_it_was() {
    let (_stable, _canary, weir) = started();
    let id = start(&weir, &plan("1h"));
    let impact = weir.admin_get(&format!("{ROLLOUTS}/{id}/impact")).json();
    assert_eq!((impact["percent"].as_f64(), impact["stable"].as_str()), (Some(20.0), Some("stable")), "{impact}");
    let (status, drilled) = told(&weir, &id, "drill");
    assert_eq!((status, drilled["ok"].as_bool()), (200, Some(true)), "{drilled}");
    let after = view(&weir, &id);
    assert_eq!((after["state"].as_str(), weir.split()), (Some("rolling_out"), [80, 20]), "{after}");
}

#[test]
fn the_report_of_a_rollout_is_whole_after_kill_9() {
    let (_stable, canary, weir) = started();
    canary.behave(Behaviour::status(500));
    let load = load(&weir);
    let id = start(&weir, &plan("300ms"));
    reaches(&weir, &id, "rolled_back", 60);
    let report = |weir: &Weir| weir.admin_get(&format!("{ROLLOUTS}/{id}/report")).json();
    eventually("it is verified", PATIENCE, || report(&weir)["verified"].is_string());
    drop(load);
    let before = report(&weir);
    let weir = weir.restart().expect("it starts again");
    let after = report(&weir);
    assert_eq!((&after["events"], &after["verified"]), (&before["events"], &before["verified"]));
    for (kept, seen) in after["ticks"].as_array().expect("ticks").iter().zip(before["ticks"].as_array().expect("ticks"))
    {
        assert_eq!((&kept["latency"], &kept["tick"]), (&seen["latency"], &seen["tick"]));
    }
    assert_eq!(view(&weir, &id)["events"], before["events"]);
    let page = weir.admin_get(&format!("{ROLLOUTS}/{id}/report.html")).text();
    assert!(page.contains("Latency"), "{page}");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_shown_and_used_as_soon_as_it_can_be() {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    let weir = setup(&stable, &canary).file(".weir", "in the way").start();
    let id = start(&weir, &plan("1h"));
    let (_, out, err) = weir.verb(&["status"]);
    assert!(out.contains("! the journal cannot be written (") && out.contains("let user "), "{out}{err}");
    assert!(out.contains("/.weir") && out.contains("or set state_dir"), "{out}");
    let (code, out, err) = weir.verb(&["audit", "verify"]);
    assert!(code != Some(0) && err.contains("no audit log can be verified: the journal cannot be"), "{out}{err}");
    std::fs::remove_file(weir.state_directory()).expect("it can be removed");
    eventually("it is well", PATIENCE, || weir.status()["journal"].is_null());
    eventually("it is told", PATIENCE, || weir.verb(&["events"]).1.contains("the journal can be written now"));
    let (code, out, err) = weir.verb(&["audit", "verify"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let weir = weir.restart().expect("it starts again");
    assert_eq!(view(&weir, &id)["state"], "rolling_out", "nothing was forgotten");
}
