//! Everything was sent to a stable pool in which nothing serves: an alarm, at once. That a stable pool that had
//! everything all along dies is no news of a rollout or a kill; it is in `status`, in the metrics and in the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::office::Office;
use super::meters::pool_serves;
use crate::model::{Name, OnKill, Weights};
use crate::switchboard::snapshot::{Pool, Service, Snapshot};
use crate::telemetry::clock;

/// How long after a move the death of stable is put down to it: connections that are refused take a moment to show.
const AFTER: Duration = Duration::from_secs(10);

/// Endpoints that are named with what is wrong with them.
const NAMED_MAX: usize = 3;

/// Where the traffic of each service went at the last look.
#[derive(Debug, Default)]
pub(super) struct Dead(BTreeMap<Name, Went>);

#[derive(Debug)]
struct Went {
    weights: Weights,
    killed: bool,
    moved: Option<Instant>,
    told: bool,
}

// === impl Dead ===

impl Dead {
    /// Looks at every service, and tells what is new.
    pub(super) fn look(&mut self, office: &Office, snapshot: &Snapshot) {
        self.0.retain(|name, _| snapshot.services.iter().any(|service| service.name == *name));
        let now_ms = clock::now().mono_ms;
        for service in &snapshot.services {
            let (weights, killed) = (service.weights.clone(), service.killed.is_some());
            let first = || Went { weights: weights.clone(), killed, moved: None, told: false };
            let went = self.0.entry(service.name.clone()).or_insert_with(first);
            if went.killed != killed || went.weights != weights {
                *went = Went { weights, killed, moved: Some(Instant::now()), told: false };
            }
            let dead = only_stable(service) && !pool_serves(&service.pools[service.stable], now_ms);
            let lately = went.moved.is_some_and(|moved| moved.elapsed() <= AFTER);
            if dead && lately && !went.told {
                office.alarm(&service.name, None, words(service, now_ms));
            }
            went.told = dead && (went.told || lately);
        }
    }
}

/// Whether nothing but stable is meant to answer.
fn only_stable(service: &Service) -> bool {
    let closed = service.closed.is_some() || service.killed.is_some() && service.spec.on_kill == OnKill::Maintenance;
    let others = || (0..service.pools.len()).any(|index| index != service.stable && service.takes_traffic(index));
    !closed && (service.killed.is_some() || !others())
}

fn words(service: &Service, now_ms: u64) -> String {
    let (name, stable) = (&service.name, &service.pools[service.stable]);
    let (since, back) = match &service.killed {
        Some(killed) if killed.system => ("the kill", "weir unkill --all".to_owned()),
        Some(_) => ("the kill", format!("weir unkill {name}")),
        None => ("the weights moved", format!("weir undo {name}")),
    };
    let serves = |(index, pool): &(usize, &Pool)| *index != service.stable && pool_serves(pool, now_ms);
    let other = service.pools.iter().enumerate().find(serves);
    let remedy = match other {
        Some((_, pool)) => format!("`{back}` brings {} back, which serves", pool.name),
        None => "nothing else of the service serves either".into(),
    };
    format!(
        "nothing serves in {} and everything of {name} goes there since {since}: clients get 503 now; {remedy}",
        down(stable)
    )
}

/// A pool in which nothing serves, with what is wrong with its endpoints: `stable (127.0.0.1:80: connection refused)`.
pub(in crate::rollout) fn down(pool: &Pool) -> String {
    let said = |endpoint: &std::sync::Arc<crate::upstream::endpoint::Endpoint>| {
        let why = endpoint.state().last_error;
        why.map_or_else(|| endpoint.id.addr.to_string(), |why| format!("{}: {why}", endpoint.id.addr))
    };
    let mut named: Vec<String> = pool.endpoints.iter().take(NAMED_MAX).map(said).collect();
    match pool.endpoints.len() {
        0 => named.push("it has no endpoint".into()),
        all if all > NAMED_MAX => named.push("and others".into()),
        _ => {}
    }
    format!("{} ({})", pool.name, named.join(", "))
}
