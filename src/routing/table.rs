//! The route table: finds the one route of a request. It knows routes and the canonical head, not services or pools:
//! whoever builds it says what their names mean.
//!
//! # Precedence
//!
//! The first difference decides (Gateway API `HTTPRouteRule`, with `priority` put before it and regular expressions
//! placed, since the Gateway API leaves them to the implementation):
//!
//! 1. higher `priority`
//! 2. exact host, then the longest wildcard, then any host
//! 3. exact path, then the longest prefix, then a regular expression, then every path (none given, or `/`)
//! 4. a method condition
//! 5. more header conditions, 6. more query conditions, 7. more cookie conditions, 8. a client network condition
//! 9. first in the file
//!
//! # Search
//!
//! Every (route, host) pair has its rank in that order. Pairs are grouped by host and, within a host, by the first
//! segment that their path must have. The answer is the lowest rank that holds among the few groups that the request can
//! reach, so thousands of routes cost about as much as one, and one catch-all costs next to nothing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use super::matcher::{Matcher, PathRule};
use crate::model::{Head, HostMatch, PathMatch, RouteSpec};

/// A route as the request path uses it.
#[derive(Debug)]
pub struct Route {
    /// What the file says.
    pub spec: RouteSpec,
    /// The service, by the index that the table's builder gave.
    pub service: usize,
    /// The pool, when the route names one, by the index that the table's builder gave.
    pub pool: Option<usize>,
    matcher: Matcher,
}

/// All routes of a snapshot, in order of precedence.
#[derive(Debug)]
pub struct Table {
    routes: Box<[Route]>,
    any: Group,
    exact: HashMap<Box<str>, Group>,
    /// By suffix with its leading dot.
    wildcard: HashMap<Box<str>, Group>,
    reads_paths: bool,
}

/// The routes of one host, each list by rising rank.
#[derive(Debug, Default)]
struct Group {
    general: Vec<Candidate>,
    by_segment: HashMap<Box<str>, Vec<Candidate>>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    rank: u32,
    route: u32,
}

/// Precedence, lowest first. Everything that is better when larger is reversed.
type Key = (Reverse<i32>, HostKey, PathKey, Counts, usize);
type HostKey = (u8, Reverse<usize>);
type PathKey = (u8, Reverse<usize>);
type Counts = Reverse<(bool, usize, usize, usize, bool)>;

// === impl Table ===

impl Table {
    /// Builds the table. `resolve` turns the names in a route into the service's and the pool's index; it is called once
    /// per route, in the order of `routes`.
    pub fn new(routes: &[RouteSpec], resolve: impl Fn(&RouteSpec) -> (usize, Option<usize>)) -> Self {
        let mut unordered: Vec<Option<Route>> = Vec::with_capacity(routes.len());
        let mut pairs: Vec<(Key, Option<HostMatch>)> = Vec::with_capacity(routes.len());
        for (index, spec) in routes.iter().enumerate() {
            let (service, pool) = resolve(spec);
            let route = Route { spec: spec.clone(), service, pool, matcher: Matcher::new(&spec.matches) };
            if spec.matches.hosts.is_empty() {
                pairs.push((key(&route, None, index), None));
            }
            for host in spec.matches.hosts.iter().map(lower) {
                pairs.push((key(&route, Some(&host), index), Some(host)));
            }
            unordered.push(Some(route));
        }
        pairs.sort_by_key(|(key, _)| *key);

        let tells_paths = |path: &PathMatch| !matches!(path, PathMatch::Prefix(prefix) if prefix == "/");
        let reads_paths = routes.iter().any(|spec| spec.matches.path.as_ref().is_some_and(tells_paths));
        let mut table = Self {
            routes: Box::default(),
            any: Group::default(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            reads_paths,
        };
        let mut place: Vec<Option<u32>> = vec![None; routes.len()];
        let mut ordered: Vec<Route> = Vec::with_capacity(routes.len());
        for (rank, ((.., index), host)) in (0..).zip(pairs) {
            if let Some(route) = unordered[index].take() {
                place[index] = Some(ordered.len() as u32);
                ordered.push(route);
            }
            if let Some(route) = place[index] {
                table.group(host).add(Candidate { rank, route }, ordered[route as usize].matcher.path());
            }
        }
        table.routes = ordered.into();
        table
    }

    fn group(&mut self, host: Option<HostMatch>) -> &mut Group {
        match host {
            None => &mut self.any,
            Some(HostMatch::Exact(host)) => self.exact.entry(host.into()).or_default(),
            Some(HostMatch::Suffix(suffix)) => self.wildcard.entry(suffix.into()).or_default(),
        }
    }

    /// The route of a request from `client`; none: no route matches.
    #[inline]
    pub fn find<'t>(&'t self, head: &Head, client: IpAddr) -> Option<&'t Route> {
        self.find_index(head, client).and_then(|index| self.routes.get(index))
    }

    /// As [`Table::find`], as a position within [`Table::routes`].
    #[inline]
    pub fn find_index(&self, head: &Head, client: IpAddr) -> Option<usize> {
        let mut best = None;
        if !self.exact.is_empty() || !self.wildcard.is_empty() {
            self.find_by_host(head, client, &mut best);
        }
        self.any.find(&self.routes, head, client, &mut best);
        best.map(|found| found.route as usize)
    }

    /// Whether any route tells paths apart, so that a path which can be read two ways could get around it.
    pub fn reads_paths(&self) -> bool {
        self.reads_paths
    }

    fn find_by_host(&self, head: &Head, client: IpAddr, best: &mut Option<Candidate>) {
        let host = head.host();
        // `example.com.` is the same name, fully qualified.
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(group) = self.exact.get(host) {
            group.find(&self.routes, head, client, best);
        }
        if self.wildcard.is_empty() {
            return;
        }
        for (dot, _) in host.match_indices('.').filter(|(dot, _)| *dot > 0) {
            if let Some(group) = self.wildcard.get(&host[dot..]) {
                group.find(&self.routes, head, client, best);
            }
        }
    }

    /// Every route once, in order of precedence; a route with several hosts stands where its best host puts it.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

// === impl Group ===

impl Group {
    fn add(&mut self, candidate: Candidate, path: &PathRule) {
        let segment = match path {
            PathRule::Exact(path) | PathRule::Prefix(path) => first_segment(path),
            PathRule::Any | PathRule::Regex(_) => None,
        };
        match segment {
            Some(segment) => self.by_segment.entry(segment.into()).or_default().push(candidate),
            None => self.general.push(candidate),
        }
    }

    #[inline]
    fn find(&self, routes: &[Route], head: &Head, client: IpAddr, best: &mut Option<Candidate>) {
        if !self.by_segment.is_empty()
            && let Some(list) = first_segment(head.path()).and_then(|segment| self.by_segment.get(segment))
        {
            first_that_holds(list, routes, head, client, best);
        }
        first_that_holds(&self.general, routes, head, client, best);
    }
}

/// Improves `best` by the first candidate that holds and ranks below it.
#[inline]
fn first_that_holds(list: &[Candidate], routes: &[Route], head: &Head, client: IpAddr, best: &mut Option<Candidate>) {
    let limit = best.map_or(u32::MAX, |found| found.rank);
    let mut better = list.iter().take_while(|candidate| candidate.rank < limit);
    if let Some(found) = better.find(|candidate| routes[candidate.route as usize].matcher.holds(head, client)) {
        *best = Some(*found);
    }
}

/// What stands between the first slash and the next; none for a path that does not start with one.
fn first_segment(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('/')?;
    Some(rest.split_once('/').map_or(rest, |(segment, _)| segment))
}

fn lower(host: &HostMatch) -> HostMatch {
    match host {
        HostMatch::Exact(host) => HostMatch::Exact(host.trim_end_matches('.').to_ascii_lowercase()),
        HostMatch::Suffix(suffix) => HostMatch::Suffix(suffix.trim_end_matches('.').to_ascii_lowercase()),
    }
}

fn key(route: &Route, host: Option<&HostMatch>, index: usize) -> Key {
    let matches = &route.spec.matches;
    let host = match host {
        Some(HostMatch::Exact(_)) => (0, Reverse(0)),
        Some(HostMatch::Suffix(suffix)) => (1, Reverse(suffix.len())),
        None => (2, Reverse(0)),
    };
    let path = match route.matcher.path() {
        PathRule::Exact(_) => (0, Reverse(0)),
        PathRule::Prefix(prefix) => (1, Reverse(prefix.len())),
        PathRule::Regex(_) => (2, Reverse(0)),
        PathRule::Any => (3, Reverse(0)),
    };
    let (headers, query, cookies) = (matches.headers.len(), matches.query.len(), matches.cookies.len());
    let counts = (!matches.methods.is_empty(), headers, query, cookies, !matches.networks.is_empty());
    (Reverse(route.spec.priority), host, path, Reverse(counts), index)
}
