//! What limits traffic, as Prometheus text: what the rate limits did.

use crate::switchboard::snapshot::Snapshot;
use crate::telemetry::names;
use crate::telemetry::text::Text;
use crate::throttle::limit::Counts;

/// Appends it.
pub(super) fn render(text: &mut Text, snapshot: &Snapshot) {
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
