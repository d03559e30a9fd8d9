//! Kill switches pulled and let go by hand. The traffic moves first; it is told and noted afterwards.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{By, Desk, DeskError, named};
use crate::model::Scope;
use crate::rollout::event::{Kind, Severity};
use crate::rollout::runner::levers;
use crate::rollout::runner::office::now_ms;
use crate::rollout::stream::Draft;
use crate::switchboard::change::{Applied, Change};
use crate::switchboard::writer::Switchboard;

// === impl Desk ===

impl Desk {
    /// Everything of the scope to stable, by whatever way it comes; when this answers it is so.
    pub async fn kill(&self, scope: &Scope, by: &By) -> Result<Applied, DeskError> {
        let change = Change::Kill { scope: scope.clone(), reason: by.reason.clone() };
        self.switch(scope, change, by, Kind::Killed, Severity::Critical, "killed").await
    }

    /// Takes a kill back; what the weights say is live again.
    pub async fn unkill(&self, scope: &Scope, by: &By) -> Result<Applied, DeskError> {
        let change = Change::Unkill { scope: scope.clone(), only: None };
        self.switch(scope, change, by, Kind::Unkilled, Severity::Warning, "no longer killed").await
    }

    async fn switch(
        &self,
        scope: &Scope,
        change: Change,
        by: &By,
        kind: Kind,
        severity: Severity,
        word: &str,
    ) -> Result<Applied, DeskError> {
        let switchboard = Arc::clone(&self.switchboard);
        let before = killed(&switchboard);
        let cause = levers::cause_of(&named(by), &by.from, &by.reason);
        let board = Arc::clone(&switchboard);
        let work = move || board.apply(change, &cause, None);
        let applied = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(applied)) => applied,
            Ok(Err(refused)) => return Err(DeskError::Refused(Box::new(refused))),
            Err(error) => return Err(DeskError::NotMoved(format!("the change failed inside weir: {error}"))),
        };
        let service = match scope {
            Scope::System => String::new(),
            Scope::Service(name) => name.to_string(),
        };
        self.note(by, kind.as_str(), &service, before, killed(&switchboard));
        if let (Ok(office), true) = (self.office(), applied.changed) {
            let why = if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) };
            let message = format!("{scope} is {word}{why}");
            let data = json!({ "scope": if service.is_empty() { "system" } else { "service" }, "atMs": now_ms() });
            office.tell(Draft { kind, severity, service, rollout_id: None, who: named(by), message, data });
        }
        Ok(applied)
    }

    /// What is killed now, and why.
    pub fn kills(&self) -> Value {
        killed(&self.switchboard)
    }
}

fn killed(switchboard: &Switchboard) -> Value {
    let snapshot = switchboard.snapshot().load_full();
    let of = snapshot.services.iter().filter_map(|service| Some((service, service.killed.as_ref()?)));
    let list = of.map(|(service, killed)| {
        json!({
            "service": service.name,
            "scope": if killed.system { "system" } else { "service" },
            "reason": killed.reason,
        })
    });
    let list: Vec<Value> = list.collect();
    let system = snapshot.services.iter().find_map(|service| service.killed.as_ref().filter(|killed| killed.system));
    json!({ "system": system.map(|killed| json!({ "reason": killed.reason })), "killed": list })
}
