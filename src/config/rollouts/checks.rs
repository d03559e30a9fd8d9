//! What is wrong with a plan although every value is legal: gates that can never hold, times that do not fit, shares
//! that fall; and what would be better.

use std::time::Duration;

use crate::model::Plan;
use crate::model::rollout::{Ask, Gate, Operator, PlainMetric, PlainRule, RolloutPlan, Share, Strategy};

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constraints {
    /// The most that a candidate may get; 100 by default.
    pub max_percent: f64,
    /// The longest rollback; none: any.
    pub max_rollback: Option<Duration>,
}

/// Something about a plan.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// The field, such as `phases[1].percent`.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) help: String,
    /// Whether the plan cannot work like this; else it is a recommendation.
    pub(super) wrong: bool,
}

impl Default for Constraints {
    fn default() -> Self {
        Self { max_percent: 100.0, max_rollback: None }
    }
}

/// Everything that can be said about `plan`.
pub(super) fn check(plan: &RolloutPlan, routes: &Plan, limits: &Constraints) -> Vec<Finding> {
    let service = routes.services.iter().find(|service| service.name == plan.service);
    let counts = service.is_some_and(|service| service.count_cache);
    let mut found = Findings(Vec::new());
    shares(plan, limits, &mut found);
    times(plan, limits, &mut found);
    for (index, gate) in plan.gates.iter().enumerate() {
        let field = format!("gates[{}]", index + 1);
        gate_holds(gate, &field, Duration::MAX, &mut found);
        caches(plan, gate, &field, counts, &mut found);
    }
    for (number, phase) in plan.phases.iter().enumerate() {
        for (index, gate) in phase.gates.iter().enumerate() {
            let field = format!("phases[{}].gates[{}]", number + 1, index + 1);
            gate_holds(gate, &field, phase.min_duration.max(phase.max_duration), &mut found);
            caches(plan, gate, &field, counts, &mut found);
        }
        contradictions(number, &phase.gates, &mut found);
        let judged = !plan.gates.is_empty() || !phase.gates.is_empty();
        if !judged && phase.share > Share::ZERO {
            let field = format!("phases[{}]", number + 1);
            found.better(field, "the phase has no gate: only time lets it pass", "add [[gates]] kind = \"error_rate\"");
        }
    }
    found.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Finding { field: field.into(), message: message.into(), help: help.into(), wrong: true });
    }

    fn better(&mut self, field: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Finding { field: field.into(), message: message.into(), help: help.into(), wrong: false });
    }
}

fn shares(plan: &RolloutPlan, limits: &Constraints, found: &mut Findings) {
    for (index, phase) in plan.phases.iter().enumerate() {
        let field = |key: &str| format!("phases[{}].{key}", index + 1);
        if let Some(before) = index.checked_sub(1).map(|before| &plan.phases[before])
            && phase.share < before.share
        {
            let message = format!("the share falls from {} to {}", before.share, phase.share);
            found.wrong(field("percent"), message, "phases only rise; going back is what a rollback is for");
        }
        if phase.share.percent() > limits.max_percent {
            let message = format!("{} is more than max_percent = {}", phase.share, limits.max_percent);
            found.wrong(field("percent"), message, "lower it, or raise [rollouts] max_percent");
        }
        if phase.holdback > Share::from_buckets(500_000) {
            let message = format!("stable keeps {}", phase.holdback);
            found.wrong(field("holdback"), message, "a holdback is at most 50; 1 to 5 is enough to compare with");
        }
    }
    let first = plan.phases.iter().find(|phase| phase.share > Share::ZERO);
    if let Some(first) = first.filter(|first| first.share.percent() > 5.0 && plan.strategy == Strategy::Phased) {
        let message = format!("the first share is {}: so many meet a bad version at once", first.share);
        found.better("phases[1].percent", message, "begin with 5 or less");
    }
    let last = plan.phases.last();
    if last.is_some_and(|last| last.share == Share::ALL && last.holdback == Share::ZERO) && plan.phases.len() > 1 {
        let message = "at 100 there is no control left to compare with";
        found.better(format!("phases[{}].holdback", plan.phases.len()), message, "keep holdback = 2 on stable");
    }
}

fn times(plan: &RolloutPlan, limits: &Constraints, found: &mut Findings) {
    let least: Duration = plan.phases.iter().map(|phase| phase.min_duration).sum();
    if let Some(deadline) = plan.deadline.filter(|deadline| *deadline < least) {
        let message =
            format!("the phases take at least {} s, the deadline is {} s", least.as_secs(), deadline.as_secs());
        found.wrong("deadline", message, "shorten phases or give it more time");
    }
    for (index, phase) in plan.phases.iter().enumerate() {
        if phase.max_duration < phase.min_duration {
            let (least, most) = (phase.min_duration.as_secs(), phase.max_duration.as_secs());
            let message = format!("max_duration ({most} s) is less than min_duration ({least} s)");
            found.wrong(format!("phases[{}].max_duration", index + 1), message, "make it longer");
        }
    }
    if let Some(max) = limits.max_rollback.filter(|max| plan.rollback.max_duration > *max) {
        let message =
            format!("a rollback may take {} s, more than {} s", plan.rollback.max_duration.as_secs(), max.as_secs());
        found.wrong("rollback.max_duration", message, "shorten it");
    }
}

/// A gate that can never hold, can never fail, or has no time to.
fn gate_holds(gate: &Gate, field: &str, longest: Duration, found: &mut Findings) {
    match &gate.ask {
        Ask::Plain(rule) => rule_holds(rule, field, longest, found),
        Ask::ErrorRate { max_ratio, excludes, .. } | Ask::CacheHit { max_ratio, excludes, .. }
            if excludes < max_ratio =>
        {
            let message = format!("it must exclude {excludes} times and lets {max_ratio} times pass");
            found.wrong(format!("{field}.excludes"), message, "exclude at least max_ratio");
        }
        Ask::Suite { requests, .. } if requests.is_empty() => {
            found.wrong(
                format!("{field}.requests"),
                "the suite has no requests",
                "add [[gates.requests]] url = \"/…\"",
            );
        }
        Ask::Approval { approvers, count, .. } if !approvers.is_empty() && people(approvers) < *count as usize => {
            let message = format!("{count} approvals of {} people", people(approvers));
            found.wrong(format!("{field}.count"), message, "name more approvers or ask for fewer");
        }
        Ask::Guard { max, .. } if *max <= 0.0 || *max >= 1.0 => {
            let message = format!("a guard at {} % means nothing", max * 100.0);
            found.wrong(format!("{field}.max"), message, "write a percentage above 0 and below 100");
        }
        Ask::Guard { max, .. } if *max < 0.001 => {
            found.better(field, "a guard this low needs very many requests to be shown", "use error_rate for it");
        }
        _ => {}
    }
}

/// A gate about caches of a service that does not count what they do, or that has no time to.
fn caches(plan: &RolloutPlan, gate: &Gate, field: &str, counts: bool, found: &mut Findings) {
    let Ask::CacheHit { warm_up, .. } = gate.ask else { return };
    if !counts {
        let message = format!("service \"{}\" does not count what answers say of their caches", plan.service);
        let help = format!("set count_cache = true under [services.{}]", plan.service);
        found.wrong(format!("{field}.kind"), message, help);
    }
    let first = plan.phases.iter().find(|phase| phase.share > Share::ZERO);
    if let Some(first) = first.filter(|first| first.max_duration <= warm_up) {
        let message = format!(
            "its warm_up ({} s) leaves nothing of {} ({} s)",
            warm_up.as_secs(),
            first.name,
            first.max_duration.as_secs()
        );
        found.better(format!("{field}.warm_up"), message, "shorten it or give the phase a longer max_duration");
    }
}

/// How many people these are.
fn people(names: &[String]) -> usize {
    names.iter().collect::<std::collections::BTreeSet<_>>().len()
}

/// Bounds of a metric: what it can be at least and at most.
fn bounds(metric: PlainMetric) -> (f64, f64) {
    match metric {
        PlainMetric::ErrorRate
        | PlainMetric::Availability
        | PlainMetric::DisconnectRate
        | PlainMetric::FailedUnitRate => (0.0, 100.0),
        PlainMetric::Latency { .. } | PlainMetric::ResponseTime | PlainMetric::Throughput => (0.0, f64::INFINITY),
        PlainMetric::ErrorRateDelta => (-100.0, f64::INFINITY),
        PlainMetric::LatencyDelta { .. } => (f64::NEG_INFINITY, f64::INFINITY),
    }
}

fn rule_holds(rule: &PlainRule, field: &str, longest: Duration, found: &mut Findings) {
    let (low, high) = bounds(rule.metric);
    let (metric, threshold) = (name(rule.metric), rule.threshold);
    // Can the comparison be true at all, and can it be false?
    let (can_hold, can_fail) = match rule.operator {
        Operator::GreaterThan => (threshold < high, threshold >= low),
        Operator::AtLeast => (threshold <= high, threshold > low),
        Operator::LessThan => (threshold > low, threshold <= high),
        Operator::AtMost => (threshold >= low, threshold < high),
        Operator::Equals => ((low..=high).contains(&threshold), true),
    };
    let sign = sign(rule.operator);
    match (rule.must, can_hold, can_fail) {
        (true, false, _) => {
            let message = format!("{metric} {sign} {threshold} can never hold, so the phase can never be passed");
            found.wrong(field, message, format!("{metric} lies between {low} and {high}"));
        }
        (false, _, false) => {
            let message = format!("{metric} {sign} {threshold} always holds, so it fails at once");
            found.wrong(field, message, format!("{metric} lies between {low} and {high}"));
        }
        (true, _, false) | (false, false, _) => {
            let message = format!("{metric} {sign} {threshold} says nothing: it is the same whatever happens");
            found.better(field, message, format!("{metric} lies between {low} and {high}"));
        }
        _ => {}
    }
    if rule.hold > longest {
        let message =
            format!("it must hold for {} s, longer than its phase ({} s)", rule.hold.as_secs(), longest.as_secs());
        found.wrong(format!("{field}.hold"), message, "shorten it or give the phase more time");
    }
}

/// A rollback threshold within what a criterion of the same phase calls good.
fn contradictions(phase: usize, gates: &[Gate], found: &mut Findings) {
    let rules = || {
        gates.iter().filter_map(|gate| match &gate.ask {
            Ask::Plain(rule) => Some((gate, rule)),
            _ => None,
        })
    };
    for (gate, limit) in rules().filter(|(_, rule)| !rule.must) {
        for (other, criterion) in rules().filter(|(_, rule)| rule.must && rule.metric == limit.metric) {
            let inside = match (limit.operator, criterion.operator) {
                (Operator::GreaterThan | Operator::AtLeast, Operator::LessThan | Operator::AtMost) => {
                    limit.threshold < criterion.threshold
                }
                (Operator::LessThan | Operator::AtMost, Operator::GreaterThan | Operator::AtLeast) => {
                    limit.threshold > criterion.threshold
                }
                _ => false,
            };
            if inside {
                let message = format!(
                    "{} fails at {} where {} still calls it good ({} {})",
                    gate.name,
                    limit.threshold,
                    other.name,
                    sign(criterion.operator),
                    criterion.threshold
                );
                found.wrong(format!("phases[{}].gates", phase + 1), message, "let the rollback threshold lie beyond");
            }
        }
    }
}

fn name(metric: PlainMetric) -> String {
    match metric {
        PlainMetric::ErrorRate => "error_rate".into(),
        PlainMetric::Availability => "availability".into(),
        PlainMetric::Latency { quantile } => format!("latency p{}", quantile * 100.0),
        PlainMetric::ResponseTime => "response_time".into(),
        PlainMetric::Throughput => "throughput".into(),
        PlainMetric::DisconnectRate => "disconnect_rate".into(),
        PlainMetric::FailedUnitRate => "failed_unit_rate".into(),
        PlainMetric::ErrorRateDelta => "error_rate delta".into(),
        PlainMetric::LatencyDelta { quantile } => format!("latency p{} delta", quantile * 100.0),
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::GreaterThan => ">",
        Operator::AtLeast => ">=",
        Operator::LessThan => "<",
        Operator::AtMost => "<=",
        Operator::Equals => "==",
    }
}
