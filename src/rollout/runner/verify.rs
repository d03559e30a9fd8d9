//! After a rollback: is stable well, does nothing go to the candidate any more, are the errors back to normal?

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::outside::{self, Context};
use super::super::verdict::Outcome;
use super::context::places;
use super::levers;
use super::office::Office;
use crate::model::Why;
use crate::model::rollout::RolloutPlan;
use crate::switchboard::snapshot::Pool;
use crate::telemetry::clock;
use crate::telemetry::reading::Reading;
use crate::upstream::endpoint::Admission;

/// How long the traffic is watched for one look.
const LOOK: Duration = Duration::from_millis(1_000);

/// Failed attempts of stable from which its rate says anything.
const ERRORS_MIN: u64 = 5;

/// What stable may fail, as a ratio, and still be well; the guard's default for a candidate.
const ERRORS_PART_MAX: f64 = 0.2;

/// What one look saw.
#[derive(Debug, Clone, Copy)]
struct Seen {
    serving: bool,
    to_candidate: u64,
    attempts: u64,
    errors: u64,
}

/// Looks again and again until everything holds or the time is over; whether it holds, and what was seen.
pub(in crate::rollout) async fn verify(office: &Office, plan: &RolloutPlan) -> (bool, String) {
    let policy = &plan.rollback.verify;
    let mut detail = String::new();
    for round in 0..=policy.retries {
        if round > 0 {
            sleep(policy.retry_delay).await;
        }
        let deadline = Instant::now() + policy.timeout;
        loop {
            let wrong = match look(office, plan).await {
                Ok(seen) => asked(office, plan).await.map(|said| format!("{seen}{said}")),
                Err(wrong) => Err(wrong),
            };
            match wrong {
                Ok(seen) => return (true, seen),
                Err(wrong) => detail = wrong,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
    }
    (false, detail)
}

/// The plan's own request to stable, if it has one.
async fn asked(office: &Office, plan: &RolloutPlan) -> Result<String, String> {
    let Some(check) = &plan.rollback.verify.http else { return Ok(String::new()) };
    let endpoints = places(office, &plan.service, None);
    let context = Context { service: plan.service.to_string(), endpoints, ..Context::default() };
    match outside::request(check, &context).await {
        Outcome::Passed { detail, .. } => Ok(format!("; {detail}")),
        Outcome::Failed { detail, .. } | Outcome::Unavailable { detail } | Outcome::Waiting { detail } => Err(detail),
    }
}

async fn look(office: &Office, plan: &RolloutPlan) -> Result<String, String> {
    let before = read(office, plan)?;
    sleep(LOOK).await;
    let after = read(office, plan)?;
    let counts = after.stable.since(&before.stable).placed();
    let seen = Seen {
        serving: after.serving,
        to_candidate: after.to_candidate.saturating_sub(before.to_candidate),
        attempts: counts.attempts,
        errors: counts.errors,
    };
    judge(seen)
}

fn judge(seen: Seen) -> Result<String, String> {
    if !seen.serving {
        return Err("no endpoint of stable serves".into());
    }
    if seen.to_candidate > 0 {
        return Err(format!("{} new requests went to the candidate within a second", seen.to_candidate));
    }
    let part = seen.errors as f64 / seen.attempts.max(1) as f64;
    if seen.errors >= ERRORS_MIN && part > ERRORS_PART_MAX {
        return Err(format!("stable fails {} of {} requests", seen.errors, seen.attempts));
    }
    Ok(format!(
        "stable serves, no new request went to the candidate, {} of {} requests to stable failed",
        seen.errors, seen.attempts
    ))
}

struct Looked {
    serving: bool,
    to_candidate: u64,
    stable: Reading,
}

fn read(office: &Office, plan: &RolloutPlan) -> Result<Looked, String> {
    let snapshot = office.switchboard.snapshot().load_full();
    let service = levers::service(&snapshot, &plan.service).ok_or("the service is gone")?;
    let (stable, now_ms) = (&service.pools[service.stable], clock::now().mono_ms);
    let candidate = service.pools.iter().find(|pool| pool.name == plan.candidate);
    Ok(Looked {
        serving: stable.endpoints.iter().any(|endpoint| endpoint.admission(now_ms) == Admission::Serving),
        to_candidate: candidate.map_or(0, placed),
        stable: Reading::of(&stable.state.meter),
    })
}

/// Requests that the weights sent to the pool.
fn placed(pool: &Pool) -> u64 {
    let of = |why: Why| pool.state.meter.sum(|shard| shard.why[why as usize].value());
    of(Why::Weight) + of(Why::Bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_to_a_dead_or_failing_stable_is_not_verified() {
        let well = Seen { serving: true, to_candidate: 0, attempts: 100, errors: 1 };
        assert!(judge(well).is_ok());
        assert!(judge(Seen { serving: false, ..well }).is_err());
        assert!(judge(Seen { to_candidate: 1, ..well }).is_err());
        assert!(judge(Seen { errors: 60, ..well }).is_err());
        assert!(judge(Seen { attempts: 0, errors: 0, ..well }).is_ok(), "a quiet service is well");
    }
}
