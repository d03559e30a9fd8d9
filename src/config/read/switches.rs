//! `[[kill_switches]]`: what stops a service by itself, and what people may pull by name.

use std::time::Duration;

use super::{routes, services};
use crate::config::cursor::{At, Fields, meant, shorten};
use crate::model::{KillSwitch, Limit, Name, Pools, Priority, Recovery, Scope, ServiceSpec, Trigger};

/// Most kill switches; each with triggers is looked at in every tick.
const SWITCHES_MAX: usize = 100;

/// Most triggers of one.
const TRIGGERS_MAX: usize = 20;

pub(super) fn switches(root: &Fields<'_>, specs: &[At<ServiceSpec>]) -> Vec<KillSwitch> {
    let mut switches: Vec<KillSwitch> = Vec::new();
    for fields in root.list("kill_switches", "kill_switches[]") {
        let Some(switch) = switch(&fields, specs) else { continue };
        if switches.iter().any(|other| other.name == switch.name) {
            let found = format!("kill switch \"{}\" is named twice", switch.name);
            fields.sink.local(fields.key_span("name"), &fields.path_of("name"), found, "give each its own name");
        }
        switches.push(switch);
    }
    if switches.len() > SWITCHES_MAX {
        let found = format!("{} kill switches; at most {SWITCHES_MAX}", switches.len());
        root.sink.whole(root.key_span("kill_switches"), "kill_switches", found, "take some out");
    }
    switches
}

fn switch(fields: &Fields<'_>, specs: &[At<ServiceSpec>]) -> Option<KillSwitch> {
    let name = fields.text("name").and_then(|text| services::name(fields, &text.with(text.value.as_str())));
    let scope = scope(fields, specs);
    let description = fields.text("description").map(|text| text.value);
    let priority = match fields.word("priority").map(|word| word.value) {
        Some("high") => Priority::High,
        Some("medium") => Priority::Medium,
        Some("low") => Priority::Low,
        _ => Priority::Critical,
    };
    let lists = fields.list("triggers", "kill_switches[].triggers[]");
    let triggers: Vec<Trigger> = lists.iter().filter_map(|it| trigger(it, scope.as_ref(), specs)).collect();
    if lists.len() > TRIGGERS_MAX {
        let found = format!("{} triggers; at most {TRIGGERS_MAX}", lists.len());
        fields.sink.whole(fields.key_span("triggers"), &fields.path_of("triggers"), found, "take some out");
    }
    let recovery = fields.table_if_present("recovery", "kill_switches[].recovery").and_then(|it| recovery(&it));
    let (enabled, grace) = (fields.flag("enabled").unwrap_or(true), fields.duration("grace"));
    if recovery.is_some() && lists.is_empty() {
        let found = format!("{} has a recovery and no triggers", fields.path);
        let help = "a person lets go of what a person killed; add [[kill_switches.triggers]]";
        fields.sink.note(fields.key_span("recovery"), &fields.path_of("recovery"), found, help);
    }
    let Some(name) = name else {
        if fields.value("name").is_none() {
            let found = format!("{} has no name", fields.path);
            fields.sink.local(fields.span.clone(), &fields.path, found, "add name = \"engine-errors\"");
        }
        return None;
    };
    let grace = grace.unwrap_or(Duration::from_secs(30));
    let description = description.unwrap_or_default();
    Some(KillSwitch { name, description, scope: scope?, triggers, grace, recovery, priority, enabled })
}

fn scope(fields: &Fields<'_>, specs: &[At<ServiceSpec>]) -> Option<Scope> {
    let system = fields.word("scope").is_some_and(|word| word.value == "system");
    if !system {
        return routes::service(fields, &fields.path, specs).map(|spec| Scope::Service(spec.name.clone()));
    }
    if let Some(service) = fields.value("service") {
        let found = format!("{} with scope = \"system\"", service.path);
        fields.sink.whole(service.span, &service.path, found, "the scope is the system or a service, not both");
    }
    Some(Scope::System)
}

fn trigger(fields: &Fields<'_>, scope: Option<&Scope>, specs: &[At<ServiceSpec>]) -> Option<Trigger> {
    let service = fields.text("service").and_then(|text| known(fields, &text, specs));
    let pools = match fields.word("pools").map(|word| word.value) {
        Some("all") => Pools::All,
        _ => Pools::Candidates,
    };
    let (percent, quantile) = (fields.number("max_percent"), fields.ratio("quantile"));
    let max = fields.duration("max_latency");
    let Some(kind) = fields.word("kind") else {
        if fields.value("kind").is_none() {
            let found = format!("{} has no kind", fields.path);
            fields.sink.local(fields.span.clone(), &fields.path, found, "add kind = \"error_rate\"");
        }
        return None;
    };
    let limit = match (kind.value, max) {
        ("latency", Some(max)) => Limit::Latency { quantile: quantile.unwrap_or(0.99), max },
        ("latency", None) => {
            let found = format!("{} looks at latency and has no limit", fields.path);
            fields.sink.local(fields.span.clone(), &fields.path, found, "add max_latency = \"2s\"");
            return None;
        }
        ("no_endpoint", _) => Limit::NoEndpoint,
        _ => Limit::ErrorRate(percent.unwrap_or(20.0) / 100.0),
    };
    for (key, with) in [("max_percent", "error_rate"), ("quantile", "latency"), ("max_latency", "latency")] {
        if kind.value != with && fields.value(key).is_some() {
            let found = format!("{} has no meaning here", fields.path_of(key));
            let help = format!("take it out, or set kind = \"{with}\"");
            fields.sink.whole(fields.key_span(key), &fields.path_of(key), found, help);
        }
    }
    let looked_at = |spec: &&At<ServiceSpec>| match (&service, scope) {
        (Some(service), _) | (None, Some(Scope::Service(service))) => spec.value.name == *service,
        (None, _) => true,
    };
    if pools == Pools::Candidates && specs.iter().filter(looked_at).all(|spec| spec.value.pools.len() < 2) {
        let found = format!("{} looks at every pool but stable, and there is none", fields.path);
        fields.sink.note(fields.span.clone(), &fields.path, found, "set pools = \"all\"");
    }
    Some(Trigger {
        service,
        pools,
        limit,
        window: fields.duration("window").unwrap_or(Duration::from_secs(60)),
        min_samples: fields.integer("min_samples").map_or(20, |n| n as u64),
    })
}

fn known(fields: &Fields<'_>, text: &At<String>, specs: &[At<ServiceSpec>]) -> Option<Name> {
    let found = specs.iter().find(|spec| spec.value.name.as_str() == text.value);
    if found.is_none() {
        let unknown = format!("there is no service \"{}\"", shorten(&text.value));
        let names: Vec<&str> = specs.iter().map(|spec| spec.value.name.as_str()).collect();
        fields.refuse(text, unknown, meant(&text.value, names.iter().copied()));
    }
    found.map(|spec| spec.value.name.clone())
}

fn recovery(fields: &Fields<'_>) -> Option<Recovery> {
    let default = Recovery::default();
    let recovery = Recovery {
        delay: fields.duration("delay").unwrap_or(default.delay),
        attempts: fields.integer("attempts").map_or(default.attempts, |n| n as u32),
        probation: fields.duration("probation").unwrap_or(default.probation),
        cooldown: fields.duration("cooldown").unwrap_or(default.cooldown),
    };
    fields.flag("enabled").unwrap_or(true).then_some(recovery)
}
