//! What became of copies, as Prometheus text: apart from the requests of the pools that got them.

use super::metrics::Facts;
use crate::switchboard::snapshot::{Mirror, Service};
use crate::telemetry::histogram::Summary;
use crate::telemetry::mirror::{Dropped, Lost, MirrorShard};
use crate::telemetry::names::{self, Metric};
use crate::telemetry::text::Text;

/// Appends it; nothing where nothing is copied.
pub(super) fn render(text: &mut Text, facts: &Facts<'_>) {
    let services = facts.snapshot.services.iter();
    let mirrors: Vec<(&Service, &Mirror)> =
        services.flat_map(|service| service.mirrors.iter().map(move |mirror| (service, mirror))).collect();
    if mirrors.is_empty() {
        return;
    }
    each(text, &mirrors, &names::MIRROR_SENT, &[""], |shard, _| shard.sent.value());
    each(text, &mirrors, &names::MIRROR_IN_FLIGHT, &[""], |shard, _| shard.in_flight.value());
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    each(text, &mirrors, &names::MIRROR_ANSWERS, &classes, |shard, at| shard.answers[at].value());
    let lost = Lost::ALL.map(Lost::as_str);
    each(text, &mirrors, &names::MIRROR_LOST, &lost, |shard, at| shard.lost[at].value());
    let dropped = Dropped::ALL.map(Dropped::as_str);
    each(text, &mirrors, &names::MIRROR_DROPPED, &dropped, |shard, at| shard.dropped[at].value());
    text.family(&names::MIRROR_DURATION);
    for (service, mirror) in &mirrors {
        let summary = Summary::of(mirror.meter.iter().map(|shard| &shard.latency));
        text.histogram(&names::MIRROR_DURATION, &labels(service, mirror), &summary);
    }
    text.family(&names::MIRROR_PAIRS);
    text.count(&names::MIRROR_PAIRS, &[("outcome", "given")], facts.pairs.given());
    text.count(&names::MIRROR_PAIRS, &[("outcome", "dropped")], facts.pairs.dropped());
}

fn labels<'a>(service: &'a Service, mirror: &'a Mirror) -> [(&'static str, &'a str); 2] {
    [("service", &service.name), ("pool", &service.pools[mirror.to].name)]
}

/// A family with one sample for each mirror and each of `words`, the values of the metric's third label.
fn each(
    text: &mut Text,
    mirrors: &[(&Service, &Mirror)],
    metric: &Metric,
    words: &[&str],
    value: impl Fn(&MirrorShard, usize) -> u64,
) {
    text.family(metric);
    let third = metric.labels.split(',').nth(2);
    for (service, mirror) in mirrors {
        for (at, word) in words.iter().enumerate() {
            let sum = mirror.meter.sum(|shard| value(shard, at));
            let [service, pool] = labels(service, mirror);
            match third {
                Some(third) => text.count(metric, &[service, pool, (third, word)], sum),
                None => text.count(metric, &[service, pool], sum),
            }
        }
    }
}
