//! CONNECT (RFC 9110 §9.3.6): a tunnel to an endpoint of the service that a route names for the authority asked for.
//!
//! The authority selects the route and nothing else: whom the tunnel leads to is decided as for any request, and no
//! name that a client sends is ever looked up or connected to. The endpoint gets the client's bytes, behind a header of
//! the PROXY protocol where its pool is told whose connection it is, and never a head. Until it is connected nothing
//! was sent, so that every failed attempt may be made once more elsewhere; from then on nothing is repeated. Its
//! connection is opened for the tunnel and ends with it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::socket::Asked;
use super::{Ended, Tunnel};
use crate::model::{Fault, Head, Limits, Protocol};
use crate::proxy::arrival::link::Link;
use crate::proxy::attempt::again::{Retriable, pause};
use crate::proxy::attempt::exchange::Failure;
use crate::proxy::attempt::forward::{Attempt, Course, Job, Reply, Trail, Tried};
use crate::proxy::attempt::http1::failed;
use crate::proxy::attempt::reach::{is_plain, open_any, open_tcp};
use crate::proxy::attempt::replay::Replay;
use crate::proxy::attempt::wire::{AnyWire, Wire};
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::clients::client::Client;
use crate::proxy::clients::serve::{After, Told};
use crate::proxy::clients::stream::Stream;
use crate::proxy::decide::Decision;
use crate::proxy::decide::admit::Places;
use crate::proxy::h1::request::{Framing, Refused};
use crate::proxy::h1::syntax;
use crate::proxy::http2::error::Reason;
use crate::proxy::http2::head::Request as HeadOfStream;
use crate::proxy::http2::server::Respond;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::telemetry::uplink::UplinkFault;

/// The head that begins a tunnel: no length and no coding (RFC 9110 §9.3.6 has neither there).
const GRANTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// How long a client may take for it; it fits any socket buffer.
const GRANTING: Duration = Duration::from_secs(1);

/// A connection that is to become a tunnel.
pub(crate) struct Opened {
    wire: AnyWire,
    attempt: Attempt,
    trail: Trail,
}

/// Connects, to as many endpoints one after the other as may be tried.
pub(crate) async fn open<D: Downstream>(
    job: &Job<'_>,
    mut places: Places,
    down: &mut D,
    timer: &mut Timer,
) -> Result<Reply, (Refusal, Trail)> {
    let mut trail = Trail::default();
    let service = &job.snapshot.services[job.decision.service];
    job.worker.budgets.borrow_mut().deposit(service.slot, &service.spec.retry);
    let mut replay = Replay::new(down, Framing::None, Vec::new(), true, false);
    let mut target = (job.decision.pool, job.decision.endpoint);
    loop {
        let mut attempt = Attempt::begin(job, target);
        trail.last = Some(target);
        let began = if trail.retried { Instant::now() } else { job.began };
        let failure = match connect(job, &attempt, timer).await {
            Ok(wire) => {
                trail.upstream_us = Some(began.elapsed().as_micros() as u64);
                attempt.answer(200, job.question);
                attempt.places = places;
                return Ok(Reply::Tunnel(Box::new(Opened { wire, attempt, trail })));
            }
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Endpoint { .. }) {
            (job.worker.hurry)(&attempt.endpoint().id.origin);
        }
        let course = Course { fresh: true, began, trail: &mut trail, places: &mut places };
        match failed::<Infallible>(job, &attempt, &failure, Retriable::Elsewhere, course) {
            Tried::Next(next) => target = next,
            Tried::Over(Err(refusal)) => return Err((refusal, trail)),
            Tried::Over(Ok(never)) => match never {},
        }
        drop(attempt);
        if let Err(refusal) = pause(job, &mut trail, &mut replay, timer).await {
            return Err((refusal, trail));
        }
    }
}

/// One attempt, over a connection of its own.
async fn connect(job: &Job<'_>, attempt: &Attempt, timer: &mut Timer) -> Result<AnyWire, Failure> {
    let reach = attempt.reach(job, true);
    if attempt.endpoint().id.origin.protocol == Protocol::Https {
        // No configuration leads here: bytes of a tunnel go as they are.
        return Err(Failure::unconnected(UplinkFault::Unlike.as_str()));
    }
    match is_plain(attempt.pool(), attempt.endpoint()) {
        true => open_tcp(&reach, timer).await.map(|conn| AnyWire::Tcp(conn.stream)),
        false => open_any(&reach, timer).await.map(|conn| conn.stream),
    }
}

// === impl Opened ===

impl Opened {
    /// Carries the tunnel between the client and the endpoint to its end; `early`: what the client sent ahead.
    async fn carry<C>(&mut self, worker: &Worker, early: &[u8], client: &mut C, timer: &mut Timer) -> Ended
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        self.wire.tcp().into_iter().for_each(super::keep_alive);
        let ended = Tunnel::raw(worker, &self.attempt, early).run(client, &mut self.wire, timer).await;
        if !ended.whole {
            // What broke off, or had to end, must not look whole.
            self.wire.tcp().into_iter().for_each(super::reset);
        }
        self.trail.reset = ended.endpoint_reset;
        ended
    }
}

// === impl Told ===

impl Told<'_> {
    /// Grants the CONNECT of an HTTP/1 client, and carries its tunnel to the end of both.
    pub(crate) async fn carry<L: Link>(
        &self,
        decision: &Decision,
        mut opened: Box<Opened>,
        client: &mut Client<'_, L>,
        timer: &mut Timer,
    ) -> After {
        let granting = async {
            client.stream.write_all(GRANTED).await?;
            client.stream.flush().await
        };
        if !matches!(timer.limit(Instant::now() + GRANTING, granting).await, Ok(Ok(()))) {
            self.tell(Some(decision), &opened.trail, 499, Some(Fault::Client), (0, 0));
            return After::Close;
        }
        let _no_turns = self.request.worker.turns.leave();
        super::keep_alive(client.stream.socket());
        let early = client.unused().to_vec();
        let ended = opened.carry(self.request.worker, &early, client.stream, timer).await;
        self.tell(Some(decision), &opened.trail, 200, None, (ended.up, ended.down));
        if !ended.whole {
            super::reset(client.stream.socket());
            return After::Cut;
        }
        After::Close
    }
}

// === impl Stream ===

impl Stream {
    /// Grants the CONNECT of a stream, and carries its tunnel to the end of both (RFC 9113 §8.5).
    pub(crate) async fn carry(
        &self,
        asked: Option<Asked>,
        mut opened: Box<Opened>,
        timer: &mut Timer,
        respond: &mut Respond,
    ) {
        let (Some(asked), Ok(out)) = (asked, respond.send_response(|out| out.status(200), false)) else {
            return self.tell(&opened.trail, 499, Some(Fault::Client), (0, 0));
        };
        let ended = opened.carry(self.worker(), &[], &mut asked.with(out), timer).await;
        if !ended.whole {
            respond.send_reset(Reason::CONNECT_ERROR);
        }
        self.tell(&opened.trail, 200, None, (ended.up, ended.down));
    }
}

/// Writes the CONNECT of a stream in canonical form into `head`, by the rules that hold for it over HTTP/1: an
/// authority with its port, no other Host, and no body. That it has neither scheme nor path is seen to by
/// [`http2`](crate::proxy::http2).
pub(crate) fn canonical(request: &HeadOfStream, limits: &Limits, head: &mut Head) -> Result<Framing, Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let authority = request.authority().unwrap_or_default();
    if !syntax::is_target_authority(authority) {
        return malformed("the target of a CONNECT is not a host and a port");
    }
    if request.count() > limits.fields_max {
        return Err(Refused::HeadTooLarge);
    }
    if request.get(b"content-length").is_some_and(|length| length != b"0") {
        return malformed("a CONNECT has no body");
    }
    head.begin(b"CONNECT", b"");
    for (name, value) in request.fields() {
        head.push_field(name, value.trim_ascii());
    }
    head.set_authority(authority);
    let own = [head.authority(), head.host()].map(str::as_bytes);
    let mut hosts = request.fields().filter(|(name, _)| *name == b"host");
    if !hosts.all(|(_, host)| own.iter().any(|own| host.trim_ascii().eq_ignore_ascii_case(own))) {
        return malformed("the authority and the Host differ");
    }
    Ok(Framing::None)
}
