//! A plan as a whole, from text.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gates::{gates, texts};
use super::{policies, profiles};
use crate::config::cursor::{Fields, meant};
use crate::model::rollout::{
    ACTIONS_MAX, Ask, CohortMatch, GATES_MAX, Gate, OnFailure, OnInconclusive, OnProviderError, PHASES_MAX, Phase,
    RolloutPlan, Share, Strategy, TARGETS_MAX,
};
use crate::model::{Name, Plan, ServiceSpec};

/// Least time of a phase that says none.
const MIN_DURATION: Duration = Duration::from_secs(300);

/// Most time of a phase that says none.
const MAX_DURATION: Duration = Duration::from_secs(4 * 3600);

/// Reads everything; none when what is there is not enough for a plan, and then a problem says so.
pub(super) fn plan(root: &Fields<'_>, name: Name, routes: &Plan) -> Option<RolloutPlan> {
    let service = service(root, routes);
    let candidate = service.and_then(|service| candidate(root, service));
    let baseline = service.and_then(|service| pool(root, "baseline", service));
    let chosen = root.word("profile").map(|word| profiles::profile(word.value));
    let strategy = strategy(root);
    let named: Vec<Phase> = phases(root, service);
    let wide = root.interval();
    let made = match strategy {
        Strategy::Linear => linear(root, wide),
        Strategy::Immediate => profiles::phases(&[(100.0, wide.as_secs())]),
        Strategy::BlueGreen => profiles::phases(&[(0.0, 0), (100.0, wide.as_secs())]),
        Strategy::Phased => chosen.as_ref().map(|profile| profile.phases.clone()).unwrap_or_default(),
    };
    let phases = if named.is_empty() { made } else { named };
    if phases.is_empty() && root.value("phases").is_none() {
        let found = "the plan has no phases".to_owned();
        root.sink.local(0..0, "phases", found, "add [[phases]] with percent, or profile = \"default\"");
    }
    let own = gates(root.list("gates", "plan.gates"));
    let gates_of_plan = if own.is_empty() { chosen.map(|profile| profile.gates).unwrap_or_default() } else { own };
    let mut plan = RolloutPlan {
        name,
        service: service?.name.clone(),
        candidate: candidate?,
        baseline,
        version: root.text("version").map(|text| text.value),
        strategy,
        phases,
        gates: gates_of_plan,
        evidence: policies::evidence(&root.table("evidence", "plan.evidence")),
        on_failure: match root.word("on_failure").map(|word| word.value) {
            Some("pause") => OnFailure::Pause,
            Some("hold") => OnFailure::Hold,
            _ => OnFailure::Rollback,
        },
        on_inconclusive: match root.word("on_inconclusive").map(|word| word.value) {
            Some("extend") => OnInconclusive::Extend,
            Some("advance") => OnInconclusive::Advance,
            Some("rollback") => OnInconclusive::Rollback,
            _ => OnInconclusive::Pause,
        },
        on_provider_error: match root.word("on_provider_error").map(|word| word.value) {
            Some("hold") => OnProviderError::Hold,
            _ => OnProviderError::Warn,
        },
        deadline: root.duration("deadline"),
        auto_advance: root.flag("auto_advance").unwrap_or(true),
        auto_rollback: root.flag("auto_rollback").unwrap_or(true),
        dry_run: root.flag("dry_run").unwrap_or(false),
        rollback: policies::rollback(&root.table("rollback", "plan.rollback")),
        actions: policies::actions(&root.list("actions", "plan.actions")),
        windows: policies::windows(&root.list("windows", "plan.windows")),
        sweeps: policies::sweeps(&root.list("sweeps", "plan.sweeps")),
        keep_previous: root.duration("keep_previous").unwrap_or(Duration::from_secs(3600)),
        labels: texts(root, "labels"),
    };
    too_many(root, &plan);
    tell_apart(&mut plan);
    Some(plan)
}

impl Fields<'_> {
    fn interval(&self) -> Duration {
        self.duration("interval").unwrap_or(MIN_DURATION)
    }
}

fn service<'p>(root: &Fields<'_>, routes: &'p Plan) -> Option<&'p ServiceSpec> {
    let names = || routes.services.iter().map(|service| service.name.as_str());
    let Some(text) = root.text("service") else {
        if let [only] = routes.services.as_slice() {
            return Some(only);
        }
        if root.value("service").is_none() {
            let found = "the plan names no service".to_owned();
            root.sink.local(0..0, "service", found, meant("", names().collect::<Vec<_>>()));
        }
        return None;
    };
    let found = routes.services.iter().find(|service| service.name.as_str() == text.value);
    if found.is_none() {
        root.refuse(
            &text,
            format!("there is no service \"{}\"", text.value),
            meant(&text.value, names().collect::<Vec<_>>()),
        );
    }
    found
}

fn pool(root: &Fields<'_>, key: &'static str, service: &ServiceSpec) -> Option<Name> {
    let text = root.text(key)?;
    let found = service.pools.iter().find(|pool| pool.name.as_str() == text.value);
    let names: Vec<&str> = service.pools.iter().map(|pool| pool.name.as_str()).collect();
    match found {
        None => {
            let found = format!("service \"{}\" has no pool \"{}\"", service.name, text.value);
            root.refuse(&text, found, meant(&text.value, names));
            None
        }
        Some(pool) if pool.name == service.stable => {
            let found = format!("\"{}\" is the stable pool of \"{}\"", pool.name, service.name);
            root.refuse(&text, found, "name the pool that runs the new version");
            None
        }
        Some(pool) => Some(pool.name.clone()),
    }
}

fn candidate(root: &Fields<'_>, service: &ServiceSpec) -> Option<Name> {
    if root.value("candidate").is_some() {
        return pool(root, "candidate", service);
    }
    let mut others = service.pools.iter().filter(|pool| pool.name != service.stable);
    match (others.next(), others.next()) {
        (Some(only), None) => Some(only.name.clone()),
        (None, _) => {
            let found = format!("service \"{}\" has no pool beside stable", service.name);
            root.sink.local(0..0, "candidate", found, "add the pool of the new version to weir.toml");
            None
        }
        (Some(_), Some(_)) => {
            let found = format!("service \"{}\" has several pools beside stable", service.name);
            root.sink.local(0..0, "candidate", found, "say which is the candidate = \"…\"");
            None
        }
    }
}

fn strategy(root: &Fields<'_>) -> Strategy {
    match root.word("strategy").map(|word| word.value) {
        Some("linear") => Strategy::Linear,
        Some("immediate") => Strategy::Immediate,
        Some("blue_green") => Strategy::BlueGreen,
        _ => Strategy::Phased,
    }
}

fn linear(root: &Fields<'_>, interval: Duration) -> Vec<Phase> {
    let from = root.number("from").unwrap_or(10.0);
    let step = root.number("step").unwrap_or(10.0).max(1.0);
    let mut steps = Vec::new();
    let mut percent = from;
    while percent < 100.0 - 1e-9 {
        steps.push((percent, interval.as_secs()));
        percent += step;
    }
    steps.push((100.0, interval.as_secs()));
    let mut phases = profiles::phases(&steps);
    phases.iter_mut().for_each(|phase| phase.min_duration = interval);
    phases
}

fn phases(root: &Fields<'_>, service: Option<&ServiceSpec>) -> Vec<Phase> {
    let read = |(index, fields): (usize, &Fields<'_>)| {
        let min_duration = fields.duration("min_duration").unwrap_or(MIN_DURATION);
        Phase {
            name: fields.text("name").map_or_else(|| format!("phase-{}", index + 1), |text| text.value),
            share: share(fields, service),
            holdback: fields.number("holdback").and_then(Share::from_percent).unwrap_or(Share::ZERO),
            cohort: texts(&fields.table("match", "plan.match"), "headers")
                .into_iter()
                .map(|(header, value)| CohortMatch {
                    header: header.to_ascii_lowercase(),
                    value: (value != "*").then_some(value),
                })
                .collect(),
            min_duration,
            max_duration: fields.duration("max_duration").unwrap_or(MAX_DURATION.max(min_duration)),
            gates: gates(fields.list("gates", "plan.gates")),
        }
    };
    root.list("phases", "plan.phases").iter().enumerate().map(read).collect()
}

/// `percent`, or the candidate's part of `weights`.
fn share(fields: &Fields<'_>, service: Option<&ServiceSpec>) -> Share {
    if let Some(percent) = fields.number("percent") {
        return Share::from_percent(percent).unwrap_or_else(|| {
            let found = format!("{} is {percent}", fields.path_of("percent"));
            let help = "a share has at most four decimals";
            fields.sink.local(fields.key_span("percent"), &fields.path_of("percent"), found, help);
            Share::ZERO
        });
    }
    let entries = fields.entries("weights");
    let stable = service.map(|service| service.stable.as_str()).unwrap_or_default();
    let weight = |value: &crate::config::cursor::Value<'_>| crate::config::value::as_integer(value.value);
    let (mut others, mut total) = (0, 0);
    for (name, value) in &entries {
        match weight(value).filter(|weight| (0..=1_000_000).contains(weight)) {
            Some(weight) => {
                total += weight;
                others += if name.value == stable { 0 } else { weight };
            }
            None => fields.wrong(value, "an integer from 0 to 1000000"),
        }
    }
    if total > 0 {
        return Share::from_buckets(((others as f64 / total as f64) * 1_000_000.0).round() as u32);
    }
    if fields.value("percent").is_none() {
        let found = format!("{} has no percent", fields.place());
        fields.sink.local(fields.span.clone(), &fields.path, found, "add percent = 5");
    }
    Share::ZERO
}

fn too_many(root: &Fields<'_>, plan: &RolloutPlan) {
    let gates = || plan.gates.iter().chain(plan.phases.iter().flat_map(|phase| &phase.gates));
    let requests = gates().map(|gate| match &gate.ask {
        Ask::Suite { requests, .. } => requests.len(),
        _ => 0,
    });
    for (key, what, count, max) in [
        ("phases", "phases", plan.phases.len(), PHASES_MAX),
        ("gates", "gates", gates().count(), GATES_MAX),
        ("gates", "requests of suites", requests.sum(), TARGETS_MAX),
        ("actions", "actions", plan.actions.len(), ACTIONS_MAX),
        ("sweeps", "sweeps", plan.sweeps.len(), ACTIONS_MAX),
        ("sweeps", "targets of sweeps", plan.sweeps.iter().map(|sweep| sweep.targets.len()).sum(), TARGETS_MAX),
    ] {
        if count > max {
            root.sink.local(root.key_span(key), key, format!("{count} {what}"), format!("at most {max} are possible"));
        }
    }
}

/// Gives gates of one name numbers, so that each can be told from the others.
fn tell_apart(plan: &mut RolloutPlan) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let all = plan.gates.iter_mut().chain(plan.phases.iter_mut().flat_map(|phase| phase.gates.iter_mut()));
    let rename = |gate: &mut Gate, taken: &mut BTreeSet<String>| {
        let base = gate.name.clone();
        let mut number = 2;
        while !taken.insert(gate.name.clone()) {
            gate.name = format!("{base}-{number}");
            number += 1;
        }
    };
    all.into_iter().for_each(|gate| rename(gate, &mut taken));
}
