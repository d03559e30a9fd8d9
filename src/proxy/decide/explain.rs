//! What would become of a described request, step by step, for `explain`: the same decision as the data plane's, and
//! what led to it. Nothing is sent, and no splitter or breaker is moved.

use std::net::IpAddr;

use serde::Serialize;

use super::admit::foresee;
use super::dice::{Rng, Splitters};
use super::{Dice, Question, decide};
use crate::model::{AffinityBy, Head, Now, Why};
use crate::proxy::heads::outgoing::edit;
use crate::routing::cookie::TicketCache;
use crate::switchboard::snapshot::{Service, Snapshot};

/// An explanation.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The generation that it holds for.
    pub generation: u64,
    /// The routes in order of precedence, up to the one that matched.
    pub routes: Vec<RouteTried>,
    /// The route that matched.
    pub route: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The pool that serves.
    pub pool: Option<String>,
    /// Why that pool, as in the access log.
    pub why: Option<&'static str>,
    /// The same in a sentence.
    pub reason: String,
    /// The unit's bucket, when something sticks.
    pub bucket: Option<u32>,
    /// Each pool's weight and share of what does not stick.
    pub shares: Vec<PoolShare>,
    /// The endpoint that would be tried first, as `address`.
    pub endpoint: Option<String>,
    /// The path as the endpoint sees it, when it is changed.
    pub forwarded_path: Option<String>,
    /// The status that weir answers itself, when nothing is forwarded.
    pub status: Option<u16>,
}

/// A route that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct RouteTried {
    /// Its name.
    pub name: String,
    /// Whether it matched.
    pub matched: bool,
}

/// A pool's part.
#[derive(Debug, Clone, Serialize)]
pub struct PoolShare {
    /// The pool.
    pub pool: String,
    /// Its weight.
    pub weight: u32,
    /// Its share, `0.0..=1.0`.
    pub share: f64,
}

/// Explains one request that comes by the listener of that index.
pub fn explain(snapshot: &Snapshot, listener: usize, head: &Head, client: IpAddr, now: Now) -> Explanation {
    // A trial is never taken by an explanation: what it describes is not sent.
    let question = Question { snapshot, listener, head, client, now, worker: 0, repeatable: false, at: None };
    let (mut splitters, mut tickets, mut rng) = (Splitters::default(), TicketCache::new(), Rng::new(now.mono_ms));
    let mut dice = Dice { splitters: &mut splitters, tickets: &mut tickets, rng: &mut rng };
    let decided = decide(&question, &mut dice);
    let pinned = snapshot.listeners[listener].pin.is_some();
    let found = if pinned { None } else { snapshot.table.find_index(head, client) };
    let tried = snapshot.table.routes().iter().enumerate().take_while(|(index, _)| found.is_none_or(|it| *index <= it));
    let mut explanation = Explanation {
        generation: snapshot.generation,
        routes: tried
            .filter(|_| !pinned)
            .map(|(index, route)| RouteTried { name: route.spec.name.clone(), matched: Some(index) == found })
            .collect(),
        route: found.map(|index| snapshot.table.routes()[index].spec.name.clone()),
        service: None,
        pool: None,
        why: None,
        reason: String::new(),
        bucket: None,
        shares: Vec::new(),
        endpoint: None,
        forwarded_path: None,
        status: None,
    };
    match decided {
        Err(refusal) => {
            explanation.status = Some(refusal.status());
            explanation.reason = refusal.to_string();
        }
        Ok(decision) => {
            let decision = foresee(&question, decision, &mut rng);
            let service = &snapshot.services[decision.service];
            let pool = &service.pools[decision.pool];
            explanation.service = Some(service.name.to_string());
            explanation.pool = Some(pool.name.to_string());
            explanation.why = Some(decision.why.as_str());
            explanation.bucket = decision.bucket;
            explanation.shares = shares(service);
            explanation.endpoint = Some(pool.endpoints[decision.endpoint].id.addr.to_string());
            explanation.forwarded_path =
                edit(snapshot, &decision).and_then(|(prefix, with)| forwarded(head.target(), prefix, with));
            let meant = &service.pools[decision.meant].name;
            explanation.reason = match decision.why {
                Why::Bucket if decision.issue && !shows_ticket(&mut tickets, snapshot, service, head) => format!(
                    "no valid affinity cookie was shown; a new client draws a bucket, and this draw, {}, fell on {}",
                    decision.bucket.unwrap_or_default(),
                    pool.name
                ),
                Why::Kill => {
                    let reason = service.killed.as_ref().map_or("", |killed| killed.reason.as_str());
                    format!("the service is killed ({reason}), so everything goes to {}", pool.name)
                }
                why => sentence(why, &pool.name, meant, decision.bucket),
            };
        }
    }
    explanation
}

/// Whether a genuine affinity cookie is among the cookies.
fn shows_ticket(tickets: &mut TicketCache, snapshot: &Snapshot, service: &Service, head: &Head) -> bool {
    let AffinityBy::Cookie { name, .. } = &service.spec.affinity.by else { return false };
    head.cookies(name).any(|value| tickets.verify(&snapshot.keys, &service.name, value).is_some())
}

fn shares(service: &Service) -> Vec<PoolShare> {
    let share = |(index, pool): (usize, &crate::switchboard::snapshot::Pool)| PoolShare {
        pool: pool.name.to_string(),
        weight: pool.weight,
        share: service.split.share(index),
    };
    service.pools.iter().enumerate().map(share).collect()
}

fn forwarded(target: &str, prefix: &str, with: Option<&str>) -> Option<String> {
    match with {
        None => crate::routing::path::strip(target, prefix).map(|path| path.into_owned()),
        Some(with) => crate::routing::path::replace(target, prefix, with),
    }
}

fn sentence(why: Why, pool: &str, meant: &str, bucket: Option<u32>) -> String {
    let bucket = bucket.unwrap_or_default();
    match why {
        Why::Weight => format!("nothing sticks, so the splitter draws by the weights; this draw fell on {pool}"),
        Why::Bucket => format!("the affinity cookie's bucket {bucket} lies in the range of {pool}"),
        Why::Header => format!("the affinity header hashes to bucket {bucket}, in the range of {pool}"),
        Why::ClientIp => format!("the client's address hashes to bucket {bucket}, in the range of {pool}"),
        Why::Drain => format!("{pool} is at 0 and drains; this client was bound to it before"),
        Why::Route => format!("the route names {pool}"),
        Why::Path => format!("the direct path names {pool}"),
        Why::Listener => format!("the listener is pinned to {pool}"),
        Why::Override => format!("the override header names {pool}"),
        Why::Cohort => format!("a header of the rollout's cohort names {pool}"),
        Why::Kill => format!("the service is killed, so everything goes to {pool}"),
        Why::Failover => format!("{meant} was meant, but nothing of it serves; {pool} takes its share"),
        Why::Spill => format!("{meant} was meant, but it is full (max_in_flight); {pool} takes what it cannot"),
        Why::Retry => format!("a first attempt failed; {pool} was tried next"),
    }
}
