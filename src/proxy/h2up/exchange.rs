//! One attempt over HTTP/2: a request on a stream of a connection to one endpoint, up to the head of its answer.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::answer::Answer;
use super::outcome::{Lost, lost};
use super::request::{Ask, Form};
use super::trunk::{Dial, HTTP1, Place, RETIRED};
use super::trunks::{TRUNKS_MAX, Trunks};
use super::uplink::Uplink;
use crate::model::Fault;
use crate::proxy::attempt::exchange::{INTERIM_MAX, say_continue};
use crate::proxy::attempt::replay::Patience;
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::clients::interim::CONTINUE_PATIENCE;
use crate::proxy::h1::request::Framing;
use crate::proxy::h1::response::{self, Ends, Response};
use crate::proxy::http2::client::Answered;
use crate::proxy::http2::handles::{Inflow, Outflow};
use crate::proxy::http2::head::Head;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
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
    Head(Head, Inflow),
    /// Body bytes moved: the idle deadline starts again.
    Moved,
    Failed(Lost),
}

/// A request to one endpoint, whoever sends it.
pub(crate) struct Call<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) dial: &'a Dial,
    pub(crate) ask: &'a Ask<'a>,
    /// When it began, as far as a connection was at hand.
    pub(crate) began: Instant,
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
    let (opened, began) = match begin(call) {
        Ok(opened) => (opened, call.began),
        Err(place) => {
            let gone = |cx: &mut Context<'_>| if at_hand.complete { down.poll_gone(cx) } else { Poll::Pending };
            (Box::pin(open(call, timer, place, gone)).await?, Instant::now())
        }
    };
    let Opened { place, answered, stream, form } = opened;
    let uplink = Uplink::new(stream, call.framing, at_hand.framed, at_hand.complete);
    let stale = place.reused;
    let mut wait = Wait { answer: Answer::awaited(uplink, place), answered, interim: 0, stale };
    let (head, body) = wait.head(down, timer, call, began).await.inspect_err(|lost| {
        // A try that was given up early says little of the connection.
        if matches!(lost, Lost::Sent { fault: Fault::UpstreamTimeout, .. }) && call.patience.is_none() {
            wait.answer.doubt();
        }
    })?;
    let malformed = Lost::Sent { fault: Fault::UpstreamAnswer, reason: "malformed_answer", stale: false };
    let (response, bytes) = describe(call, &head, &body).map_err(|()| malformed)?;
    let mut answer = wait.answer;
    answer.begin(body, response, bytes);
    if form == Form::WebSocket {
        answer.expect_tunnel();
    }
    Ok(answer)
}

/// A stream with a request's head on it.
struct Opened {
    place: Place,
    answered: Answered,
    stream: Outflow,
    form: Form,
}

/// Begins a stream at once; else its place, on a connection that is not there yet, or where there is no room.
fn begin(call: &Call<'_>) -> Result<Opened, Place> {
    let place = Trunks::take(call.worker, call.endpoint, call.dial);
    if place.is_open() && !place.is_crowded() { say(call, place) } else { Err(place) }
}

/// Says the request's head on a stream of its own; the place comes back when nothing was sent.
fn say(call: &Call<'_>, place: Place) -> Result<Opened, Place> {
    let scheme: &[u8] = if call.dial.tls.is_some() { b"https" } else { b"http" };
    let form = if call.upgrade && place.takes_websockets() { Form::WebSocket } else { Form::Plain };
    let bare = call.framing == Framing::None && form == Form::Plain;
    let mut spare = call.worker.buffers.borrow_mut().take();
    let sent = place.send(|out| call.ask.say(scheme, form, &mut spare, out), bare);
    call.worker.buffers.borrow_mut().put(spare);
    match sent {
        Ok((answered, stream)) => Ok(Opened { place, answered, stream, form }),
        Err(_) => Err(place),
    }
}

/// Waits for a connection, and for a stream's turn on it. One that has just said that it takes no more is passed over.
/// `gone` is ready when the client has left.
async fn open(
    call: &Call<'_>,
    timer: &mut Timer,
    mut place: Place,
    mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Result<Opened, Lost> {
    let patience = call.dial.timeouts.response_header;
    for passed in 0..=TRUNKS_MAX {
        match place.settled().await {
            Ok(()) if place.is_crowded() && passed < MOVES_MAX => {}
            Ok(()) => {
                let turn = std::future::poll_fn(|cx| match place.poll_turn(cx) {
                    Poll::Pending => gone(cx).map(|()| None),
                    turn => turn.map(Some),
                });
                match timer.limit(Instant::now() + patience, turn).await {
                    Ok(Some(Ok(()))) => match say(call, place) {
                        Ok(opened) => return Ok(opened),
                        Err(unused) => unused.retire(),
                    },
                    Ok(Some(Err(_))) => place.retire(),
                    Ok(None) => return Err(Lost::Client(Refusal::ClientGone)),
                    Err(_) => {
                        return Err(Lost::Sent { fault: Fault::UpstreamTimeout, reason: "timeout", stale: false });
                    }
                }
            }
            // It opened and was left before this request came to it: no failure to connect.
            Err(RETIRED) => {}
            Err(HTTP1) => return Err(Lost::Http1),
            Err(reason) => return Err(Lost::Unconnected(reason)),
        }
        place = Trunks::take(call.worker, call.endpoint, call.dial);
    }
    Err(Lost::Unconnected("connect_failed"))
}

/// The head as HTTP/1 heads are described, so that what becomes of it is decided once.
fn describe(call: &Call<'_>, head: &Head, body: &Inflow) -> Result<(Response, Vec<u8>), ()> {
    let ends = match (body.is_end_stream(), call.to_head) {
        (_, true) => Ends::ByMethod,
        (true, _) => Ends::AtOnce,
        (false, _) => Ends::Later,
    };
    let (mut bytes, lines) = {
        let mut buffers = call.worker.buffers.borrow_mut();
        (buffers.take_head(), buffers.take_lines())
    };
    let response = response::describe(head.status, head.fields(), ends, &mut bytes, lines).map_err(drop)?;
    Ok((response, bytes))
}

struct Wait {
    answer: Box<Answer>,
    answered: Answered,
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
        began: Instant,
    ) -> Result<(Head, Inflow), Lost> {
        let (timeouts, mut patience) = (&call.dial.timeouts, call.patience);
        let mut moved = began;
        loop {
            let awaits_continue = !self.answer.uplink.is_complete() && down.awaits_continue();
            let limit = match self.answer.uplink.is_complete() {
                true => patience.map_or(timeouts.response_header, |it| it.after.min(timeouts.response_header)),
                false if awaits_continue => CONTINUE_PATIENCE.min(timeouts.idle),
                false if self.answer.uplink.waits_for_client() => {
                    down.patience().map_or(timeouts.idle, |it| it.min(timeouts.idle))
                }
                false => timeouts.idle,
            };
            let event = std::future::poll_fn(|cx| self.poll(cx, down));
            match timer.limit(moved + limit, event).await {
                Ok(Event::Head(head, body)) => return Ok((head, body)),
                Ok(Event::Moved) => moved = Instant::now(),
                Ok(Event::Failed(lost)) => return Err(lost),
                Err(_) if awaits_continue => {
                    say_continue(down).await;
                    moved = Instant::now();
                }
                Err(_) if self.answer.uplink.is_complete() && patience.take().is_some_and(|it| !(it.secure)()) => {}
                Err(_) if self.answer.uplink.waits_for_client() => return Err(Lost::Client(Refusal::BodyTimeout)),
                Err(_) => {
                    return Err(Lost::Sent { fault: Fault::UpstreamTimeout, reason: "timeout", stale: false });
                }
            }
        }
    }

    fn poll<D: Downstream>(&mut self, cx: &mut Context<'_>, down: &mut D) -> Poll<Event> {
        let (mark, was_complete) = (self.answer.uplink.mark(), self.answer.uplink.is_complete());
        let sent = match self.answer.uplink.poll(cx, down) {
            Poll::Ready(Err(refusal)) => return Poll::Ready(Event::Failed(Lost::Client(refusal))),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        while let Poll::Ready(Some(interim)) = self.answered.poll_interim(cx) {
            self.interim += 1;
            // 101 is of HTTP/1 alone (RFC 9113 §8.6).
            let switches = interim.status == 101;
            if switches || self.interim > INTERIM_MAX {
                let reason = if switches { "unasked_upgrade" } else { "too_many_interim_answers" };
                return Poll::Ready(Event::Failed(Lost::Sent { fault: Fault::UpstreamAnswer, reason, stale: false }));
            }
            tell(cx, &interim, down);
        }
        match self.answered.poll_head(cx) {
            Poll::Ready(Ok((head, body))) => return Poll::Ready(Event::Head(head, body)),
            Poll::Ready(Err(error)) => {
                let stale = self.stale && self.interim == 0;
                return Poll::Ready(Event::Failed(lost(&error, stale)));
            }
            Poll::Pending => {}
        }
        if sent && self.answer.uplink.is_complete() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Event::Failed(Lost::Client(Refusal::ClientGone)));
        }
        // A request that goes whole at first needs no second look.
        let at_once = sent && was_complete && mark == 0;
        if self.answer.uplink.mark() != mark && !at_once { Poll::Ready(Event::Moved) } else { Poll::Pending }
    }
}

/// Tells the client of an interim answer.
fn tell<D: Downstream>(cx: &mut Context<'_>, interim: &Head, down: &mut D) {
    let mut bytes = Vec::new();
    if let Ok(described) = response::describe(interim.status, interim.fields(), Ends::AtOnce, &mut bytes, Vec::new()) {
        down.interim(cx, &described, &bytes);
    }
}
