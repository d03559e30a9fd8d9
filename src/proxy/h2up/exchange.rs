//! One attempt over HTTP/2: a request on a stream of a connection to one endpoint, up to the head of its answer.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::uri::Scheme;
use http::{Response as HttpResponse, StatusCode};

use super::super::exchange::{INTERIM_MAX, say_continue};
use super::super::h1::request::Framing;
use super::super::h1::response::{self, Ends, Response};
use super::super::interim::CONTINUE_PATIENCE;
use super::super::refusal::Refusal;
use super::super::replay::Patience;
use super::super::timer::Timer;
use super::super::upload::Downstream;
use super::super::worker::Worker;
use super::answer::Answer;
use super::outcome::{Lost, lost};
use super::request::{UNSAYABLE, read};
use super::socket::extend;
use super::trunk::{Dial, HTTP1, Place, RETIRED};
use super::trunks::{TRUNKS_MAX, Trunks};
use super::uplink::Uplink;
use crate::model::Fault;
use crate::upstream::endpoint::Endpoint;

/// How often a request goes on to another connection because the peer allows fewer streams than it was placed among;
/// after that it waits its turn where it is.
const MOVES_MAX: usize = 4;

/// The body, as far as it is at hand.
pub(crate) struct AtHand {
    /// Framed as for HTTP/1.
    pub(crate) framed: Vec<u8>,
    /// Whether that is all of it.
    pub(crate) complete: bool,
}

/// What the wait for an answer sees.
enum Event {
    Head(HttpResponse<RecvStream>),
    /// Body bytes moved: the idle deadline starts again.
    Moved,
    Failed(Lost),
}

/// A request to one endpoint, whoever sends it.
pub(crate) struct Call<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) dial: &'a Dial,
    /// The head as it stands in HTTP/1.1.
    pub(crate) head: Bytes,
    pub(crate) framing: Framing,
    /// Whether it is HEAD.
    pub(crate) to_head: bool,
    /// Whether it asks for a WebSocket.
    pub(crate) upgrade: bool,
    /// When to give it up for another try.
    pub(crate) patience: Option<Patience<'a>>,
}

/// Sends the request and waits for the head of the final answer.
pub(crate) async fn exchange<D: Downstream>(
    call: &Call<'_>,
    at_hand: AtHand,
    down: &mut D,
    timer: &mut Timer,
) -> Result<Box<Answer>, Lost> {
    let Opened { place, response, stream, extended } = open(call).await?;
    let uplink = Uplink::new(stream, call.framing, at_hand.framed, at_hand.complete);
    let mut wait = Wait { uplink, response, interim: 0, stale: place.reused };
    let head = wait.head(down, timer, call).await.inspect_err(|lost| {
        // A try that was given up early says little of the connection.
        if matches!(lost, Lost::Sent { fault: Fault::UpstreamTimeout, .. }) && call.patience.is_none() {
            place.doubt();
        }
    })?;
    let (parts, body) = head.into_parts();
    let malformed = Lost::Sent { fault: Fault::UpstreamAnswer, reason: "malformed_answer", stale: false };
    let (response, bytes) = describe(&parts, &body, call.to_head).map_err(|()| malformed)?;
    let mut answer = Box::new(Answer::new(body, response, bytes, wait.uplink, place));
    if extended {
        answer.expect_tunnel();
    }
    Ok(answer)
}

/// A stream with a request's head on it.
struct Opened {
    place: Place,
    response: ResponseFuture,
    stream: SendStream<Bytes>,
    /// Whether the head is an extended CONNECT.
    extended: bool,
}

/// Opens a stream with the request's head on it. A connection that has just said that it takes no more is passed over.
async fn open(call: &Call<'_>) -> Result<Opened, Lost> {
    let scheme = if call.dial.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    for passed in 0..=TRUNKS_MAX {
        let place = Trunks::take(call.worker, call.endpoint, call.dial);
        let mut sender = match place.sender().await {
            Ok(sender) => sender,
            // It opened and was left before this request came to it: no failure to connect.
            Err(RETIRED) => continue,
            Err(HTTP1) => return Err(Lost::Http1),
            Err(reason) => return Err(Lost::Unconnected(reason)),
        };
        if place.is_crowded() && passed < MOVES_MAX {
            continue;
        }
        let mut request = read(&call.head, scheme.clone()).ok_or(Lost::Client(UNSAYABLE))?;
        let extended = call.upgrade && sender.is_extended_connect_protocol_enabled();
        if extended {
            extend(&mut request);
        }
        match sender.send_request(request, call.framing == Framing::None && !extended) {
            Ok((response, stream)) => return Ok(Opened { place, response, stream, extended }),
            Err(_) => place.retire(),
        }
    }
    Err(Lost::Unconnected("connect_failed"))
}

/// The head as HTTP/1 heads are described, so that what becomes of it is decided once.
fn describe(parts: &http::response::Parts, body: &RecvStream, to_head: bool) -> Result<(Response, Vec<u8>), ()> {
    let ends = match (body.is_end_stream(), to_head) {
        (_, true) => Ends::ByMethod,
        (true, _) => Ends::AtOnce,
        (false, _) => Ends::Later,
    };
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let mut bytes = Vec::with_capacity(512);
    let response = response::describe(parts.status.as_u16(), fields, ends, &mut bytes).map_err(drop)?;
    Ok((response, bytes))
}

struct Wait {
    uplink: Uplink,
    response: ResponseFuture,
    interim: u32,
    stale: bool,
}

// === impl Wait ===

impl Wait {
    async fn head<D: Downstream>(
        &mut self,
        down: &mut D,
        timer: &mut Timer,
        call: &Call<'_>,
    ) -> Result<HttpResponse<RecvStream>, Lost> {
        let (timeouts, mut patience) = (&call.dial.timeouts, call.patience);
        let mut moved = Instant::now();
        loop {
            let awaits_continue = !self.uplink.is_complete() && down.awaits_continue();
            let limit = match self.uplink.is_complete() {
                true => patience.map_or(timeouts.response_header, |it| it.after.min(timeouts.response_header)),
                false if awaits_continue => CONTINUE_PATIENCE.min(timeouts.idle),
                false if self.uplink.waits_for_client() => {
                    down.patience().map_or(timeouts.idle, |it| it.min(timeouts.idle))
                }
                false => timeouts.idle,
            };
            let event = std::future::poll_fn(|cx| self.poll(cx, down));
            match timer.limit(moved + limit, event).await {
                Ok(Event::Head(head)) => return Ok(head),
                Ok(Event::Moved) => moved = Instant::now(),
                Ok(Event::Failed(lost)) => return Err(lost),
                Err(_) if awaits_continue => {
                    say_continue(down).await;
                    moved = Instant::now();
                }
                Err(_) if self.uplink.is_complete() && patience.take().is_some_and(|it| !(it.secure)()) => {}
                Err(_) if self.uplink.waits_for_client() => return Err(Lost::Client(Refusal::BodyTimeout)),
                Err(_) => {
                    return Err(Lost::Sent { fault: Fault::UpstreamTimeout, reason: "timeout", stale: false });
                }
            }
        }
    }

    fn poll<D: Downstream>(&mut self, cx: &mut Context<'_>, down: &mut D) -> Poll<Event> {
        let mark = self.uplink.mark();
        let sent = match self.uplink.poll(cx, down) {
            Poll::Ready(Err(refusal)) => return Poll::Ready(Event::Failed(Lost::Client(refusal))),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            self.interim += 1;
            // 101 is of HTTP/1 alone (RFC 9113 §8.6).
            let switches = interim.status() == StatusCode::SWITCHING_PROTOCOLS;
            if switches || self.interim > INTERIM_MAX {
                let reason = if switches { "unasked_upgrade" } else { "too_many_interim_answers" };
                return Poll::Ready(Event::Failed(Lost::Sent { fault: Fault::UpstreamAnswer, reason, stale: false }));
            }
            tell(cx, &interim, down);
        }
        match Pin::new(&mut self.response).poll(cx) {
            Poll::Ready(Ok(head)) => return Poll::Ready(Event::Head(head)),
            Poll::Ready(Err(error)) => {
                let stale = self.stale && self.interim == 0;
                return Poll::Ready(Event::Failed(lost(&error, stale)));
            }
            Poll::Pending => {}
        }
        if sent && self.uplink.is_complete() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Event::Failed(Lost::Client(Refusal::ClientGone)));
        }
        if self.uplink.mark() != mark { Poll::Ready(Event::Moved) } else { Poll::Pending }
    }
}

/// Tells the client of an interim answer.
fn tell<D: Downstream>(cx: &mut Context<'_>, interim: &HttpResponse<()>, down: &mut D) {
    let fields = interim.headers().iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let mut bytes = Vec::new();
    let status = interim.status().as_u16();
    if let Ok(described) = response::describe(status, fields, Ends::AtOnce, &mut bytes) {
        down.interim(cx, &described, &bytes);
    }
}
