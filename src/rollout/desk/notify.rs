//! Who is told what happens: how it goes, trying it, and that somebody looks. Nothing of a secret is shown.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{By, Desk, DeskError, named};
use crate::model::notify::{Channel, Escalation, Notifications, Wants};
use crate::rollout::event::{Event, Kind, Severity};
use crate::rollout::notify::notifier::{ChannelState, Open};
use crate::rollout::runner::office::now_ms;
use crate::rollout::view::rfc3339;

/// What became of notifications to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The channel.
    pub channel: String,
    /// How many ended how: `sent`, `failed`, `dropped`, `held_back`, `retried`.
    pub outcomes: [(&'static str, u64); 5],
    /// How many wait.
    pub waiting: u64,
}

// === impl Desk ===

impl Desk {
    /// Other rules from now on.
    pub fn set_notifications(&self, rules: Notifications) {
        if let Ok(office) = self.office() {
            office.notifier.set(rules);
        }
    }

    /// Channels, escalations, and what nobody looked at yet.
    pub fn notifications(&self) -> Result<Value, DeskError> {
        let notifier = &self.office()?.notifier;
        let rules = notifier.rules();
        Ok(json!({
            "channels": notifier.channels().iter().map(shown).collect::<Vec<_>>(),
            "escalations": rules.escalations.iter().map(escalation).collect::<Vec<_>>(),
            "open": notifier.open().iter().map(open).collect::<Vec<_>>(),
            "missed": notifier.missed(),
        }))
    }

    /// What became of notifications, by channel; nothing when the engine does not run.
    pub fn told(&self) -> Vec<Told> {
        let Ok(office) = self.office() else { return Vec::new() };
        let told = |state: ChannelState| Told {
            channel: state.channel.name.to_string(),
            outcomes: [
                ("sent", state.sent),
                ("failed", state.failed),
                ("dropped", state.dropped),
                ("held_back", state.held_back),
                ("retried", state.retried),
            ],
            waiting: state.waiting as u64,
        };
        office.notifier.channels().into_iter().map(told).collect()
    }

    /// Tries a channel, or all of them, once and now; how it went.
    pub async fn try_notifications(&self, channel: Option<&str>, by: &By) -> Result<Value, DeskError> {
        let notifier = &self.office()?.notifier;
        let rules = notifier.rules();
        if let Some(name) = channel.filter(|name| rules.channel(name).is_none()) {
            let known: Vec<&str> = rules.channels.iter().map(|channel| channel.name.as_str()).collect();
            let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
            let name: String = name.chars().take(80).collect();
            return Err(DeskError::Invalid(format!("there is no channel \"{name}\"; known: {known}")));
        }
        let event = Event {
            id: 0,
            at_ms: now_ms(),
            kind: Kind::Alarm,
            severity: Severity::Info,
            service: String::new(),
            rollout_id: None,
            who: named(by),
            message: "This is a test of the notifications of weir. Nothing happened.".into(),
            data: json!({ "test": true }),
        };
        let tried = notifier.test(channel, &Arc::new(event)).await;
        let ok = tried.iter().all(|tried| tried.error.is_none());
        let results: Vec<Value> = tried
            .into_iter()
            .map(|tried| {
                json!({
                    "channel": tried.channel,
                    "ok": tried.error.is_none(),
                    "tookMs": tried.took.as_millis() as u64,
                    "error": tried.error,
                })
            })
            .collect();
        self.note(by, "notifications.test", "", Value::Null, json!({ "channel": channel, "ok": ok }));
        Ok(json!({ "ok": ok, "results": results }))
    }

    /// Somebody looks at what is open of a service or a rollout, or of everything: it is not escalated.
    pub fn acknowledge(&self, which: Option<&str>, by: &By) -> Result<Value, DeskError> {
        let notifier = &self.office()?.notifier;
        let is_it = |event: &Event| {
            which.is_none_or(|which| event.service == which || event.rollout_id.as_deref() == Some(which))
        };
        let count = notifier.acknowledge(is_it);
        if count > 0 {
            let after = json!({ "acknowledged": count });
            self.note(by, "notifications.acknowledge", which.unwrap_or_default(), Value::Null, after);
        }
        Ok(json!({ "acknowledged": count, "open": notifier.open().iter().map(open).collect::<Vec<_>>() }))
    }
}

fn shown(state: &ChannelState) -> Value {
    let Channel { name, way, wants, cooldown, timeout, attempts, only_escalated } = &*state.channel;
    let mut value = filter(wants);
    let (error_at, error) = state.error.clone().map_or((None, None), |(at, why)| (Some(rfc3339(at)), Some(why)));
    // As long as the last try that ended was a failed one.
    let failing = state.error.as_ref().is_some_and(|(at, _)| state.sent_at_ms.is_none_or(|sent| sent < *at));
    for (key, member) in [
        ("name", json!(name)),
        ("kind", json!(way.kind())),
        ("to", json!(way.shown())),
        ("onlyEscalated", json!(only_escalated)),
        ("cooldownMs", json!(cooldown.as_millis() as u64)),
        ("timeoutMs", json!(timeout.as_millis() as u64)),
        ("attempts", json!(attempts)),
        ("waiting", json!(state.waiting)),
        ("sent", json!(state.sent)),
        ("failed", json!(state.failed)),
        ("dropped", json!(state.dropped)),
        ("retried", json!(state.retried)),
        ("heldBack", json!(state.held_back)),
        ("holding", json!(state.holding)),
        ("failing", json!(failing)),
        ("lastSentAt", json!(state.sent_at_ms.map(rfc3339))),
        ("lastErrorAt", json!(error_at)),
        ("lastError", json!(error)),
    ] {
        value[key] = member;
    }
    value
}

fn filter(wants: &Wants) -> Value {
    json!({ "events": wants.events, "minSeverity": wants.least.as_str(), "services": wants.services })
}

fn escalation(rule: &Escalation) -> Value {
    let mut value = filter(&rule.wants);
    value["afterMs"] = json!(rule.after.as_millis() as u64);
    value["channels"] = json!(rule.channels);
    value["until"] = json!(rule.until.as_str());
    value
}

fn open(open: &Open) -> Value {
    let next = open.next.iter().map(|(channel, in_ms)| json!({ "channel": channel, "inMs": in_ms }));
    json!({
        "service": open.event.service,
        "rolloutId": open.event.rollout_id,
        "since": rfc3339(open.since_ms),
        "events": open.events,
        "event": &*open.event,
        "next": next.collect::<Vec<_>>(),
    })
}
