//! Looking: rollouts, events. Nothing here waits for a runner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

use super::{Desk, DeskError, ID_BYTES_MAX};
use crate::model::AffinityBy;
use crate::rollout::event::{Event, Kind};
use crate::rollout::journal::Health;
use crate::rollout::journal::audit::Chained;
use crate::rollout::machine::State;
use crate::rollout::record::Record;
use crate::rollout::report::json;
use crate::rollout::runner::office::now_ms;
use crate::rollout::runner::{count, levers, shares};
use crate::rollout::view::View;
use crate::switchboard::snapshot::Pool;
use crate::telemetry::clock;
use crate::upstream::endpoint::Admission;

/// Rollouts of the journal in one list.
const KEPT_LISTED: u64 = 500;

/// Events that are read from the journal at once.
const KEPT_EVENTS: usize = 1_000;

/// Entries of the audit log that a filter looks through.
const AUDIT_LOOKED: usize = 10_000;

/// Events of one report.
const REPORT_EVENTS_MAX: usize = 500;

// === impl Desk ===

impl Desk {
    /// One rollout, live or ended.
    pub async fn one(&self, id: &str) -> Result<Arc<View>, DeskError> {
        let office = self.office()?;
        if let Some(seat) = office.seat(id) {
            return Ok(seat.view.load_full());
        }
        let ended = office.ended().iter().find(|view| view.rollout.id == id).cloned();
        if let Some(view) = ended {
            return Ok(view);
        }
        let kept = office.keeper.rollout(id).await.map(|kept| Arc::new(office.view_of(kept)));
        kept.ok_or_else(|| DeskError::Unknown(id.chars().take(ID_BYTES_MAX).collect()))
    }

    /// The rollouts that hold a service, then those that ended, newest first.
    pub async fn list(&self) -> Result<Vec<Arc<View>>, DeskError> {
        let office = self.office()?;
        let mut views: Vec<_> = office.seats().values().map(|seat| seat.view.load_full()).collect();
        let known = |views: &[Arc<View>], id: &str| views.iter().any(|view| view.rollout.id == id);
        let ended: Vec<_> = office.ended().iter().cloned().collect();
        let kept = office.keeper.rollouts(KEPT_LISTED).await;
        let kept = kept.into_iter().map(|kept| Arc::new(office.view_of(kept)));
        for view in ended.into_iter().chain(kept) {
            if !known(&views, &view.rollout.id) {
                views.push(view);
            }
        }
        views.sort_by_key(|view| (!view.rollout.state.is_live(), std::cmp::Reverse(view.rollout.started_at_ms)));
        Ok(views)
    }

    /// Events after the one with this number, oldest first, at most `most`.
    pub async fn events(&self, after: u64, most: usize) -> Result<Vec<Arc<Event>>, DeskError> {
        let office = self.office()?;
        let mut events = match office.stream.recent_after(after) {
            Some(events) => events,
            None => {
                let kept = office.keeper.events(after, most.min(KEPT_EVENTS) as u64).await;
                // What is neither in memory nor can be read is gone; what is in memory still counts.
                let kept = kept.map(|events| events.into_iter().map(Arc::new).collect());
                kept.filter(|events: &Vec<_>| !events.is_empty()).unwrap_or_else(|| office.stream.recent())
            }
        };
        events.truncate(most);
        Ok(events)
    }

    /// The number of the newest event.
    pub fn last_event(&self) -> Result<u64, DeskError> {
        Ok(self.office()?.stream.last())
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Result<broadcast::Receiver<Arc<Event>>, DeskError> {
        Ok(self.office()?.stream.subscribe())
    }

    /// The newest events of one rollout, oldest first: those of the processes before this one are in the journal.
    pub async fn history_of(&self, id: &str, most: usize) -> Vec<Arc<Event>> {
        let recent = self.events_of(id, most);
        let whole = recent.iter().any(|event| event.kind == Kind::RolloutInitiated) || recent.len() >= most;
        let Some(office) = self.office().ok().filter(|_| !whole) else { return recent };
        let before = recent.first().map_or(u64::MAX, |event| event.id);
        let kept = office.keeper.events_of(id, before, (most - recent.len()) as u64).await;
        kept.into_iter().map(Arc::new).chain(recent).collect()
    }

    /// The newest events of one rollout that are in memory, oldest first.
    pub fn events_of(&self, id: &str, most: usize) -> Vec<Arc<Event>> {
        self.office().map(|office| office.stream.recent_of(id, most)).unwrap_or_default()
    }

    /// The ticks of a rollout, oldest first.
    pub async fn ticks(&self, id: &str) -> Result<Vec<Record>, DeskError> {
        self.one(id).await?;
        let office = self.office()?;
        let recent = office.records(id);
        if recent.first().is_some_and(|first| first.n == 1) {
            return Ok(recent);
        }
        // This process has not seen its beginning: the rest is in the journal.
        let first = recent.first().map_or(u64::MAX, |record| record.n);
        let kept = office.keeper.ticks(id).await.into_iter().filter(|tick| tick.n < first);
        Ok(kept.map(Record::of).chain(recent).collect())
    }

    /// The report of a rollout.
    pub async fn report(&self, id: &str) -> Result<Value, DeskError> {
        let view = self.one(id).await?;
        let (ticks, events) = (self.ticks(id).await?, self.history_of(id, REPORT_EVENTS_MAX).await);
        let events: Vec<Event> = events.iter().map(|event| Event::clone(event)).collect();
        Ok(json::report(&json::Parts { view: &view, ticks: &ticks, events: &events, at_ms: now_ms() }))
    }

    /// What a rollback of this rollout would do now, without doing it.
    pub async fn impact(&self, id: &str) -> Result<Impact, DeskError> {
        let (office, view) = (self.office()?, self.one(id).await?);
        let snapshot = office.switchboard.snapshot().load_full();
        let plan = &view.rollout.plan;
        let service = levers::service(&snapshot, &plan.service);
        let service = service.ok_or_else(|| DeskError::Invalid(format!("service {} is gone", plan.service)))?;
        let candidate = service.pools.iter().find(|pool| pool.name == plan.candidate);
        let share = shares::share_of(&service.weights, &plan.candidate);
        let sticky = !matches!(service.spec.affinity.by, AffinityBy::None);
        let stable = &service.pools[service.stable];
        let now = clock::now().mono_ms;
        let serving = |pool: &Pool| {
            let takes = pool.endpoints.iter().filter(|endpoint| endpoint.admission(now) == Admission::Serving);
            takes.count()
        };
        let tick = view.tick.as_ref().filter(|tick| tick.elapsed_ms > 0);
        Ok(Impact {
            rollout_id: view.rollout.id.clone(),
            service: plan.service.to_string(),
            percent: share.percent(),
            buckets: sticky.then_some(share.buckets()),
            requests_in_flight: candidate.map_or(0, count::in_flight),
            requests_per_s: tick.map(|tick| tick.candidate.attempts as f64 * 1000.0 / tick.elapsed_ms as f64),
            stable: stable.name.to_string(),
            stable_endpoints_serving: serving(stable),
            stable_endpoints: stable.endpoints.len(),
            steps: levers::steps_back(plan, share),
        })
    }

    /// The rollouts that hold a service; none when the engine does not run.
    pub fn live(&self) -> Vec<Arc<View>> {
        let Ok(office) = self.office() else { return Vec::new() };
        office.seats().values().map(|seat| seat.view.load_full()).collect()
    }

    /// What the engine counted of itself; none when it does not run.
    pub fn counted(&self) -> Option<Counted> {
        let office = self.office().ok()?;
        let counts = &office.counts;
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(Counted {
            ticks: value(&counts.ticks),
            judge_ns: value(&counts.judge_ns),
            judge_longest_ns: value(&counts.judge_max_ns),
            rollbacks_automatic: value(&counts.rollbacks_automatic),
            rollbacks_manual: value(&counts.rollbacks_manual),
            falls: value(&counts.restarts),
            journal_errors: office.keeper.errors(),
        })
    }

    /// Sweeps under way.
    pub fn sweeps(&self) -> usize {
        self.office().map_or(0, |office| office.sweeps.count())
    }

    /// How long the journal keeps what is over; none: by number only.
    pub fn retain(&self, time: Option<Duration>) {
        if let Ok(office) = self.office() {
            office.keeper.retain(time);
        }
    }

    /// How the journal is.
    pub fn journal(&self) -> Option<Health> {
        self.office().ok().map(|office| office.keeper.health())
    }

    /// What is wrong with the journal, and what helps; none when all is well.
    pub fn trouble(&self) -> Option<String> {
        self.office().ok()?.trouble()
    }

    /// What became of the rollouts that are known, by service or of all.
    pub async fn statistics(&self, service: Option<&str>) -> Result<Value, DeskError> {
        let (office, views) = (self.office()?, self.list().await?);
        let own = |view: &&Arc<View>| service.is_none_or(|service| view.rollout.plan.service.as_str() == service);
        let views: Vec<_> = views.iter().filter(own).collect();
        let of = |state: State| views.iter().filter(|view| view.rollout.state == state).count();
        let took = |view: &&&Arc<View>| Some(view.rollout.ended_at_ms?.saturating_sub(view.rollout.started_at_ms));
        let times: Vec<u64> = views.iter().filter_map(|view| took(&view)).collect();
        let ended = of(State::Completed) + of(State::RolledBack);
        let part = |count: usize| (ended > 0).then(|| count as f64 / ended as f64);
        let counts = &office.counts;
        Ok(serde_json::json!({
            "service": service,
            "total": views.len(),
            "live": views.iter().filter(|view| view.rollout.state.is_live()).count(),
            "completed": of(State::Completed),
            "rolledBack": of(State::RolledBack),
            "successRate": part(of(State::Completed)),
            "averageDurationMs": (!times.is_empty()).then(|| times.iter().sum::<u64>() / times.len() as u64),
            "automaticRollbacks": counts.rollbacks_automatic.load(Ordering::Relaxed),
            "manualRollbacks": counts.rollbacks_manual.load(Ordering::Relaxed),
        }))
    }
}

/// What the engine counted of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Looks at rollouts.
    pub ticks: u64,
    /// Time that judging took in all, in ns.
    pub judge_ns: u64,
    /// The longest of it, in ns.
    pub judge_longest_ns: u64,
    /// Rollbacks by weir.
    pub rollbacks_automatic: u64,
    /// Rollbacks by people.
    pub rollbacks_manual: u64,
    /// Runners that fell over.
    pub falls: u64,
    /// What could not be kept in time.
    pub journal_errors: u64,
}

/// What a rollback would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    /// The rollout.
    pub rollout_id: String,
    /// Its service.
    pub service: String,
    /// What the candidate has now, and would lose.
    pub percent: f64,
    /// Of 1 000 000 buckets of units, those that would move; none where nothing sticks.
    pub buckets: Option<u32>,
    /// Requests now with the candidate; they finish there.
    pub requests_in_flight: u64,
    /// What stable would get in addition.
    pub requests_per_s: Option<f64>,
    /// Where everything would go.
    pub stable: String,
    /// Endpoints of stable that serve, of all.
    pub stable_endpoints_serving: usize,
    /// See `stable_endpoints_serving`.
    pub stable_endpoints: usize,
    /// The shares of an automatic rollback, in percent, one after the other.
    pub steps: Vec<f64>,
}

// === what the journal tells ===

impl Desk {
    /// The audit log, newest first.
    pub async fn audit_log(&self, service: Option<&str>, most: usize) -> Result<Value, DeskError> {
        let keeper = &self.office()?.keeper;
        keeper.flush().await;
        // A filter looks through more than it gives.
        let looked = if service.is_some() { AUDIT_LOOKED } else { most };
        let entries = keeper.audit_log(looked as u64).await;
        let fits = |entry: &&Chained| service.is_none_or(|service| entry.entry.service == service);
        let entries: Vec<&Chained> = entries.iter().filter(fits).take(most).collect();
        Ok(serde_json::json!({ "entries": entries }))
    }

    /// Whether its chain is whole.
    pub async fn verify_audit(&self) -> Result<Value, DeskError> {
        let office = self.office()?;
        let verified = office.keeper.verify_audit().await;
        let why = || office.trouble().unwrap_or_else(|| "it cannot be read".into());
        let verified =
            verified.ok_or_else(|| DeskError::Illegal(format!("no audit log can be verified: {}", why())))?;
        Ok(serde_json::to_value(verified).unwrap_or_default())
    }
}
