//! A snapshot of two texts, for fuzz targets and benches: what the switchboard would publish, with no file, no socket
//! and no name lookup. Endpoints are addresses, and all of them serve.

use std::sync::Arc;

use weir::config::{Config, WeightsFile};
use weir::model::{Now, Origin};
use weir::routing::cookie::{Key, Keys};
use weir::switchboard::publish::{Sources, build};
use weir::switchboard::reconcile::{Wanted, reconcile};
use weir::switchboard::snapshot::Snapshot;
use weir::throttle::book::Book;
use weir::upstream::registry::Registry;

/// The moment at which everything here happens.
pub(crate) const NOW: Now = Now { mono_ms: 1_000, unix_s: 1_790_000_000 };

/// The keys of the affinity cookies: current and previous.
pub(crate) fn keys() -> Keys {
    let key = |first: u8| Key::from_bytes(std::array::from_fn(|i| first + i as u8));
    Keys { current: key(1), previous: Some(key(101)) }
}

/// What `weir.toml` and `weights.toml` with these texts would make. Panics when either is refused.
pub(crate) fn snapshot(config: &str, weights: &str) -> Snapshot {
    let config = Config::parse(config, "weir.toml", &|_| None).expect("a configuration");
    let weights = WeightsFile::parse(weights, "weights.toml", &config.plan).expect("weights").services;
    let wanted =
        Wanted { plan: Arc::clone(&config.plan), weights, kills: Default::default(), plan_changed: true, evict: None };
    let state = reconcile(None, wanted, 1, NOW).expect("a state").state;
    let sources = Sources {
        registry: &Registry::new(1),
        throttles: &Book::new(1),
        resolve: &|origin: &Origin| origin.literal().into_iter().collect(),
        listeners: &config.listeners,
        keys: &Arc::new(keys()),
        tls: &Default::default(),
    };
    build(&state, 1, &sources)
}
