//! What one route asks of a request, in the form in which it is asked: the cheapest question first. Hosts are not asked
//! here, because [`super::table`] finds routes by them.
//!
//! Everything is compared with the canonical head as it is forwarded:
//! - The **path** byte for byte, neither decoded nor normalised. A prefix ends at a segment border, so `/canary` and
//!   `/canary/` both match `/canary` and `/canary/x`, never `/canaryfoo`. A regular expression must match all of it.
//! - A **header** by the first field of its name, byte for byte or without ASCII case.
//! - A **query parameter** by the first pair of its name, split at `&`; name and value are compared percent-decoded,
//!   with `+` as a blank. An invalid escape stands for itself.
//! - A **cookie** by the first of its name, byte for byte, quotes kept.
//! - A **client** by its address; an IPv4-mapped address counts as IPv4.
//!
//! A regular expression over a value that is not UTF-8 does not match.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;

use crate::model::{FieldMatch, Head, Matches, PathMatch, ValueMatch};

/// The conditions of one route.
#[derive(Debug)]
pub(crate) struct Matcher {
    path: PathRule,
    methods: Box<[String]>,
    networks: Box<[IpNet]>,
    headers: Box<[FieldMatch]>,
    query: Box<[FieldMatch]>,
    cookies: Box<[FieldMatch]>,
    /// Nothing but the path is asked.
    path_only: bool,
}

/// A path condition with its prefix in the form that comparison wants.
#[derive(Debug)]
pub(crate) enum PathRule {
    /// No condition, or the prefix `/`, which every path has.
    Any,
    /// The whole path.
    Exact(String),
    /// Whole segments; without a slash at its end.
    Prefix(String),
    /// The whole path, by regular expression.
    Regex(Regex),
}

// === impl Matcher ===

impl Matcher {
    /// Prepares the conditions of `matches`, all but its hosts.
    pub(crate) fn new(matches: &Matches) -> Self {
        let whole = |fields: &[FieldMatch]| fields.iter().map(whole_field).collect::<Box<[_]>>();
        let mut matcher = Self {
            path: PathRule::new(matches.path.as_ref()),
            methods: matches.methods.clone().into(),
            networks: matches.networks.clone().into(),
            headers: whole(&matches.headers),
            query: whole(&matches.query),
            cookies: whole(&matches.cookies),
            path_only: false,
        };
        matcher.path_only = matcher.methods.is_empty()
            && matcher.networks.is_empty()
            && matcher.headers.is_empty()
            && matcher.query.is_empty()
            && matcher.cookies.is_empty();
        matcher
    }

    /// The path condition.
    pub(crate) fn path(&self) -> &PathRule {
        &self.path
    }

    /// Whether every condition holds.
    #[inline]
    pub(crate) fn holds(&self, head: &Head, client: IpAddr) -> bool {
        self.path.holds(head) && (self.path_only || self.rest_holds(head, client))
    }

    fn rest_holds(&self, head: &Head, client: IpAddr) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| method == head.method()))
            && (self.networks.is_empty() || contains(&self.networks, client))
            && self.headers.iter().all(|rule| head.value(&rule.name).is_some_and(|value| value_holds(rule, value)))
            && self.cookies.iter().all(|rule| head.cookie(&rule.name).is_some_and(|value| value_holds(rule, value)))
            && self.query.iter().all(|rule| parameter_holds(rule, head.query().unwrap_or_default()))
    }
}

/// Whether one of the networks holds the address; an IPv4-mapped address counts as IPv4.
pub fn contains(networks: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    networks.iter().any(|network| network.contains(&client))
}

// === impl PathRule ===

impl PathRule {
    fn new(path: Option<&PathMatch>) -> Self {
        match path {
            None => PathRule::Any,
            Some(PathMatch::Exact(path)) => PathRule::Exact(path.clone()),
            Some(PathMatch::Prefix(prefix)) => match prefix.trim_end_matches('/') {
                "" => PathRule::Any,
                prefix => PathRule::Prefix(prefix.into()),
            },
            Some(PathMatch::Regex(regex)) => PathRule::Regex(whole(regex)),
        }
    }

    #[inline]
    fn holds(&self, head: &Head) -> bool {
        match self {
            PathRule::Any => true,
            PathRule::Exact(path) => head.path() == path,
            PathRule::Prefix(prefix) => has_prefix(head.path(), prefix),
            PathRule::Regex(regex) => regex.is_match(head.path()),
        }
    }
}

/// Whether `path` lies under `prefix` by whole segments; `prefix` has no slash at its end.
pub(crate) fn has_prefix(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The expression tied to both ends of its text. An expression that cannot be wrapped (a comment that would swallow the
/// end, or one at the size limit) is kept as it is.
fn whole(regex: &Regex) -> Regex {
    Regex::new(&format!(r"\A(?:{})\z", regex.as_str())).unwrap_or_else(|_| regex.clone())
}

fn whole_field(field: &FieldMatch) -> FieldMatch {
    let value = match &field.value {
        ValueMatch::Regex(regex) => ValueMatch::Regex(whole(regex)),
        other => other.clone(),
    };
    FieldMatch { name: field.name.clone(), value }
}

fn value_holds(rule: &FieldMatch, found: &[u8]) -> bool {
    match &rule.value {
        ValueMatch::Exact { value, case_sensitive: true } => found == value.as_bytes(),
        ValueMatch::Exact { value, case_sensitive: false } => found.eq_ignore_ascii_case(value.as_bytes()),
        ValueMatch::Regex(regex) => std::str::from_utf8(found).is_ok_and(|found| regex.is_match(found)),
        ValueMatch::Present => true,
    }
}

/// Judges the first parameter of the rule's name; a pair without `=` has an empty value.
fn parameter_holds(rule: &FieldMatch, query: &str) -> bool {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(name, _)| *decoded(name) == *rule.name.as_bytes());
    found.is_some_and(|(_, value)| value_holds(rule, &decoded(value)))
}

/// Percent-decoded, with `+` as a blank; borrowed when there is nothing to decode.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        at += match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                3
            }
            (b'+', ..) => {
                out.push(b' ');
                1
            }
            _ => {
                out.push(byte);
                1
            }
        };
    }
    Cow::Owned(out)
}
