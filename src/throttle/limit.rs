//! A rate limit at work: which bucket a request belongs to, and what is counted of it.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rate::Rate;
use super::secret::Secret;
use super::table::Table;
use crate::model::{Head, KeyPart, RateLimitSpec};
use crate::telemetry::count::{Count, Sharded};

/// Live state of a rate limit, by its name: it outlives snapshots.
#[derive(Debug)]
pub struct Live {
    table: Table,
    /// What moments are counted from.
    epoch: Instant,
    /// What became of requests.
    pub counts: Sharded<Counts>,
}

/// What one worker counts of a limit.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that it let through.
    pub allowed: Count,
    /// Requests that it refused.
    pub refused: Count,
    /// Requests that it would have refused, had it not been a shadow.
    pub shadow: Count,
}

/// A rate limit within a snapshot.
#[derive(Debug)]
pub struct RateLimit {
    /// What the file says.
    pub spec: RateLimitSpec,
    /// Index of the service whose requests it counts.
    pub service: Option<usize>,
    /// Index of the route whose requests it counts, in the route table.
    pub route: Option<usize>,
    /// Its buckets.
    pub live: Arc<Live>,
    rate: Rate,
}

/// A request before the limits.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its head.
    pub head: &'a Head,
    /// The client, as trusted proxies tell it.
    pub client: IpAddr,
    /// Index of the service that it is for.
    pub service: usize,
    /// Index of the route that it came by.
    pub route: Option<usize>,
    /// The moment; none: it is described, not sent, and spends nothing.
    pub at: Option<Instant>,
    /// The worker that counts.
    pub worker: usize,
}

/// A request over a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The name of the limit.
    pub limit: Box<str>,
    /// Requests that a full bucket holds.
    pub burst: u64,
    /// Time in which an empty bucket fills, in whole seconds.
    pub window_s: u64,
    /// Seconds until the next request is there, rounded up.
    pub wait_s: u64,
}

/// Asks every limit that counts this request, in the order of the file. A request that one of them refuses costs
/// nothing at the others.
pub fn ask(limits: &[RateLimit], asked: &Asked<'_>) -> Result<(), Box<Excess>> {
    let Some(at) = asked.at else { return Ok(()) };
    for (index, limit) in limits.iter().enumerate() {
        if !limit.counts(asked) {
            continue;
        }
        let counts = limit.live.counts.of(asked.worker);
        match limit.take(asked, at) {
            Ok(()) => counts.allowed.add(1),
            Err(_) if limit.spec.shadow => counts.shadow.add(1),
            Err(wait) => {
                counts.refused.add(1);
                limits[..index].iter().filter(|it| it.counts(asked) && !it.spec.shadow).for_each(|it| it.undo(asked));
                return Err(Box::new(limit.excess(wait)));
            }
        }
    }
    Ok(())
}

// === impl Live ===

impl Live {
    pub(super) fn new(keys_max: usize, workers: usize) -> Self {
        Self { table: Table::new(keys_max), epoch: Instant::now(), counts: Sharded::new(workers) }
    }

    /// How many keys have a bucket that is not full.
    pub fn keys(&self) -> u64 {
        self.table.held(self.ns(Instant::now()))
    }

    /// How many buckets were forgotten before they were full again, because there was no room for all keys.
    pub fn forgotten(&self) -> u64 {
        self.table.forgotten()
    }

    /// What makes the hashes of keys.
    pub(super) fn secret(&self) -> Secret {
        self.table.secret()
    }

    /// Has them be made by another one, while nothing was counted yet.
    pub(super) fn set_secret(&self, secret: Secret) {
        self.table.set_secret(secret);
    }

    /// By the hash of a key, the nanoseconds until its bucket is full; those that are full are left out.
    pub(super) fn left(&self, at: Instant) -> Vec<(u64, u64)> {
        self.table.left(self.ns(at))
    }

    /// Has these buckets be full no sooner than that.
    pub(super) fn lower(&self, left: &[(u64, u64)], at: Instant) {
        let now_ns = self.ns(at);
        left.iter().for_each(|&(key, left_ns)| self.table.lower(key, left_ns, now_ns));
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.table.room()
    }

    /// A moment as the buckets know it; an hour after their beginning, so that what is full then was full before.
    #[inline]
    fn ns(&self, at: Instant) -> u64 {
        at.checked_duration_since(self.epoch).map_or(0, |since| since.as_nanos() as u64) + 3_600_000_000_000
    }
}

// === impl RateLimit ===

impl RateLimit {
    /// A limit of a snapshot with its live state.
    pub fn new(spec: RateLimitSpec, service: Option<usize>, route: Option<usize>, live: Arc<Live>) -> Self {
        let rate = Rate::new(spec.rate, spec.per, spec.burst);
        Self { spec, service, route, live, rate }
    }

    #[inline]
    fn counts(&self, asked: &Asked<'_>) -> bool {
        self.service.is_none_or(|service| service == asked.service)
            && self.route.is_none_or(|route| Some(route) == asked.route)
    }

    fn take(&self, asked: &Asked<'_>, at: Instant) -> Result<(), Duration> {
        self.live.table.take(self.key(asked), self.live.ns(at), self.rate)
    }

    #[cold]
    fn undo(&self, asked: &Asked<'_>) {
        self.live.table.give_back(self.key(asked), self.rate);
    }

    /// The hash of what tells the request's bucket from others. A request without the header or cookie has a bucket by
    /// its client's address: leaving it out is no way round the limit, and shuts nobody else out.
    fn key(&self, asked: &Asked<'_>) -> u64 {
        let mut hasher = self.live.table.secret().build_hasher();
        for key in &self.spec.key {
            let value = match key {
                KeyPart::Client => None,
                KeyPart::Header(name) => asked.head.value(name),
                KeyPart::Cookie(name) => asked.head.cookie(name),
                KeyPart::Path => Some(asked.head.path().as_bytes()),
            };
            // A first byte that no other kind of part has, so that no two lists of parts read the same.
            match (value, asked.client.to_canonical()) {
                (Some(value), _) => {
                    hasher.write_u64(1 << 56 | value.len() as u64);
                    hasher.write(value);
                }
                (None, IpAddr::V4(address)) => hasher.write_u64(4 << 56 | u64::from(address.to_bits())),
                (None, IpAddr::V6(address)) => {
                    hasher.write_u64(6 << 56);
                    hasher.write_u64((address.to_bits() >> 64) as u64);
                }
            }
        }
        hasher.finish()
    }

    fn excess(&self, wait: Duration) -> Excess {
        let whole_s = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        Excess {
            limit: self.spec.name.as_str().into(),
            burst: self.spec.burst,
            window_s: whole_s(self.rate.span()).max(1),
            wait_s: whole_s(wait).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    fn limit(name: &str, key: &[KeyPart], burst: u64, service: Option<usize>) -> RateLimit {
        let spec = RateLimitSpec {
            name: Name::new(name).expect("a name"),
            service: None,
            route: None,
            key: key.to_vec(),
            rate: 1,
            per: Duration::from_secs(90),
            burst,
            keys_max: 1024,
            shadow: false,
        };
        RateLimit::new(spec, service, None, Arc::new(Live::new(1024, 1)))
    }

    fn head(path: &str, fields: &[(&str, &str)]) -> Head {
        Head::describe("GET", "a", path, fields.iter().map(|&(name, value)| (name, value.as_bytes())))
    }

    fn asks(limits: &[RateLimit], head: &Head, client: &str) -> Result<(), Box<Excess>> {
        let client = client.parse().expect("an address");
        ask(limits, &Asked { head, client, service: 0, route: None, at: Some(Instant::now()), worker: 0 })
    }

    #[test]
    fn each_key_has_its_own_bucket() {
        let (plain, other) = (head("/a?x=1", &[]), head("/b", &[]));
        let keyed = |n: &str| head("/a?x=2", &[("x-key", n), ("cookie", "s=1; t=2")]);
        let one = |key: &[KeyPart]| [limit("one", key, 1, None)];
        let limits = one(&[KeyPart::Client]);
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok() && asks(&limits, &plain, "10.0.0.1").is_err());
        assert!(asks(&limits, &plain, "10.0.0.2").is_ok());
        assert!(asks(&limits, &plain, "::ffff:10.0.0.2").is_err(), "the same address");
        assert!(asks(&limits, &plain, "2001:db8::1").is_ok() && asks(&limits, &plain, "2001:db8::2").is_err());
        let limits = one(&[KeyPart::Path]);
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok() && asks(&limits, &keyed("1"), "10.0.0.2").is_err());
        assert!(asks(&limits, &other, "10.0.0.1").is_ok());
        let limits = one(&[KeyPart::Header("x-key".into())]);
        assert!(asks(&limits, &keyed("1"), "10.0.0.1").is_ok() && asks(&limits, &keyed("1"), "10.0.0.2").is_err());
        assert!(asks(&limits, &keyed("2"), "10.0.0.2").is_ok());
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok() && asks(&limits, &other, "10.0.0.1").is_err());
        let limits = one(&[KeyPart::Cookie("t".into()), KeyPart::Path]);
        assert!(asks(&limits, &keyed("1"), "10.0.0.1").is_ok() && asks(&limits, &keyed("2"), "10.0.0.2").is_err());
        let limits = one(&[]);
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok() && asks(&limits, &other, "10.0.0.2").is_err());
    }

    #[test]
    fn an_empty_bucket_says_how_long_rounded_up() {
        let limits = [limit("login", &[], 2, None)];
        let plain = head("/", &[]);
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok() && asks(&limits, &plain, "10.0.0.1").is_ok());
        let excess = asks(&limits, &plain, "10.0.0.1").expect_err("it is empty");
        assert_eq!((&*excess.limit, excess.burst, excess.window_s, excess.wait_s), ("login", 2, 180, 90));
    }

    #[test]
    fn what_one_limit_refuses_costs_nothing_at_the_others_and_a_shadow_refuses_nothing() {
        let mut limits = [limit("wide", &[], 2, None), limit("other", &[], 1, Some(7)), limit("close", &[], 1, None)];
        let plain = head("/", &[]);
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok());
        for _ in 0..5 {
            assert_eq!(&*asks(&limits, &plain, "10.0.0.1").expect_err("refused").limit, "close");
        }
        limits[2].spec.shadow = true;
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok());
        assert_eq!(&*asks(&limits, &plain, "10.0.0.1").expect_err("refused").limit, "wide");
        let shown = |limit: &RateLimit| {
            let counts = limit.live.counts.of(0);
            [counts.allowed.value(), counts.refused.value(), counts.shadow.value()]
        };
        assert_eq!((shown(&limits[0]), shown(&limits[2])), ([7, 1, 0], [1, 5, 1]));
        assert_eq!(shown(&limits[1]), [0; 3], "it counts another service");
    }

    #[test]
    fn who_only_describes_a_request_spends_nothing() {
        let limits = [limit("one", &[], 1, None)];
        let plain = head("/", &[]);
        let asked = Asked { head: &plain, client: [10, 0, 0, 1].into(), service: 0, route: None, at: None, worker: 0 };
        assert!((0..5).all(|_| ask(&limits, &asked).is_ok()));
        assert!(asks(&limits, &plain, "10.0.0.1").is_ok());
    }
}
