//! The seam to the data plane: what explains a request to a person. No decisions of its own.

use serde_json::Value;

use crate::admin::explain::Described;
use crate::proxy;
use crate::switchboard::snapshot::{Listener, Snapshot};
use crate::telemetry::clock;

/// What would become of a described request.
pub(super) fn explain(snapshot: &Snapshot, described: &Described) -> Result<Value, String> {
    let listener = match &described.listener {
        None => {
            let serves_all = |listener: &Listener| listener.pin.is_none() && listener.redirect.is_none();
            snapshot.listeners.iter().position(serves_all).unwrap_or(0)
        }
        Some(name) => snapshot
            .listeners
            .iter()
            .position(|listener| &listener.name == name.as_str())
            .ok_or_else(|| format!("there is no listener \"{name}\""))?,
    };
    let explanation =
        proxy::decide::explain::explain(snapshot, listener, &described.head, described.client_ip, clock::now());
    serde_json::to_value(explanation).map_err(|error| error.to_string())
}
