//! Which route, which pool, which endpoint: synchronous, over one snapshot, with no clock or dice of its own.
//!
//! Order: kill, listener pin, direct path, override, route's pool, cohort, affinity bucket, splitter. Rate limits are
//! asked as soon as service and route are known, before anything is drawn: what they refuse is no part of the split.
//! Weight 0 never receives a new request by weight; what names a pool outright (`named`) reaches it at any weight. A
//! killed service sends everything to stable, however the request came; a pool under maintenance is sent nothing.

pub(in crate::proxy) mod admit;
pub mod balance;
pub mod dice;
pub mod explain;
pub(in crate::proxy) mod named;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use self::balance::{last_resort, pick};
use self::dice::{Rng, Splitters};
use self::named::{direct_path, in_cohort, overridden};
use crate::model::{AffinityBy, BUCKETS, Direct, Head, Now, OnKill, OnPoolDown, Why};
use crate::proxy::h1::request::Refused;
use crate::proxy::refusal::Refusal;
use crate::routing::bucket::{bucket_of, client_unit};
use crate::routing::cookie::TicketCache;
use crate::routing::matcher::contains;
use crate::routing::path::{escapes_prefix, has_dot_segments, is_ambiguous};
use crate::switchboard::snapshot::{Service, Snapshot};
use crate::throttle::limit::{self, Asked};

/// Cookies of the affinity cookie's name that are looked at; checking one costs a hash.
const COOKIES_MAX: usize = 4;

/// What is asked: one request, one snapshot, one moment.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// Index of the listener that it came in by.
    pub listener: usize,
    /// The head.
    pub head: &'a Head,
    /// The client, as trusted proxies tell it.
    pub client: IpAddr,
    /// The moment.
    pub now: Now,
    /// This worker, for in-flight counts.
    pub worker: usize,
    /// Whether the request could be tried again if it failed: such a request goes first when an
    /// ejected endpoint is to be tried.
    pub repeatable: bool,
    /// When it came, for what is spent of rate limits; none: it is described and not sent, and spends nothing.
    pub at: Option<Instant>,
}

/// A worker's chance and memory.
#[derive(Debug)]
pub struct Dice<'a> {
    /// Splitters by service slot.
    pub splitters: &'a mut Splitters,
    /// Verified cookies.
    pub tickets: &'a mut TicketCache,
    /// Choices that nobody can gain by predicting.
    pub rng: &'a mut Rng,
}

/// Whether a request may be sent once more (RFC 9110 §9.2.2), by a method that anybody uses. Of a CONNECT nothing is
/// sent before it is answered.
#[inline]
pub(crate) fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"CONNECT")
}

/// The answer: where the request goes and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Index of the service.
    pub service: usize,
    /// Index of the pool that serves.
    pub pool: usize,
    /// Index of the pool that was meant, before failover.
    pub meant: usize,
    /// Index of the endpoint within the pool.
    pub endpoint: usize,
    /// Why this pool.
    pub why: Why,
    /// Index of the route; none when a pinned listener needed none.
    pub route: Option<usize>,
    /// The pool whose prefix is stripped from the path: the one that a direct path named.
    pub direct: Option<usize>,
    /// The unit's bucket, when something sticks.
    pub bucket: Option<u32>,
    /// Whether an affinity cookie for that bucket must be set.
    pub issue: bool,
    /// Whether the request may leave its pool when that fails: not when the client named it outright.
    pub may_leave: bool,
}

/// A pool chosen, before anybody asked whether it serves.
struct Choice {
    service: usize,
    pool: usize,
    why: Why,
    route: Option<usize>,
    direct: bool,
    bucket: Option<u32>,
    issue: bool,
}

/// Decides one request.
pub fn decide(question: &Question<'_>, dice: &mut Dice<'_>) -> Result<Decision, Refusal> {
    let mut choice = choose(question, dice)?;
    let service = &question.snapshot.services[choice.service];
    let asked = choice.pool;
    if service.killed.is_some() {
        killed(service, &mut choice)?;
    }
    if let Some(notice) = &service.pools[choice.pool].notice {
        return Err(Refusal::Closed(Arc::clone(notice)));
    }
    let may_leave = !matches!(choice.why, Why::Listener | Why::Path | Why::Override);
    let decided = |pool: usize, endpoint: usize, why: Why| Decision {
        service: choice.service,
        pool,
        meant: choice.pool,
        endpoint,
        why,
        route: choice.route,
        direct: choice.direct.then_some(asked),
        bucket: choice.bucket,
        issue: choice.issue,
        may_leave,
    };
    if let Some(endpoint) = pick(question, &service.pools[choice.pool], none, dice.rng) {
        return Ok(decided(choice.pool, endpoint, choice.why));
    }
    if may_leave && service.spec.on_pool_down == OnPoolDown::Failover {
        if let Some((pool, endpoint)) = fail_over(question, service, choice.pool, choice.bucket, dice.rng) {
            return Ok(decided(pool, endpoint, Why::Failover));
        }
    } else if let Some(endpoint) = last_resort(question, &service.pools[choice.pool], none) {
        return Ok(decided(choice.pool, endpoint, choice.why));
    }
    Err(Refusal::NothingServing(format!("pool {} of service {}", service.pools[choice.pool].name, service.name).into()))
}

/// Where a failed request may be tried once more: another endpoint, and on stable if the last try was elsewhere.
/// `failed` holds the (pool, endpoint) of every try, the last one last.
pub fn next(
    question: &Question<'_>,
    decision: &Decision,
    failed: &[(usize, usize)],
    rng: &mut Rng,
) -> Option<(usize, usize)> {
    let service = &question.snapshot.services[decision.service];
    let last = failed.last()?.0;
    let leaves = decision.may_leave && service.spec.on_pool_down == OnPoolDown::Failover;
    let in_pool = |pool: usize, rng: &mut Rng| {
        let not = |endpoint: usize| failed.contains(&(pool, endpoint));
        pick(question, &service.pools[pool], not, rng).map(|endpoint| (pool, endpoint))
    };
    if leaves
        && last != service.stable
        && let Some(found) = in_pool(service.stable, rng)
    {
        return Some(found);
    }
    in_pool(last, rng)
        .or_else(|| {
            let others =
                (0..service.pools.len()).filter(|&pool| leaves && pool != last && service.pools[pool].weight > 0);
            others.into_iter().find_map(|pool| in_pool(pool, rng))
        })
        .or_else(|| {
            let pools = [last, if leaves { service.stable } else { last }];
            pools.into_iter().find_map(|pool| {
                let not = |endpoint: usize| failed.contains(&(pool, endpoint));
                last_resort(question, &service.pools[pool], not).map(|endpoint| (pool, endpoint))
            })
        })
}

/// A request that no route matches.
#[cold]
fn unrouted(question: &Question<'_>) -> Refusal {
    match question.head.is_connect() {
        false => Refusal::NoRoute,
        // RFC 9110 §9.3.6 has a proxy open tunnels to what it knows to be safe, and to nothing else.
        true if question.snapshot.table.allows_connect() => Refusal::NoTunnel,
        true => Refusal::Head(Refused::Method),
    }
}

/// The route that allows a CONNECT on a listener that is pinned to a pool of `service`: a tunnel always needs one.
#[cold]
fn allowing(question: &Question<'_>, service: usize) -> Result<usize, Refusal> {
    let Question { snapshot, head, client, .. } = *question;
    let found = snapshot.table.find_index(head, client);
    found.filter(|&route| snapshot.table.routes()[route].service == service).ok_or_else(|| unrouted(question))
}

#[cold]
fn redirect(head: &Head, port: u16) -> Refusal {
    if head.is_connect() {
        return Refusal::Head(Refused::Method);
    }
    let nowhere = Refused::Malformed("the Host is missing, so there is nowhere to send the client");
    if head.host().is_empty() { Refusal::Head(nowhere) } else { Refusal::Redirect(port) }
}

/// Steps 4 and 5: route and pool.
fn choose(question: &Question<'_>, dice: &mut Dice<'_>) -> Result<Choice, Refusal> {
    let Question { snapshot, head, client, .. } = *question;
    let listener = &snapshot.listeners[question.listener];
    if !listener.networks.is_empty() && !contains(&listener.networks, client) {
        return Err(Refusal::Forbidden);
    }
    if let Some(port) = listener.redirect {
        return Err(redirect(head, port));
    }
    if let Some((service, pool)) = listener.pin {
        let route = if head.is_connect() { Some(allowing(question, service)?) } else { None };
        admit(question, service, route)?;
        return Ok(Choice { service, pool, why: Why::Listener, route, direct: false, bucket: None, issue: false });
    }
    let path = head.path();
    if snapshot.table.reads_paths() && (is_ambiguous(path) || has_dot_segments(path)) {
        return Err(Refusal::AmbiguousPath);
    }
    let found = snapshot.table.find_index(head, client);
    if let Some((service, pool)) = direct_path(snapshot, found, path) {
        if let Direct::Networks(networks) = &snapshot.services[service].spec.direct
            && !contains(networks, client)
        {
            return Err(Refusal::Forbidden);
        }
        if escapes_prefix(path, &snapshot.services[service].pools[pool].prefix) {
            return Err(Refusal::AmbiguousPath);
        }
        let route = found.filter(|&route| snapshot.table.routes()[route].service == service);
        admit(question, service, route)?;
        return Ok(Choice { service, pool, why: Why::Path, route, direct: true, bucket: None, issue: false });
    }
    let index = found.ok_or_else(|| unrouted(question))?;
    let route = &snapshot.table.routes()[index];
    admit(question, route.service, Some(index))?;
    let service = &snapshot.services[route.service];
    let to = |pool: usize, why: Why| Choice {
        service: route.service,
        pool,
        why,
        route: Some(index),
        direct: false,
        bucket: None,
        issue: false,
    };
    if let Some(pool) = overridden(service, head, client) {
        return Ok(to(pool, Why::Override));
    }
    if let Some(pool) = route.pool {
        return Ok(to(pool, Why::Route));
    }
    if let Some(pool) = service.cohort.as_ref().and_then(|cohort| in_cohort(cohort, head)) {
        return Ok(to(pool, Why::Cohort));
    }
    let (pool, why, bucket, issue) = by_weights(question, service, dice);
    Ok(Choice { bucket, issue, ..to(pool, why) })
}

/// Whether the rate limits let it through.
#[inline]
fn admit(question: &Question<'_>, service: usize, route: Option<usize>) -> Result<(), Refusal> {
    if question.snapshot.rate_limits.is_empty() { Ok(()) } else { ask(question, service, route) }
}

#[inline(never)]
fn ask(question: &Question<'_>, service: usize, route: Option<usize>) -> Result<(), Refusal> {
    let Question { snapshot, head, client, worker, at, .. } = *question;
    let asked = Asked { head, client, service, route, at, worker };
    limit::ask(&snapshot.rate_limits, &asked).map_err(Refusal::RateLimited)
}

/// What becomes of a choice when its service is killed.
#[cold]
fn killed(service: &Service, choice: &mut Choice) -> Result<(), Refusal> {
    match service.spec.on_kill {
        OnKill::Maintenance => Err(Refusal::Maintenance(service.name.clone())),
        OnKill::Stable => {
            choice.pool = service.stable;
            choice.why = Why::Kill;
            Ok(())
        }
    }
}

/// The pool by bucket or splitter: pool, why, bucket, and whether a cookie must be issued.
#[inline]
fn by_weights(question: &Question<'_>, service: &Service, dice: &mut Dice<'_>) -> (usize, Why, Option<u32>, bool) {
    let affinity = &service.spec.affinity;
    match &affinity.by {
        AffinityBy::None => {}
        AffinityBy::Cookie { name, .. } => {
            // A cookie of the same name from elsewhere may stand before ours.
            let mut shown = question.head.cookies(name).take(COOKIES_MAX);
            let keys = &question.snapshot.keys;
            let ticket = shown.find_map(|value| dice.tickets.verify(keys, &service.name, value));
            if let Some(ticket) = ticket {
                let (pool, why) = stuck(question, service, ticket.bucket, Some(ticket.issued_unix), Why::Bucket);
                return (pool, why, Some(ticket.bucket), ticket.old_key);
            }
            // A new client's bucket comes from the splitter too, so that clients without a cookie split as exactly.
            let draw = dice.splitters.draw(service.slot, dice.rng);
            let bucket = ((u128::from(draw) * u128::from(BUCKETS)) >> 64) as u32;
            return (service.split.by_bucket(bucket), Why::Bucket, Some(bucket), true);
        }
        AffinityBy::Header { name } => {
            if let Some(value) = question.head.value(name) {
                let bucket = bucket_of(&affinity.salt, value);
                let (pool, why) = stuck(question, service, bucket, None, Why::Header);
                return (pool, why, Some(bucket), false);
            }
        }
        AffinityBy::ClientIp => {
            let bucket = bucket_of(&affinity.salt, client_unit(question.client).as_bytes());
            let (pool, why) = stuck(question, service, bucket, None, Why::ClientIp);
            return (pool, why, Some(bucket), false);
        }
    }
    (service.split.by_draw(dice.splitters.draw(service.slot, dice.rng)), Why::Weight, None, false)
}

/// The pool of a bucket: by the weights alone, unless the client was bound to a pool that drains.
fn stuck(
    question: &Question<'_>,
    service: &Service,
    bucket: u32,
    issued_unix_s: Option<u64>,
    why: Why,
) -> (usize, Why) {
    if let Some(draining) = &service.draining
        && question.now.mono_ms < draining.until_ms
        && issued_unix_s.is_none_or(|issued| issued <= draining.since_unix_s)
    {
        let before = draining.split.by_bucket(bucket);
        if draining.pools.get(before).copied().unwrap_or(false) {
            return (before, Why::Drain);
        }
    }
    (service.split.by_bucket(bucket), why)
}

/// The live pools with weight above 0 share what the chosen pool cannot take; then stable, at any weight.
fn fail_over(
    question: &Question<'_>,
    service: &Service,
    down: usize,
    bucket: Option<u32>,
    rng: &mut Rng,
) -> Option<(usize, usize)> {
    let live = |pool: &usize| {
        *pool != down && service.pools[*pool].weight > 0 && service.pools[*pool].state.admits(u64::MAX / 2)
    };
    let total: u64 = (0..service.pools.len()).filter(live).map(|pool| u64::from(service.pools[pool].weight)).sum();
    // A sticky unit fails over to the same pool each time.
    let draw = bucket.map_or_else(|| rng.draw(), |bucket| ((u128::from(bucket) << 64) / u128::from(BUCKETS)) as u64);
    let mut at = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
    let mut drawn = None;
    for pool in (0..service.pools.len()).filter(live) {
        let weight = u64::from(service.pools[pool].weight);
        if at < weight {
            drawn = Some(pool);
            break;
        }
        at -= weight;
    }
    let rest = (0..service.pools.len()).filter(live);
    let order = drawn.into_iter().chain(rest).chain(std::iter::once(service.stable));
    let found = order
        .into_iter()
        .find_map(|pool| pick(question, &service.pools[pool], none, rng).map(|endpoint| (pool, endpoint)));
    // Nothing serves in full: rather a rested or recovering endpoint than an error.
    found.or_else(|| {
        let order = [down, service.stable];
        order.into_iter().find_map(|pool| last_resort(question, &service.pools[pool], none).map(|e| (pool, e)))
    })
}

/// Excludes no endpoint.
fn none(_: usize) -> bool {
    false
}
