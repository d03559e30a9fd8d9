//! A plan of a rollout is taken, and can be carried out and written down; or refused, with problems that can be shown.
//! Files and bodies of the API alike.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use weir::config::Config;
use weir::config::rollouts::{Checked, Constraints, Read, plan_from_json, read_plan, take_name};
use weir::model::rollout::{GATES_MAX, PHASES_MAX, RolloutPlan};
use weir::model::{Name, Plan};
use weir::rollout::judge::Judge;

const MAIN: &str = "[services.engine.pools.stable]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                    [services.engine.pools.canary]\nendpoints = [\"http://127.0.0.1:2\"]\n";

static ROUTES: LazyLock<Plan> =
    LazyLock::new(|| Plan::clone(&Config::parse(MAIN, "weir.toml", &|_| None).expect("it holds").plan));

/// Reads a plan file, and the same bytes as a body.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // The environment is not the input.
    if text.contains("${") {
        return;
    }
    let limits = Constraints::default();
    match read_plan(&text, Path::new("a.toml"), &ROUTES, &limits) {
        Ok(read) => holds(&read),
        Err(problems) => {
            assert!(!problems.to_string().chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            let lines = text.split('\n').count() as u32;
            assert!(problems.iter().all(|problem| problem.line <= lines));
            assert!(!Checked::of(&Err(problems), false).valid);
        }
    }
    let Ok(mut body) = serde_json::from_slice::<Value>(bytes) else { return };
    let name = take_name(&mut body).and_then(|name| Name::new(&name).ok());
    let name = name.unwrap_or_else(|| Name::new("a").expect("a name"));
    match plan_from_json(&body, &name, &ROUTES, &limits) {
        Ok(read) => holds(&read),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

/// What everything that carries out a plan relies on.
fn holds(read: &Read) {
    let plan = &read.plan;
    assert!((1..=PHASES_MAX).contains(&plan.phases.len()));
    let gates: Vec<&str> =
        plan.gates.iter().chain(plan.phases.iter().flat_map(|it| &it.gates)).map(|it| &*it.name).collect();
    assert!(gates.len() <= GATES_MAX);
    assert!(plan.phases.windows(2).all(|pair| pair[0].share <= pair[1].share), "a share falls");
    assert!(plan.phases.iter().all(|phase| phase.min_duration <= phase.max_duration));
    let mut names = gates.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), gates.len(), "gates of one name");
    let policy = &plan.evidence;
    for chance in [policy.false_rollback, policy.false_advance] {
        assert!(chance > 0.0 && chance < 1.0);
    }
    let shown = serde_json::to_string(plan).expect("it is data");
    assert_eq!(serde_json::from_str::<RolloutPlan>(&shown).expect("it is its own"), *plan, "{shown}");
    let mut judge = Judge::new(plan);
    judge.begin_phase(0, |_| Some(1_000), |us| us);
    let _ = judge.judgement();
}
