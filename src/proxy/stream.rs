//! One HTTP/2 stream: decide, forward, answer. An answer that is not at hand as a whole is poured by [`Streamed`].

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response as HttpResponse, StatusCode};

use super::admit::{Places, admit};
use super::answer::{Back, Took};
use super::body::BodyReader;
use super::decide::{Decision, Dice, Question, decide};
use super::forward::{Answered, Attempt, Job, Reply, Trail, forward};
use super::frames::held::Held;
use super::h1::request::{Framing, Refused};
use super::h1::response::Response;
use super::h2::{canonical, field, refusal_response};
use super::h2_body::Upstream;
use super::h2up::grpc;
use super::h2up::to_http2::Poured;
use super::mirror::Aside;
use super::outgoing::{Caller, Outgoing, RequestId};
use super::pulse::sheds;
use super::record::{Story, tell};
use super::refusal::Refusal;
use super::socket::{self, Asked};
use super::streamed::Streamed;
use super::timer::Timer;
use super::trace::Trace;
use super::via::Via;
use super::watch::Watch;
use super::wire::Wire;
use super::worker::{Lease, Worker};
use crate::model::{Fault, FieldId, Head};

/// One request on a stream, and what its answer's body has to know until its end.
pub(crate) struct Stream {
    pub(crate) worker: Rc<Worker>,
    snapshot: Rc<Lease>,
    via: Via,
    held: Rc<Held>,
    pub(crate) head: Head,
    framing: Framing,
    began: Instant,
    caller: Caller,
    id: RequestId,
    trace: Option<Box<Trace>>,
    decision: Option<Decision>,
    /// Whether it asks for a WebSocket.
    upgrade: bool,
}

// === impl Stream ===

impl Stream {
    /// Serves a stream to its end. What h2 made of its head is let go at once.
    pub(crate) fn serve(
        worker: &Rc<Worker>,
        via: &Via,
        held: &Rc<Held>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        began: Instant,
    ) -> impl Future<Output = ()> + 'static {
        let (stream, read, down, asked) = Self::new(Rc::clone(worker), via.clone(), Rc::clone(held), request, began);
        stream.run(read, down, asked, respond)
    }

    async fn run(
        self,
        read: Result<(), Refusal>,
        mut down: Upstream,
        mut asked: Option<Asked>,
        mut respond: SendResponse<Bytes>,
    ) {
        let mut stream = self;
        let decision = match read.and_then(|()| stream.decide()) {
            Ok(decision) => decision,
            Err(refusal) => return stream.refuse(&refusal, &Trail::default(), 0, &mut respond),
        };
        let mut timer = stream.worker.timers.borrow_mut().take();
        let (decision, places) = match stream.admit(decision, &mut timer, &mut respond).await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                stream.worker.timers.borrow_mut().put(timer);
                return stream.refuse(&refusal, &Trail::default(), 0, &mut respond);
            }
        };
        stream.decision = Some(decision);
        match stream.forward(&decision, places, &mut down, &mut timer, &mut respond).await {
            Some(Ok(Reply::Http2(mut answered))) => {
                if let Some(asked) = asked.take() {
                    let tried = stream.upgrade_http2(asked, answered, &decision, &mut timer, &mut respond);
                    let Some(ordinary) = Box::pin(tried).await else { return };
                    answered = ordinary;
                }
                return Poured::run(stream, &decision, answered, down, timer, &mut respond).await;
            }
            Some(Ok(Reply::Http1(mut answered))) => {
                if let Some(asked) = asked.take() {
                    let tried = stream.upgrade(asked, answered, &decision, &mut timer, &mut respond);
                    match Box::pin(tried).await {
                        Some(Ok(ordinary)) => answered = ordinary,
                        Some(Err((refusal, trail))) => return stream.refuse(&refusal, &trail, 0, &mut respond),
                        None => return,
                    }
                }
                if let Some((body, out)) = stream.answer(*answered, &decision, down, timer, &mut respond) {
                    body.pour(out).await;
                }
                return;
            }
            Some(Ok(Reply::Any(mut answered))) => {
                if let Some(asked) = asked.take() {
                    let tried = stream.upgrade(asked, answered, &decision, &mut timer, &mut respond);
                    match Box::pin(tried).await {
                        Some(Ok(ordinary)) => answered = ordinary,
                        Some(Err((refusal, trail))) => return stream.refuse(&refusal, &trail, 0, &mut respond),
                        None => return,
                    }
                }
                if let Some((body, out)) = stream.answer(*answered, &decision, down, timer, &mut respond) {
                    Box::pin(body.pour(out)).await;
                }
                return;
            }
            Some(Ok(Reply::Tunnel(opened))) => {
                Box::pin(stream.carry(asked, opened, &mut timer, &mut respond)).await;
            }
            Some(Err((refusal, trail))) => stream.refuse(&refusal, &trail, down.bytes_in, &mut respond),
            None => stream.tell(&Trail::default(), 499, Some(Fault::Client), (down.bytes_in, 0)),
        }
        stream.worker.timers.borrow_mut().put(timer);
    }

    /// The stream, whether its head can be served, and the way up of its body.
    fn new(
        worker: Rc<Worker>,
        via: Via,
        held: Rc<Held>,
        request: Request<RecvStream>,
        began: Instant,
    ) -> (Self, Result<(), Refusal>, Upstream, Option<Asked>) {
        let snapshot = worker.snapshot();
        let mut head = worker.take_head();
        let upgrade = socket::is_asked(&request);
        let key = upgrade.then(|| socket::Key::new(&mut worker.chance.borrow_mut().rng));
        let canonical = canonical(&request, &snapshot.limits, key.as_ref(), &mut head);
        let read = canonical.and_then(|framing| match held.take(head.bytes.len()) {
            true => Ok(framing),
            false => Err(Refused::HeadTooLarge),
        });
        let (framing, read) = match read {
            Ok(framing) => (framing, Ok(())),
            Err(refused) => {
                // What the spare head held is another request's.
                head = Head::default();
                (Framing::None, Err(Refusal::Head(refused)))
            }
        };
        let caller = Caller::new(&head, &via, &snapshot.trusted_proxies);
        let id = RequestId::new(&head, &mut worker.chance.borrow_mut().rng);
        let trace = worker.trace(&snapshot, &head, caller.trusted);
        let expects_continue = head.fields.iter().any(|field| field.id == FieldId::Expect);
        let body = request.into_body();
        let (down, asked) = match upgrade || head.is_connect() {
            true => (Upstream::none(), Some(Asked { body })),
            false => (Upstream::new(body, framing, expects_continue), None),
        };
        let stream =
            Self { worker, snapshot, via, held, head, framing, began, caller, id, trace, decision: None, upgrade };
        (stream, read, down, asked)
    }

    pub(crate) fn question(&self) -> Question<'_> {
        // Of a CONNECT nothing is sent before it is answered.
        let idempotent = matches!(self.head.method(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "CONNECT");
        Question {
            snapshot: &self.snapshot,
            listener: self.via.listener,
            head: &self.head,
            client: self.client(),
            now: self.worker.now(self.began),
            worker: self.worker.index,
            repeatable: idempotent && !self.upgrade,
            at: Some(self.began),
        }
    }

    fn client(&self) -> IpAddr {
        self.caller.client
    }

    fn decide(&self) -> Result<Decision, Refusal> {
        if self.worker.shed.is_on() && sheds(&self.worker, &mut self.worker.chance.borrow_mut().rng) {
            return Err(Refusal::Overloaded);
        }
        let mut chance = self.worker.chance.borrow_mut();
        let chance = &mut *chance;
        let mut dice = Dice { splitters: &mut chance.splitters, tickets: &mut chance.tickets, rng: &mut chance.rng };
        decide(&self.question(), &mut dice)
    }

    /// A place among those in flight, where something is capped.
    async fn admit(
        &self,
        decision: Decision,
        timer: &mut Timer,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(Decision, Places), Refusal> {
        if !self.snapshot.services[decision.service].capped {
            return Ok((decision, Places::default()));
        }
        let gone = |cx: &mut Context<'_>| respond.poll_reset(cx).map(drop);
        admit(&self.worker, &self.question(), decision, timer, gone).await
    }

    /// Forwards it; none when the client resets the stream before there is an answer.
    async fn forward(
        &self,
        decision: &Decision,
        places: Places,
        down: &mut Upstream,
        timer: &mut Timer,
        respond: &mut SendResponse<Bytes>,
    ) -> Option<Result<Reply, (Refusal, Trail)>> {
        let question = self.question();
        let outgoing = Outgoing {
            snapshot: &self.snapshot,
            head: &self.head,
            decision,
            caller: &self.caller,
            id: &self.id,
            trace: self.trace.as_deref(),
            instance: &self.worker.instance,
            tls: self.via.tls.as_deref(),
            framing: self.framing,
            upgrade: self.upgrade,
        };
        let (worker, snapshot, began) = (&self.worker, &self.snapshot, places.began(self.began));
        let ends = self.via.ends;
        let job = Job { worker, snapshot, question: &question, outgoing: &outgoing, decision, ends, began };
        let _in_flight = worker.turns.begin();
        worker.turns.up().await;
        let respond = RefCell::new(respond);
        down.keep_pace(&snapshot.services[decision.service].spec.timeouts, &self.head);
        let mut down = down.with(&respond);
        let mut forwarding = pin!(forward(&job, places, &mut down, timer));
        let forwarded = std::future::poll_fn(|cx| match forwarding.as_mut().poll(cx) {
            Poll::Ready(forwarded) => Poll::Ready(Some(forwarded)),
            Poll::Pending => respond.borrow_mut().poll_reset(cx).map(|_| None),
        });
        match forwarded.await? {
            Ok(Reply::Http1(answered)) if answered.response.status == 101 && !self.upgrade => {
                Some(Err(answered.unasked(&question)))
            }
            Ok(Reply::Any(answered)) if answered.response.status == 101 && !self.upgrade => {
                Some(Err(answered.unasked(&question)))
            }
            forwarded => Some(forwarded),
        }
    }

    pub(crate) fn refuse(&self, refusal: &Refusal, trail: &Trail, bytes_in: u64, respond: &mut SendResponse<Bytes>) {
        self.tell(trail, refusal.status(), Some(refusal.fault()), (bytes_in, 0));
        if grpc::is_call(&self.head) {
            let _ = respond.send_response(grpc::refusal_response(refusal), true);
            return;
        }
        let (head, body) = refusal_response(refusal, &self.head);
        let _ = send(respond, head, body);
    }

    /// Sends the endpoint's answer when all of it is at hand; else its head, and the body that is to be poured.
    fn answer<W: Wire>(
        self,
        answered: Answered<W>,
        decision: &Decision,
        mut down: Upstream,
        timer: Timer,
        respond: &mut SendResponse<Bytes>,
    ) -> Option<(Box<Streamed<W>>, SendStream<Bytes>)> {
        let Answered { mut conn, mut response, upload, attempt, trail, at } = answered;
        let head = self.head_for_client(&response, &conn.buf, &attempt, decision, trail.upstream_us);
        let watch = Watch::of(&response, &conn.buf);
        Aside::note(&mut down.aside, &response, &conn.buf, &attempt);
        conn.buf.drain(..response.head_bytes);
        let body = BodyReader::of_response(response.framing);
        let at_hand = match body {
            BodyReader::Done(_) => Some(0),
            BodyReader::Length(length) => usize::try_from(length).ok().filter(|&n| n == conn.buf.len()),
            _ => None,
        };
        if let Some(n) = at_hand.filter(|&n| n == 0 || upload.is_whole()) {
            let data = Bytes::copy_from_slice(&conn.buf[..n]);
            conn.buf.drain(..n);
            if let Some(witness) = Aside::witness(&mut down.aside) {
                witness.data(&data);
                witness.end();
            }
            let cut = send(respond, head, data).is_err().then_some(Fault::Client);
            let fault = cut.or((500..600).contains(&response.status).then_some(Fault::UpstreamAnswer));
            self.tell(&trail, response.status, fault, (down.bytes_in, n as u64));
            attempt.give_back(conn, upload, &mut response, true, self.worker.now(at).mono_ms);
            self.worker.timers.borrow_mut().put(timer);
            return None;
        }
        let answered = Answered { conn, response, upload, attempt, trail, at };
        let streamed = Box::new(Streamed::new(self, down, answered, timer, watch));
        // A client that has reset the stream is told of when the body is dropped.
        respond.send_response(head, false).ok().map(|out| (streamed, out))
    }

    /// The answer's head, as the client gets it.
    pub(crate) fn head_for_client(
        &self,
        response: &Response,
        bytes: &[u8],
        attempt: &Attempt,
        decision: &Decision,
        upstream_us: Option<u64>,
    ) -> HttpResponse<()> {
        let back = Back {
            snapshot: &self.snapshot,
            head: &self.head,
            decision,
            caller: &self.caller,
            authority: &attempt.endpoint().authority,
            now: self.worker.now(self.began),
            took: Took { began: self.began, upstream_us },
        };
        let mut headers = HeaderMap::with_capacity(response.lines.len() + 1);
        back.fields(response, bytes, |name, value| {
            if let Some((name, value)) = field(name, value) {
                headers.append(name, value);
            }
        });
        if let Some(length) = response.length.filter(|_| response.status != 204) {
            headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        let mut head = HttpResponse::new(());
        *head.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
        *head.headers_mut() = headers;
        head
    }

    pub(crate) fn tell(&self, trail: &Trail, status: u16, fault: Option<Fault>, bytes: (u64, u64)) {
        let story = Story {
            began: self.began,
            client: Some(self.client()),
            protocol: "HTTP/2.0",
            request_id: self.id.as_bytes(&self.head),
            trace: self.trace.as_deref(),
            decision: self.decision.as_ref(),
            trail,
            status,
            fault,
            bytes_in: bytes.0,
            bytes_out: bytes.1,
        };
        tell(&self.worker, &self.snapshot, &self.head, &story);
    }
}

/// Sends a whole answer; an error when the stream is no more.
fn send(respond: &mut SendResponse<Bytes>, head: HttpResponse<()>, data: Bytes) -> Result<(), h2::Error> {
    let mut out = respond.send_response(head, data.is_empty())?;
    if data.is_empty() { Ok(()) } else { out.send_data(data, true) }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.held.put(self.head.bytes.len());
        self.worker.put_head(std::mem::take(&mut self.head));
    }
}
