//! What limits traffic, as Prometheus text: what the rate limits did, and where caps were reached.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::switchboard::snapshot::Snapshot;
use crate::telemetry::names;
use crate::telemetry::text::Text;
use crate::throttle::gate::Cap;
use crate::throttle::limit::Counts;

/// Appends it.
pub(super) fn render(text: &mut Text, snapshot: &Snapshot) {
    limits(text, snapshot);
    caps(text, snapshot);
}

fn limits(text: &mut Text, snapshot: &Snapshot) {
    let limits = &snapshot.rate_limits;
    if limits.is_empty() {
        return;
    }
    text.family(&names::RATE_LIMITED);
    for limit in limits {
        let sum = |value: fn(&Counts) -> u64| limit.live.counts.sum(value);
        let mut one = |outcome, value| {
            text.count(&names::RATE_LIMITED, &[("limit", limit.spec.name.as_str()), ("outcome", outcome)], value);
        };
        one("allowed", sum(|counts| counts.allowed.value()));
        one("refused", sum(|counts| counts.refused.value()));
        one("shadow", sum(|counts| counts.shadow.value()));
    }
    text.family(&names::RATE_LIMIT_KEYS);
    for limit in limits {
        text.count(&names::RATE_LIMIT_KEYS, &[("limit", &limit.spec.name)], limit.live.keys());
    }
    text.family(&names::RATE_LIMIT_FORGOTTEN);
    for limit in limits {
        text.count(&names::RATE_LIMIT_FORGOTTEN, &[("limit", &limit.spec.name)], limit.live.forgotten());
    }
}

fn caps(text: &mut Text, snapshot: &Snapshot) {
    // A service's own cap has no pool.
    let capped: Vec<(&str, &str, &Cap)> = snapshot
        .services
        .iter()
        .flat_map(|service| {
            let own = service.cap.iter().map(|cap| (service.name.as_str(), "", cap));
            let pools = service.pools.iter().flat_map(|pool| pool.cap.iter().map(|cap| (pool.name.as_str(), cap)));
            own.chain(pools.map(|(pool, cap)| (service.name.as_str(), pool, cap))).collect::<Vec<_>>()
        })
        .collect();
    if capped.is_empty() {
        return;
    }
    text.family(&names::OVERFLOW);
    for (service, pool, cap) in &capped {
        let mut one = |outcome, value: &AtomicU64| {
            let labels = [("service", *service), ("pool", *pool), ("outcome", outcome)];
            text.count(&names::OVERFLOW, &labels, value.load(Ordering::Relaxed));
        };
        one("spill", &cap.gate.spilled);
        one("wait", &cap.gate.waited);
        one("refused", &cap.gate.refused);
    }
    text.family(&names::IN_FLIGHT_LIMIT);
    for (service, pool, cap) in &capped {
        text.count(&names::IN_FLIGHT_LIMIT, &[("service", service), ("pool", pool)], cap.max().into());
    }
    text.family(&names::QUEUE_LENGTH);
    for (service, pool, cap) in &capped {
        text.count(&names::QUEUE_LENGTH, &[("service", service), ("pool", pool)], cap.gate.waiting().into());
    }
}
