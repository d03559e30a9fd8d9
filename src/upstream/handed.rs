//! What was closed to requests, in the form in which one process hands it to the next: ejected endpoints and resting
//! pools, with the time that is left of it. What probes say is not handed over: the next process asks for itself.
//!
//! It goes by names and addresses as the files and the name servers have them; what the next process does not know, or
//! has no time left, is left out.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, StateKind};
use super::gate::{Ejection, Gate, Proof};
use super::pool::{Phase, PoolState};
use super::registry::Registry;

/// Most entries that are handed over; who has more ejected endpoints has other worries.
pub const HANDED_MAX: usize = 1024;

/// Longest rest that is taken over, an hour: nobody sets a longer one, and a wrong number must end by itself.
const LEFT_MS_MAX: u64 = 3_600_000;

/// Something that takes no requests for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The service.
    pub service: String,
    /// The pool.
    pub pool: String,
    /// The endpoint; none: the pool rests.
    pub endpoint: Option<Ejected>,
    /// Milliseconds until it may be tried.
    pub left_ms: u64,
}

/// An ejected endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ejected {
    /// The origin that it was found at.
    pub origin: String,
    /// Its address.
    pub address: String,
    /// Ejections in a row: the next one lasts accordingly.
    pub level: u32,
}

/// What is closed at `now_ms`, at most [`HANDED_MAX`].
pub fn closed<'a>(
    pools: impl Iterator<Item = &'a PoolState>,
    endpoints: impl Iterator<Item = &'a Endpoint>,
    now_ms: u64,
) -> Vec<Closed> {
    let rest = |pool: &PoolState| {
        let Phase::Resting { until_ms } = pool.phase() else { return None };
        let (service, name) = (pool.service.to_string(), pool.name.to_string());
        Some(Closed { service, pool: name, endpoint: None, left_ms: until_ms.saturating_sub(now_ms) })
    };
    let ejection = |endpoint: &Endpoint| {
        let StateKind::Ejected { until_ms } = endpoint.state_kind() else { return None };
        let id = &endpoint.id;
        let (origin, address) = (id.origin.to_string(), id.addr.to_string());
        let ejected = Ejected { origin, address, level: endpoint.level() };
        let (service, pool) = (id.service.to_string(), id.pool.to_string());
        Some(Closed { service, pool, endpoint: Some(ejected), left_ms: until_ms.saturating_sub(now_ms) })
    };
    pools.filter_map(rest).chain(endpoints.filter_map(ejection)).take(HANDED_MAX).collect()
}

/// Closes what was closed before; how much of it was found.
pub fn restore(registry: &Registry, closed: &[Closed], now_ms: u64) -> usize {
    let (pools, endpoints) = (registry.pools(), registry.endpoints());
    let of = |entry: &&Closed| {
        let until_ms = now_ms + entry.left_ms.min(LEFT_MS_MAX);
        match &entry.endpoint {
            _ if entry.left_ms == 0 => false,
            None => {
                let pool = pools.iter().find(|pool| *pool.service == entry.service && *pool.name == entry.pool);
                pool.map(|pool| pool.rest(until_ms)).is_some()
            }
            Some(ejected) => {
                let is = |endpoint: &&std::sync::Arc<Endpoint>| {
                    let id = &endpoint.id;
                    let named = *id.service == entry.service && *id.pool == entry.pool;
                    named && id.addr.to_string() == ejected.address && id.origin.to_string() == ejected.origin
                };
                endpoints.iter().find(is).is_some_and(|endpoint| endpoint.hold(until_ms, ejected.level, now_ms))
            }
        }
    };
    closed.iter().take(HANDED_MAX).filter(of).count()
}

// === impl Endpoint ===

impl Endpoint {
    /// Ejections in a row.
    pub fn level(&self) -> u32 {
        self.level.load(Ordering::Relaxed)
    }

    /// It was ejected in the process before this one, and is until then. False when it does not serve in any case.
    pub(crate) fn hold(&self, until_ms: u64, level: u32, now_ms: u64) -> bool {
        let seen = self.gate.load(Ordering::Acquire);
        let gate = Gate::unpack(seen);
        if gate.proof != Proof::Passed || !self.replace(seen, Gate { ejection: Ejection::Until(until_ms), ..gate }) {
            return false;
        }
        self.level.store(level, Ordering::Relaxed);
        self.since_ms.store(now_ms, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Breaker, Name, Origin, Protocol};
    use crate::upstream::endpoint::{Admission, EndpointId, Outcome};

    fn id(port: u16) -> EndpointId {
        let name = |text| Name::new(text).expect("a name");
        let origin = Origin { protocol: Protocol::Http1, host: "127.0.0.1".into(), port };
        let addr = origin.literal().expect("an address");
        EndpointId { service: name("engine"), pool: name("canary"), origin, addr }
    }

    #[test]
    fn what_was_ejected_stays_so_in_the_next_process_for_the_time_that_is_left() {
        let policy = Breaker { base_ejection: Duration::from_secs(20), failures: 1, ..Breaker::default() };
        let old = Registry::new(1);
        let endpoint = old.endpoint(&id(1));
        let _serving = old.endpoint(&id(2));
        endpoint.report(Outcome::Failed, 1_000, &policy, || false);
        let (name, service) = (id(1).pool, id(1).service);
        old.pool(&service, &name).rest(9_000);
        let handed = closed(old.pools().iter().map(|it| &**it), old.endpoints().iter().map(|it| &**it), 5_000);
        assert_eq!(handed.len(), 2, "{handed:?}");
        let text = serde_json::to_string(&handed).expect("plain data");
        let handed: Vec<Closed> = serde_json::from_str(&text).expect("the same");

        let new = Registry::new(1);
        let (same, other) = (new.endpoint(&id(1)), new.endpoint(&id(2)));
        let pool = new.pool(&service, &name);
        assert_eq!(restore(&new, &handed, 500), 2);
        assert_eq!((same.admission(600), other.admission(600)), (Admission::Refused, Admission::Serving));
        let left = handed[1].left_ms;
        assert!((16_000..=26_000).contains(&left), "{left}");
        assert_eq!((same.admission(500 + left), same.level()), (Admission::Trial, 1));
        assert_eq!(pool.phase(), Phase::Resting { until_ms: 4_500 });
        // The names are unknown, or the time is over.
        let strange = Closed { service: "other".into(), ..handed[0].clone() };
        assert_eq!(restore(&new, &[strange, Closed { left_ms: 0, ..handed[1].clone() }], 0), 0);
        let endless = Closed { left_ms: u64::MAX, ..handed[1].clone() };
        assert_eq!(restore(&Registry::new(1), std::slice::from_ref(&endless), 0), 0);
        restore(&new, &[endless], 0);
        assert_eq!(same.admission(LEFT_MS_MAX), Admission::Trial, "a wrong number ends by itself");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let strange = r#"[{"service":"a","pool":"b","endpoint":null,"left_ms":1,"more":2}]"#;
        assert!(serde_json::from_str::<Vec<Closed>>(strange).is_err());
    }
}
