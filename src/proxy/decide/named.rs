//! What names a pool outright, at any weight: a direct path, the override header, a rollout's cohort. Pure.

use std::net::IpAddr;

use crate::model::rollout::CohortMatch;
use crate::model::{Direct, Head};
use crate::routing::matcher::contains;
use crate::switchboard::snapshot::{Cohort, Service, Snapshot};

/// The pool that a path such as `/canary/x` names, when its service has direct paths.
pub(in crate::proxy) fn direct_path(snapshot: &Snapshot, route: Option<usize>, path: &str) -> Option<(usize, usize)> {
    let named = |service: &Service| {
        let pools = service.pools.iter();
        pools.into_iter().position(|pool| {
            path.strip_prefix(pool.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    match route {
        Some(route) => {
            let index = snapshot.table.routes()[route].service;
            let service = &snapshot.services[index];
            (service.spec.direct != Direct::Off).then(|| named(service)).flatten().map(|pool| (index, pool))
        }
        // No route covers the prefix itself; the first service with such a pool is meant.
        None => snapshot.services.iter().enumerate().find_map(|(index, service)| {
            (service.spec.direct != Direct::Off).then(|| named(service)).flatten().map(|pool| (index, pool))
        }),
    }
}

/// The pool that the override header names, when this client may use it.
pub(in crate::proxy) fn overridden(service: &Service, head: &Head, client: IpAddr) -> Option<usize> {
    let policy = &service.spec.pool_override;
    if policy.token.is_none() && policy.networks.is_empty() {
        return None;
    }
    let wanted = head.value(&policy.header)?;
    let shown = head.value("x-weir-override-token");
    let by_token = policy.token.as_ref().zip(shown).is_some_and(|(token, shown)| {
        use subtle::ConstantTimeEq;
        bool::from(token.as_bytes().ct_eq(shown))
    });
    if !by_token && !contains(&policy.networks, client) {
        return None;
    }
    service.pools.iter().position(|pool| pool.name.as_bytes() == wanted)
}

/// The pool of the cohort, when the request has every header of it.
pub(in crate::proxy) fn in_cohort(cohort: &Cohort, head: &Head) -> Option<usize> {
    let has = |it: &CohortMatch| {
        let shown = head.value(&it.header);
        shown.is_some_and(|shown| it.value.as_ref().is_none_or(|value| value.as_bytes() == shown))
    };
    (!cohort.matches.is_empty() && cohort.matches.iter().all(has)).then_some(cohort.pool)
}
