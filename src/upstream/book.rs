//! What every name stands for: the last good answers, and what an error, an empty answer or another name does to them.
//!
//! Pure: replies and the time go in, addresses come out. Rules:
//!
//! - An answer replaces what was known of its family (A or AAAA).
//! - An error (no reply, SERVFAIL, refused) keeps the last good answer for as long as the errors last.
//! - "No such name" and "no such record" keep it for [`HOLD_MS`], then it is gone. When the other family has an
//!   answer, the name is there and the records of this family go at once.
//! - A kept address yields to another name that now answers with it: on a container network a freed address is given to
//!   the next container, and a kept one would turn stable into canary or the other way. After a single error that may
//!   be a lost datagram, so an address kept for errors yields after [`YIELD_FAILURES`]. Loopback addresses are never
//!   reassigned and never yield.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::gate::mixed;

/// How long a name that is gone keeps its addresses. Thirty seconds: HAProxy's `hold`, longer than a container needs
/// to be created again.
pub(crate) const HOLD_MS: u64 = 30_000;

/// Addresses per name; more are ignored. Four times what a large compose service has.
pub(crate) const ADDRESSES_MAX: usize = 64;

/// Errors in a row after which a kept address yields to another name.
const YIELD_FAILURES: u32 = 3;

/// Time until the next look at a name when there is no time to live to go by: about a second.
const WAIT_BLIND: Duration = Duration::from_secs(1);

/// The time to live above which Docker's name server is not believed: it always says 600.
const DOCKER_TTL_MAX: u32 = 60;

/// What a name server said about one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// These addresses, for so many seconds.
    Found {
        /// At least one.
        addrs: Vec<IpAddr>,
        /// Time to live, seconds.
        ttl: u32,
    },
    /// No such name, or no such record.
    Absent,
    /// No usable reply.
    Failed(String),
}

/// The last good answers of every name.
#[derive(Debug, Default)]
pub(crate) struct Book {
    names: HashMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    v4: Family,
    v6: Family,
    /// Lookups that came to an end, good or bad.
    lookups: u64,
    /// Why the last lookup found nothing; said once in the log.
    problem: Option<String>,
}

#[derive(Debug, Default)]
struct Family {
    addrs: Vec<IpAddr>,
    /// Whether `addrs` is what the last reply said.
    fresh: bool,
    absent_since_ms: Option<u64>,
    failures: u32,
}

/// What a lookup changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Some name has other addresses now.
    pub(crate) addresses: bool,
    /// The name began to find nothing (true) or found something again (false).
    pub(crate) failing: Option<bool>,
}

/// When to look again: the time to live within `bounds`, about a second after an error, up to a tenth later by `draw`.
pub(crate) fn wait(ttl: Option<u32>, docker: bool, bounds: &RangeInclusive<Duration>, draw: u64) -> Duration {
    let believed = ttl.filter(|ttl| !(docker && *ttl > DOCKER_TTL_MAX));
    let wait =
        believed.map_or(WAIT_BLIND, |ttl| Duration::from_secs(ttl.into()).min(*bounds.end()).max(*bounds.start()));
    wait + wait.mul_f64(0.1 * (mixed(draw) >> 11) as f64 / (1u64 << 53) as f64)
}

/// The time to live of both families together; none when something is missing or failed.
pub(crate) fn ttl(v4: &Reply, v6: &Reply) -> Option<u32> {
    match (v4, v6) {
        (Reply::Found { ttl: a, .. }, Reply::Found { ttl: b, .. }) => Some(*a.min(b)),
        (Reply::Found { ttl, .. }, Reply::Absent) | (Reply::Absent, Reply::Found { ttl, .. }) => Some(*ttl),
        _ => None,
    }
}

/// Why neither family has an answer; none when one has.
fn problem(v4: &Reply, v6: &Reply) -> Option<String> {
    match (v4, v6) {
        (Reply::Found { .. }, _) | (_, Reply::Found { .. }) => None,
        (Reply::Failed(reason), _) | (_, Reply::Failed(reason)) => Some(reason.clone()),
        (Reply::Absent, Reply::Absent) => Some("no such name".into()),
    }
}

// === impl Book ===

impl Book {
    /// Begins to keep a name. False when it is already kept.
    pub(crate) fn add(&mut self, host: &str) -> bool {
        let new = !self.names.contains_key(host);
        self.names.entry(host.to_owned()).or_default();
        new
    }

    /// Forgets a name.
    pub(crate) fn remove(&mut self, host: &str) {
        self.names.remove(host);
    }

    /// Its addresses, in a stable order: IPv4 first, each family sorted.
    pub(crate) fn addresses(&self, host: &str) -> Vec<IpAddr> {
        self.names.get(host).map(Entry::addresses).unwrap_or_default()
    }

    /// Why the last lookup found nothing, if it did not.
    pub(crate) fn problem(&self, host: &str) -> Option<&str> {
        self.names.get(host)?.problem.as_deref()
    }

    /// Whether a name was looked up at least once, or is not kept.
    pub(crate) fn looked_up(&self, host: &str) -> bool {
        self.names.get(host).is_none_or(|entry| entry.lookups > 0)
    }

    /// Whether every name was looked up at least once.
    pub(crate) fn all_looked_up(&self) -> bool {
        self.names.values().all(|entry| entry.lookups > 0)
    }

    /// Notes what a lookup of both families said.
    pub(crate) fn note(&mut self, host: &str, v4: &Reply, v6: &Reply, now_ms: u64) -> Change {
        let Some(entry) = self.names.get_mut(host) else { return Change::default() };
        let before = entry.addresses();
        let found = |reply: &Reply| matches!(reply, Reply::Found { .. });
        entry.v4.note(v4, found(v6), now_ms);
        entry.v6.note(v6, found(v4), now_ms);
        entry.lookups += 1;
        let problem = problem(v4, v6);
        let turned = (problem.is_some() != entry.problem.is_some()).then_some(problem.is_some());
        entry.problem = problem;
        let moved = entry.addresses() != before;
        let yielded = self.yield_reassigned();
        Change { addresses: moved || yielded, failing: turned }
    }

    /// Drops kept addresses that another name now answers with.
    fn yield_reassigned(&mut self) -> bool {
        let fresh: Vec<(String, IpAddr)> = self
            .names
            .iter()
            .flat_map(|(host, entry)| {
                let families = [&entry.v4, &entry.v6].into_iter().filter(|family| family.fresh);
                families.flat_map(|family| &family.addrs).map(|addr| (host.clone(), *addr))
            })
            .collect();
        let mut yielded = false;
        for (host, entry) in &mut self.names {
            for family in [&mut entry.v4, &mut entry.v6] {
                if !family.yields() {
                    continue;
                }
                let taken = |addr: &IpAddr| fresh.iter().any(|(other, theirs)| other != host && theirs == addr);
                let had = family.addrs.len();
                family.addrs.retain(|addr| addr.is_loopback() || !taken(addr));
                yielded |= family.addrs.len() != had;
            }
        }
        yielded
    }
}

// === impl Entry ===

impl Entry {
    fn addresses(&self) -> Vec<IpAddr> {
        self.v4.addrs.iter().chain(&self.v6.addrs).copied().take(ADDRESSES_MAX).collect()
    }
}

// === impl Family ===

impl Family {
    fn note(&mut self, reply: &Reply, other_found: bool, now_ms: u64) {
        self.fresh = matches!(reply, Reply::Found { .. });
        match reply {
            Reply::Found { addrs, .. } => {
                let mut addrs = addrs.clone();
                addrs.sort_unstable();
                addrs.dedup();
                addrs.truncate(ADDRESSES_MAX);
                *self = Self { addrs, fresh: true, absent_since_ms: None, failures: 0 };
            }
            Reply::Absent => {
                self.failures = 0;
                let since = *self.absent_since_ms.get_or_insert(now_ms);
                if other_found || now_ms >= since + HOLD_MS {
                    self.addrs.clear();
                }
            }
            Reply::Failed(_) => self.failures = self.failures.saturating_add(1),
        }
    }

    fn yields(&self) -> bool {
        !self.fresh && (self.absent_since_ms.is_some() || self.failures >= YIELD_FAILURES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addrs: &[&str]) -> Reply {
        let addrs = addrs.iter().map(|addr| addr.parse().expect("an address")).collect();
        Reply::Found { addrs, ttl: 1 }
    }

    fn failed() -> Reply {
        Reply::Failed("server failure".into())
    }

    fn book(hosts: &[&str]) -> Book {
        let mut book = Book::default();
        for host in hosts {
            assert!(book.add(host));
        }
        book
    }

    fn texts(book: &Book, host: &str) -> Vec<String> {
        book.addresses(host).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_a_and_aaaa_answer_is_kept_in_a_stable_order() {
        let mut book = book(&["a"]);
        let change = book.note("a", &found(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]), &found(&["fd00::1"]), 0);
        assert_eq!(texts(&book, "a"), ["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert!(change.addresses);
        let change = book.note("a", &found(&["10.0.0.1", "10.0.0.2"]), &found(&["fd00::1"]), 1);
        assert_eq!(change, Change::default());
    }

    #[test]
    fn errors_keep_the_last_good_answer_for_as_long_as_they_last() {
        let mut book = book(&["a"]);
        book.note("a", &found(&["10.0.0.1"]), &Reply::Absent, 0);
        let change = book.note("a", &failed(), &failed(), 1);
        assert_eq!(change, Change { addresses: false, failing: Some(true) });
        book.note("a", &failed(), &failed(), 10_000_000);
        assert_eq!(texts(&book, "a"), ["10.0.0.1"]);
        let change = book.note("a", &found(&["10.0.0.2"]), &failed(), 10_000_001);
        assert_eq!(change, Change { addresses: true, failing: Some(false) });
        assert_eq!(texts(&book, "a"), ["10.0.0.2"]);
    }

    #[test]
    fn an_error_of_one_family_keeps_that_family_only() {
        let mut book = book(&["a"]);
        book.note("a", &found(&["10.0.0.1"]), &found(&["fd00::1"]), 0);
        book.note("a", &found(&["10.0.0.9"]), &failed(), 1);
        assert_eq!(texts(&book, "a"), ["10.0.0.9", "fd00::1"]);
        book.note("a", &found(&["10.0.0.9"]), &Reply::Absent, 2);
        assert_eq!(texts(&book, "a"), ["10.0.0.9"]);
    }

    #[test]
    fn a_name_that_is_gone_keeps_its_addresses_for_thirty_seconds() {
        let mut book = book(&["a"]);
        book.note("a", &found(&["10.0.0.1"]), &Reply::Absent, 0);
        book.note("a", &Reply::Absent, &Reply::Absent, 5);
        book.note("a", &Reply::Absent, &Reply::Absent, 5 + HOLD_MS - 1);
        assert_eq!(texts(&book, "a"), ["10.0.0.1"]);
        assert!(book.note("a", &Reply::Absent, &Reply::Absent, 5 + HOLD_MS).addresses);
        assert!(texts(&book, "a").is_empty());
    }

    #[test]
    fn a_kept_address_yields_to_the_name_that_now_answers_with_it() {
        let mut book = book(&["stable", "canary"]);
        book.note("stable", &found(&["10.0.0.1"]), &Reply::Absent, 0);
        book.note("canary", &found(&["10.0.0.2"]), &Reply::Absent, 0);
        book.note("canary", &Reply::Absent, &Reply::Absent, 1);
        assert_eq!(texts(&book, "canary"), ["10.0.0.2"]);
        assert!(book.note("stable", &found(&["10.0.0.2"]), &Reply::Absent, 2).addresses);
        assert!(texts(&book, "canary").is_empty());
    }

    #[test]
    fn one_lost_datagram_makes_no_address_yield_and_three_do() {
        let mut book = book(&["a", "alias"]);
        book.note("a", &found(&["10.0.0.1"]), &Reply::Absent, 0);
        // Absent AAAA records were seen, so only the A family is asked about here.
        book.note("alias", &found(&["10.0.0.1"]), &failed(), 0);
        for failures in 1..=3 {
            book.note("alias", &failed(), &failed(), failures);
            assert_eq!(texts(&book, "alias").is_empty(), failures == 3);
        }
    }

    #[test]
    fn names_that_share_a_loopback_address_never_yield() {
        let mut book = book(&["a", "b"]);
        book.note("a", &found(&["127.0.0.1"]), &Reply::Absent, 0);
        book.note("b", &found(&["127.0.0.1"]), &Reply::Absent, 0);
        for now in 1..100 {
            book.note("b", &failed(), &failed(), now);
        }
        assert_eq!(texts(&book, "b"), ["127.0.0.1"]);
    }

    #[test]
    fn more_addresses_than_the_limit_are_ignored_and_always_the_same_ones() {
        let mut book = book(&["a"]);
        let mut many: Vec<String> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
        let reply = |many: &[String]| found(&many.iter().map(String::as_str).collect::<Vec<_>>());
        book.note("a", &reply(&many), &found(&["fd00::1"]), 0);
        assert_eq!(book.addresses("a").len(), ADDRESSES_MAX);
        many.reverse();
        assert!(!book.note("a", &reply(&many), &found(&["fd00::1"]), 1).addresses);
    }

    #[test]
    fn names_are_looked_up_by_their_time_to_live_within_bounds() {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(30);
        let seconds = |ttl, docker| wait(ttl, docker, &bounds, 5).as_secs_f64();
        let near = |value: f64, expected: f64| (expected..=expected * 1.1).contains(&value);
        assert!(near(seconds(Some(0), false), 1.0));
        assert!(near(seconds(Some(7), false), 7.0));
        assert!(near(seconds(Some(3_600), false), 30.0));
        assert!(near(seconds(None, false), 1.0));
        assert!(near(seconds(Some(600), true), 1.0));
        assert!(near(seconds(Some(20), true), 20.0));
        let wide = Duration::from_millis(5_500)..=Duration::from_secs(600);
        assert!(near(wait(Some(2), false, &wide, 5).as_secs_f64(), 5.5));
        assert!(near(wait(Some(3_600), false, &wide, 5).as_secs_f64(), 600.0));
    }
}
