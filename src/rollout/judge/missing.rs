//! Why a gate says nothing yet, in words that fit the requests that people see.

use super::Asked;
use super::gate::Around;

/// Nothing can be compared; what was seen before that, if anything.
pub(super) fn alone(seen: Option<&String>) -> String {
    let seen = seen.map(|seen| format!("; before that {seen}")).unwrap_or_default();
    format!("only one of the two has a share, so there is nothing to compare{seen}")
}

/// Why an error gate has scored no request.
pub(super) fn unscored(around: &Around<'_>) -> String {
    let settle_s = around.policy.settle.as_secs_f64();
    match around.asked {
        Asked { placed: 0, named: 0 } => "no request of the candidate yet".into(),
        Asked { placed: 0, named } => {
            format!("no request that the weights sent there yet; {named} others do not count")
        }
        Asked { placed, .. } => {
            format!("{placed} requests, none scored yet: the first {settle_s} s after a change do not count")
        }
    }
}

/// Why a gate about caches has scored no answer; `left_ms` of its time to warm up are left.
pub(super) fn unsaid(around: &Around<'_>, left_ms: u64) -> String {
    let placed = around.asked.placed;
    match () {
        () if placed == 0 => unscored(around),
        () if left_ms > 0 => format!("the cache may warm up for {} s more", left_ms.div_ceil(1000)),
        () => {
            format!("{placed} requests, and no answer that counts says what a cache did (Cache-Status, X-Cache, Age)")
        }
    }
}

/// Why a latency gate has timed no request.
pub(super) fn untimed(around: &Around<'_>) -> String {
    let (placed, policy) = (around.asked.placed, around.policy);
    if placed == 0 {
        return unscored(around);
    }
    let (settle_s, warm_s, warm) = (policy.settle.as_secs_f64(), policy.warm_up.as_secs_f64(), policy.warm_up_requests);
    format!(
        "{placed} requests, none timed yet: the first {settle_s} s after a change, and instances that warm up \
         ({warm_s} s and {warm} requests), do not count"
    )
}
