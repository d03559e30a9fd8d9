//! Attempts to endpoints that are not plain HTTP/1 over TCP: TLS, where the endpoint chooses the version of HTTP,
//! HTTP/2 by prior knowledge, sockets in the file system, and endpoints that are told whom a connection is opened for.
//!
//! What an endpoint chose last is what the next connection is opened for; one that turns out otherwise is not thrown
//! away but kept for those who can use it. Connections are opened in [`super::reach`].

use std::sync::Arc;

use super::exchange::{Conn, Failure};
use super::forward::{Attempt, Course, Job, Reply, Tried};
use super::http1;
use super::lines::Purpose;
use super::reach::{Opened, open_tls};
use super::replay::Replay;
use super::wire::{AnyWire, Wire};
use crate::model::{Address, Http2Use, Protocol};
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::h2up::attempt::over_http2;
use crate::proxy::h2up::trunk::Dial;
use crate::proxy::h2up::trunks::Trunks;
use crate::proxy::worker::timer::Timer;
use crate::telemetry::uplink::UplinkFault;

/// How often an endpoint may choose another version of HTTP than it did a moment before, within one attempt.
const TURNS_MAX: usize = 3;

/// One attempt.
pub(crate) async fn attempt<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Reply> {
    let endpoint = attempt.endpoint();
    match (&endpoint.id.addr, endpoint.id.origin.protocol) {
        (Address::Ip(_), Protocol::H2c) => over_h2c(job, attempt, replay, timer, course).await,
        (Address::Ip(_), Protocol::Https) => over_tls(job, attempt, replay, timer, course).await,
        _ => {
            let opened = AnyWire::open(&attempt.reach(job, course.fresh), timer).await;
            over_any(job, attempt, opened, replay, timer, course).await
        }
    }
}

/// One attempt over HTTP/2 by prior knowledge. It has a small future of its own, for it is the way of most requests
/// that are no HTTP/1.
pub(crate) async fn over_h2c<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Reply> {
    let timeouts = attempt.service().spec.timeouts;
    let dial = Dial { timeouts, tls: None, purpose: Purpose::Clients };
    match over_http2(job, attempt, &dial, replay, timer, course).await {
        Ok(tried) => tried.map(Reply::Http2),
        Err((attempt, course)) => Box::pin(unusable(job, attempt, replay, timer, course)).await,
    }
}

/// One attempt over TLS: the endpoint chooses the version of HTTP (ALPN), as far as the pool leaves it the choice.
async fn over_tls<D: Downstream>(
    job: &Job<'_>,
    mut attempt: Attempt,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    mut course: Course<'_>,
) -> Tried<Reply> {
    let Some(tls) = attempt.pool().tls.clone() else {
        return unusable(job, attempt, replay, timer, course).await;
    };
    // An upgrade is HTTP/1.1 (RFC 9110 §7.8).
    let http1_only = match tls.spec.http2 {
        // A connection that is one client's carries no other's streams.
        _ if attempt.pool().proxy_protocol.is_some() => true,
        Http2Use::Off => true,
        Http2Use::Auto => job.outgoing.upgrade,
        Http2Use::Only => false,
    };
    let timeouts = attempt.service().spec.timeouts;
    let dial = Dial { timeouts, tls: Some(Arc::clone(&tls)), purpose: Purpose::Clients };
    for _ in 0..TURNS_MAX {
        let by_choice = || job.worker.lines.trunks.borrow_mut().chose_http1(attempt.endpoint());
        if http1_only || tls.spec.http2 == Http2Use::Auto && by_choice() {
            let opened = match open_tls(&attempt.reach(job, course.fresh), &tls, http1_only, timer).await {
                Ok(Opened::Http1(conn)) => Ok(conn),
                Ok(Opened::Http2(link)) => {
                    Trunks::adopt(job.worker, attempt.endpoint(), link, dial.clone());
                    continue;
                }
                Err(failure) => Err(failure),
            };
            return over_any(job, attempt, opened, replay, timer, course).await;
        }
        match over_http2(job, attempt, &dial, replay, timer, course).await {
            Ok(tried) => return tried.map(Reply::Http2),
            // It chose HTTP/1.1, and nothing was sent.
            Err(back) => (attempt, course) = back,
        }
    }
    unusable(job, attempt, replay, timer, course).await
}

/// An endpoint that nothing can be agreed with.
async fn unusable<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Reply> {
    let refused = Err(Failure::unconnected(UplinkFault::Unlike.as_str()));
    over_any(job, attempt, refused, replay, timer, course).await
}

/// An attempt over HTTP/1.
async fn over_any<D: Downstream>(
    job: &Job<'_>,
    attempt: Attempt,
    opened: Result<Conn<AnyWire>, Failure>,
    replay: &mut Replay<'_, D>,
    timer: &mut Timer,
    course: Course<'_>,
) -> Tried<Reply> {
    let tried = http1::attempt(job, attempt, opened, replay, timer, course).await;
    tried.map(Reply::Any)
}
