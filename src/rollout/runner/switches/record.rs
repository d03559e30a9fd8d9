//! Who killed what, when and how, as long as it is killed. Kept, so that a restart does not forget it; what is unknown
//! says so.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::super::event::{Kind, Severity};
use super::super::super::journal::audit::Entry;
use super::super::super::stream::Draft;
use super::super::locked;
use super::super::office::Office;
use super::now;
use crate::model::{Name, Scope, kill_reason};
use crate::switchboard::change::{Cause, How, LastCause};
use crate::switchboard::snapshot::Snapshot;

/// Where it is kept.
const KEY: &str = "kills";

/// Who killed, when nobody is known but the file.
const FILE: &str = "the weights file";

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

    fn is_by_file(&self) -> bool {
        is_by_file(&self.how)
    }

    /// Who, in words.
    pub(super) fn by(&self) -> String {
        match (self.who.as_str(), self.how.as_str()) {
            ("", how) if is_by_file(how) => FILE.into(),
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

    /// Compares with what is killed now: what came by another way is taken in, what is over is forgotten. What the file
    /// did is told and noted here, since nobody who answers for it stands by.
    pub(super) fn look(&self, office: &Office, snapshot: &Snapshot) {
        let services = snapshot.services.iter().map(|service| Scope::Service(service.name.clone()));
        let scopes: Vec<Scope> = services.chain([Scope::System]).collect();
        let mut changed = false;
        for scope in &scopes {
            let live = office.switchboard.killed_at(scope);
            let old = locked(&self.0).get(&scope_key(scope)).cloned();
            if old.as_ref().map(|pulled| &pulled.reason) == live.as_ref() {
                continue;
            }
            changed = true;
            let new = live.map(|reason| found(office, snapshot, scope, &reason));
            match new.clone() {
                Some(pulled) => locked(&self.0).insert(scope_key(scope), pulled),
                None => locked(&self.0).remove(&scope_key(scope)),
            };
            let by_file = match &new {
                Some(pulled) => pulled.is_by_file(),
                None => last_cause(office, snapshot, scope).is_some_and(|last| is_by_file(last.cause.how.as_str())),
            };
            if by_file {
                tell(office, scope, old.as_ref(), new.as_ref());
            }
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
    let last = last_cause(office, snapshot, scope);
    let last = last.filter(|last| last.killed.as_ref().is_some_and(|killed| killed.reason == reason));
    let cause = last.map_or_else(|| Cause::by(How::File), |last| last.cause);
    match own_words(office, reason).filter(|_| cause.how == How::Start) {
        // A crash came before what the switch did was kept; the file has its words.
        Some(switch) => Pulled::new(
            &Cause { who: format!("kill switch {switch}"), ..Cause::by(How::Rollout) },
            reason,
            Some(&switch),
        ),
        None => Pulled::new(&cause, reason, None),
    }
}

/// The kill switch whose words these are.
fn own_words(office: &Office, reason: &str) -> Option<Name> {
    let (name, _) = reason.strip_prefix("kill switch ")?.split_once(": ")?;
    let config = office.switchboard.config();
    config.kill_switches.iter().map(|spec| &spec.name).find(|known| known.as_str() == name).cloned()
}

fn last_cause(office: &Office, snapshot: &Snapshot, scope: &Scope) -> Option<LastCause> {
    let service = match scope {
        Scope::Service(name) => Some(name.clone()),
        Scope::System => snapshot.services.first().map(|service| service.name.clone()),
    };
    office.switchboard.last_cause(&service?)
}

/// Whether a change came by the file, however it was read.
fn is_by_file(how: &str) -> bool {
    [How::File, How::Signal, How::Start].iter().any(|way| way.as_str() == how)
}

/// Tells what the file did, and notes it.
fn tell(office: &Office, scope: &Scope, old: Option<&Pulled>, new: Option<&Pulled>) {
    let service = match scope {
        Scope::System => String::new(),
        Scope::Service(name) => name.to_string(),
    };
    let (kind, severity, word) = match new {
        Some(_) => (Kind::Killed, Severity::Critical, "killed"),
        None => (Kind::Unkilled, Severity::Warning, "no longer killed"),
    };
    let reason = new.map(|pulled| pulled.reason.clone()).unwrap_or_default();
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let shown =
        |pulled: Option<&Pulled>| pulled.map_or(Value::Null, |it| json!({ "reason": it.reason, "how": it.how }));
    office.note(Entry {
        at_ms: now(),
        who: FILE.into(),
        from: String::new(),
        action: kind.as_str().into(),
        service: service.clone(),
        rollout_id: None,
        reason,
        before: shown(old),
        after: shown(new),
    });
    let message = format!("{scope} is {word} by {FILE}{why}");
    let data = json!({ "scope": if service.is_empty() { "system" } else { "service" }, "how": "file" });
    office.tell(Draft { kind, severity, service, rollout_id: None, who: FILE.into(), message, data });
}
