//! `[[rate_limits]]`: how many requests of one key may come.

use std::time::Duration;

use super::policies::is_token;
use super::services::name;
use crate::config::cursor::{At, Fields, meant, shorten};
use crate::model::time::show_duration;
use crate::model::{KeyPart, Name, RateLimitSpec, RouteSpec, ServiceSpec};

/// Keys that are kept when nothing is said: 1.2 MB.
const KEYS_MAX_DEFAULT: usize = 65_536;

/// Longest time in which a bucket may fill.
const FILL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads every rate limit.
pub(super) fn rate_limits(root: &Fields<'_>, services: &[At<ServiceSpec>], routes: &[RouteSpec]) -> Vec<RateLimitSpec> {
    let mut limits: Vec<RateLimitSpec> = Vec::new();
    for fields in root.list("rate_limits", "rate_limits[]") {
        let Some(limit) = rate_limit(&fields, services, routes) else { continue };
        if limits.iter().any(|other| other.name == limit.name) {
            let found = format!("two rate limits are called \"{}\"", limit.name);
            fields.sink.whole(fields.key_span("name"), &fields.path_of("name"), found, "give each its own name");
        }
        limits.push(limit);
    }
    limits
}

fn rate_limit(fields: &Fields<'_>, services: &[At<ServiceSpec>], routes: &[RouteSpec]) -> Option<RateLimitSpec> {
    let text = fields.text("name");
    let rate = fields.integer("rate");
    for (key, example) in [("name", "name = \"per-client\""), ("rate", "rate = 100")] {
        if fields.value(key).is_none() {
            let found = format!("{} has no {key}", fields.path);
            fields.sink.local(fields.span.clone(), &fields.path, found, format!("add {example}"));
        }
    }
    let name = text.as_ref().and_then(|text| name(fields, &text.with(text.value.as_str())));
    let key = keys(fields);
    let service = known(fields, "service", services.iter().map(|service| service.value.name.as_str()));
    let route = known(fields, "route", routes.iter().map(|route| route.name.as_str()));
    note_other_service(fields, service.as_deref(), route.as_deref(), routes);
    let per = fields.duration("per").unwrap_or(Duration::from_secs(1));
    let burst = fields.integer("burst");
    let keys_max = fields.integer("keys_max").map_or(KEYS_MAX_DEFAULT, |n| n as usize);
    let shadow = fields.flag("shadow").unwrap_or(false);
    let rate = rate? as u64;
    let burst = burst.map_or(rate, |n| n as u64);
    if per.as_nanos() * u128::from(burst) / u128::from(rate) > FILL_MAX.as_nanos() {
        let found = format!("{}: an empty bucket would take longer than a year to fill", fields.path);
        let help = format!("lower burst, or raise rate; {burst} requests come at {rate} in {}", show_duration(per));
        fields.sink.local(fields.key_span("burst"), &fields.path, found, help);
    }
    let service = service.and_then(|name| Name::new(&name).ok());
    Some(RateLimitSpec { name: name?, service, route, key, rate, per, burst, keys_max, shadow })
}

/// The name under `key`, when it is one of those.
fn known<'n>(fields: &Fields<'_>, key: &'static str, names: impl Iterator<Item = &'n str> + Clone) -> Option<String> {
    let text = fields.text(key)?;
    if !names.clone().any(|name| name == text.value) {
        let found = format!("{}: there is no {key} \"{}\"", text.path, shorten(&text.value));
        fields.sink.whole(text.span, &text.path, found, meant(&text.value, names));
        return None;
    }
    Some(text.value)
}

/// A route that leads to another service makes a limit that counts nothing.
fn note_other_service(fields: &Fields<'_>, service: Option<&str>, route: Option<&str>, routes: &[RouteSpec]) {
    let (Some(service), Some(name)) = (service, route) else { return };
    if routes.iter().any(|route| route.name == name && route.service.as_str() != service) {
        let found = format!("{}: route \"{}\" does not lead to service \"{service}\"", fields.path, shorten(name));
        fields.sink.whole(fields.key_span("route"), &fields.path_of("route"), found, "keep one of service and route");
    }
}

fn keys(fields: &Fields<'_>) -> Vec<KeyPart> {
    let texts = fields.texts("key");
    if fields.value("key").is_none() {
        return vec![KeyPart::Client];
    }
    let alone = texts.len() == 1;
    let part = |text: &At<String>| {
        let (kind, of) = text.value.split_once(':').unwrap_or((&text.value, ""));
        match kind {
            "all" if of.is_empty() && alone => None,
            "client" if of.is_empty() => Some(KeyPart::Client),
            "path" if of.is_empty() => Some(KeyPart::Path),
            "header" if is_token(of) => Some(KeyPart::Header(of.to_ascii_lowercase())),
            "cookie" if is_token(of) => Some(KeyPart::Cookie(of.to_owned())),
            _ => {
                let found = format!("\"{}\" is not a key", shorten(&text.value));
                let help = "write client, path, header:NAME or cookie:NAME, a list of them, or all alone";
                fields.refuse(text, found, help);
                None
            }
        }
    };
    let parts: Vec<KeyPart> = texts.iter().filter_map(part).collect();
    if texts.is_empty() && !fields.sink.has_local() {
        let found = format!("{} is empty", fields.path_of("key"));
        let help = "write \"all\" for one bucket that all requests share";
        fields.sink.local(fields.key_span("key"), &fields.path_of("key"), found, help);
    }
    parts
}
