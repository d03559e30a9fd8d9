//! What plan files promise.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::Config;
use crate::model::rollout::{Act, Ask, OnActionError, OnInconclusive, Operator, PlainMetric, Share, Strategy, When};

const MAIN: &str = "[services.engine.pools.stable]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                    [services.engine.pools.canary]\nendpoints = [\"http://127.0.0.1:2\"]\n";

/// The plan of the README's first example.
const ENGINE_2: &str = r#"
service = "engine"
candidate = "canary"
strategy = "phased"
on_failure = "rollback"
on_inconclusive = "extend"

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
kind = "error_rate"

[[gates]]
kind = "latency"
quantile = 0.95
"#;

fn routes() -> Plan {
    let config = Config::parse(MAIN, "weir.toml", &|_| None).expect("it holds");
    Plan::clone(&config.plan)
}

fn read(text: &str) -> Result<Read, Problems> {
    read_plan(text, Path::new("rollouts/engine-2.toml"), &routes(), &Constraints::default())
}

fn from_json(body: &Value) -> Result<Read, Problems> {
    let name = Name::new("posted").expect("a name");
    plan_from_json(body, &name, &routes(), &Constraints::default())
}

fn told(result: Result<Read, Problems>) -> String {
    result.map(|read| format!("{:?}", read.plan)).unwrap_or_else(|problems| problems.to_string())
}

#[test]
fn the_plan_of_the_readme_is_read_with_its_defaults() {
    let plan = read(ENGINE_2).expect("it holds").plan;
    assert_eq!((plan.name.as_str(), plan.service.as_str(), plan.candidate.as_str()), ("engine-2", "engine", "canary"));
    let shares: Vec<f64> = plan.phases.iter().map(|phase| phase.share.percent()).collect();
    assert_eq!(shares, [5.0, 50.0, 100.0]);
    assert_eq!(plan.phases[0].max_duration, Duration::from_secs(600));
    assert_eq!(plan.on_inconclusive, OnInconclusive::Extend);
    assert!(matches!(plan.gates[0].ask, Ask::ErrorRate { max_ratio: 1.25, .. }));
    let Ask::Latency { quantiles, margin, margin_ms, .. } = &plan.gates[1].ask else { panic!("not a latency") };
    assert_eq!((quantiles[0].quantile, *margin, *margin_ms), (0.95, 0.1, 5.0));
}

#[test]
fn every_problem_says_where_it_is_and_what_would_be_right() {
    for (text, part) in [
        (
            "service = \"engin\"\nprofile = \"default\"\n",
            "engine-2.toml:1:11: service: there is no service \"engin\"; did you mean",
        ),
        ("candidate = \"stable\"\nprofile = \"default\"\n", "is the stable pool"),
        ("service = \"engine\"\n", "the plan has no phases; add [[phases]]"),
        ("[[phases]]\npercent = 5\nmin_durations = \"1s\"\n", "3:1: unknown key \"min_durations\""),
        ("[[phases]]\npercent = 101\n", "2:11: phases[1].percent is the integer 101; write a number from 0 to 100"),
        (
            "[[phases]]\npercent = 50\n[[phases]]\npercent = 5\n",
            "4:1: phases[2].percent: the share falls from 50% to 5%",
        ),
        ("profile = \"default\"\n[[gates]]\nkind = \"eror_rate\"\n", "did you mean \"error_rate\"?"),
        ("profile = \"default\"\ndeadline = \"1m\"\n", "2:1: deadline: the phases take at least"),
        ("profile = \"default\"\n[evidence]\nfalse_rollback = 0.0\n", "no evidence can be certain"),
        ("profile = \"default\"\n[[windows]]\nzone = \"Mars/Olympus\"\n", "is not a time zone"),
        (
            "profile = \"default\"\n[[gates]]\nkind = \"approval\"\napprovers = [\"ann\"]\ncount = 2\n",
            "2 approvals of 1 people",
        ),
        (
            "profile = \"default\"\n[[gates]]\nkind = \"approval\"\napprovers = [\"ann\", \"ann\"]\ncount = 2\n",
            "2 approvals of 1 people",
        ),
        (
            "profile = \"default\"\n[[gates]]\nkind = \"latency\"\nurl = \"/healthz\"\n",
            "4:1: gates[1].url means nothing for a gate of kind latency; leave it out",
        ),
        (
            "profile = \"default\"\n[[actions]]\ntype = \"drain_connections\"\nurl = \"/x\"\n",
            "4:1: actions[1].url means nothing for an action of type drain_connections",
        ),
        (
            "profile = \"default\"\n[[actions]]\ntype = \"drain_connections\"\nat = \"promoted\"\n",
            "it belongs to a rollback",
        ),
        (
            &format!("profile = \"default\"\n[[sweeps]]\nurl = \"/x\"\ntargets = [{}]\n", "\"a\", ".repeat(1_001)),
            "1001 targets of sweeps; at most 1000 are possible",
        ),
        ("profile = \"default\"\n[[sweeps]]\nurl = \"http://ci.test/\"\n", "has no targets"),
    ] {
        let said = told(read(text));
        assert!(said.contains(part), "{text}\nsaid: {said}\nnot: {part}");
    }
}

#[test]
fn what_is_asked_and_done_outside_has_the_times_and_methods_that_are_documented() {
    let text = "profile = \"default\"\n\
        [[gates]]\nkind = \"signoff\"\nfile = \"go\"\nwhen = \"phase\"\n\
        [[gates]]\nkind = \"suite\"\nwhen = \"always\"\ninterval = \"5m\"\n\
        requests = [{ url = \"/a\" }, { url = \"/b\" }]\n\
        [[gates]]\nkind = \"command\"\ncommand = [\"./smoke\"]\nretries = 1\n\
        [[actions]]\ntype = \"drain_connections\"\n\
        [[actions]]\nurl = \"http://hook.test/\"\n\
        [[actions]]\nat = \"start\"\ncommand = [\"./deploy\"]\ntimeout = \"5m\"\n\
        [[sweeps]]\nurl = \"http://ci.test/{target}\"\nmethod = \"PUT\"\ntargets = [\"acme\"]\n";
    let plan = read(text).map_err(|problems| problems.to_string()).expect("it holds").plan;
    let seconds = Duration::from_secs;
    let whens: Vec<When> = plan.gates.iter().map(|gate| gate.ask.when()).collect();
    assert_eq!(whens, [When::Phase, When::Always, When::Start]);
    assert_eq!((plan.gates[1].ask.interval(), plan.gates[1].ask.takes()), (seconds(300), seconds(20)));
    assert_eq!((plan.gates[2].ask.interval(), plan.gates[2].ask.takes()), (seconds(60), seconds(180 + 60 + 180)));
    let times: Vec<Duration> = plan.actions.iter().map(|action| action.timeout).collect();
    assert_eq!(times, [seconds(60), seconds(30), seconds(300)]);
    let Act::Webhook(hook) = &plan.actions[1].act else { panic!("no webhook") };
    assert_eq!((&*hook.method, hook.timeout), ("POST", seconds(30)));
    let Act::Command(deploy) = &plan.actions[2].act else { panic!("no command") };
    assert_eq!((deploy.timeout, plan.actions[2].on_error), (seconds(300), OnActionError::Stop));
    assert_eq!(plan.actions[0].on_error, OnActionError::Continue);
    let Act::Webhook(job) = &plan.sweeps[0].act else { panic!("no webhook") };
    assert_eq!((&*job.method, plan.sweeps[0].per_minute), ("PUT", 10));
}

#[test]
fn profiles_hold_the_numbers_of_their_names() {
    let engine = Name::new("engine").expect("a name");
    let of =
        |profile: &str| plan_from_profile(profile, &engine, &routes(), &Constraints::default()).expect("it holds").plan;
    let stable = of("stable-channel");
    let steps: Vec<_> =
        stable.phases.iter().map(|phase| (phase.share.percent(), phase.min_duration.as_secs() / 3600)).collect();
    assert_eq!(steps, [(1.0, 1), (10.0, 2), (50.0, 4), (100.0, 0)]);
    for (profile, ratio, ms) in [("conservative", 1.1, 100.0), ("moderate", 1.5, 500.0), ("permissive", 2.0, 1000.0)] {
        let plan = of(profile);
        assert!(matches!(plan.gates[0].ask, Ask::ErrorRate { max_ratio, .. } if max_ratio == ratio), "{profile}");
        assert!(matches!(plan.gates[1].ask, Ask::Latency { margin_ms, .. } if margin_ms == ms), "{profile}");
    }
    for name in profiles() {
        of(name);
    }
}

#[test]
fn strategies_make_their_phases() {
    let shares = |text: &str| -> Vec<f64> {
        let plan = read(text).expect("it holds").plan;
        plan.phases.iter().map(|phase| phase.share.percent()).collect()
    };
    assert_eq!(shares("strategy = \"linear\"\nfrom = 20\nstep = 30\n"), [20.0, 50.0, 80.0, 100.0]);
    assert_eq!(shares("strategy = \"immediate\"\n"), [100.0]);
    assert_eq!(shares("strategy = \"blue_green\"\n"), [0.0, 100.0]);
    let text = "[[phases]]\nweights = { stable = 3, canary = 1 }\n[[phases]]\npercent = 100\nholdback = 2\n\
                match.headers = { X-Beta = \"true\" }\n[[gates]]\nkind = \"error_rate\"\n";
    let plan = read(text).expect("it holds").plan;
    assert_eq!(plan.phases[0].share, Share::from_percent(25.0).expect("a share"));
    assert_eq!((plan.phases[1].live_share().percent(), plan.strategy), (98.0, Strategy::Phased));
    assert_eq!(plan.phases[1].cohort[0].header, "x-beta");
}

#[test]
fn thresholds_are_plain_rules_or_tests_as_the_mode_says() {
    let ask = |gate: &str| {
        let text = format!("profile = \"default\"\n[[gates]]\n{gate}\n");
        let plan = read(&text).map_err(|problems| problems.to_string()).expect("it holds").plan;
        plan.gates[0].ask.clone()
    };
    let Ask::Plain(rule) =
        ask("kind = \"error_rate\"\nmode = \"plain\"\nmax = 1.0\nconsecutive_failures = 3\nwindow = \"5m\"")
    else {
        panic!("not plain")
    };
    assert_eq!((rule.metric, rule.operator, rule.threshold), (PlainMetric::ErrorRate, Operator::GreaterThan, 1.0));
    assert_eq!((rule.consecutive_failures, rule.window), (3, Duration::from_secs(300)));
    assert!(matches!(ask("kind = \"error_rate\"\ndelta_percent = 50"), Ask::ErrorRate { max_ratio: 1.5, .. }));
    assert!(matches!(ask("kind = \"error_rate\"\nmax = 5"), Ask::Guard { max, .. } if (max - 0.05).abs() < 1e-9));
    assert!(matches!(ask("kind = \"latency\"\ndelta_ms = 500"), Ask::Latency { margin: 0.0, margin_ms: 500.0, .. }));
    let Ask::Plain(rule) = ask("kind = \"latency\"\nmode = \"plain\"\ndelta_ms = 500") else { panic!("not plain") };
    assert_eq!(rule.metric, PlainMetric::LatencyDelta { quantile: 0.95 });
}

#[test]
fn a_gate_about_caches_is_read_with_its_own_defaults_where_the_service_counts_and_refused_where_it_cannot_hold() {
    let counts = format!("[services.engine]\ncount_cache = true\n{MAIN}");
    let config = Config::parse(&counts, "weir.toml", &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let counting = Plan::clone(&config.plan);
    let with = |gate: &str, routes: &Plan| {
        let text = format!("profile = \"default\"\n[[gates]]\nkind = \"cache_hit\"\n{gate}\n");
        read_plan(&text, Path::new("rollouts/engine-2.toml"), routes, &Constraints::default())
    };
    let plan = with("", &counting).unwrap_or_else(|problems| panic!("{problems}")).plan;
    let Ask::CacheHit { max_ratio, excludes, min_difference, warm_up, waits, .. } = plan.gates[0].ask else {
        panic!("{:?}", plan.gates[0])
    };
    assert_eq!(
        (max_ratio, excludes, min_difference, warm_up, waits),
        (1.25, 1.5, 0.01, Duration::from_secs(300), true)
    );
    let acts = with("on_failure = \"plan\"", &counting).unwrap_or_else(|problems| panic!("{problems}")).plan;
    assert!(matches!(acts.gates[0].ask, Ask::CacheHit { waits: false, .. }));
    let long = with("warm_up = \"2d\"", &counting).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(long.notes.iter().any(|note| note.to_string().contains("leaves nothing of")), "{:?}", long.notes);
    for (gate, routes, expected) in [
        ("", &routes(), "does not count what answers say of their caches"),
        ("excludes = 1.1", &counting, "it must exclude 1.1 times and lets 1.25 times pass"),
        ("min = 90", &counting, "gates[1].min means nothing for a gate of kind cache_hit"),
        ("on_failure = \"rollback\"", &counting, "\"wait\""),
    ] {
        let said = with(gate, routes).expect_err("it cannot hold").to_string();
        assert!(said.contains(expected), "{gate}: {said}");
    }
    let other = "profile = \"default\"\n[[gates]]\nkind = \"latency\"\nwarm_up = \"1m\"\n";
    assert!(read(other).expect_err("no such key there").to_string().contains("warm_up means nothing"));
}

/// A deployment of another system with a phase of which nothing can ever pass.
fn deployment() -> Value {
    let criterion = |metric: &str, operator: &str, threshold: f64, ms: u64| {
        let mut said = json!({ "metric": metric, "operator": operator, "threshold": threshold });
        said["durationMs"] = ms.into();
        said
    };
    let phase = |id: &str, percent: u32, ms: u64, criteria: Value, limits: [f64; 3]| {
        let limits = json!({ "errorRate": limits[0], "latencyP95": limits[1], "availability": limits[2] });
        json!({ "id": id, "name": id, "trafficPercentage": percent, "durationMs": ms, "successCriteria": criteria,
                "rollbackThresholds": limits, "status": "pending" })
    };
    json!({
        "name": "Progressive", "serviceName": "engine", "stableVersion": "1.2.0", "canaryVersion": "2.0.0",
        "trafficShiftStrategy": "PHASED", "autoPromote": true, "autoRollback": true, "maxDeploymentTimeMs": 14_400_000,
        "phases": [
            phase("internal", 1, 600_000, json!([
                criterion("availability", "greater_than", 100.0, 300_000),
                criterion("error_rate", "less_than", 0.0, 600_000),
            ]), [1.0, 500.0, 99.5]),
            phase("beta", 5, 1_800_000, json!([
                criterion("availability", "greater_than", 99.9, 900_000),
                criterion("error_rate", "less_than", 0.5, 1_800_000),
                criterion("response_time", "less_than", 200.0, 600_000),
            ]), [2.0, 800.0, 99.0]),
            phase("partial", 25, 3_600_000, json!([
                criterion("availability", "greater_than", 99.5, 1_800_000),
                criterion("error_rate", "less_than", 1.0, 3_600_000),
                criterion("throughput", "greater_than", 1000.0, 1_800_000),
            ]), [3.0, 1000.0, 98.0]),
            phase("full", 100, 7_200_000, json!([
                criterion("availability", "greater_than", 99.0, 3_600_000),
                criterion("error_rate", "less_than", 2.0, 7_200_000),
            ]), [5.0, 1500.0, 95.0]),
        ],
    })
}

#[test]
fn a_deployment_whose_first_phase_can_never_pass_is_refused_with_the_reason() {
    let mut body = deployment();
    let problems = from_json(&body).expect_err("it cannot pass");
    let said = problems.to_string();
    assert!(said.contains("availability > 100 can never hold, so the phase can never be passed"), "{said}");
    assert!(said.contains("error_rate < 0 can never hold"), "{said}");
    assert!(problems.iter().all(|problem| problem.path.starts_with("phases[1].gates[")), "{said}");
    body["phases"].as_array_mut().expect("phases").remove(0);
    let plan = from_json(&body).map_err(|problems| problems.to_string()).expect("the rest holds").plan;
    assert_eq!((plan.phases.len(), plan.version.as_deref()), (3, Some("2.0.0")));
    assert_eq!(plan.phases[0].gates.len(), 6);
    assert_eq!(plan.deadline, Some(Duration::from_secs(14_400)));
    let strict = Constraints { max_percent: 50.0, max_rollback: None };
    let name = Name::new("posted").expect("a name");
    let said = plan_from_json(&body, &name, &routes(), &strict).expect_err("100 is above 50").to_string();
    assert!(said.contains("100% is more than max_percent = 50"), "{said}");
}

#[test]
fn a_body_does_not_read_the_environment() {
    let body = json!({ "profile": "default", "version": "${PATH}" });
    assert!(told(from_json(&body)).contains("PATH"), "{}", told(from_json(&body)));
    assert!(from_json(&body).is_err());
    let text = "profile = \"default\"\nversion = \"${PATH}\"\n";
    assert!(read(text).expect("a file does").plan.version.is_some_and(|version| version.contains('/')));
}

#[test]
fn a_build_and_a_channel_are_a_plan() {
    let plan = from_json(&json!({ "buildId": "build-abc123", "channel": "stable" })).expect("it holds").plan;
    assert_eq!((plan.version.as_deref(), plan.phases[0].share.percent()), (Some("build-abc123"), 1.0));
    assert!(told(from_json(&json!({ "buildId": "b", "channel": "gold" }))).contains("there is no channel \"gold\""));
}

#[test]
fn a_check_says_valid_errors_with_fields_and_recommendations() {
    let text = "[[phases]]\npercent = 10\n[[phases]]\npercent = 100\n";
    let checked = Checked::of(&read(text), false);
    assert!(checked.valid && checked.recommendations.len() == 4, "{checked:?}");
    assert!(!Checked::of(&read(text), true).valid);
    let checked = Checked::of(&from_json(&deployment()), false);
    let shown = serde_json::to_value(&checked).expect("it is data");
    assert_eq!(shown["valid"], false);
    assert_eq!(shown["errors"][0]["field"], "phases[1].gates[1]");
}

#[test]
fn plans_are_the_files_of_the_directory_and_a_broken_one_harms_no_other() {
    let dir = std::env::temp_dir().join(format!("weir-plans-{}", std::process::id()));
    let plans = dir.join(DIRECTORY);
    std::fs::create_dir_all(&plans).expect("a directory");
    for (file, text) in
        [("engine-2.toml", ENGINE_2), ("broken.toml", "phases = 1"), (".hidden.toml", "x"), ("a.txt", "x")]
    {
        std::fs::write(plans.join(file), text).expect("written");
    }
    let (main, limits) = (dir.join("weir.toml"), Constraints::default());
    let found = Plans::load(&main, &routes(), &limits);
    assert_eq!(found.by_name.keys().collect::<Vec<_>>(), ["broken", "engine-2"]);
    assert!(found.by_name["broken"].is_err() && found.by_name["engine-2"].is_ok());
    assert!(Plans::one(&main, "engine-2", &routes(), &limits).is_some_and(|read| read.is_ok()));
    assert!(Plans::one(&main, "../weir", &routes(), &limits).is_none());
    std::fs::remove_dir_all(&dir).expect("removed");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z_=\\[\\]\" 0-9.\n{}%]{0,200}", value: f64) {
        let _ = read(&text);
        let _ = read(&format!("[[phases]]\npercent = {value}\n[[gates]]\nkind = \"error_rate\"\nmax = {value}\n"));
        let _ = from_json(&json!({ "phases": [{ "percent": value, "durationMs": value }], "channel": text }));
    }
}
