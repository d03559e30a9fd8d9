//! Kill switches by name: what each does, and what people tell it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kill::cause;
use super::{By, Desk, DeskError};
use crate::model::{Limit, Pools, Scope, Trigger};
use crate::rollout::runner::office::now_ms;
use crate::rollout::runner::switches;
pub use crate::rollout::runner::switches::{Shown, Word};
use crate::rollout::view::rfc3339;

// === impl Desk ===

impl Desk {
    /// Every kill switch, in the order of the configuration; none when the engine does not run.
    pub fn switches(&self) -> Vec<Arc<Shown>> {
        self.office().map(|office| office.switches.shown().to_vec()).unwrap_or_default()
    }

    /// One kill switch.
    pub fn switch(&self, name: &str) -> Result<Arc<Shown>, DeskError> {
        self.office()?;
        let found = self.switches().into_iter().find(|shown| shown.spec.name.as_str() == name);
        found.ok_or_else(|| DeskError::UnknownSwitch(name.chars().take(100).collect()))
    }

    /// What the switch of that name would kill.
    pub fn switch_scope(&self, name: &str) -> Result<Scope, DeskError> {
        let unknown = || DeskError::UnknownSwitch(name.chars().take(100).collect());
        switches::scope_of(self.office()?, name).ok_or_else(unknown)
    }

    /// Tells a kill switch something. A pull moves the traffic before anything else is waited for.
    pub async fn tell_switch(&self, name: &str, word: Word, by: &By) -> Result<Arc<Shown>, DeskError> {
        let office = self.office()?;
        office.switches.word(office, name, word, by, cause(by)).await
    }
}

// === impl Shown ===

impl Shown {
    /// As it is answered: the configuration, then what it does.
    pub fn json(&self) -> Value {
        let (spec, switch) = (&self.spec, &self.switch);
        let service = match &spec.scope {
            Scope::System => None,
            Scope::Service(name) => Some(name),
        };
        let recovery = spec.recovery.unwrap_or_default();
        let counts_down = switch.left_ms > 0;
        json!({
            "name": spec.name,
            "description": spec.description,
            "scope": if service.is_some() { "service" } else { "system" },
            "service": service,
            "targetComponent": service,
            "triggerConditions": spec.triggers.iter().map(condition).collect::<Vec<_>>(),
            "autoRecovery": {
                "enabled": spec.recovery.is_some(),
                "delayMs": recovery.delay.as_millis() as u64,
                "maxAttempts": recovery.attempts,
                "probationMs": recovery.probation.as_millis() as u64,
                "cooldownMs": recovery.cooldown.as_millis() as u64,
                "recoveryActions": [],
            },
            "gracePeriodMs": spec.grace.as_millis() as u64,
            "priority": spec.priority.as_str(),
            "enabled": spec.enabled,
            "state": switch.state,
            "since": (switch.since_ms > 0).then(|| rfc3339(switch.since_ms)),
            "forMs": (switch.since_ms > 0).then(|| now_ms().saturating_sub(switch.since_ms)),
            "who": switch.who,
            "reason": switch.why,
            "byPerson": switch.foreign,
            "leftMs": counts_down.then_some(switch.left_ms),
            "attempt": switch.attempts,
            "maxAttempts": spec.recovery.map(|recovery| recovery.attempts),
            "trips": self.kills,
        })
    }
}

fn condition(trigger: &Trigger) -> Value {
    let (kind, threshold, quantile) = match trigger.limit {
        Limit::ErrorRate(max) => ("error_rate", Some(max * 100.0), None),
        Limit::Latency { quantile, max } => ("latency", Some(max.as_secs_f64() * 1000.0), Some(quantile)),
        Limit::NoEndpoint => ("no_endpoint", None, None),
    };
    json!({
        "type": kind,
        "threshold": threshold,
        "quantile": quantile,
        "component": trigger.service,
        "pools": if trigger.pools == Pools::All { "all" } else { "candidates" },
        "windowMs": trigger.window.as_millis() as u64,
        "minSamples": trigger.min_samples,
    })
}
