//! The actions of a moment, one after the other, each with its deadline. What fails is told; whether the rest is left
//! out is the plan's word. None of them keeps traffic from going back: that has happened when they begin.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::event::{Kind, Severity};
use super::super::machine::Rollout;
use super::super::outside::act::act;
use super::super::stream::Draft;
use super::context::context;
use super::count;
use super::levers;
use super::office::Office;
use crate::model::rollout::{Act, OnActionError, PlannedAction, Share};

/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(50);

/// Does these in order; whether none that stops failed, and what came of them, in words. After a crash they are done
/// from the first one on again: who hears twice of a rollback is better off than who never hears of it.
pub(super) async fn run(office: &Arc<Office>, rollout: &Rollout, actions: &[PlannedAction]) -> (bool, String) {
    let mut said = Vec::new();
    for (index, action) in actions.iter().enumerate() {
        let done = match rollout.plan.dry_run {
            true => Ok("left out, this is a dry run".into()),
            false => one(office, rollout, action).await,
        };
        let (severity, word) = match &done {
            Ok(word) => (Severity::Info, word),
            Err(why) => (Severity::Warning, why),
        };
        let message = format!("{}: {word}", action.name);
        tell(
            office,
            rollout,
            severity,
            message.clone(),
            serde_json::json!({ "action": action.name, "ok": done.is_ok() }),
        );
        said.push(message);
        if done.is_err() && action.on_error == OnActionError::Stop {
            let rest: Vec<&str> = actions[index + 1..].iter().map(|action| action.name.as_str()).collect();
            if !rest.is_empty() {
                said.push(format!("left out: {}", rest.join(", ")));
            }
            return (false, said.join("; "));
        }
    }
    (true, said.join("; "))
}

async fn one(office: &Office, rollout: &Rollout, action: &PlannedAction) -> Result<String, String> {
    match &action.act {
        Act::StopNewTraffic => stopped(office, rollout, action.timeout).await,
        Act::DrainConnections => drained(office, rollout, action.timeout).await,
        Act::Webhook(_) | Act::Command(_) => {
            act(&action.act, &context(office, rollout, format!("action {}", action.name))).await
        }
    }
}

/// The weights went back before any action: here it is seen that they did.
async fn stopped(office: &Office, rollout: &Rollout, within: Duration) -> Result<String, String> {
    let gone = until(within, || match levers::live_share(&office.switchboard, &rollout.plan) {
        Some(share) if share > Share::ZERO => Err(format!("the weights still give the candidate {share}")),
        Some(_) | None => Ok(()),
    });
    gone.await.map(|()| "no new request goes to the candidate".into())
}

/// Waits until nothing is in flight to the candidate.
async fn drained(office: &Office, rollout: &Rollout, within: Duration) -> Result<String, String> {
    let began = Instant::now();
    let gone = until(within, || {
        let snapshot = office.switchboard.snapshot().load_full();
        let service = levers::service(&snapshot, &rollout.plan.service);
        let pool = service.and_then(|service| service.pools.iter().find(|pool| pool.name == rollout.plan.candidate));
        match pool.map_or(0, count::in_flight) {
            0 => Ok(()),
            1 => Err("1 request is still in flight to the candidate".into()),
            left => Err(format!("{left} requests are still in flight to the candidate")),
        }
    });
    gone.await.map(|()| format!("nothing is in flight to the candidate, after {:.1} s", began.elapsed().as_secs_f64()))
}

/// Looks until it holds or the time is over; then what is wrong.
async fn until(within: Duration, mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(wrong) if Instant::now() >= deadline => {
                return Err(format!("{wrong} after {} s", within.as_secs_f64()));
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Tells what an action or a sweep did.
pub(super) fn tell(office: &Office, rollout: &Rollout, severity: Severity, message: String, data: serde_json::Value) {
    office.tell(Draft {
        kind: Kind::Action,
        severity,
        service: rollout.plan.service.to_string(),
        rollout_id: Some(rollout.id.clone()),
        who: "weir".into(),
        message,
        data,
    });
}
