//! What rate limits remember, in the form in which one process hands it to the next: for every limit what makes the
//! hashes of its keys, and its buckets that are not full, with the time until they are. No key is told, only its hash.
//!
//! It goes by the name of the limit. Another rate, burst or size in the next process is what another one after a reload
//! is ([`rate`](super::rate), [`table`](super::table)); other parts of the key make other hashes, and what came finds
//! nobody.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::limit::RateLimit;
use super::secret::Secret;

/// Most buckets that are handed over, of all limits together: as many as one of the usual size has (`keys_max`).
pub const BUCKETS_MAX: usize = 65_536;

/// Most limits, so that what comes is bounded; a file with more has them begin full.
pub const LIMITS_MAX: usize = 256;

/// What one limit remembers, or a part of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The name of the limit.
    pub limit: String,
    /// What makes the hashes.
    pub secret: Secret,
    /// By the hash of a key, the nanoseconds until its bucket is full.
    pub buckets: Vec<(u64, u64)>,
}

/// What these limits remember now. Beyond [`BUCKETS_MAX`] the emptiest buckets of each are told, in equal parts.
pub fn remembered(limits: &[RateLimit]) -> Vec<Remembered> {
    let now = Instant::now();
    let limits = &limits[..limits.len().min(LIMITS_MAX)];
    let of_each = BUCKETS_MAX / limits.len().max(1);
    let of = |limit: &RateLimit| {
        let mut buckets = limit.live.left(now);
        if buckets.len() > of_each {
            buckets.select_nth_unstable_by_key(of_each, |&(_, left_ns)| std::cmp::Reverse(left_ns));
            buckets.truncate(of_each);
        }
        Remembered { limit: limit.spec.name.to_string(), secret: limit.live.secret(), buckets }
    };
    limits.iter().map(of).collect()
}

/// Takes over what limits of the same names remembered, before they have counted anything.
pub fn take_over(limits: &[RateLimit], remembered: &[Remembered]) {
    for it in remembered {
        if let Some(limit) = named(limits, it) {
            limit.live.set_secret(it.secret);
            limit.live.lower(&it.buckets, Instant::now());
        }
    }
}

/// Takes note of what they remember meanwhile: of each bucket the emptier one holds.
pub fn catch_up(limits: &[RateLimit], remembered: &Remembered) {
    // Hashes of another secret say nothing: that limit came after the rest.
    if let Some(limit) = named(limits, remembered).filter(|limit| limit.live.secret() == remembered.secret) {
        limit.live.lower(&remembered.buckets, Instant::now());
    }
}

fn named<'a>(limits: &'a [RateLimit], remembered: &Remembered) -> Option<&'a RateLimit> {
    limits.iter().find(|limit| limit.spec.name.as_str() == remembered.limit)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::{Head, KeyPart, Name, RateLimitSpec};
    use crate::throttle::limit::{Asked, Live, ask};

    fn limit(name: &str, burst: u64, keys_max: usize) -> RateLimit {
        let spec = RateLimitSpec {
            name: Name::new(name).expect("a name"),
            service: None,
            route: None,
            key: vec![KeyPart::Client],
            rate: 1,
            per: Duration::from_secs(3600),
            burst,
            keys_max,
            shadow: false,
        };
        RateLimit::new(spec, None, None, Arc::new(Live::new(keys_max, 1)))
    }

    /// How many of `n` requests come through.
    fn passed(limit: &RateLimit, client: u32, n: usize) -> usize {
        let head = Head::describe("GET", "a", "/", std::iter::empty());
        let client = IpAddr::from(client.to_be_bytes());
        let asked = Asked { head: &head, client, service: 0, route: None, at: Some(Instant::now()), worker: 0 };
        (0..n).filter(|_| ask(std::slice::from_ref(limit), &asked).is_ok()).count()
    }

    #[test]
    fn a_bucket_holds_in_the_next_process_what_it_held_in_this_one() {
        let (old, new) = ([limit("a", 5, 1024), limit("gone", 5, 1024)], [limit("b", 5, 1024), limit("a", 5, 700)]);
        assert_eq!((passed(&old[0], 1, 9), passed(&old[0], 2, 3)), (5, 3));
        let text = serde_json::to_string(&remembered(&old)).expect("plain data");
        take_over(&new, &serde_json::from_str::<Vec<Remembered>>(&text).expect("the same"));
        // What the old one lets through meanwhile is told afterwards, and never gives anything back.
        assert_eq!((passed(&old[0], 2, 1), passed(&new[1], 3, 4), passed(&old[0], 3, 1)), (1, 4, 1));
        remembered(&old).iter().for_each(|it| catch_up(&new, it));
        assert_eq!([1, 2, 3, 4].map(|client| passed(&new[1], client, 9)), [0, 1, 1, 5]);
        assert_eq!(passed(&new[0], 1, 9), 5, "another limit");
    }

    #[test]
    fn of_more_than_are_handed_over_the_emptiest_are() {
        // Large enough that none is forgotten.
        let old = [limit("a", 5, 16 * BUCKETS_MAX), limit("b", 5, 7)];
        (0..BUCKETS_MAX as u32).for_each(|client| assert_eq!(passed(&old[0], client, 1), 1));
        (0..50).for_each(|client| assert_eq!(passed(&old[0], client, 9), 4));
        let handed = remembered(&old);
        assert_eq!(handed[0].buckets.len(), BUCKETS_MAX / 2);
        let new = [limit("a", 5, 16 * BUCKETS_MAX), limit("b", 5, 7)];
        take_over(&new, &handed);
        assert!((0..50).all(|client| passed(&new[0], client, 1) == 0));
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", remembered(&[limit("a", 1, 7)]));
        assert!(shown.contains("Secret(..)"), "{shown}");
    }
}
