//! `[[routes]]`: which request goes to which service, or straight to one pool.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use regex::{Regex, RegexBuilder};
use toml::de::DeValue;

use super::connect;
use super::policies::{is_target, is_token, token};
use crate::config::cursor::{At, Fields, meant, shorten};
use crate::model::{FieldMatch, HostMatch, Matches, Name, PathMatch, Rewrite, RouteSpec, ServiceSpec, ValueMatch};

/// Memory that one compiled expression may take; a file must not be able to take more than it looks like.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Reads every route; without any, all requests go to the only service.
pub(super) fn routes(root: &Fields<'_>, services: &[At<ServiceSpec>]) -> Vec<RouteSpec> {
    let tables = root.list("routes", "routes[]");
    let mut routes: Vec<RouteSpec> = Vec::new();
    // The first route of each name, and of each condition.
    let (mut names, mut seen) = (HashMap::new(), HashMap::new());
    for (i, fields) in tables.iter().enumerate() {
        let route = route(fields, i, services);
        if let Some(same) = names.insert(route.name.clone(), i) {
            let found = format!("route {} has the name of route {}: \"{}\"", i + 1, same + 1, shorten(&route.name));
            fields.sink.whole(fields.key_span("name"), &fields.path_of("name"), found, "give each route its own name");
        }
        let condition = format!("{} {:?}", route.priority, route.matches);
        match seen.entry(condition) {
            Entry::Occupied(first) => {
                let found = format!(
                    "{} can never be reached: route {} matches the same requests",
                    route_name(&route),
                    first.get() + 1
                );
                let help = "take one of them out, or give this one another match or a higher priority";
                fields.sink.whole(place(fields), &fields.path, found, help);
            }
            Entry::Vacant(free) => drop(free.insert(i)),
        }
        routes.push(route);
    }
    if tables.is_empty() && root.value("routes").is_none_or(|value| value.value.is_array()) {
        match services {
            [] => {}
            [only] => routes.push(RouteSpec {
                name: "default".into(),
                service: only.value.name.clone(),
                pool: None,
                matches: Matches::default(),
                rewrite: Rewrite::Keep,
                priority: 0,
            }),
            [_, second, ..] => {
                let found = format!("there are {} services and no [[routes]]", services.len());
                let help =
                    "add a [[routes]] table for each, with service = \"NAME\" and match.host or match.path_prefix";
                root.sink.whole(second.span.clone(), "routes", found, help);
            }
        }
    }
    routes
}

fn route_name(route: &RouteSpec) -> String {
    format!("route \"{}\"", shorten(&route.name))
}

/// A route has no key of its own to point at: its service names it best.
fn place(fields: &Fields<'_>) -> std::ops::Range<usize> {
    ["match", "service", "pool", "name"]
        .into_iter()
        .map(|key| fields.key_span(key))
        .find(|span| *span != fields.span)
        .unwrap_or(fields.span.clone())
}

fn route(fields: &Fields<'_>, index: usize, services: &[At<ServiceSpec>]) -> RouteSpec {
    let name = fields.text("name");
    if let Some(name) = name.as_ref().filter(|name| name.value.trim().is_empty() || name.value.len() > 64) {
        fields.refuse(name, "is not a name", "use 1 to 64 characters");
    }
    let name = name.map_or_else(|| format!("route-{}", index + 1), |name| name.value);
    let service = service(fields, &name, services);
    let pool = fields.text("pool").and_then(|text| pool(fields, &text, service));
    let matches = matches(&fields.table("match", "routes[].match"));
    if let Some(service) = service.filter(|_| !matches.connect.is_empty()) {
        connect::check(fields, service);
    }
    let rewrite = rewrite(fields, &matches);
    let priority = fields.integer("priority").unwrap_or(0) as i32;
    let unknown = || Name::new("unknown").expect("a constant that is a name");
    let service = service.map_or_else(unknown, |service| service.name.clone());
    RouteSpec { name, service, pool, matches, rewrite, priority }
}

/// The service that `service = ".."` names; without the key, the only one.
pub(super) fn service<'s>(fields: &Fields<'_>, what: &str, services: &'s [At<ServiceSpec>]) -> Option<&'s ServiceSpec> {
    let names = services.iter().map(|service| service.value.name.as_str());
    if let Some(text) = fields.text("service") {
        let found = services.iter().find(|service| service.value.name.as_str() == text.value);
        if found.is_none() {
            let message = format!("{}: there is no service \"{}\"", text.path, shorten(&text.value));
            fields.sink.whole(text.span, &text.path, message, meant(&text.value, names));
        }
        return found.map(|service| &service.value);
    }
    match services {
        [only] => Some(&only.value),
        [] => None,
        _ if fields.value("service").is_some() => None,
        _ => {
            let found = format!("{what} does not say which service");
            fields.sink.whole(place(fields), &fields.path, found, format!("add service = ...; {}", meant("", names)));
            None
        }
    }
}

/// The pool of `service` that a text names.
pub(super) fn pool(fields: &Fields<'_>, text: &At<String>, service: Option<&ServiceSpec>) -> Option<Name> {
    let service = service?;
    let found = service.pools.iter().find(|pool| pool.name.as_str() == text.value);
    if found.is_none() {
        let message = format!("{}: service \"{}\" has no pool \"{}\"", text.path, service.name, shorten(&text.value));
        let help = meant(&text.value, service.pools.iter().map(|pool| pool.name.as_str()));
        fields.sink.whole(text.span.clone(), &text.path, message, help);
    }
    found.map(|pool| pool.name.clone())
}

fn rewrite(fields: &Fields<'_>, matches: &Matches) -> Rewrite {
    let strip = fields.flag("strip_prefix").unwrap_or(false);
    let with = fields.text("rewrite_prefix");
    let key = if strip { "strip_prefix" } else { "rewrite_prefix" };
    if !strip && with.is_none() {
        return Rewrite::Keep;
    }
    if strip && let Some(with) = &with {
        let found = format!("{} has both strip_prefix and rewrite_prefix", fields.path);
        fields.sink.whole(with.span.clone(), &with.path, found, "keep one of them");
    }
    let Some(PathMatch::Prefix(prefix)) = &matches.path else {
        let found = format!("{} without a path_prefix", fields.path_of(key));
        fields.sink.whole(fields.key_span(key), &fields.path_of(key), found, "add match.path_prefix = \"/...\"");
        return Rewrite::Keep;
    };
    match with {
        None => Rewrite::Strip(prefix.clone()),
        Some(text) if is_target(&text.value) && !text.value.contains('?') => {
            Rewrite::Replace { prefix: prefix.clone(), with: segments(&text.value) }
        }
        Some(text) => {
            fields.refuse(&text, format!("\"{}\" is not a path", shorten(&text.value)), "write a path such as \"/v2\"");
            Rewrite::Keep
        }
    }
}

/// A prefix by whole segments has no slash at its end, except the root.
fn segments(prefix: &str) -> String {
    let trimmed = prefix.trim_end_matches('/');
    if trimmed.is_empty() { "/".into() } else { trimmed.into() }
}

fn matches(fields: &Fields<'_>) -> Matches {
    let mut hosts = fields.texts("host");
    let any_host = hosts.iter().any(|host| host.value == "*");
    hosts.retain(|host| host.value != "*");
    let hosts = hosts.into_iter().filter_map(|text| host(fields, text)).collect();
    let method = |text: At<String>| {
        if text.value.eq_ignore_ascii_case("CONNECT") {
            let help = "a CONNECT is refused unless its authority is listed: write connect = [\"HOST:PORT\"]";
            fields.refuse(&text, "CONNECT is not a method to match by", help);
            return None;
        }
        let name = token(fields, text, "method")?;
        Some(name.to_ascii_uppercase())
    };
    Matches {
        hosts: if any_host { Vec::new() } else { hosts },
        path: path(fields),
        methods: fields.texts("method").into_iter().filter_map(method).collect(),
        headers: values(fields, "headers"),
        query: values(fields, "query"),
        cookies: values(fields, "cookies"),
        networks: fields.networks("client_networks"),
        connect: connect::connect(fields),
    }
}

pub(super) fn host(fields: &Fields<'_>, text: At<String>) -> Option<HostMatch> {
    let lower = text.value.to_ascii_lowercase();
    let labels = lower.strip_prefix("*.").unwrap_or(&lower);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| !label.is_empty() && label.bytes().all(legal);
    let bracketed = labels.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bracketed.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    let is_address = address && labels.len() == lower.len();
    let is_name = labels.len() <= 253 && labels.split('.').all(label);
    if !is_address && !is_name {
        let help = match labels.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                format!("a port does not count in a match; write \"{host}\"")
            }
            _ => "write a host such as \"shop.example\" or \"*.example\"".into(),
        };
        fields.refuse(&text, format!("\"{}\" is not a host", shorten(&text.value)), help);
        return None;
    }
    Some(match lower.strip_prefix('*') {
        Some(suffix) => HostMatch::Suffix(suffix.to_owned()),
        None => HostMatch::Exact(lower),
    })
}

fn path(fields: &Fields<'_>) -> Option<PathMatch> {
    let mut paths = Vec::new();
    for key in ["path", "path_prefix", "path_regex"] {
        let Some(text) = fields.text(key) else { continue };
        if !paths.is_empty() {
            let found = format!("{} has more than one of path, path_prefix and path_regex", fields.path);
            fields.sink.local(text.span.clone(), &text.path, found, "keep one of them");
        }
        if key != "path_regex" && (!is_target(&text.value) || text.value.contains('?')) {
            let help = "write a path such as \"/api\"; it starts with '/' and has no query";
            fields.refuse(&text, format!("\"{}\" is not a path", shorten(&text.value)), help);
            continue;
        }
        paths.extend(match key {
            "path" => Some(PathMatch::Exact(text.value)),
            "path_prefix" => Some(PathMatch::Prefix(segments(&text.value))),
            _ => regex(fields, &text).map(PathMatch::Regex),
        });
    }
    paths.into_iter().next()
}

/// An expression over the whole of a value.
fn regex(fields: &Fields<'_>, text: &At<String>) -> Option<Regex> {
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
    // First alone: `a)|(b` is only an expression once it stands in brackets, and would step out of the anchors.
    match build(&text.value).and_then(|_| build(&format!("^(?:{})$", text.value))) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            fields.refuse(
                text,
                format!("is not a regular expression: {last}"),
                "see the syntax of the Rust crate `regex`",
            );
            None
        }
    }
}

fn values(fields: &Fields<'_>, key: &'static str) -> Vec<FieldMatch> {
    let mut list: Vec<FieldMatch> = Vec::new();
    for (name, value) in fields.entries(key) {
        let lower = if key == "headers" { name.value.to_ascii_lowercase() } else { name.value.to_owned() };
        if (key != "query" && !is_token(&lower)) || lower.is_empty() {
            let found = format!("{}: \"{}\" is not a name", name.path, shorten(name.value));
            fields.sink.local(name.span.clone(), &name.path, found, "use letters, digits and '-'");
        }
        if list.iter().any(|other| other.name == lower) {
            let found = format!("{}: \"{}\" is named twice", name.path, shorten(name.value));
            fields.sink.local(name.span.clone(), &name.path, found, "header names do not differ by case; keep one");
        }
        let value = match value.value {
            DeValue::Table(_) => fields.as_table(value, name.span.clone(), "value").and_then(|table| condition(&table)),
            _ => fields
                .as_text(&value, "a string, or a table such as { regex = \"v[0-9]+\" }")
                .map(|text| ValueMatch::Exact { value: text.value, case_sensitive: true }),
        };
        list.extend(value.map(|value| FieldMatch { name: lower, value }));
    }
    list
}

fn condition(fields: &Fields<'_>) -> Option<ValueMatch> {
    let exact = fields.text("exact");
    let expression = fields.text("regex");
    let present = fields.flag("present");
    let case = fields.flag("case_sensitive");
    let given = ["exact", "regex", "present"].into_iter().filter(|key| fields.value(key).is_some()).count();
    if given != 1 || present == Some(false) {
        let found = format!("{} does not say what the value must be", fields.path);
        let help = "write one of exact = \"..\", regex = \"..\" or present = true";
        fields.sink.local(fields.span.clone(), &fields.path, found, help);
        return None;
    }
    if case.is_some() && exact.is_none() {
        let found = format!("{} has no meaning without exact", fields.path_of("case_sensitive"));
        let help = "in a regex, write (?i) in front of it";
        fields.sink.local(fields.key_span("case_sensitive"), &fields.path_of("case_sensitive"), found, help);
    }
    match (exact, expression) {
        (Some(text), _) => Some(ValueMatch::Exact { value: text.value, case_sensitive: case.unwrap_or(true) }),
        (None, Some(text)) => regex(fields, &text).map(ValueMatch::Regex),
        (None, None) => present.map(|_| ValueMatch::Present),
    }
}
