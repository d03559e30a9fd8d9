//! `match.connect`: which tunnels a route opens. What an authority looks like is for [`super::routes`], where the
//! tunnels lead for the pools of the service.

use super::routes::host;
use crate::config::cursor::{At, Fields, shorten};
use crate::model::{ConnectMatch, PoolSpec, Protocol, ServiceSpec};

/// What a CONNECT does not have: it names an authority, and that is its target (RFC 9110 §9.3.6).
const FOREIGN: [&str; 6] = ["host", "path", "path_prefix", "path_regex", "query", "method"];

/// Reads the list of authorities.
pub(super) fn connect(fields: &Fields<'_>) -> Vec<ConnectMatch> {
    let Some(value) = fields.value("connect") else { return Vec::new() };
    let texts = fields.texts("connect");
    if texts.is_empty() && value.value.as_array().is_some_and(|list| list.is_empty()) {
        let help = "list what a CONNECT may name, such as \"db.internal:5432\", or take the key out";
        fields.sink.local(value.span, &value.path, format!("{} is empty", value.path), help);
    }
    for key in FOREIGN.into_iter().filter(|key| fields.has(key)) {
        let found =
            format!("{} and {}: a CONNECT names an authority and nothing else", value.path, fields.path_of(key));
        fields.sink.local(fields.key_span(key), &fields.path_of(key), found, "keep one of them, in a route of its own");
    }
    texts.into_iter().filter_map(|text| authority(fields, text)).collect()
}

fn authority(fields: &Fields<'_>, text: At<String>) -> Option<ConnectMatch> {
    let split = text.value.rsplit_once(':').filter(|(host, _)| host.starts_with('[') || !host.contains(':'));
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|&port| port > 0 && !digits.starts_with('+'));
    let Some((name, port)) = split.and_then(|(host, digits)| Some((host.to_owned(), port(digits)?))) else {
        let found = format!("\"{}\" is not HOST:PORT", shorten(&text.value));
        fields.refuse(&text, found, "write both, such as \"db.internal:5432\" or \"*.internal:443\"");
        return None;
    };
    let host = host(fields, At { value: name, ..text })?;
    Some(ConnectMatch { host, port })
}

/// Whether tunnels can lead to every pool of the service, since failover may send them to any: bytes go as they are, so
/// that TLS in them is the client's own.
pub(super) fn check(fields: &Fields<'_>, service: &ServiceSpec) {
    let secure = |pool: &&PoolSpec| pool.origins.iter().any(|origin| origin.protocol == Protocol::Https);
    for pool in service.pools.iter().filter(secure) {
        let path = format!("{}.match.connect", fields.path);
        let found = format!("{path}: pool \"{}\" of service \"{}\" has https endpoints", pool.name, service.name);
        let help = "weir speaks no TLS in a tunnel, its ends do: write those endpoints as \"http://HOST:PORT\", in a \
                    service of their own";
        fields.sink.whole(fields.span_at(&["match", "connect"]), &path, found, help);
    }
}
