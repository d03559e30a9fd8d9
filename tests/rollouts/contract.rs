//! The contract that programs outside of this repository go by, written down as a stranger would from its text alone:
//! paths, fields, verbs, statuses, exit codes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::{Asks, Crowd, hits};
use crate::harness::rollouts::ROLLOUTS;
use crate::harness::{Behaviour, Client, Setup, Upstream, Weir, eventually};
use crate::rows;

const PATIENCE: Duration = Duration::from_secs(30);

/// The plan file of the contract, word by word.
const ENGINE_2: &str = r#"
service = "engine"
candidate = "canary"
strategy = "phased"              # phased | linear | immediate | blue_green
on_failure = "rollback"          # rollback | pause | hold
on_inconclusive = "extend"       # extend | pause | advance | rollback

[evidence]
false_rollback = 0.01
false_advance = 0.05

[[phases]]
percent = 5
min_duration = "10s"
max_duration = "10m"

[[phases]]
percent = 50
min_duration = "10s"

[[phases]]
percent = 100
min_duration = "10s"

[[gates]]
kind = "error_rate"              # evidence against stable; max_ratio = 1.25 by default

[[gates]]
kind = "latency"
quantile = 0.95
"#;

/// The same as a document.
fn engine_2() -> Value {
    json!({
        "service": "engine",
        "candidate": "canary",
        "strategy": "phased",
        "on_failure": "rollback",
        "on_inconclusive": "extend",
        "evidence": { "false_rollback": 0.01, "false_advance": 0.05 },
        "phases": [
            { "percent": 5, "min_duration": "10s", "max_duration": "10m" },
            { "percent": 50, "min_duration": "10s" },
            { "percent": 100, "min_duration": "10s" },
        ],
        "gates": [{ "kind": "error_rate" }, { "kind": "latency", "quantile": 0.95 }],
    })
}

fn started() -> (Upstream, Upstream, Weir) {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    let weir = Setup::pair(&stable, &canary, [100, 0]).text("[rollouts]\ntick = \"50ms\"").start();
    let plans = weir.config_directory().join("rollouts");
    std::fs::create_dir_all(&plans).expect("a directory");
    std::fs::write(plans.join("engine-2.toml"), ENGINE_2).expect("a plan");
    (stable, canary, weir)
}

#[track_caller]
fn post(weir: &Weir, path: &str, body: &Value) -> (u16, Value) {
    let answer = weir.admin("POST", path, &[], &body.to_string());
    (answer.status, answer.json())
}

#[test]
fn a_plan_is_started_by_its_name_and_only_once() {
    let (_stable, _canary, weir) = started();
    let (status, body) = post(&weir, ROLLOUTS, &json!({ "plan": "engine-2" }));
    assert_eq!(status, 201, "{body}");
    let id = body["rolloutId"].as_str().expect("rolloutId").to_owned();
    assert!(["pending", "rolling_out"].contains(&body["state"].as_str().expect("state")), "{body}");
    assert!(body["currentPercentage"].is_number() && body["startedAt"].is_string(), "{body}");
    let (status, second) = post(&weir, ROLLOUTS, &json!({ "plan": "engine-2" }));
    assert_eq!(status, 409);
    assert!(second.to_string().contains(&id), "the answer has the running id: {second}");
    eventually("five percent is live", PATIENCE, || weir.split() == [95, 5]);
    let all = weir.admin_get(ROLLOUTS).json();
    let listed = all.as_array().or(all["rollouts"].as_array()).expect("a list").iter();
    assert!(listed.clone().any(|it| it["rolloutId"] == *id), "{all}");
}

#[test]
fn a_plan_as_json_is_the_plan_of_the_file() {
    let (_stable, _canary, weir) = started();
    let by_name = weir.start_rollout(&json!({ "plan": "engine-2" }));
    let report = |id: &str| weir.admin_get(&format!("{ROLLOUTS}/{id}/report")).json();
    let mut named = report(&by_name)["plan"].clone();
    assert_eq!(weir.command_rollout(&by_name, "rollback", "the other one").0, 200);
    let mut id = None;
    eventually("the service is free", PATIENCE, || {
        let (status, body) = post(&weir, ROLLOUTS, &engine_2());
        id = body["rolloutId"].as_str().map(str::to_owned);
        status == 201
    });
    let mut posted = report(&id.expect("an id"))["plan"].clone();
    // A plan that was posted has the name that the caller chose, or one made up.
    (named["name"], posted["name"]) = (Value::Null, Value::Null);
    assert_eq!(named, posted);
}

#[test]
fn one_rollout_shows_state_phase_percent_and_each_gates_evidence() {
    let (stable, canary, weir) = started();
    // Where nothing fails no ratio can be excluded.
    for (seed, server) in [(1, &stable), (2, &canary)] {
        let fails = move |number| hits(seed, number, 0.1);
        server.behave(Behaviour::chosen(move |_, n| if fails(n) { Behaviour::status(500) } else { Behaviour::Answer }));
    }
    let crowd = Crowd::at(weir.address(), &Asks { pause: Duration::from_millis(3), ..Asks::default() });
    let id = weir.start_rollout(&json!({ "plan": "engine-2" }));
    let spoken =
        |view: &Value| view["gates"].as_array().is_some_and(|gates| gates.len() >= 2 && gates[0]["bound"].is_number());
    let (told, view) = weir.watch_rollout(&id, PATIENCE, spoken);
    assert!(told, "{view:#}");
    assert_eq!((&view["rolloutId"], &view["state"]), (&json!(id), &json!("rolling_out")));
    assert!(view["phase"].is_number() && view["percent"] == 5.0 && view["currentPercentage"] == 5.0, "{view:#}");
    for gate in view["gates"].as_array().expect("gates").iter().take(2) {
        assert!(gate["verdict"].is_string() && gate["eValue"].is_number() && gate["limit"].is_number(), "{gate}");
    }
    assert!(view["bound"].is_number(), "what this phase can exclude by now: {view:#}");
    crowd.stop();
}

#[test]
fn the_verbs_do_what_they_say_with_a_reason_and_an_illegal_one_is_a_conflict() {
    let (_stable, _canary, weir) = started();
    let id = weir.start_rollout(&json!({ "plan": "engine-2" }));
    let tell = |verb: &str| weir.command_rollout(&id, verb, &format!("because of {verb}"));
    assert_eq!(tell("resume").0, 409);
    let (status, view) = tell("pause");
    assert_eq!((status, &view["state"]), (200, &json!("paused")));
    assert_eq!((tell("pause").0, weir.split()), (409, [95, 5]));
    let (status, view) = tell("resume");
    assert_eq!((status, &view["state"]), (200, &json!("rolling_out")));
    let (status, view) = tell("advance");
    assert_eq!((status, &view["percent"], weir.split()), (200, &json!(50.0), [50, 50]));
    let (status, view) = tell("rollback");
    assert_eq!((status, &view["state"], weir.split()), (200, &json!("rolled_back"), [100, 0]));
    for verb in ["pause", "resume", "advance", "rollback"] {
        assert_eq!(tell(verb).0, 409, "{verb} after the end");
    }
    let report = weir.admin_get(&format!("{ROLLOUTS}/{id}/report"));
    assert_eq!((report.status, &report.json()["rolloutId"]), (200, &json!(id)));
    assert!(report.text().contains("because of rollback"), "the reason is in the report");
    let audit = weir.admin_get("/api/v1/audit").text();
    for verb in ["pause", "resume", "advance", "rollback"] {
        assert!(audit.contains(&format!("because of {verb}")), "{verb} in {audit}");
    }
    assert_eq!(weir.command_rollout("nobody", "pause", "").0, 404);
}

#[test]
fn who_sees_the_end_of_a_rollout_can_start_the_next_one_at_once() {
    let (_stable, _canary, weir) = started();
    let mut plan = engine_2();
    plan["phases"] = json!([{ "percent": 50, "min_duration": "1h" }, { "percent": 100, "min_duration": "0s" }]);
    for _ in 0..10 {
        let id = weir.start_rollout(&plan);
        assert_eq!(weir.command_rollout(&id, "advance", "").0, 200);
        weir.rollout_reaches(&id, "completed", PATIENCE);
    }
}

#[test]
fn what_happens_to_other_services_stops_no_rollout() {
    let (stable, canary) = (Upstream::named("stable").forgetful(), Upstream::named("canary").forgetful());
    let url = stable.url();
    let other = format!(
        "[rollouts]\ntick = \"50ms\"\n[services.shop.pools.stable]\nendpoints = [\"{url}\"]\n\
         [services.shop.pools.canary]\nendpoints = [\"{url}\"]\n[[routes]]\nservice = \"engine\"\n"
    );
    let setup =
        Setup::pair(&stable, &canary, [100, 0]).weights("stable = 100\ncanary = 0\n\n[shop]\nstable = 1\ncanary = 1");
    let weir = setup.text(&other).start();
    let stop = AtomicBool::new(false);
    let mut plan = engine_2();
    plan["phases"] = json!([{ "percent": 5, "min_duration": "1h" }, { "percent": 50, "min_duration": "1h" }]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for turn in (1..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let body = format!("{{\"stable\":{turn},\"canary\":1}}");
                    assert_eq!(weir.admin("PUT", "/api/v1/services/shop/weights", &[], &body).status, 200);
                }
            });
        }
        for round in 0..20 {
            let mut id = String::new();
            eventually("the service is free", PATIENCE, || {
                let (status, body) = post(&weir, ROLLOUTS, &plan);
                id = body["rolloutId"].as_str().unwrap_or_default().to_owned();
                status == 201
            });
            let (status, body) = weir.command_rollout(&id, "advance", "go");
            assert_eq!(
                (status, &body["state"], &body["percent"]),
                (200, &json!("rolling_out"), &json!(50.0)),
                "{round}"
            );
            assert_eq!(weir.command_rollout(&id, "rollback", "again").0, 200);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Twenty-five rollbacks, each under the requests of eight clients that never rest.
#[test]
fn when_rollback_answers_no_new_request_goes_to_the_candidate() {
    let (_stable, canary, weir) = started();
    let mut plan = engine_2();
    plan["phases"][0]["percent"] = json!(50);
    plan["evidence"]["settle"] = json!("50ms");
    let (stop, late, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()), Mutex::new([0_u64; 2]));
    // The moment of the newest answer to a rollback, until the next rollout is asked for.
    let answered: Mutex<Option<Instant>> = Mutex::new(None);
    let address = weir.address();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::to(address);
                while !stop.load(Ordering::Relaxed) {
                    // Held while the request is written and answered: the next rollout begins after that.
                    let before = *answered.lock().expect("nobody panics with it");
                    let answer = client.get("/");
                    let still = *answered.lock().expect("nobody panics with it");
                    let is_canary = answer.upstream() == "canary";
                    if before.is_some() && before == still {
                        let mut seen = seen.lock().expect("nobody panics with it");
                        seen[usize::from(is_canary)] += 1;
                    }
                    if is_canary && before.is_some() && before == still {
                        late.lock().expect("nobody panics with it").push(before);
                    }
                }
            });
        }
        for round in 0..25 {
            *answered.lock().expect("nobody panics with it") = None;
            let mut id = String::new();
            eventually("the service is free", PATIENCE, || {
                let (status, body) = post(&weir, ROLLOUTS, &plan);
                id = body["rolloutId"].as_str().unwrap_or_default().to_owned();
                status == 201
            });
            let from = canary.asked();
            eventually("the candidate is asked", PATIENCE, || canary.asked() > from + 20);
            let (status, body) = weir.command_rollout(&id, "rollback", "now");
            *answered.lock().expect("nobody panics with it") = Some(Instant::now());
            assert_eq!((status, &body["state"]), (200, &json!("rolled_back")), "round {round}");
            let from = canary.asked();
            std::thread::sleep(Duration::from_millis(40));
            // What was under way may still arrive: one request of each client.
            assert!(canary.asked() <= from + 8, "round {round}: {} after {from}", canary.asked());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (late, seen) = (late.into_inner().expect("whole"), seen.into_inner().expect("whole"));
    rows::keep(
        "rollback",
        &[format!(
            "25 rollbacks, {} requests begun after an answer, {} of them to the candidate",
            seen[0] + seen[1],
            late.len()
        )],
    );
    assert!(late.is_empty(), "{} requests went to the candidate", late.len());
    assert!(seen[0] > 1_000, "{} requests were begun after an answer", seen[0]);
}

#[test]
fn events_come_as_a_stream_with_numbers_and_names() {
    let (_stable, _canary, weir) = started();
    let mut stream = TcpStream::connect(weir.admin_address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", weir.admin_address());
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    let mut until = |word: &str| {
        let mut chunk = [0; 4096];
        while !text.contains(word) {
            let read = stream.read(&mut chunk).unwrap_or_else(|error| panic!("{word}: {error} in {text}"));
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    };
    until("text/event-stream");
    let id = weir.start_rollout(&json!({ "plan": "engine-2" }));
    until("event: rollout_initiated");
    until("event: canary_started");
    assert_eq!(weir.command_rollout(&id, "rollback", "seen enough").0, 200);
    until("event: rollback_initiated");
    until("event: rollback_completed");
    assert!(text.contains("\nid: ") || text.contains("\nid:"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(serde_json::from_str::<Value>);
    let data: Vec<Value> = data.collect::<Result<_, _>>().expect("every event is JSON");
    assert!(data.len() >= 4 && data.iter().all(|event| event["service"] == "engine"), "{data:?}");
}

#[test]
fn a_kill_is_above_everything_and_an_unkill_takes_it_away() {
    let (_stable, canary, weir) = started();
    let id = weir.start_rollout(&json!({ "plan": "engine-2" }));
    for body in [
        json!({ "scope": "service", "service": "engine", "reason": "errors on /pay" }),
        json!({ "scope": "system", "reason": "everything" }),
    ] {
        assert_eq!(post(&weir, "/api/v1/kill", &body).0, 200);
        let from = canary.asked();
        let mut client = weir.client();
        assert!((0..50).all(|_| client.get("/").upstream() == "stable"));
        assert_eq!(canary.asked(), from);
        weir.rollout_reaches(&id, "paused", PATIENCE);
        assert_eq!(post(&weir, "/api/v1/unkill", &body).0, 200);
    }
    eventually("it can go on", PATIENCE, || weir.command_rollout(&id, "resume", "").0 == 200);
}

#[test]
fn a_hand_edit_of_the_weights_file_wins_and_pauses() {
    let (_stable, _canary, weir) = started();
    let id = weir.start_rollout(&json!({ "plan": "engine-2" }));
    weir.save_split([70, 30]);
    weir.rollout_reaches(&id, "paused", PATIENCE);
    assert_eq!(weir.split(), [70, 30]);
}

#[test]
fn the_verbs_of_the_command_line_end_with_the_codes_that_scripts_go_by() {
    let (_stable, canary, weir) = started();
    let quick = ENGINE_2.replace("10s", "300ms").replace("percent = 5\n", "percent = 30\n");
    let quick = quick.replace("[evidence]\n", "[evidence]\nsettle = \"100ms\"\nwarm_up = \"0s\"\n");
    std::fs::write(weir.config_directory().join("rollouts/quick.toml"), quick).expect("a plan");
    let crowd = Crowd::at(weir.address(), &Asks::default());
    let run = |arguments: &[&str]| {
        let (code, out, err) = weir.verb(arguments);
        (code.expect("it ends by itself"), out + &err)
    };
    let free = || {
        eventually("the service is free", PATIENCE, || {
            let live = weir.admin_get(ROLLOUTS).json();
            let live = live["rollouts"].as_array().cloned().unwrap_or_default();
            live.iter().all(|it| it["waitingFor"].is_null() && it["state"] != "rolling_out")
        });
    };
    let (code, out) = run(&["rollout", "start", "quick"]);
    assert_eq!(code, 0, "{out}");
    let (code, out) = run(&["rollout", "wait", "engine", "--timeout", "30s"]);
    assert!(code == 0 && out.contains("CANARY PASSED"), "{code}: {out}");
    free();
    assert_eq!(weir.rollback("the next one").status, 200);
    canary.behave(Behaviour::status(500));
    let (code, out) = run(&["rollout", "start", "quick"]);
    assert_eq!(code, 0, "{out}");
    let (code, out) = run(&["rollout", "wait", "engine", "--timeout", "30s"]);
    assert!(code == 1 && out.contains("CANARY FAILED"), "{code}: {out}");
    drop(crowd);
    canary.behave(Behaviour::Answer);
    eventually("the next one starts", PATIENCE, || run(&["rollout", "start", "engine-2"]).0 == 0);
    let (code, out) = run(&["rollout", "wait", "engine", "--timeout", "500ms"]);
    assert!(code == 2 && out.contains("CANARY INCONCLUSIVE"), "{code}: {out}");
    let (code, out) = run(&["rollout", "watch", "engine", "--once"]);
    assert!(code == 0 && out.contains("engine"), "{code}: {out}");
    let (code, out) = run(&["kill", "engine", "--reason", "errors on /pay"]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(weir.client().get("/").upstream(), "stable");
    assert_eq!(run(&["unkill", "engine"]).0, 0);
}
