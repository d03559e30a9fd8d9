//! The last generations: when, by whom, why, and from which weights to which. Pure; `store.rs` keeps it on disk.
//!
//! Besides the bounded ring, the weights before the last change of every service are kept, so that `undo` does not
//! depend on how busy the other services are.

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::change::Cause;
use crate::model::{Name, Weight, Weights};

/// Generations that are kept (the contract's number).
pub const HISTORY_MAX: usize = 20;

/// What happened to the generations of this process and the ones before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The newest last, at most [`HISTORY_MAX`].
    entries: VecDeque<Entry>,
    /// Per service: the weights that were live before its last change, and since.
    services: Vec<Known>,
    /// Rollbacks that the weights file does not say yet.
    #[serde(default)]
    held: Vec<Held>,
    /// Kills that the weights file does not say yet.
    #[serde(default)]
    kills: Vec<HeldKill>,
    /// Kills that the weights file said when it last held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said: Vec<SaidKill>,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub generation: u64,
    /// When it was published, RFC 3339 in UTC.
    pub at: String,
    /// Who, how and why.
    pub cause: Cause,
    /// What was done, where the weights do not say it: `rollback`, `undo`, `kill of service engine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What it did to weights; empty for a change of anything else.
    pub changes: Vec<WeightsChange>,
}

/// The change of one service's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsChange {
    /// The service.
    pub service: String,
    /// Before; none when the service is new.
    pub before: Option<Record>,
    /// After.
    pub after: Record,
}

/// Weights as an object of pool to weight: `{"stable":90,"canary":10}` or `{"stable":"90%","canary":"10%"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record(pub Weights);

/// A rollback that the weights file does not say yet: everything of the service goes to stable all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The service.
    pub service: String,
    /// Hash of the file's content when that was decided; another content ends it.
    pub content: String,
    /// What has to be done, for people.
    pub note: String,
}

/// A kill that the weights file does not say yet: it holds all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldKill {
    /// The service; none: every service.
    pub service: Option<Name>,
    /// Why it was killed.
    pub reason: String,
    /// Hash of the file's content when that was decided; another content ends it.
    pub content: String,
    /// What has to be done, for people.
    pub note: String,
}

/// A kill that the weights file said when it last held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidKill {
    /// The service; none: every service.
    pub service: Option<Name>,
    /// Why it was killed.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    service: String,
    /// The weights before the last change of them; a kill changes none.
    before: Option<Record>,
    /// What was live last: all to stable while it is killed.
    live: Record,
    /// The weights without what is above them; none in a record of an older weir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<Record>,
}

// === impl History ===

impl History {
    /// The entries, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }

    /// The newest generation on record.
    pub fn generation(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.generation)
    }

    /// The weights before the last change of `service`.
    pub fn before(&self, service: &str) -> Option<&Weights> {
        self.known(service)?.before.as_ref().map(|record| &record.0)
    }

    /// The weights that were last live for `service`.
    pub fn live(&self, service: &str) -> Option<&Weights> {
        self.known(service).map(|known| &known.live.0)
    }

    /// The weights that `service` had last, without what was above them.
    pub fn own(&self, service: &str) -> Option<&Weights> {
        let known = self.known(service)?;
        known.own.as_ref().or(Some(&known.live)).map(|record| &record.0)
    }

    /// Takes note of the weights that a service has without what is above them (a kill): what they were before is what
    /// `undo` goes back to.
    pub fn note(&mut self, service: &str, weights: &Weights) {
        let now = Record(weights.clone());
        match self.services.iter_mut().find(|known| known.service == service) {
            Some(known) => {
                let own = known.own.take().unwrap_or_else(|| known.live.clone());
                if own != now {
                    known.before = Some(own);
                }
                known.own = Some(now);
            }
            None => {
                let (service, live) = (service.to_owned(), now.clone());
                self.services.push(Known { service, before: None, live, own: Some(now) });
            }
        }
    }

    /// Takes note of a generation and of what is live of each changed service now.
    pub fn push(&mut self, entry: Entry) {
        for change in &entry.changes {
            match self.services.iter_mut().find(|known| known.service == change.service) {
                Some(known) => known.live = change.after.clone(),
                None => self.services.push(Known {
                    service: change.service.clone(),
                    before: change.before.clone(),
                    live: change.after.clone(),
                    own: None,
                }),
            }
        }
        self.entries.push_back(entry);
        while self.entries.len() > HISTORY_MAX {
            self.entries.pop_front();
        }
    }

    /// Forgets services that are no longer named, so that the record stays bounded by the configuration.
    pub fn keep_services(&mut self, named: impl Fn(&str) -> bool) {
        self.services.retain(|known| named(&known.service));
        self.held.retain(|held| named(&held.service));
    }

    /// Rollbacks that the file does not say yet.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Replaces the list of rollbacks that the file does not say yet.
    pub fn hold(&mut self, held: Vec<Held>) {
        self.held = held;
    }

    /// Kills that the file does not say yet.
    pub fn held_kills(&self) -> &[HeldKill] {
        &self.kills
    }

    /// Kills that the file said when it last held.
    pub fn said_kills(&self) -> &[SaidKill] {
        &self.said
    }

    /// Replaces the list of kills that the file said when it last held.
    pub fn say_kills(&mut self, said: Vec<SaidKill>) {
        self.said = said;
    }

    /// Replaces the list of kills that the file does not say yet.
    pub fn hold_kills(&mut self, held: Vec<HeldKill>) {
        self.kills = held;
    }

    fn known(&self, service: &str) -> Option<&Known> {
        self.services.iter().find(|known| known.service == service)
    }
}

// === impl Record ===

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(pool, weight)| {
            let value = match weight {
                Weight::Relative(value) => serde_json::Value::from(value),
                Weight::Percent(_) => serde_json::Value::from(weight.to_string()),
            };
            (pool.clone(), value)
        }))
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let object = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        let entries = object.into_iter().map(|(pool, value)| {
            let pool = Name::new(&pool).map_err(D::Error::custom)?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Ok((pool, Weight::parse(&text).map_err(D::Error::custom)?))
        });
        let entries = entries.collect::<Result<Vec<_>, D::Error>>()?;
        Weights::new(entries).map(Record).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::How;
    use super::*;

    fn weights(stable: u32, canary: u32) -> Weights {
        let name = |text| Name::new(text).expect("a name");
        Weights::new(vec![(name("stable"), Weight::Relative(stable)), (name("canary"), Weight::Relative(canary))])
            .expect("weights")
    }

    fn entry(generation: u64, service: &str, before: Option<Weights>, after: Weights) -> Entry {
        let change = WeightsChange { service: service.into(), before: before.map(Record), after: Record(after) };
        Entry { generation, at: String::new(), cause: Cause::by(How::Api), what: None, changes: vec![change] }
    }

    #[test]
    fn a_busy_neighbour_does_not_take_the_undo_of_a_quiet_service() {
        let mut history = History::default();
        history.note("quiet", &weights(90, 10));
        history.note("quiet", &weights(50, 50));
        history.push(entry(1, "quiet", Some(weights(90, 10)), weights(50, 50)));
        for generation in 2..200 {
            let canary = (generation % 100) as u32;
            history.push(entry(generation, "busy", Some(weights(100, canary)), weights(100, canary + 1)));
        }
        assert_eq!(history.iter().count(), HISTORY_MAX);
        assert_eq!(history.iter().next().expect("newest").generation, 199);
        assert_eq!(history.before("quiet"), Some(&weights(90, 10)));
    }

    #[test]
    fn the_record_survives_a_round_trip_through_json() {
        let percents = Weights::new(vec![
            (Name::new("stable").expect("a name"), Weight::Percent(995_000)),
            (Name::new("canary").expect("a name"), Weight::Percent(5_000)),
        ]);
        let mut history = History::default();
        history.push(entry(7, "engine", Some(weights(90, 10)), percents.expect("weights")));
        history.hold(vec![Held { service: "engine".into(), content: "abc".into(), note: "edit it".into() }]);
        let text = serde_json::to_string(&history).expect("json");
        assert!(text.contains(r#"{"stable":"99.5%","canary":"0.5%"}"#), "{text}");
        assert_eq!(serde_json::from_str::<History>(&text).expect("back"), history);
    }

    #[test]
    fn a_record_with_all_zero_is_refused() {
        assert!(serde_json::from_str::<Record>(r#"{"stable":0}"#).is_err());
    }
}
