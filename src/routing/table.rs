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
//! A CONNECT has no path, and asks for a tunnel: it finds only routes that list its authority, and other requests never
//! find those. Of several, the same order decides.
//!
//! # Search
//!
//! Every (route, host) pair has its rank in that order. Pairs are grouped by host and, within a host, by the first
//! segment that their path must have. The answer is the lowest rank that holds among the few groups that the request
//! can reach, so thousands of routes cost about as much as one, and one catch-all costs next to nothing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use super::matcher::{Matcher, PathRule};
use crate::model::{ConnectMatch, Head, HostMatch, PathMatch, RouteSpec};

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
    /// Those for CONNECT, by authority; a wildcard by suffix and port, with its leading dot.
    connect: HashMap<Box<str>, Vec<Candidate>>,
    reads_paths: bool,
}

/// Where a route is looked for.
enum Place {
    Any,
    Host(HostMatch),
    Connect(ConnectMatch),
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
    /// Builds the table. `resolve` turns the names in a route into the service's and the pool's index; it is called
    /// once per route, in the order of `routes`.
    pub fn new(routes: &[RouteSpec], resolve: impl Fn(&RouteSpec) -> (usize, Option<usize>)) -> Self {
        let mut unordered: Vec<Option<Route>> = Vec::with_capacity(routes.len());
        let mut pairs: Vec<(Key, Place)> = Vec::with_capacity(routes.len());
        for (index, spec) in routes.iter().enumerate() {
            let (service, pool) = resolve(spec);
            let route = Route { spec: spec.clone(), service, pool, matcher: Matcher::new(&spec.matches) };
            for connect in &spec.matches.connect {
                let connect = ConnectMatch { host: lower(&connect.host), port: connect.port };
                pairs.push((key(&route, Some(&connect.host), index), Place::Connect(connect)));
            }
            // Nothing but a CONNECT finds a route for CONNECT, whatever else it asks.
            let hosts = Some(&spec.matches.hosts).filter(|_| spec.matches.connect.is_empty());
            if hosts.is_some_and(Vec::is_empty) {
                pairs.push((key(&route, None, index), Place::Any));
            }
            for host in hosts.into_iter().flatten().map(lower) {
                pairs.push((key(&route, Some(&host), index), Place::Host(host)));
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
            connect: HashMap::new(),
            reads_paths,
        };
        let mut place: Vec<Option<u32>> = vec![None; routes.len()];
        let mut ordered: Vec<Route> = Vec::with_capacity(routes.len());
        for (rank, ((.., index), at)) in (0..).zip(pairs) {
            if let Some(route) = unordered[index].take() {
                place[index] = Some(ordered.len() as u32);
                ordered.push(route);
            }
            if let Some(route) = place[index] {
                let (candidate, path) = (Candidate { rank, route }, ordered[route as usize].matcher.path());
                match at {
                    Place::Any => table.any.add(candidate, path),
                    Place::Host(host) => table.group(host).add(candidate, path),
                    Place::Connect(connect) => table.connect.entry(authority(&connect)).or_default().push(candidate),
                }
            }
        }
        table.routes = ordered.into();
        table
    }

    fn group(&mut self, host: HostMatch) -> &mut Group {
        match host {
            HostMatch::Exact(host) => self.exact.entry(host.into()).or_default(),
            HostMatch::Suffix(suffix) => self.wildcard.entry(suffix.into()).or_default(),
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
        if head.is_connect() {
            return self.find_connect(head, client);
        }
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

    /// Whether any route allows a CONNECT.
    pub fn allows_connect(&self) -> bool {
        !self.connect.is_empty()
    }

    #[cold]
    fn find_connect(&self, head: &Head, client: IpAddr) -> Option<usize> {
        let host = head.host();
        let port: u16 = head.authority()[host.len()..].strip_prefix(':')?.parse().ok()?;
        let host = host.strip_suffix('.').unwrap_or(host);
        let authority = format!("{host}:{port}");
        let mut best = None;
        let suffixes = host.match_indices('.').map(|(dot, _)| dot).filter(|dot| *dot > 0);
        // What begins with a dot is a suffix there.
        for at in std::iter::once(0).filter(|_| !host.starts_with('.')).chain(suffixes) {
            if let Some(list) = self.connect.get(&authority[at..]) {
                first_that_holds(list, &self.routes, head, client, &mut best);
            }
        }
        best.map(|found| found.route as usize)
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

/// Where a route for CONNECT is found: no host begins with a dot but that of a suffix.
fn authority(connect: &ConnectMatch) -> Box<str> {
    let (HostMatch::Exact(host) | HostMatch::Suffix(host)) = &connect.host;
    format!("{host}:{}", connect.port).into()
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

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::model::{FieldMatch, Matches, Name, PathMatch, Rewrite, ValueMatch};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn route(matches: Matches) -> RouteSpec {
        let service = Name::new("engine").expect("a name");
        RouteSpec { name: String::new(), service, pool: None, matches, rewrite: Rewrite::Keep, priority: 0 }
    }

    fn exact(name: &str, value: &str) -> FieldMatch {
        let value = ValueMatch::Exact { value: value.into(), case_sensitive: true };
        FieldMatch { name: name.into(), value }
    }

    fn regex(name: &str, pattern: &str) -> FieldMatch {
        FieldMatch { name: name.into(), value: ValueMatch::Regex(Regex::new(pattern).expect("a pattern")) }
    }

    fn table(specs: &[RouteSpec]) -> Table {
        let names: Vec<RouteSpec> =
            specs.iter().enumerate().map(|(i, spec)| RouteSpec { name: i.to_string(), ..spec.clone() }).collect();
        Table::new(&names, |spec| (spec.name.parse().unwrap_or(usize::MAX), None))
    }

    /// The position in the file of the route that is found.
    fn found(table: &Table, head: &Head) -> Option<usize> {
        table.find(head, CLIENT).map(|route| route.service)
    }

    fn get(authority: &str, target: &str) -> Head {
        Head::describe("GET", authority, target, [])
    }

    fn matches_one(matches: Matches, head: &Head) -> bool {
        table(&[route(matches)]).find(head, CLIENT).is_some()
    }

    fn path(path: PathMatch) -> Matches {
        Matches { path: Some(path), ..Matches::default() }
    }

    #[test]
    fn an_empty_table_finds_nothing_and_a_catch_all_everything() {
        assert!(table(&[]).find(&get("a", "/"), CLIENT).is_none());
        let all = table(&[route(Matches::default())]);
        for target in ["/", "/x?y", "*", ""] {
            assert_eq!(found(&all, &get("", target)), Some(0), "{target}");
        }
    }

    #[test]
    fn a_header_rule_goes_before_the_prefix_that_every_path_has() {
        // The routes of the example configuration.
        let beta = Matches { headers: vec![exact("x-beta-user", "true")], ..Matches::default() };
        let table = table(&[route(path(PathMatch::Prefix("/".into()))), route(beta)]);
        let head = Head::describe("GET", "a", "/", [("x-beta-user", b"true".as_slice())]);
        assert_eq!((found(&table, &head), found(&table, &get("a", "/"))), (Some(1), Some(0)));
        assert_eq!(table.routes().iter().map(|route| route.service).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn precedence_is_that_of_the_gateway_api() {
        let host = |host: HostMatch| Matches { hosts: vec![host], ..Matches::default() };
        let mut urgent = route(Matches::default());
        urgent.priority = 1;
        let mut late = route(host(HostMatch::Exact("a.b.test".into())));
        late.priority = -1;
        let method = Matches { methods: vec!["GET".into()], ..Matches::default() };
        let headers = |n: usize| Matches { headers: vec![exact("h", "1"); n], ..Matches::default() };
        let query = Matches { query: vec![exact("q", "1")], ..Matches::default() };
        let cookie = Matches { cookies: vec![exact("c", "1")], ..Matches::default() };
        let network = Matches { networks: vec!["192.0.2.0/24".parse().expect("a network")], ..Matches::default() };
        let best_first = [
            urgent,
            route(host(HostMatch::Exact("a.b.test".into()))),
            route(host(HostMatch::Suffix(".b.test".into()))),
            route(host(HostMatch::Suffix(".test".into()))),
            route(path(PathMatch::Exact("/x/y".into()))),
            route(path(PathMatch::Prefix("/x/y".into()))),
            route(path(PathMatch::Prefix("/x/".into()))),
            route(path(PathMatch::Regex(Regex::new("/x/[a-z]").expect("a pattern")))),
            route(method),
            route(headers(2)),
            route(headers(1)),
            route(query),
            route(cookie),
            route(network),
            route(Matches::default()),
            late,
        ];
        let fields = [("h", b"1".as_slice()), ("cookie", b"c=1".as_slice())];
        let head = Head::describe("GET", "a.b.test:8080", "/x/y?q=1", fields);
        for from in 0..best_first.len() {
            let mut rest = best_first[from..].to_vec();
            assert_eq!(found(&table(&rest), &head), Some(0), "route {from} is not before those after it");
            rest.reverse();
            assert_eq!(
                found(&table(&rest), &head),
                Some(rest.len() - 1),
                "route {from} depends on its place in the file"
            );
        }
    }

    #[test]
    fn the_first_of_two_equal_routes_is_taken() {
        let specs = [route(path(PathMatch::Prefix("/x".into()))), route(path(PathMatch::Prefix("/x/".into())))];
        assert_eq!(found(&table(&specs), &get("a", "/x/y")), Some(0));
    }

    #[test]
    fn a_prefix_ends_at_a_segment_border_and_is_matched_byte_for_byte() {
        for prefix in ["/canary", "/canary/"] {
            let canary = path(PathMatch::Prefix(prefix.into()));
            for (target, expected) in [
                ("/canary", true),
                ("/canary/", true),
                ("/canary/x", true),
                ("/canary?x", true),
                ("/canaryfoo", false),
                ("/canar", false),
                ("/Canary", false),
                ("/%63anary", false),
                ("//canary", false),
                ("/x/../canary", false),
                ("/canary../x", false),
                ("/canary/../x", true),
                ("/x?/canary", false),
                ("/", false),
                ("*", false),
            ] {
                assert_eq!(matches_one(canary.clone(), &get("a", target)), expected, "{target}");
            }
        }
    }

    #[test]
    fn expressions_must_match_the_whole_text() {
        let pattern = |pattern: &str| path(PathMatch::Regex(Regex::new(pattern).expect("a pattern")));
        for (expression, target, expected) in [
            ("/a|/ab", "/ab", true),
            ("/a", "/ab", false),
            ("b", "/ab", false),
            ("/.*", "/ab?c", true),
            ("^/a$", "/a", true),
            ("(?i)/A", "/a", true),
            ("/a\n?", "/a", true),
        ] {
            assert_eq!(matches_one(pattern(expression), &get("a", target)), expected, "{expression} on {target}");
        }
    }

    #[test]
    fn hosts_match_without_port_case_and_final_dot() {
        let one = |host: HostMatch| Matches { hosts: vec![host], ..Matches::default() };
        for (authority, by_name, by_suffix) in [
            ("a.test", true, false),
            ("A.Test:80", true, false),
            ("a.test.", true, false),
            ("b.a.test", false, true),
            ("c.b.a.test:8080", false, true),
            ("xa.test", false, false),
            (".a.test", false, false),
            ("", false, false),
            ("test", false, false),
            ("a.test.evil", false, false),
            ("[::1]:80", false, false),
        ] {
            let head = get(authority, "/");
            assert_eq!(matches_one(one(HostMatch::Exact("A.test".into())), &head), by_name, "{authority}");
            assert_eq!(matches_one(one(HostMatch::Suffix(".a.test".into())), &head), by_suffix, "{authority}");
        }
    }

    #[test]
    fn a_connect_finds_what_lists_its_authority_and_nothing_else_does() {
        let connect = |list: &[(HostMatch, u16)]| Matches {
            connect: list.iter().map(|(host, port)| ConnectMatch { host: host.clone(), port: *port }).collect(),
            ..Matches::default()
        };
        let (exact, suffix) = (|host: &str| HostMatch::Exact(host.into()), |host: &str| HostMatch::Suffix(host.into()));
        let known = Matches {
            headers: vec![super::tests::exact("x-known", "yes")],
            ..connect(&[(suffix(".internal"), 443), (exact("[::1]"), 1)])
        };
        let routes = table(&[
            route(Matches::default()),
            route(Matches { methods: vec!["CONNECT".into()], ..Matches::default() }),
            route(connect(&[(suffix(".internal"), 443), (exact("Db.internal"), 5432)])),
            route(connect(&[(suffix(".b.internal"), 443)])),
            route(connect(&[(exact("c.b.internal."), 443)])),
            route(known),
        ]);
        for (authority, expected) in [
            ("db.internal:5432", Some(2)),
            ("DB.internal:05432", Some(2)),
            ("db.internal.:5432", Some(2)),
            ("db.internal:443", Some(2)),
            ("a.b.internal:443", Some(3)),
            ("c.b.internal:443", Some(4)),
            ("db.internal:5433", None),
            ("a.db.internal:5432", None),
            ("internal:443", None),
            (".internal:443", None),
            ("internal.evil:443", None),
            ("db.internal", None),
            ("db.internal:", None),
            ("db.internal:65979", None),
            ("[::1]:1", None),
            ("", None),
        ] {
            let head = Head::describe("CONNECT", authority, "", []);
            assert_eq!(found(&routes, &head), expected, "{authority}");
            assert_eq!(found(&routes, &get(authority, "/")), Some(0), "{authority}");
            assert_eq!(found(&routes, &Head::describe("OPTIONS", authority, "*", [])), Some(0), "{authority}");
        }
        let shown = Head::describe("CONNECT", "[::1]:1", "", [("x-known", b"yes".as_slice())]);
        assert_eq!(found(&routes, &shown), Some(5));
        let shown = Head::describe("CONNECT", "db.internal:443", "", [("x-known", b"yes".as_slice())]);
        assert_eq!(found(&routes, &shown), Some(5), "more header conditions go first");
        let plain = table(&[route(Matches::default())]);
        assert!(routes.allows_connect() && !plain.allows_connect());
        assert_eq!(found(&plain, &Head::describe("CONNECT", "db.internal:443", "", [])), None);
    }

    #[test]
    fn values_are_compared_as_written_or_without_case() {
        let no_case = |name: &str| {
            let value = ValueMatch::Exact { value: "Yes".into(), case_sensitive: false };
            FieldMatch { name: name.into(), value }
        };
        let present = FieldMatch { name: "h".into(), value: ValueMatch::Present };
        let header = |rule: FieldMatch| Matches { headers: vec![rule], ..Matches::default() };
        for (value, same, without_case, by_expression) in [
            ("Yes", true, true, true),
            ("yes", false, true, false),
            ("Yes!", false, false, false),
            ("", false, false, false),
        ] {
            let head = Head::describe("GET", "a", "/", [("h", value.as_bytes()), ("h", b"Yes".as_slice())]);
            assert_eq!(matches_one(header(exact("h", "Yes")), &head), same, "{value}");
            assert_eq!(matches_one(header(no_case("h")), &head), without_case, "{value}");
            assert_eq!(matches_one(header(regex("h", "Y.s")), &head), by_expression, "{value}");
            assert!(matches_one(header(present.clone()), &head));
        }
        assert!(!matches_one(header(present), &get("a", "/")));
        let broken = Head::describe("GET", "a", "/", [("h", b"\xff".as_slice())]);
        assert!(!matches_one(header(regex("h", "(?s).*")), &broken));
    }

    #[test]
    fn query_parameters_are_compared_decoded_and_the_first_decides() {
        for (query, expected) in [
            ("q=a%20b", true),
            ("q=a+b", true),
            ("%71=a+b", true),
            ("x&q=a+b&q=c", true),
            ("&&q=a+b", true),
            ("q=c&q=a+b", false),
            ("q=a%2520b", false),
            ("q=a b", true),
            ("q=a%2", false),
            ("q", false),
            ("", false),
            ("q=a+b;x", false),
            ("Q=a+b", false),
        ] {
            let matches = Matches { query: vec![exact("q", "a b")], ..Matches::default() };
            assert_eq!(matches_one(matches, &get("a", &format!("/?{query}"))), expected, "{query}");
        }
        let percent = Matches { query: vec![exact("q", "%2")], ..Matches::default() };
        assert!(matches_one(percent, &get("a", "/?q=%2")));
    }

    #[test]
    fn client_networks_hold_mapped_addresses_too() {
        let matches = Matches { networks: vec!["192.0.2.0/24".parse().expect("a network")], ..Matches::default() };
        let table = table(&[route(matches)]);
        for (client, expected) in
            [("192.0.2.9", true), ("::ffff:192.0.2.9", true), ("192.0.3.1", false), ("::1", false)]
        {
            let client = client.parse().expect("an address");
            assert_eq!(table.find(&get("a", "/"), client).is_some(), expected, "{client}");
        }
    }

    /// What the table must answer, said as plainly as possible: every route, every host, the better one stays.
    fn naive(specs: &[RouteSpec], head: &Head) -> Option<usize> {
        let host_class = |host: &HostMatch| match host {
            HostMatch::Exact(name) => (head.host() == name).then_some(1_000),
            HostMatch::Suffix(suffix) => {
                (head.host().len() > suffix.len() && head.host().ends_with(suffix.as_str())).then_some(suffix.len())
            }
        };
        let path_class = |path: &PathMatch| match path {
            PathMatch::Exact(path) => (head.path() == path).then_some(2_000),
            PathMatch::Prefix(prefix) if prefix == "/" => Some(0),
            PathMatch::Prefix(prefix) => (head.path() == prefix || head.path().starts_with(&format!("{prefix}/")))
                .then_some(1_000 + prefix.len()),
            PathMatch::Regex(regex) => regex.is_match(head.path()).then_some(500),
        };
        let holds = |fields: &[FieldMatch], value: &dyn Fn(&str) -> Option<Vec<u8>>| {
            fields.iter().all(|field| value(&field.name).as_deref() == Some(b"1"))
        };
        let mut best: Option<(Vec<i64>, usize)> = None;
        for (index, spec) in specs.iter().enumerate() {
            let matches = &spec.matches;
            let host =
                if matches.hosts.is_empty() { Some(0) } else { matches.hosts.iter().filter_map(host_class).max() };
            let path = matches.path.as_ref().map_or(Some(0), path_class);
            let query = |name: &str| {
                let pairs = head.query().unwrap_or_default().split('&').map(|pair| pair.split_once('='));
                pairs.flatten().find(|(found, _)| *found == name).map(|(_, value)| value.as_bytes().to_vec())
            };
            let rest = (matches.methods.is_empty() || matches.methods.iter().any(|method| method == head.method()))
                && holds(&matches.headers, &|name| head.value(name).map(<[u8]>::to_vec))
                && holds(&matches.query, &query)
                && holds(&matches.cookies, &|name| head.cookie(name).map(<[u8]>::to_vec))
                && (matches.networks.is_empty() || matches.networks.iter().any(|network| network.contains(&CLIENT)));
            let (Some(host), Some(path), true) = (host, path, rest) else { continue };
            let counts = [matches.headers.len(), matches.query.len(), matches.cookies.len()];
            let mut rank =
                vec![i64::from(spec.priority), host as i64, path as i64, i64::from(!matches.methods.is_empty())];
            rank.extend(counts.map(|count| count as i64));
            rank.push(i64::from(!matches.networks.is_empty()));
            if best.as_ref().is_none_or(|(other, _)| rank.cmp(other) == Ordering::Greater) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn any_route() -> impl Strategy<Value = RouteSpec> {
        let host = prop_oneof![
            prop::sample::select(vec!["a.test", "b.a.test", "test"]).prop_map(|name| HostMatch::Exact(name.into())),
            prop::sample::select(vec![".a.test", ".test", ".b.a.test"]).prop_map(|name| HostMatch::Suffix(name.into())),
        ];
        let path = prop_oneof![
            prop::sample::select(vec!["/x", "/x/y", "/", "/xy"]).prop_map(|path| PathMatch::Exact(path.into())),
            prop::sample::select(vec!["/x", "/x/y", "/", "/xy"]).prop_map(|path| PathMatch::Prefix(path.into())),
            prop::sample::select(vec!["^/x.*$", "^/[a-z]+/y$"])
                .prop_map(|pattern| PathMatch::Regex(Regex::new(pattern).expect("a pattern"))),
        ];
        let rules =
            || prop::collection::vec(prop::sample::select(vec!["p", "q"]).prop_map(|name| exact(name, "1")), 0..3);
        let methods = prop::collection::vec(prop::sample::select(vec!["GET".to_owned(), "PUT".to_owned()]), 0..2);
        let networks = prop::collection::vec(prop::sample::select(vec!["192.0.2.0/24", "10.0.0.0/8"]), 0..2);
        let networks = networks.prop_map(|all| all.iter().map(|text| text.parse().expect("a network")).collect());
        let matches =
            (prop::collection::vec(host, 0..3), prop::option::of(path), methods, rules(), rules(), rules(), networks);
        (matches, -1..=1).prop_map(|((hosts, path, methods, headers, query, cookies, networks), priority)| {
            let matches = Matches { hosts, path, methods, headers, query, cookies, networks, connect: Vec::new() };
            RouteSpec { priority, ..route(matches) }
        })
    }

    fn any_head() -> impl Strategy<Value = Head> {
        let authority = prop::sample::select(vec!["a.test", "b.a.test", "c.b.a.test:80", "test", "other"]);
        let path = prop::sample::select(vec!["/", "/x", "/x/y", "/x/y/z", "/xy", "/z/y", "*"]);
        let query = prop::sample::select(vec!["", "?p=1", "?q=1&p=1", "?p=2&p=1"]);
        let field =
            prop::sample::select(vec![("p", "1"), ("q", "1"), ("p", "2"), ("cookie", "p=1; q=1"), ("cookie", "q=1")]);
        (authority, path, query, prop::sample::select(vec!["GET", "PUT"]), prop::collection::vec(field, 0..4)).prop_map(
            |(authority, path, query, method, fields)| {
                let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
                Head::describe(method, authority, &format!("{path}{query}"), fields)
            },
        )
    }

    proptest! {
        #[test]
        fn the_table_finds_what_a_linear_search_finds(
            specs in prop::collection::vec(any_route(), 0..24), heads in prop::collection::vec(any_head(), 8),
        ) {
            let table = table(&specs);
            prop_assert_eq!(table.routes().len(), specs.len());
            for head in heads {
                prop_assert_eq!(found(&table, &head), naive(&specs, &head), "{} {}", head.authority(), head.target());
            }
        }

        #[test]
        fn no_request_can_panic(
            specs in prop::collection::vec(any_route(), 0..8), authority in "[ -~]{0,20}", target in "[!-~]{0,30}",
            value in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let fields = [("p", value.as_slice()), ("cookie", value.as_slice())];
            let _ = table(&specs).find(&Head::describe("GET", &authority, &target, fields), CLIENT);
        }
    }
}
