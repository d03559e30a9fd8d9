//! What answers said of the caches that they came through, as metrics. The counting is that of `proxy::record`.

use super::metrics::named;
use crate::switchboard::snapshot::Snapshot;
use crate::telemetry::lane::CacheAnswer;
use crate::telemetry::meter::PoolShard;
use crate::telemetry::names;
use crate::telemetry::text::Text;

/// Only of services that count them.
pub(super) fn cache_answers(text: &mut Text, snapshot: &Snapshot) {
    let counted = || named(snapshot).filter(|(service, _)| service.spec.count_cache);
    if counted().next().is_none() {
        return;
    }
    text.family(&names::CACHE_ANSWERS);
    for (service, pool) in counted() {
        for said in CacheAnswer::ALL {
            let result = ("result", said.as_str());
            let labels = [("service", service.name.as_str()), ("pool", pool.name.as_str()), result];
            let of = |shard: &PoolShard| shard.lanes.iter().map(|lane| lane.cache[said as usize].value()).sum();
            text.count(&names::CACHE_ANSWERS, &labels, pool.state.meter.sum(of));
        }
    }
}
