//! What a kill switch wants, done: in the switchboard, in the journal, told to everybody.

use std::sync::Arc;

use serde_json::json;
use tokio::time::timeout;

use super::super::super::desk::{By, DeskError};
use super::super::super::event::{Kind, Severity};
use super::super::super::journal::audit::Entry;
use super::super::super::kill::machine::{Effect, Input, News, Switch};
use super::super::super::stream::Draft;
use super::super::drive::PATIENCE;
use super::super::levers;
use super::super::office::Office;
use super::record::Pulled;
use super::{Shown, Switches, Watched, now};
use crate::model::{Name, Priority, Scope};
use crate::switchboard::change::{Cause, Change};

/// A person's word to a kill switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Kill now.
    Pull,
    /// Stop the countdown.
    Cancel,
    /// Let go, whatever state it is in.
    LetGo,
}

// === impl Switches ===

impl Switches {
    /// Does what a person wants of the switch of that name; what it looks like afterwards.
    pub(in crate::rollout) async fn word(
        &self,
        office: &Office,
        name: &str,
        word: Word,
        by: &By,
        cause: Cause,
    ) -> Result<Arc<Shown>, DeskError> {
        let known = self.shown().iter().find(|shown| shown.spec.name.as_str() == name).cloned();
        let mut watching = match self.watching.try_lock() {
            Ok(watching) if watching.is_current(office) => watching,
            waits => {
                drop(waits);
                // Others are at work, perhaps with a disk: the traffic does not wait for them.
                if let (Word::Pull, Some(scope)) = (word, scope_of(office, name)) {
                    let change = Change::Kill { scope: scope.clone(), reason: by.reason.clone() };
                    apply(office, change, cause.clone()).await?;
                    let switch = known.as_ref().map(|known| &known.spec.name);
                    self.records.pulled(office, &scope, Pulled::new(&cause, &by.reason, switch));
                }
                self.watching.lock().await
            }
        };
        watching.take_up(office).await;
        let found = watching.list.iter_mut().find(|watched| watched.spec.name.as_str() == name);
        let watched = found.ok_or_else(|| DeskError::UnknownSwitch(name.chars().take(100).collect()))?;
        let (who, reason) = (cause.who.clone(), by.reason.clone());
        let input = match word {
            Word::Pull => Input::Pull { who, reason },
            Word::Cancel => Input::Cancel { who, reason },
            Word::LetGo => Input::LetGo { who, reason },
        };
        // A tick in between may have seen the kill already.
        let before = known.map_or_else(|| watched.switch.clone(), |known| known.switch.clone());
        let done = watched.step(office, input, Some((by, cause, &before))).await;
        if done.is_err() {
            // What was not done did not happen.
            watched.switch = before;
            watched.keep(office);
        }
        let shown = Arc::new(watched.shown());
        self.publish(&watching);
        done.map(|()| shown)
    }
}

// === impl Watched ===

impl Watched {
    pub(super) fn shown(&self) -> Shown {
        Shown { spec: self.spec.clone(), switch: self.switch.clone(), kills: self.kills }
    }

    /// One step, and everything that follows from it. What a person asked for and could not be done is their answer;
    /// of the switch's own it is the next input.
    pub(super) async fn step(
        &mut self,
        office: &Office,
        input: Input,
        person: Option<(&By, Cause, &Switch)>,
    ) -> Result<(), DeskError> {
        let before = person.as_ref().map_or_else(|| self.switch.clone(), |(_, _, before)| Switch::clone(before));
        let effects = self.switch.step(&self.spec, now(), input);
        let effects = effects.map_err(|illegal| DeskError::Illegal(illegal.to_string()))?;
        let own = || levers::cause(&format!("kill switch {}", self.spec.name), "", &self.switch.why);
        let cause = person.as_ref().map_or_else(own, |(_, cause, _)| cause.clone());
        let mut failed = None;
        for effect in &effects {
            // The traffic goes first.
            if let Effect::Kill { reason, .. } = effect {
                failed = self.kill(office, reason, &cause).await.err();
            }
        }
        self.keep(office);
        if effects.iter().any(|effect| matches!(effect, Effect::LetGo { .. })) {
            // An attempt that is not kept could be made again and again.
            office.keeper.flush().await;
        }
        for effect in &effects {
            match effect {
                Effect::LetGo { only } => failed = self.let_go(office, only.clone(), &cause).await.err(),
                Effect::Forget => self.watches.iter_mut().for_each(super::Watch::forget),
                Effect::Kill { .. } | Effect::Tell { .. } => {}
            }
        }
        match (failed, &person) {
            (None, _) => {}
            (Some(failed), Some(_)) => return Err(failed),
            (Some(failed), None) => {
                let why = failed.to_string();
                let more = self.switch.step(&self.spec, now(), Input::Failed { why }).unwrap_or_default();
                self.keep(office);
                self.tell(office, &more, &cause.who);
                return Ok(());
            }
        }
        self.tell(office, &effects, &cause.who);
        self.note(office, &before, &effects, person.as_ref().map(|(by, ..)| *by), &cause);
        Ok(())
    }

    async fn kill(&mut self, office: &Office, reason: &str, cause: &Cause) -> Result<(), DeskError> {
        self.kills += 1;
        let change = Change::Kill { scope: self.spec.scope.clone(), reason: reason.to_owned() };
        apply(office, change, cause.clone()).await?;
        office.switches.records.pulled(office, &self.spec.scope, Pulled::new(cause, reason, Some(&self.spec.name)));
        Ok(())
    }

    async fn let_go(&self, office: &Office, only: Option<String>, cause: &Cause) -> Result<(), DeskError> {
        let change = Change::Unkill { scope: self.spec.scope.clone(), only };
        apply(office, change, cause.clone()).await
    }

    fn tell(&self, office: &Office, effects: &[Effect], who: &str) {
        for effect in effects {
            let Effect::Tell { news, message } = effect else { continue };
            let kind = match news {
                News::Killed => Kind::Killed,
                News::LetGo => Kind::Unkilled,
                _ => Kind::KillSwitch,
            };
            let severity = match (news, self.spec.priority) {
                (News::Recovered | News::Cancelled | News::Elsewhere, _) | (_, Priority::Low) => Severity::Info,
                (News::LetGo, _) | (_, Priority::Medium) => Severity::Warning,
                _ => Severity::Critical,
            };
            let data = json!({
                "switch": self.spec.name,
                "scope": if self.spec.scope == Scope::System { "system" } else { "service" },
                "news": news.as_str(),
                "state": self.switch.state,
                "leftMs": self.switch.left_ms,
                "attempt": self.switch.attempts,
                "maxAttempts": self.spec.recovery.map(|recovery| recovery.attempts),
            });
            let (service, who, message) = (service(&self.spec.scope), who.to_owned(), message.clone());
            office.tell(Draft { kind, severity, service, rollout_id: None, who, message, data });
        }
    }

    /// One entry of the audit log for what people asked for and for what the switch did by itself.
    fn note(&self, office: &Office, before: &Switch, effects: &[Effect], by: Option<&By>, cause: &Cause) {
        let news = |effect: &Effect| match effect {
            Effect::Tell { news, .. } => Some(*news),
            _ => None,
        };
        let all: Vec<News> = effects.iter().filter_map(news).collect();
        let main = all.iter().find(|news| matches!(news, News::Killed | News::LetGo)).or(all.first());
        let Some(main) = main else { return };
        let state = |switch: &Switch| json!({ "state": switch.state, "attempts": switch.attempts });
        office.note(Entry {
            at_ms: now(),
            who: cause.who.clone(),
            from: by.map(|by| by.from.clone()).unwrap_or_default(),
            action: format!("kill_switch.{}", main.as_str()),
            service: service(&self.spec.scope),
            rollout_id: None,
            reason: by.map_or_else(|| self.switch.why.clone(), |by| by.reason.clone()),
            before: named(&self.spec.name, state(before)),
            after: named(&self.spec.name, state(&self.switch)),
        });
    }
}

// === impl News ===

impl News {
    /// The word in events and in the audit log.
    pub(in crate::rollout) fn as_str(self) -> &'static str {
        match self {
            News::Killed => "killed",
            News::LetGo => "let_go",
            News::Grace => "grace",
            News::Cancelled => "cancelled",
            News::Recovered => "recovered",
            News::AttemptFailed => "attempt_failed",
            News::Exhausted => "exhausted",
            News::Elsewhere => "elsewhere",
        }
    }
}

/// What the switch of that name kills.
pub(in crate::rollout) fn scope_of(office: &Office, name: &str) -> Option<Scope> {
    let config = office.switchboard.config();
    config.kill_switches.iter().find(|spec| spec.name.as_str() == name).map(|spec| spec.scope.clone())
}

fn named(name: &Name, mut value: serde_json::Value) -> serde_json::Value {
    value["switch"] = json!(name);
    value
}

fn service(scope: &Scope) -> String {
    match scope {
        Scope::System => String::new(),
        Scope::Service(name) => name.to_string(),
    }
}

/// Hands a change to the switchboard on a thread that may wait for a disk.
async fn apply(office: &Office, change: Change, cause: Cause) -> Result<(), DeskError> {
    let switchboard = Arc::clone(&office.switchboard);
    let work = tokio::task::spawn_blocking(move || switchboard.apply(change, &cause, None));
    match timeout(PATIENCE, work).await {
        Ok(Ok(Ok(applied))) => {
            if let Some(pending) = applied.pending {
                office.alarm("", None, pending);
            }
            Ok(())
        }
        Ok(Ok(Err(refused))) => Err(DeskError::Refused(Box::new(refused))),
        Ok(Err(error)) => Err(DeskError::NotMoved(format!("the change failed inside weir: {error}"))),
        Err(_) => Err(DeskError::NotMoved(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
