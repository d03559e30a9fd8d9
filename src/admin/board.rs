//! What the admin room asks of the rooms below, as the composition root hands it in.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::explain::Described;
use super::upgrade::Upgrades;
use crate::rollout::desk::Desk;
use crate::switchboard::snapshot::Snapshot;
use crate::switchboard::writer::Switchboard;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::WorkerShard;
use crate::telemetry::pair::Tap;

/// The decision about a described request as the JSON that is shown, or why it cannot be described so.
pub type Explain = Box<dyn Fn(&Snapshot, &Described) -> Result<Value, String> + Send + Sync>;

/// Sets the filter of the program's own log (`info`, `weir=debug`), or says why it is none.
pub type SetLogLevel = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What the admin API shows and changes.
pub struct Board {
    /// The one writer.
    pub switchboard: Arc<Switchboard>,
    /// What workers count beside pools.
    pub workers: Arc<Sharded<WorkerShard>>,
    /// The access log, for what it lost.
    pub access_log: Arc<AccessLog>,
    /// Where captured pairs go.
    pub pairs: Arc<Tap>,
    /// The rollouts.
    pub desk: Desk,
    /// Upgrades of the binary.
    pub upgrades: Arc<Upgrades>,
    /// Whether rollouts are switched on in the configuration.
    pub rollouts_enabled: bool,
    /// Explains a request; the data plane's own decision.
    pub explain: Explain,
    /// Changes the log level.
    pub log_level: SetLogLevel,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}
