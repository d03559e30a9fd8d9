//! Plans of rollouts as people and other systems write them: the examples of `config/rollouts/`, the schema by which
//! editors check them, the bodies in `tests/fixtures/`.

#[path = "plans/schema.rs"]
mod schema;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use weir::config::rollouts::{Checked, Constraints, Plans, Read, plan_from_json, read_plan, take_name};
use weir::config::{Config, Problems};
use weir::model::rollout::{
    Act, Ask, Moment, OnActionError, Operator, PlainMetric, PlainRule, RollbackStrategy, RolloutPlan, Share, Strategy,
};
use weir::model::{Name, Plan};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn main_file() -> Config {
    Config::load(root().join("config/weir.toml")).expect("the example holds")
}

/// The examples, by name.
fn examples() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join("config/rollouts")).expect("the directory is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let name = |file: &PathBuf| file.file_stem().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), std::fs::read_to_string(file).expect("text"))).collect()
}

fn read(name: &str, text: &str, routes: &Plan) -> RolloutPlan {
    let read = read_plan(text, Path::new(&format!("{name}.toml")), routes, &Constraints::default());
    read.unwrap_or_else(|problems| panic!("{name}: {problems}")).plan
}

fn example(name: &str) -> RolloutPlan {
    let text = examples().into_iter().find(|(known, _)| known == name).expect("an example of that name").1;
    read(name, &text, &main_file().plan)
}

fn fixture(name: &str) -> Value {
    let text = std::fs::read_to_string(root().join("tests/fixtures").join(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("it is JSON")
}

fn from_json(mut body: Value, limits: &Constraints) -> Result<Read, Problems> {
    let name = take_name(&mut body).unwrap_or_else(|| "posted".into());
    plan_from_json(&body, &Name::new(&name).expect("a name"), &main_file().plan, limits)
}

fn rule<'p>(plan: &'p RolloutPlan, name: &str) -> &'p PlainRule {
    let gates = plan.gates.iter().chain(plan.phases.iter().flat_map(|phase| &phase.gates));
    let gate = gates.into_iter().find(|gate| gate.name == name).unwrap_or_else(|| panic!("no gate {name}"));
    let Ask::Plain(rule) = &gate.ask else { panic!("{name} is no plain rule") };
    rule
}

// === the examples ===

#[test]
fn every_example_is_found_beside_the_example_of_the_main_file_and_holds() {
    let config = main_file();
    let found = Plans::load(&config.path, &config.plan, &config.rollouts.constraints());
    let names: Vec<&String> = found.by_name.keys().collect();
    assert_eq!(names.len(), examples().len());
    assert!(names.len() >= 9, "{names:?}");
    for (name, read) in &found.by_name {
        assert!(read.is_ok(), "{name}: {}", read.as_ref().expect_err("it does not hold"));
    }
}

#[test]
fn a_plan_as_json_is_the_same_plan() {
    let routes = main_file().plan;
    for (name, text) in examples() {
        let plan = read(&name, &text, &routes);
        let shown = serde_json::to_value(&plan).expect("it is data");
        assert_eq!(serde_json::from_value::<RolloutPlan>(shown.clone()).expect("it is its own"), plan, "{name}");
        assert_eq!(shown["phases"][0]["max_duration"].as_str().map(|it| it.ends_with(['s', 'm', 'h'])), Some(true));
        // The keys of the file, sent as JSON.
        let body: Value = serde_json::to_value(text.parse::<toml::Table>().expect("TOML")).expect("it is data");
        let own = Name::new(&name).expect("a name");
        let posted = plan_from_json(&body, &own, &routes, &Constraints::default());
        assert_eq!(posted.unwrap_or_else(|problems| panic!("{name}: {problems}")).plan, plan, "{name}");
    }
}

#[test]
fn the_examples_show_each_strategy_and_each_kind_of_gate() {
    let plans: Vec<RolloutPlan> = examples().iter().map(|(name, _)| example(name)).collect();
    for strategy in [Strategy::Phased, Strategy::Linear, Strategy::BlueGreen] {
        assert!(plans.iter().any(|plan| plan.strategy == strategy), "{strategy:?}");
    }
    let gates = plans.iter().flat_map(|plan| plan.gates.iter().chain(plan.phases.iter().flat_map(|it| &it.gates)));
    let kinds: std::collections::BTreeSet<&str> = gates.map(|gate| gate.ask.kind()).collect();
    let all = ["approval", "command", "error_rate", "guard", "http", "latency", "plain", "prometheus", "serving"];
    assert!(
        all.iter().chain(&["cache_hit", "signoff", "suite", "zero_tolerance"]).all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    assert_eq!(example("beta-first").phases[0].share, Share::ZERO);
    assert_eq!(example("beta-first").phases[0].cohort[0].header, "x-beta-user");
    assert_eq!(example("baseline").phases[2].live_share().percent(), 98.0);
}

#[test]
fn the_example_with_a_baseline_holds_where_there_is_such_a_pool() {
    let main = std::fs::read_to_string(root().join("config/weir.toml")).expect("text");
    let main = format!("{main}\n[services.engine.pools.baseline]\nendpoints = [\"http://engine-baseline:8080\"]\n");
    let config = Config::parse(&main, root().join("config/weir.toml"), &|_| None).expect("it holds");
    let text = examples().into_iter().find(|(name, _)| name == "baseline").expect("the example").1;
    let plan = read("baseline", &text.replace("# baseline = ", "baseline = "), &config.plan);
    assert_eq!(plan.baseline.as_deref(), Some("baseline"));
}

#[test]
fn plain_rules_are_the_numbers_of_those_who_wrote_them_first() {
    let plan = example("plain-rules");
    let steps: Vec<_> =
        plan.phases.iter().map(|phase| (phase.share.percent(), phase.min_duration.as_secs() / 3600)).collect();
    assert_eq!(steps, [(1.0, 1), (10.0, 2), (50.0, 4), (100.0, 0)]);
    let p95 = PlainMetric::Latency { quantile: 0.95 };
    let (above, below) = (Operator::GreaterThan, Operator::LessThan);
    let rows = [
        ("availability-warning", PlainMetric::Availability, below, 95.0, 2, true),
        ("availability-critical", PlainMetric::Availability, below, 90.0, 2, false),
        ("errors-warning", PlainMetric::ErrorRate, above, 5.0, 3, true),
        ("errors-critical", PlainMetric::ErrorRate, above, 10.0, 3, false),
        ("errors-rollback", PlainMetric::ErrorRate, above, 15.0, 2, false),
        ("errors-delta", PlainMetric::ErrorRateDelta, above, 50.0, 1, false),
        ("p95-delta", PlainMetric::LatencyDelta { quantile: 0.95 }, above, 500.0, 1, false),
        ("failed-sessions", PlainMetric::FailedUnitRate, above, 10.0, 1, false),
        ("disconnects", PlainMetric::DisconnectRate, above, 15.0, 1, false),
        ("p95-target", p95, above, 200.0, 1, true),
        ("errors-target", PlainMetric::ErrorRate, above, 0.1, 1, true),
        ("p95-alert", p95, above, 300.0, 1, true),
        ("errors-alert", PlainMetric::ErrorRate, above, 0.5, 1, true),
    ];
    assert_eq!(plan.gates.len(), rows.len());
    for (name, metric, operator, threshold, in_a_row, warn_only) in rows {
        let rule = rule(&plan, name);
        let found = (rule.metric, rule.operator, rule.threshold, rule.consecutive_failures, rule.warn_only, rule.must);
        assert_eq!(found, (metric, operator, threshold, in_a_row, warn_only, false), "{name}");
    }
    assert_eq!((rule(&plan, "failed-sessions").min_samples, rule(&plan, "disconnects").min_samples), (100, 100));
    assert_eq!(rule(&plan, "errors-warning").window, Duration::from_secs(300));
    assert_eq!((plan.rollback.delay, plan.rollback.max_automatic), (Duration::from_secs(30), 3));
}

// === the bodies of other systems ===

#[test]
fn a_deployment_whose_first_phase_can_never_be_passed_is_refused_with_the_reason() {
    let body = fixture("phased-deployment.json");
    let problems = from_json(body.clone(), &Constraints::default()).expect_err("it can never be passed");
    let checked = serde_json::to_value(Checked::of(&Err(problems), false)).expect("it is data");
    assert_eq!(checked["valid"], false);
    let errors = checked["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 2, "{errors:?}");
    for (error, words) in errors.iter().zip(["availability > 100 can never hold", "error_rate < 0 can never hold"]) {
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{error}");
        assert!(error["field"].as_str().is_some_and(|field| field.starts_with("phases[1].gates[")), "{error}");
    }
    let mut rest = body;
    rest["phases"].as_array_mut().expect("phases").remove(0);
    let plan = from_json(rest.clone(), &Constraints::default()).expect("the rest holds").plan;
    assert_eq!((plan.name.as_str(), plan.service.as_str()), ("checkout-step-by-step", "engine"));
    assert_eq!((plan.version.as_deref(), plan.labels["stable_version"].as_str()), (Some("4.2.0"), "4.1.0"));
    assert_eq!((plan.deadline, plan.auto_advance, plan.auto_rollback), (Some(Duration::from_secs(14_400)), true, true));
    let first = &plan.phases[0];
    assert_eq!((first.share.percent(), first.min_duration.as_secs(), first.gates.len()), (5.0, 1800, 6));
    let criterion = rule(&plan, "response_time-criterion");
    let found = (criterion.metric, criterion.operator, criterion.threshold, criterion.hold, criterion.must);
    assert_eq!(found, (PlainMetric::ResponseTime, Operator::LessThan, 200.0, Duration::from_secs(600), true));
    let limit = rule(&plan, "latency-limit");
    assert_eq!((limit.metric, limit.threshold, limit.must), (PlainMetric::Latency { quantile: 0.95 }, 800.0, false));
    // Nobody may have more than half.
    let half = Constraints { max_percent: 50.0, max_rollback: Some(Duration::from_secs(600)) };
    let said = from_json(rest, &half).expect_err("100 is above 50").to_string();
    assert!(said.contains("100% is more than max_percent = 50"), "{said}");
}

#[test]
fn a_simple_deployment_of_one_phase_is_a_plan() {
    let plan = from_json(fixture("simple-deployment.json"), &Constraints::default()).expect("it holds").plan;
    assert_eq!((plan.phases.len(), plan.phases[0].share.percent(), plan.phases[0].name.as_str()), (1, 5.0, "5 %"));
    assert_eq!(rule(&plan, "availability-criterion").hold, Duration::from_secs(180));
    assert_eq!(plan.name.as_str(), "my-canary");
}

#[test]
fn a_health_monitor_becomes_warnings_limits_comparisons_and_triggers() {
    let read = from_json(fixture("health-monitor.json"), &Constraints::default()).expect("it holds");
    let plan = &read.plan;
    for (name, threshold, in_a_row, warns) in [
        ("availability-warning", 95.0, 2, true),
        ("availability-critical", 90.0, 2, false),
        ("error_rate-warning", 5.0, 3, true),
        ("error_rate-critical", 10.0, 3, false),
    ] {
        let rule = rule(plan, name);
        assert_eq!((rule.threshold, rule.consecutive_failures, rule.warn_only), (threshold, in_a_row, warns), "{name}");
        assert_eq!(rule.window, Duration::from_secs(300));
    }
    let trigger = rule(plan, "error_rate-trigger");
    let found = (trigger.threshold, trigger.consecutive_failures, trigger.hold);
    assert_eq!(found, (15.0, 2, Duration::from_secs(5)));
    let margins: Vec<f64> = plan
        .gates
        .iter()
        .filter_map(|gate| match gate.ask {
            Ask::ErrorRate { max_ratio, .. } => Some(max_ratio),
            Ask::Latency { margin, .. } => Some(margin),
            _ => None,
        })
        .collect();
    assert_eq!(margins, [1.1, 0.1]);
    assert_eq!((plan.rollback.delay, plan.rollback.max_automatic), (Duration::from_secs(30), 3));
    assert_eq!(plan.phases.len(), 4, "the phases of the default profile");
    assert!(read.notes.iter().any(|note| note.path == "alerting"), "{:?}", read.notes);
}

#[test]
fn a_rollback_plan_becomes_policy_verification_and_ordered_actions() {
    let read = from_json(fixture("rollback-plan.json"), &Constraints::default()).expect("it holds");
    let policy = &read.plan.rollback;
    assert_eq!((policy.strategy, policy.max_automatic), (RollbackStrategy::Phased, 1));
    assert_eq!((policy.max_duration, policy.cooldown), (Duration::from_secs(300), Duration::from_secs(300)));
    let verify = &policy.verify;
    assert_eq!(verify.http.as_ref().map(|http| http.url.as_str()), Some("/health"));
    assert_eq!((verify.timeout.as_secs(), verify.retries, verify.retry_delay.as_secs()), (30, 3, 10));
    let actions: Vec<_> = read.plan.actions.iter().map(|it| (&it.act, it.at, it.timeout.as_secs())).collect();
    let at = Moment::Rollback;
    assert_eq!(actions, [(&Act::StopNewTraffic, at, 30), (&Act::DrainConnections, at, 60)]);
    assert!(read.plan.actions.iter().all(|action| action.on_error == OnActionError::Continue));
    assert_eq!(rule(&read.plan, "error_rate-trigger").threshold, 10.0);
    let told = read.notes.iter().find(|note| note.path == "actions.flags").expect("what is left out is told");
    assert!(told.to_string().contains("give its config a url or a command"), "{told}");
}

#[test]
fn a_deployment_carries_its_monitor_and_its_rollback_with_it() {
    let mut body = fixture("simple-deployment.json");
    body["monitoring"] = fixture("health-monitor.json");
    body["rollback"] = fixture("rollback-plan.json");
    body["rollback"]["actions"][0]["config"]["url"] = "http://127.0.0.1:9000/flags".into();
    let plan = from_json(body, &Constraints::default()).expect("it holds").plan;
    assert_eq!((plan.phases.len(), plan.gates.len(), plan.actions.len()), (1, 8, 3));
    assert!(matches!(&plan.actions[2].act, Act::Webhook(http) if http.url == "http://127.0.0.1:9000/flags"));
    assert_eq!(plan.rollback.delay, Duration::from_secs(30), "the monitor's delay stays");
}

#[test]
fn a_build_and_a_channel_are_a_plan() {
    let body = json!({ "buildId": "build-7", "channel": "stable" });
    let plan = from_json(body, &Constraints::default()).expect("it holds").plan;
    assert_eq!((plan.version.as_deref(), plan.phases[0].share.percent(), plan.phases.len()), (Some("build-7"), 1.0, 4));
}
