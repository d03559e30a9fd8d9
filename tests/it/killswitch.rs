//! Kill switches over real sockets: a burst of errors trips one, people stop it, it tries to come back, it outlives the
//! process, and it is above rollouts. Every time is short, nothing else is changed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Behaviour, Load, Setup, Upstream, Weir, eventually, never};

/// How long something may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(20);

const FAILING: u16 = 500;

/// One that looks at the errors of the canary.
fn switch(grace: &str, recovery: &str) -> String {
    format!(
        "[rollouts]\ntick = \"50ms\"\n\
         [[kill_switches]]\nname = \"errors\"\ndescription = \"the canary fails\"\ngrace = \"{grace}\"\n\
         [[kill_switches.triggers]]\nkind = \"error_rate\"\nmax_percent = 20\nwindow = \"1s\"\nmin_samples = 10\n\
         {recovery}"
    )
}

fn recovery(delay: &str, attempts: u32) -> String {
    let times = format!("delay = \"{delay}\"\nattempts = {attempts}\nprobation = \"500ms\"");
    format!("[kill_switches.recovery]\n{times}\n")
}

fn setup(weights: [u32; 2], text: &str) -> (Upstream, Upstream, Setup) {
    let (stable, canary) = (Upstream::named("stable"), Upstream::named("canary"));
    // The breaker would take the canary out on its own.
    let breaker = "failures = 1000000\nmin_requests = 1000000";
    let setup = Setup::pair(&stable, &canary, weights).table("breaker", breaker).text(text);
    (stable, canary, setup)
}

fn load(weir: &Weir) -> Load {
    Load::start(weir.address(), 2, Duration::from_millis(5))
}

#[track_caller]
fn shown(weir: &Weir) -> Value {
    let answer = weir.admin_get("/api/v1/kill-switches/errors");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn state_is(weir: &Weir, state: &str) {
    eventually(state, PATIENCE, || shown(weir)["state"] == state);
}

fn told(weir: &Weir, word: &str, body: &str) -> (u16, Value) {
    let answer = weir.admin("POST", &format!("/api/v1/kill-switches/errors/{word}"), &[], body);
    (answer.status, answer.json())
}

fn killed(weir: &Weir) -> Value {
    weir.admin_get("/api/v1/kill").json()
}

#[test]
fn a_burst_of_errors_trips_the_switch_and_everybody_sees_who_and_why() {
    let (_stable, canary, setup) = setup([50, 50], &switch("300ms", ""));
    let weir = setup.start();
    let load = load(&weir);
    never("healthy traffic trips nothing", Duration::from_millis(600), || shown(&weir)["state"] != "armed");
    canary.behave(Behaviour::status(FAILING));
    state_is(&weir, "killed");
    let before = canary.count();
    for _ in 0..20 {
        assert_eq!(weir.client().get("/").upstream(), "stable");
        assert_eq!(weir.client().get_with("/", &[("x-weir-pool", "canary")]).upstream(), "stable");
    }
    drop(load);
    // What was under way when it was killed may still have been counted.
    assert!(canary.count() - before <= 2, "{} after the kill", canary.count() - before);
    let switch = shown(&weir);
    assert_eq!((switch["who"].as_str(), switch["byPerson"].as_bool()), (Some("kill switch errors"), Some(false)));
    let reason = switch["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("% of") && reason.contains("the limit is 20 %"), "{reason}");
    assert!(weir.weights_text().contains("kill = \"kill switch errors: "), "{}", weir.weights_text());
    let kills = killed(&weir);
    let one = &kills["killed"][0];
    assert_eq!((one["switch"].as_str(), one["how"].as_str()), (Some("errors"), Some("trigger")), "{kills}");
    assert!(one["since"].is_string());
    let (_, out, err) = weir.verb(&["kill", "--status"]);
    assert!(out.contains("kill switch errors holds killed service engine"), "{out}{err}");
    let metrics = weir.metrics();
    assert_eq!(metrics.sum("weir_kill_switch_state", &[("switch", "errors"), ("state", "killed")]) as u32, 1);
    assert_eq!(metrics.sum("weir_kill_switch_trips_total", &[("switch", "errors")]) as u32, 1);
    let (_, events, _) = weir.verb(&["events"]);
    assert!(
        events.contains("kills service engine in 0.3 s") && events.contains("is killed by kill switch"),
        "{events}"
    );
    let audit = weir.admin_get("/api/v1/audit").json();
    let entries = audit["entries"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["action"] == "kill_switch.killed").expect("an entry");
    assert_eq!((entry["before"]["state"].as_str(), entry["after"]["state"].as_str()), (Some("grace"), Some("killed")));
    // Without a recovery only a person lets it go.
    let (status, body) = told(&weir, "recover", r#"{"reason":"fixed"}"#);
    assert_eq!((status, body["state"].as_str()), (200, Some("armed")), "{body}");
    assert_eq!(weir.split(), [50, 50]);
}

#[test]
fn a_countdown_is_cancelled_by_a_person_and_what_was_cancelled_is_not_heard_again() {
    let (_stable, canary, setup) = setup([50, 50], &switch("30s", ""));
    let weir = setup.start();
    canary.behave(Behaviour::status(FAILING));
    let _load = load(&weir);
    state_is(&weir, "grace");
    assert!(shown(&weir)["leftMs"].as_u64().is_some_and(|left| left > 10_000));
    let (code, out, err) = weir.verb(&["kill", "--cancel", "errors", "--reason", "it is the load test"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("is armed to kill service engine: it is the load test"), "{out}");
    never("it is not heard", Duration::from_millis(500), || shown(&weir)["state"] != "armed");
    assert_eq!(weir.split(), [50, 50]);
    let (status, problem) = told(&weir, "cancel", "{}");
    assert_eq!((status, problem["code"].as_str()), (409, Some("illegal_move")), "{problem}");
    let unknown = weir.admin("POST", "/api/v1/kill-switches/nobody/cancel", &[], "{}");
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("unknown_kill_switch")));
}

#[test]
fn a_countdown_ends_when_the_canary_gets_nothing_any_more() {
    let (_stable, canary, setup) = setup([50, 50], &switch("4s", "").replace("window = \"1s\"", "window = \"1m\""));
    let weir = setup.start();
    canary.behave(Behaviour::status(FAILING));
    let _load = load(&weir);
    state_is(&weir, "grace");
    weir.save_split([100, 0]);
    state_is(&weir, "armed");
    let reason = shown(&weir)["reason"].clone();
    assert!(reason.as_str().is_some_and(|why| why.contains("no new request")), "{reason}");
    never("it kills on what is over", Duration::from_secs(5), || shown(&weir)["state"] != "armed");
    let (_, events, _) = weir.verb(&["events"]);
    assert!(events.contains("kills nothing: no new request goes to the pools"), "{events}");
    weir.save_split([50, 50]);
    state_is(&weir, "grace");
}

#[test]
fn a_kill_by_the_file_is_told_and_noted_as_one_over_the_api_is_and_once() {
    let (_stable, _canary, setup) = setup([50, 50], "[rollouts]\ntick = \"50ms\"");
    let weir = setup.start();
    weir.save_weights("kill = \"all off\"\n[engine]\nstable = 50\ncanary = 50\n");
    let events = |kind: &str| -> Vec<Value> {
        let all = weir.admin("GET", "/api/v1/events?after=0", &[("accept", "application/json")], "").json();
        all["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == kind).cloned().collect()
    };
    eventually("it is told", PATIENCE, || events("killed").len() == 1);
    let event = &events("killed")[0];
    assert_eq!(event["message"], "every service is killed by the weights file: all off");
    assert_eq!((&event["severity"], &event["who"]), (&json!("critical"), &json!("the weights file")));
    weir.save_split([50, 50]);
    eventually("and its end", PATIENCE, || events("unkilled").len() == 1);
    // By the API it is told by whoever answered.
    let by_api = weir.admin("POST", "/api/v1/kill", &[], r#"{"service":"engine","reason":"by hand"}"#);
    assert_eq!(by_api.status, 200, "{}", by_api.text());
    never("twice", Duration::from_millis(500), || events("killed").len() != 2);
    let audit = weir.admin_get("/api/v1/audit").json();
    let entries = audit["entries"].as_array().expect("a list");
    let by_file = |entry: &&Value| entry["who"] == "the weights file";
    let noted: Vec<_> = entries.iter().filter(by_file).map(|entry| (&entry["action"], &entry["reason"])).collect();
    assert_eq!(noted, [(&json!("unkilled"), &json!("")), (&json!("killed"), &json!("all off"))], "{audit}");
}

#[test]
fn who_sends_everything_to_a_stable_that_is_dead_is_told_at_once() {
    let (mut stable, _canary, setup) = setup([50, 50], "[rollouts]\ntick = \"50ms\"");
    let weir = setup.start();
    let _load = load(&weir);
    stable.kill();
    let alarms = || {
        let all = weir.admin("GET", "/api/v1/events?after=0", &[("accept", "application/json")], "").json();
        let told = all["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "alarm");
        told.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    eventually("stable is seen to be dead", PATIENCE, || weir.status().to_string().contains("refused"));
    never("an alarm while the canary answers", Duration::from_millis(400), || !alarms().is_empty());
    weir.save_split([100, 0]);
    eventually("it is told", PATIENCE, || alarms().len() == 1);
    let told = &alarms()[0];
    assert!(told.starts_with("nothing serves in stable (") && told.contains("efused"), "{told}");
    assert!(told.contains("clients get 503 now; `weir undo engine` brings canary back"), "{told}");
    weir.save_split([50, 50]);
    eventually("it serves again", PATIENCE, || weir.client().get("/").upstream() == "canary");
    let (code, out, err) = weir.verb(&["kill", "engine", "--reason", "a mistake"]);
    assert_eq!(code, Some(0), "{out}{err}");
    eventually("it is told of the kill", PATIENCE, || alarms().len() == 2);
    assert!(alarms()[1].contains("since the kill") && alarms()[1].contains("weir unkill engine"), "{:?}", alarms());
}

#[test]
fn it_recovers_when_the_canary_does_and_gives_up_when_it_does_not() {
    let (_stable, canary, setup) = setup([50, 50], &switch("0s", &recovery("300ms", 2)));
    let weir = setup.start();
    let _load = load(&weir);
    canary.behave(Behaviour::status(FAILING));
    eventually("the first attempt", PATIENCE, || shown(&weir)["attempt"] == 1);
    canary.behave(Behaviour::Answer);
    eventually("it has recovered", PATIENCE, || {
        let switch = shown(&weir);
        switch["state"] == "armed" && switch["reason"] == "recovered"
    });
    assert_eq!(weir.split(), [50, 50]);
    canary.behave(Behaviour::status(FAILING));
    state_is(&weir, "exhausted");
    let before = canary.count();
    canary.behave(Behaviour::Answer);
    never("it comes back by itself", Duration::from_secs(1), || weir.split() != [100, 0]);
    assert!(canary.count() - before <= 2, "{} after the kill", canary.count() - before);
    let (_, out, _) = weir.verb(&["kill", "--status"]);
    assert!(out.contains("2 attempts failed, a person decides"), "{out}");
    let (code, out, err) = weir.verb(&["unkill", "--switch", "errors", "--reason", "build 3 is there"]);
    assert_eq!(code, Some(0), "{out}{err}");
    eventually("the canary serves", PATIENCE, || canary.count() > before + 20);
}

#[test]
fn a_killed_one_stays_killed_over_kill_9_and_its_attempts_are_not_lost() {
    let (_stable, canary, setup) = setup([50, 50], &switch("0s", &recovery("1s", 2)));
    let weir = setup.start();
    canary.behave(Behaviour::status(FAILING));
    let failing = load(&weir);
    eventually("one attempt is spent", PATIENCE, || {
        let switch = shown(&weir);
        switch["attempt"] == 1 && switch["state"] == "killed"
    });
    drop(failing);
    let weir = weir.restart().expect("it starts again");
    let switch = shown(&weir);
    assert_eq!((switch["attempt"].as_u64(), switch["byPerson"].as_bool()), (Some(1), Some(false)), "{switch}");
    let kills = killed(&weir);
    assert_eq!(kills["killed"][0]["switch"], "errors", "{kills}");
    let _failing = load(&weir);
    state_is(&weir, "exhausted");
    assert_eq!(shown(&weir)["attempt"], 2);
    let before = canary.count();
    let weir = weir.restart().expect("it starts again");
    assert_eq!(shown(&weir)["state"], "exhausted");
    assert_eq!(weir.client().get("/").upstream(), "stable");
    assert!(canary.count() - before <= 2);
}

#[test]
fn a_person_kills_at_once_and_no_recovery_takes_that_back() {
    let (_stable, canary, setup) = setup([0, 100], &switch("1h", &recovery("100ms", 3)));
    let weir = setup.start();
    assert_eq!(weir.client().get("/").upstream(), "canary");
    let (status, body) = told(&weir, "trigger", r#"{"reason":"by name","actor":"kim"}"#);
    assert_eq!((status, body["state"].as_str(), body["who"].as_str()), (200, Some("killed"), Some("kim")), "{body}");
    let before = canary.count();
    never("it comes back", Duration::from_millis(600), || weir.client().get("/").upstream() != "stable");
    assert_eq!((canary.count(), shown(&weir)["byPerson"].as_bool()), (before, Some(true)));
    assert!(weir.weights_text().contains("kill = \"by name\""), "{}", weir.weights_text());
    told(&weir, "recover", "{}");
    assert_eq!(weir.client().get("/").upstream(), "canary");
    // A kill by the file or by the service's name is as good.
    let (code, ..) = weir.verb(&["kill", "engine", "--reason", "by hand"]);
    assert_eq!(code, Some(0));
    eventually("the switch stands aside", PATIENCE, || shown(&weir)["byPerson"] == true);
    never("it comes back", Duration::from_millis(400), || weir.client().get("/").upstream() != "stable");
    let kills = killed(&weir);
    assert_eq!((&kills["killed"][0]["how"], &kills["killed"][0]["reason"]), (&json!("cli"), &json!("by hand")));
    weir.save_weights("[engine]\nstable = 0\ncanary = 100\nkill = \"in the file\"\n");
    eventually("who opens the file is told as well", PATIENCE, || {
        let one = killed(&weir)["killed"][0].clone();
        (&one["how"], &one["reason"], one["since"].is_string()) == (&json!("file"), &json!("in the file"), true)
    });
    weir.save_split([0, 100]);
    eventually("the file lets go", PATIENCE, || shown(&weir)["state"] == "armed");
    assert_eq!(weir.client().get("/").upstream(), "canary");
}

#[test]
fn a_kill_of_the_system_beats_a_running_rollout_which_raises_nothing_afterwards() {
    let everything = "[rollouts]\ntick = \"50ms\"\n[[kill_switches]]\nname = \"errors\"\nscope = \"system\"\n";
    let (_stable, canary, setup) = setup([100, 0], everything);
    let weir = setup.start();
    let _load = load(&weir);
    let plan = json!({
        "service": "engine", "candidate": "canary",
        "phases": [{ "percent": 20, "min_duration": "200ms" }, { "percent": 50, "min_duration": "200ms" }],
        "gates": [{ "kind": "error_rate" }],
        "evidence": { "settle": "100ms", "warm_up": "0s" },
    });
    let answer = weir.admin("POST", "/api/v1/rollouts", &[], &plan.to_string());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = answer.json()["rolloutId"].as_str().expect("an id").to_owned();
    eventually("the first share is live", PATIENCE, || weir.split() == [80, 20]);
    let (code, out, err) = weir.verb(&["kill", "--switch", "errors", "--reason", "stop everything"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let before = canary.count();
    let state = || weir.admin_get(&format!("/api/v1/rollouts/{id}")).json()["state"].as_str().map(str::to_owned);
    eventually("the rollout waits", PATIENCE, || state().as_deref() == Some("paused"));
    never("the canary gets something", Duration::from_secs(1), || weir.split() != [100, 0]);
    assert!(canary.count() - before <= 2, "{} after the kill", canary.count() - before);
    for verb in ["resume", "advance"] {
        let answer = weir.admin("POST", &format!("/api/v1/rollouts/{id}/{verb}"), &[], "{}");
        assert_eq!(answer.status, 409, "{verb}: {}", answer.text());
    }
    assert_eq!(killed(&weir)["system"]["reason"], "stop everything");
    let (status, _) = told(&weir, "recover", "{}");
    assert_eq!(status, 200);
    // What it had is live again, and nobody raises it before a person says so.
    never("the share rises", Duration::from_secs(1), || weir.split() != [80, 20]);
    assert_eq!(state().as_deref(), Some("paused"));
}

#[test]
fn switches_follow_the_file_while_it_runs() {
    let (_stable, canary, setup) = setup([50, 50], "[rollouts]\ntick = \"50ms\"");
    let weir = setup.start();
    assert_eq!(weir.admin_get("/api/v1/kill-switches").json()["switches"], json!([]));
    canary.behave(Behaviour::status(FAILING));
    let _load = load(&weir);
    let more = switch("0s", "").replace("[rollouts]\ntick = \"50ms\"\n", "");
    let text = std::fs::read_to_string(weir.config_path()).expect("the configuration");
    weir.save_config(&format!("{text}\n{more}"));
    eventually("it is there and trips", PATIENCE, || {
        weir.admin_get("/api/v1/kill-switches").json()["switches"][0]["state"] == "killed"
    });
    weir.save_config(&text);
    eventually("it is gone", PATIENCE, || weir.admin_get("/api/v1/kill-switches").json()["switches"] == json!([]));
    assert_eq!(weir.split(), [100, 0], "what it killed stays killed");
    weir.save_config(&text.replace("[rollouts]", "[[kill_switches]]\nname = \"x\"\nservice = \"engin\"\n[rollouts]"));
    eventually("the mistake is told", PATIENCE, || {
        weir.status()["last_reload"]["problems"].to_string().contains("engin")
    });
}

#[test]
fn a_slow_canary_trips_a_limit_of_latency() {
    let text = "[rollouts]\ntick = \"50ms\"\n[[kill_switches]]\nname = \"errors\"\ngrace = \"0s\"\n\
        [[kill_switches.triggers]]\nkind = \"latency\"\nquantile = 0.5\nmax_latency = \"50ms\"\nwindow = \"1s\"\n\
        min_samples = 10\n";
    let (_stable, canary, setup) = setup([50, 50], text);
    let weir = setup.start();
    let _load = Load::start(weir.address(), 8, Duration::from_millis(5));
    never("fast answers trip nothing", Duration::from_millis(500), || shown(&weir)["state"] != "armed");
    canary.behave(Behaviour::Late(Duration::from_millis(100)));
    state_is(&weir, "killed");
    let reason = shown(&weir)["reason"].to_string();
    assert!(reason.contains("p50 of") && reason.contains("the limit is 50 ms"), "{reason}");
}

#[test]
fn a_pool_without_an_endpoint_trips_and_comes_back_when_one_serves() {
    let text = "[rollouts]\ntick = \"50ms\"\n[[kill_switches]]\nname = \"errors\"\ngrace = \"0s\"\n\
        [[kill_switches.triggers]]\nkind = \"no_endpoint\"\nwindow = \"300ms\"\n";
    let text = format!("{text}{}", recovery("200ms", 1000));
    let (_stable, mut canary, setup) = setup([50, 50], &text);
    let weir = setup.probed().start();
    never("it serves", Duration::from_millis(500), || shown(&weir)["state"] != "armed");
    canary.kill();
    state_is(&weir, "killed");
    eventually("attempts fail while nothing serves", PATIENCE, || shown(&weir)["attempt"].as_u64() >= Some(2));
    assert_eq!((shown(&weir)["state"].as_str(), weir.split()), (Some("killed"), [100, 0]));
    canary.restart();
    eventually("it is armed again", PATIENCE, || shown(&weir)["reason"] == "recovered");
    assert_eq!(weir.split(), [50, 50]);
}
