//! What protects the process itself, as Prometheus text: late event loops, addresses that are turned away.

use super::metrics::Facts;
use crate::telemetry::clock;
use crate::telemetry::histogram::Summary;
use crate::telemetry::names;
use crate::telemetry::text::Text;
use crate::throttle::visitors::Turned;

/// Appends it.
pub(super) fn render(text: &mut Text, facts: &Facts<'_>) {
    delay(text, facts);
    addresses(text, facts);
}

fn delay(text: &mut Text, facts: &Facts<'_>) {
    let workers = || facts.workers.iter().enumerate().map(|(index, shard)| (index.to_string(), shard));
    text.family(&names::EVENT_LOOP_DELAY);
    for (worker, shard) in workers() {
        text.histogram(&names::EVENT_LOOP_DELAY, &[("worker", &worker)], &Summary::of([&shard.delay]));
    }
    text.family(&names::SHED_RATIO);
    for (worker, shard) in workers() {
        let share = shard.shed_share.value() as f64 / 65_536.0;
        text.ratio(&names::SHED_RATIO, &[("worker", &worker)], share);
    }
    text.family(&names::SHED).count(&names::SHED, &[], facts.workers.sum(|shard| shard.shed.value()));
}

fn addresses(text: &mut Text, facts: &Facts<'_>) {
    let Some(guarded) = &facts.snapshot.guarded else { return };
    text.family(&names::TURNED_AWAY);
    for turned in Turned::ALL {
        let value = facts.workers.sum(|shard| shard.turned[turned as usize].value());
        text.count(&names::TURNED_AWAY, &[("reason", turned.as_str())], value);
    }
    let rests = facts.workers.sum(|shard| shard.rests.value());
    text.family(&names::ADDRESS_RESTS).count(&names::ADDRESS_RESTS, &[], rests);
    let (_, resting) = guarded.visitors.resting(clock::now().mono_ms, 0);
    text.family(&names::ADDRESSES_RESTING).count(&names::ADDRESSES_RESTING, &[], resting);
    text.family(&names::ADDRESSES_UNCOUNTED).count(&names::ADDRESSES_UNCOUNTED, &[], guarded.visitors.uncounted());
}
