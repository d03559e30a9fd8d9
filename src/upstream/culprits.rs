//! Where a pool's errors come from: the endpoints and the routes with the largest parts of them. For people; no verdict
//! hangs on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use crate::model::Fault;
use crate::telemetry::meter::{EndpointShard, PoolMeter};

/// A pool's errors by endpoint and by route, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    endpoints: BTreeMap<String, u64>,
    routes: BTreeMap<String, u64>,
}

/// A part of a pool's errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// What it is a part by.
    pub kind: CulpritKind,
    /// The endpoint's address, or the route's name.
    pub name: String,
    /// Its errors.
    pub errors: u64,
    /// Its part of all errors of the pool in that time, `0.0..=1.0`.
    pub part: f64,
}

/// What errors are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CulpritKind {
    /// An endpoint of the pool.
    Endpoint,
    /// A route that requests came by.
    Route,
}

/// The largest parts of what went wrong between `earlier` and `now`, readings of the same pool: at most `most`
/// endpoints and then at most `most` routes, the largest first.
pub fn culprits(now: &Parts, earlier: &Parts, most: usize) -> Vec<Culprit> {
    let mut found = largest(CulpritKind::Endpoint, &now.endpoints, &earlier.endpoints, most);
    found.extend(largest(CulpritKind::Route, &now.routes, &earlier.routes, most));
    found
}

/// Culprits that are remembered of each kind.
pub const KEPT_MAX: usize = 64;

/// Adds newer parts to older ones; the largest first, no more than [`KEPT_MAX`] of each kind.
pub fn add(sum: &mut Vec<Culprit>, newer: Vec<Culprit>) {
    for culprit in newer {
        match sum.iter_mut().find(|known| known.kind == culprit.kind && known.name == culprit.name) {
            Some(known) => known.errors += culprit.errors,
            None => sum.push(culprit),
        }
    }
    sum.sort_by_key(|culprit| (culprit.kind == CulpritKind::Route, std::cmp::Reverse(culprit.errors)));
    for kind in [CulpritKind::Endpoint, CulpritKind::Route] {
        let total: u64 = sum.iter().filter(|it| it.kind == kind).map(|it| it.errors).sum();
        sum.iter_mut().filter(|it| it.kind == kind).for_each(|it| it.part = it.errors as f64 / total.max(1) as f64);
        let mut kept = 0;
        sum.retain(|it| {
            kept += usize::from(it.kind == kind);
            it.kind != kind || kept <= KEPT_MAX
        });
    }
}

fn largest(
    kind: CulpritKind,
    now: &BTreeMap<String, u64>,
    earlier: &BTreeMap<String, u64>,
    most: usize,
) -> Vec<Culprit> {
    let since = |(name, errors): (&String, &u64)| {
        let errors = errors.saturating_sub(earlier.get(name).copied().unwrap_or(0));
        (errors > 0).then(|| (name.clone(), errors))
    };
    let mut found: Vec<(String, u64)> = now.iter().filter_map(since).collect();
    let total: u64 = found.iter().map(|(_, errors)| errors).sum();
    found.sort_by_key(|(_, errors)| std::cmp::Reverse(*errors));
    let culprit = |(name, errors)| Culprit { kind, name, errors, part: errors as f64 / total as f64 };
    found.into_iter().take(most).map(culprit).collect()
}

// === impl Parts ===

impl Parts {
    /// What a pool and its endpoints have counted so far; any thread.
    pub fn of(pool: &PoolMeter, endpoints: &[Arc<Endpoint>]) -> Self {
        let mut parts = Self::default();
        for endpoint in endpoints {
            let errors = endpoint.meter.sum(errors);
            *parts.endpoints.entry(endpoint.id.addr.to_string()).or_default() += errors;
        }
        pool.iter().for_each(|shard| shard.routes.add_to(&mut parts.routes));
        parts
    }
}

/// Failed attempts, and answers of 500 or above that are no failed attempt.
fn errors(shard: &EndpointShard) -> u64 {
    let failed = Fault::ALL.iter().filter(|fault| fault.blames_pool());
    let failed: u64 = failed.map(|fault| shard.faults[fault.index()].value()).sum();
    let answered = (500..600).filter(|code| !(502..=504).contains(code));
    failed + answered.map(|code| shard.codes[code - 100].value()).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_parts_of_the_new_errors_come_first() {
        let parts = |endpoints: &[(&str, u64)], routes: &[(&str, u64)]| {
            let map = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
            Parts { endpoints: map(endpoints), routes: map(routes) }
        };
        let earlier = parts(&[("a", 1_000), ("b", 5)], &[("home", 7)]);
        let now = parts(&[("a", 1_001), ("b", 9), ("c", 0)], &[("home", 7), ("api", 5)]);
        let found = culprits(&now, &earlier, 5);
        let told: Vec<_> = found.iter().map(|it| (it.kind, &*it.name, it.errors, it.part)).collect();
        assert_eq!(
            told,
            [
                (CulpritKind::Endpoint, "b", 4, 0.8),
                (CulpritKind::Endpoint, "a", 1, 0.2),
                (CulpritKind::Route, "api", 5, 1.0)
            ]
        );
        assert_eq!(culprits(&now, &now, 5), []);
        assert_eq!(culprits(&now, &earlier, 1).len(), 2);
    }

    #[test]
    fn parts_add_up_and_the_list_has_an_end() {
        let one = |name: &str, errors| Culprit { kind: CulpritKind::Endpoint, name: name.into(), errors, part: 1.0 };
        let mut sum = vec![one("a", 3)];
        add(&mut sum, vec![one("b", 5), one("a", 2), Culprit { kind: CulpritKind::Route, ..one("home", 10) }]);
        let told: Vec<_> = sum.iter().map(|it| (&*it.name, it.errors, it.part)).collect();
        assert_eq!(told, [("a", 5, 0.5), ("b", 5, 0.5), ("home", 10, 1.0)]);
        add(&mut sum, (0..200).map(|n| one(&n.to_string(), 1)).collect());
        assert_eq!((sum.len(), &*sum[0].name), (KEPT_MAX + 1, "a"));
    }
}
