//! `[[services.NAME.mirrors]]`: what is copied from pool to pool.

use std::time::Duration;

use super::policies::is_token;
use crate::config::cursor::{At, Fields, meant, shorten};
use crate::model::{MIRROR_WHOLE, MirrorSpec, Name, PoolSpec};

/// Methods that change nothing (RFC 9110 §9.2.1) and that peers copy; OPTIONS tells little of a version.
const METHODS_DEFAULT: [&str; 2] = ["GET", "HEAD"];

/// Largest body that is copied when nothing is said.
const BODY_BYTES_DEFAULT: usize = 1 << 20;

/// Copies in hand of one worker when nothing is said.
const IN_FLIGHT_DEFAULT: u32 = 64;

/// Time of a copy when nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Reads every mirror of a service.
pub(super) fn mirrors(service: &Fields<'_>, pools: &[PoolSpec]) -> Vec<MirrorSpec> {
    let mut mirrors: Vec<MirrorSpec> = Vec::new();
    for fields in service.list("mirrors", "services.*.mirrors[]") {
        let Some(mirror) = mirror(&fields, pools) else { continue };
        if mirrors.iter().any(|other| other.to == mirror.to) {
            let found = format!("{}: two mirrors lead to pool \"{}\"", fields.path, mirror.to);
            let help = "name all of their pools in one from = [..]";
            fields.sink.whole(fields.key_span("to"), &fields.path_of("to"), found, help);
        }
        mirrors.push(mirror);
        for pool in pools {
            let own = mirrors.iter().filter(|mirror| mirror.from.contains(&pool.name));
            let sum: u32 = own.map(|mirror| mirror.parts).sum();
            if sum > MIRROR_WHOLE && mirrors.last().is_some_and(|last| last.from.contains(&pool.name)) {
                let found = format!("{}: the mirrors of pool \"{}\" take more than 100 %", fields.path, pool.name);
                let help = "a request is copied once at most; lower one of them";
                fields.sink.whole(fields.key_span("percent"), &fields.path_of("percent"), found, help);
                break;
            }
        }
    }
    mirrors
}

fn mirror(fields: &Fields<'_>, pools: &[PoolSpec]) -> Option<MirrorSpec> {
    for (key, example) in [("to", "to = \"canary\""), ("percent", "percent = 10")] {
        if fields.value(key).is_none() {
            let found = format!("{} has no {key}", fields.path);
            fields.sink.local(fields.span.clone(), &fields.path, found, format!("add {example}"));
        }
    }
    let to = fields.text("to").and_then(|text| known(fields, &text, pools));
    let from: Vec<Name> = fields.texts("from").iter().filter_map(|text| known(fields, text, pools)).collect();
    let parts = parts(fields);
    let methods = methods(fields);
    let body_bytes_max = fields.size("max_body").map_or(BODY_BYTES_DEFAULT, |n| n as usize);
    let in_flight_max = fields.integer("max_in_flight").map_or(IN_FLIGHT_DEFAULT, |n| n as u32);
    let timeout = fields.duration("timeout").unwrap_or(TIMEOUT_DEFAULT);
    let to = to?;
    if from.contains(&to) {
        let found = format!("{}: pool \"{to}\" would get copies of its own requests", fields.path);
        fields.sink.whole(fields.key_span("from"), &fields.path_of("from"), found, "take it out of from");
    }
    let others = || pools.iter().map(|pool| pool.name.clone()).filter(|name| *name != to).collect();
    let from: Vec<Name> = if fields.value("from").is_none() { others() } else { from };
    if from.is_empty() && pools.len() == 1 {
        let found = format!("{}: \"{to}\" is the only pool, so there is nothing to copy from", fields.path);
        let help = "add the pool whose requests are to be copied";
        fields.sink.whole(fields.key_span("to"), &fields.path_of("to"), found, help);
    }
    Some(MirrorSpec { from, to, parts: parts?, methods, body_bytes_max, in_flight_max, timeout })
}

/// The name of one of the service's pools.
fn known(fields: &Fields<'_>, text: &At<String>, pools: &[PoolSpec]) -> Option<Name> {
    let found = pools.iter().find(|pool| pool.name.as_str() == text.value);
    if found.is_none() {
        let names = pools.iter().map(|pool| pool.name.as_str());
        let what = format!("{}: \"{}\" is no pool of this service", text.path, shorten(&text.value));
        fields.sink.whole(text.span.clone(), &text.path, what, meant(&text.value, names));
    }
    found.map(|pool| pool.name.clone())
}

/// The percentage in hundredths of a percent.
fn parts(fields: &Fields<'_>) -> Option<u32> {
    let percent = fields.number("percent")?;
    let hundredths = percent * f64::from(MIRROR_WHOLE) / 100.0;
    if (hundredths - hundredths.round()).abs() > 1e-6 {
        let found = format!("{} is {percent}, finer than a hundredth of a percent", fields.path_of("percent"));
        let help = "write at most two digits behind the point, such as 0.25";
        fields.sink.local(fields.key_span("percent"), &fields.path_of("percent"), found, help);
        return None;
    }
    Some(hundredths.round() as u32)
}

fn methods(fields: &Fields<'_>) -> Vec<String> {
    if fields.value("methods").is_none() {
        return METHODS_DEFAULT.map(str::to_owned).into();
    }
    let mut methods = Vec::new();
    for text in fields.texts("methods") {
        match is_token(&text.value) && text.value.bytes().all(|b| b.is_ascii_uppercase()) {
            true => methods.push(text.value),
            false => {
                let found = format!("\"{}\" is not a method", shorten(&text.value));
                fields.refuse(&text, found, "write it in capital letters, such as \"POST\"");
            }
        }
    }
    methods
}
