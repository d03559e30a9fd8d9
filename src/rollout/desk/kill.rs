//! Kills by hand, of a service or of everything. The traffic moves first; it is told and noted afterwards.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{By, Desk, DeskError, named};
use crate::model::Scope;
use crate::rollout::event::{Kind, Severity};
use crate::rollout::runner::levers;
use crate::rollout::runner::office::now_ms;
use crate::rollout::runner::switches::Pulled;
use crate::rollout::stream::Draft;
use crate::rollout::view::rfc3339;
use crate::switchboard::change::{Applied, Cause, Change, How};
use crate::switchboard::writer::Switchboard;

// === impl Desk ===

impl Desk {
    /// Everything of the scope to stable, by whatever way it comes; when this answers it is so.
    pub async fn kill(&self, scope: &Scope, by: &By) -> Result<Applied, DeskError> {
        let change = Change::Kill { scope: scope.clone(), reason: by.reason.clone() };
        let applied = self.switch_by_hand(scope, change, by, Kind::Killed, Severity::Critical, "killed").await?;
        if let Ok(office) = self.office() {
            office.switches.records.pulled(office, scope, Pulled::new(&cause(by), &by.reason, None));
        }
        Ok(applied)
    }

    /// Takes a kill back; what the weights say is live again.
    pub async fn unkill(&self, scope: &Scope, by: &By) -> Result<Applied, DeskError> {
        let change = Change::Unkill { scope: scope.clone(), only: None };
        self.switch_by_hand(scope, change, by, Kind::Unkilled, Severity::Warning, "no longer killed").await
    }

    async fn switch_by_hand(
        &self,
        scope: &Scope,
        change: Change,
        by: &By,
        kind: Kind,
        severity: Severity,
        word: &str,
    ) -> Result<Applied, DeskError> {
        let (before, was) = (self.kills(), self.switchboard.killed_at(scope));
        let applied = self.apply(change, cause(by)).await?;
        let service = match scope {
            Scope::System => String::new(),
            Scope::Service(name) => name.to_string(),
        };
        // Who lets go what was never killed has changed nothing, and the record does not say that somebody did.
        if kind != Kind::Unkilled || was.is_some() {
            self.note(by, kind.as_str(), &service, before, self.kills());
        }
        if let (Ok(office), true) = (self.office(), applied.changed) {
            let why = if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) };
            let message = format!("{scope} is {word}{why}");
            let data = json!({ "scope": if service.is_empty() { "system" } else { "service" }, "atMs": now_ms() });
            office.tell(Draft { kind, severity, service, rollout_id: None, who: named(by), message, data });
        }
        if let Ok(office) = self.office() {
            self.written(office).await;
        }
        Ok(applied)
    }

    /// Hands a change to the switchboard on a thread that may wait for a disk.
    async fn apply(&self, change: Change, cause: Cause) -> Result<Applied, DeskError> {
        let switchboard = Arc::clone(&self.switchboard);
        match tokio::task::spawn_blocking(move || switchboard.apply(change, &cause, None)).await {
            Ok(Ok(applied)) => Ok(applied),
            Ok(Err(refused)) => Err(DeskError::Refused(Box::new(refused))),
            Err(error) => Err(DeskError::NotMoved(format!("the change failed inside weir: {error}"))),
        }
    }

    /// What is killed now: by whom, since when, how and why; and what every kill switch does.
    pub fn kills(&self) -> Value {
        let records = |scope: &Scope| self.office().ok()?.switches.records.of(scope);
        let mut kills = killed(&self.switchboard, &records);
        kills["switches"] = self.switches().iter().map(|shown| shown.json()).collect();
        kills
    }
}

/// Who asks, as the switchboard notes it.
pub(super) fn cause(by: &By) -> Cause {
    let cause = levers::cause_of(&named(by), &by.from, &by.reason);
    if by.cli { Cause { how: How::Cli, ..cause } } else { cause }
}

fn killed(switchboard: &Switchboard, records: &dyn Fn(&Scope) -> Option<Pulled>) -> Value {
    let told = |scope: &Scope, reason: &str| {
        let pulled = records(scope).filter(|pulled| pulled.reason == reason);
        json!({
            "reason": reason,
            "who": pulled.as_ref().map(|pulled| &pulled.who),
            "how": pulled.as_ref().map(|pulled| &pulled.how),
            "from": pulled.as_ref().map(|pulled| &pulled.from),
            "switch": pulled.as_ref().and_then(|pulled| pulled.switch.as_ref()),
            "since": pulled.as_ref().map(|pulled| rfc3339(pulled.since_ms)),
        })
    };
    let snapshot = switchboard.snapshot().load_full();
    let of = snapshot.services.iter().filter_map(|service| Some((service, service.killed.as_ref()?)));
    let list = of.map(|(service, killed)| {
        let scope = if killed.system { Scope::System } else { Scope::Service(service.name.clone()) };
        let mut one = told(&scope, &killed.reason);
        one["service"] = json!(service.name);
        one["scope"] = if killed.system { "system" } else { "service" }.into();
        one
    });
    let list: Vec<Value> = list.collect();
    let system = switchboard.killed_at(&Scope::System).map(|reason| told(&Scope::System, &reason));
    json!({ "system": system, "killed": list })
}
