//! Who killed what, when and how, as long as it is killed. Kept, so that a restart does not forget it; what is unknown
//! says so.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::super::locked;
use super::super::office::Office;
use super::now;
use crate::model::{Name, Scope, kill_reason};
use crate::switchboard::change::{Cause, How};
use crate::switchboard::snapshot::Snapshot;

/// Where it is kept.
const KEY: &str = "kills";

/// One kill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::rollout) struct Pulled {
    /// A person or program, as far as it is known; else empty.
    pub who: String,
    /// `file`, `api`, `cli`, `trigger`, or `start` when it stood in the file as the process began.
    pub how: String,
    /// Where from.
    pub from: String,
    /// The reason, as it stands in the weights file.
    pub reason: String,
    /// The kill switch that did it, or by which a person did.
    #[serde(default)]
    pub switch: Option<Name>,
    /// Since when, in ms since the Unix epoch.
    pub since_ms: u64,
}

/// Every kill that stands.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Records(Mutex<BTreeMap<String, Pulled>>);

/// A scope as a word.
pub(in crate::rollout) fn scope_key(scope: &Scope) -> String {
    match scope {
        Scope::System => "system".into(),
        Scope::Service(name) => format!("service.{name}"),
    }
}

// === impl Pulled ===

impl Pulled {
    pub(in crate::rollout) fn new(cause: &Cause, reason: &str, switch: Option<&Name>) -> Self {
        let how = if cause.how == How::Rollout { "trigger" } else { cause.how.as_str() };
        Self {
            who: cause.who.clone(),
            how: how.to_owned(),
            from: cause.from.clone(),
            reason: kill_reason(reason),
            switch: switch.cloned(),
            since_ms: now(),
        }
    }

    /// Who, in words.
    pub(super) fn by(&self) -> String {
        match (self.who.as_str(), self.how.as_str()) {
            ("", "file" | "start") => "the weights file".into(),
            ("", _) => "somebody".into(),
            (who, _) => who.to_owned(),
        }
    }
}

// === impl Records ===

impl Records {
    /// What is known of the kill of exactly that scope.
    pub(in crate::rollout) fn of(&self, scope: &Scope) -> Option<Pulled> {
        locked(&self.0).get(&scope_key(scope)).cloned()
    }

    /// Somebody killed.
    pub(in crate::rollout) fn pulled(&self, office: &Office, scope: &Scope, pulled: Pulled) {
        locked(&self.0).insert(scope_key(scope), pulled);
        self.keep(office);
    }

    /// Takes up what the process before this one knew.
    pub(super) async fn begin(&self, office: &Office) {
        let kept = office.keeper.kept_word(KEY).await.unwrap_or_default();
        *locked(&self.0) = serde_json::from_str(&kept).unwrap_or_default();
    }

    /// Compares with what is killed now: what came by another way is taken in, what is over is forgotten.
    pub(super) fn look(&self, office: &Office, snapshot: &Snapshot) {
        let services = snapshot.services.iter().map(|service| Scope::Service(service.name.clone()));
        let scopes: Vec<Scope> = services.chain([Scope::System]).collect();
        let mut changed = false;
        for scope in &scopes {
            let live = office.switchboard.killed_at(scope);
            let mut known = locked(&self.0);
            let old = known.get(&scope_key(scope)).map(|pulled| pulled.reason.clone());
            if old == live {
                continue;
            }
            changed = true;
            match live {
                Some(reason) => known.insert(scope_key(scope), found(office, snapshot, scope, &reason)),
                None => known.remove(&scope_key(scope)),
            };
        }
        if changed {
            self.keep(office);
        }
    }

    fn keep(&self, office: &Office) {
        let text = serde_json::to_string(&*locked(&self.0)).unwrap_or_default();
        office.keeper.word(KEY, &text);
    }
}

/// A kill that nobody told of: its cause is what moved the service last.
fn found(office: &Office, snapshot: &Snapshot, scope: &Scope, reason: &str) -> Pulled {
    let service = match scope {
        Scope::Service(name) => Some(name.clone()),
        Scope::System => snapshot.services.first().map(|service| service.name.clone()),
    };
    let last = service.and_then(|service| office.switchboard.last_cause(&service));
    let last = last.filter(|last| last.killed.as_ref().is_some_and(|killed| killed.reason == reason));
    let cause = last.map_or_else(|| Cause::by(How::File), |last| last.cause);
    Pulled::new(&cause, reason, None)
}
