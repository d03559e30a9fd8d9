//! One HTTP/2 stream: decide, forward, answer. An answer that is not at hand as a whole is poured by [`Streamed`].

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;

use super::h2::{canonical, send_refusal};
use super::h2_body::Upstream;
use super::left::Left;
use super::streamed::{Handed, Streamed};
use crate::model::{Fault, Head, Now};
use crate::proxy::arrival::via::Via;
use crate::proxy::attempt::forward::{Answered, Attempt, Job, Reply, Trail, forward};
use crate::proxy::attempt::wire::Wire;
use crate::proxy::decide::admit::{Places, admit};
use crate::proxy::decide::{Decision, Dice, Question, decide, is_idempotent};
use crate::proxy::frames::held::Held;
use crate::proxy::h1::request::{Framing, Refused};
use crate::proxy::h1::response::{Response, ResponseFraming};
use crate::proxy::h2up::grpc;
use crate::proxy::h2up::to_http2::Poured;
use crate::proxy::heads::answer::{Back, Took};
use crate::proxy::heads::outgoing::{Caller, Outgoing, RequestId};
use crate::proxy::heads::told::Told;
use crate::proxy::heads::trace::Trace;
use crate::proxy::http2::handles::Inflow;
use crate::proxy::http2::head::Request;
use crate::proxy::http2::server::Respond;
use crate::proxy::mirror::Aside;
use crate::proxy::record::{Story, tell};
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::socket::{self, Asked};
use crate::proxy::tunnel::watch::Watch;
use crate::proxy::worker::pulse::sheds;
use crate::proxy::worker::timer::Timer;
use crate::proxy::worker::{Lease, Worker};

/// What the streams of one connection share.
pub(crate) struct Bundle {
    pub(crate) worker: Rc<Worker>,
    pub(crate) via: Via,
    pub(crate) held: Held,
}

/// One request on a stream, and what its answer's body has to know until its end.
pub(crate) struct Stream {
    pub(super) bundle: Rc<Bundle>,
    pub(super) snapshot: Rc<Lease>,
    pub(crate) head: Head,
    framing: Framing,
    began: Instant,
    /// The same on both clocks.
    now: Now,
    caller: Caller,
    id: RequestId,
    trace: Option<Box<Trace>>,
    pub(super) decision: Option<Decision>,
    /// Whether it asks for a WebSocket.
    upgrade: bool,
}

/// A stream that is served: all of it, in one place to its end.
pub(crate) struct Task {
    pub(crate) stream: Stream,
    pub(crate) down: Upstream,
    pub(crate) respond: Respond,
    /// Why its head cannot be served, if so.
    unread: Option<Refusal>,
    asked: Option<Asked>,
}

// === impl Task ===

impl Task {
    /// That of a request that has just come. Its head as it came is let go at once.
    pub(crate) fn new(bundle: &Rc<Bundle>, request: (Request, Inflow), respond: Respond, began: Instant) -> Box<Self> {
        let (request, body) = request;
        let worker = &bundle.worker;
        let snapshot = worker.snapshot();
        let mut head = worker.take_head();
        let upgrade = socket::is_asked(&request);
        let key = upgrade.then(|| socket::Key::new(&mut worker.chance.borrow_mut().rng));
        let canonical = canonical(&request, body.is_end_stream(), &snapshot.limits, key.as_ref(), &mut head);
        let read = canonical.and_then(|framing| match bundle.held.take(head.bytes.len()) {
            true => Ok(framing),
            false => Err(Refused::HeadTooLarge),
        });
        let (framing, unread) = match read {
            Ok(framing) => (framing, None),
            Err(refused) => {
                // What the spare head held is another request's.
                head = Head::default();
                (Framing::None, Some(Refusal::Head(refused)))
            }
        };
        let (now, caller) = (worker.now(began), Caller::new(&head, &bundle.via, &snapshot.trusted_proxies));
        let id = RequestId::new(&head, &mut worker.chance.borrow_mut().rng);
        let trace = worker.trace(&snapshot, &head, caller.trusted);
        let (down, asked) = match upgrade || head.is_connect() {
            true => (Upstream::none(), Some(Asked { body })),
            false => (Upstream::new(body, framing, &head), None),
        };
        let (bundle, decision) = (Rc::clone(bundle), None);
        let stream = Stream { bundle, snapshot, head, framing, began, now, caller, id, trace, decision, upgrade };
        Box::new(Self { stream, down, respond, unread, asked })
    }

    /// The worker that serves it.
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        self.stream.worker()
    }

    /// Serves it to its end.
    pub(crate) async fn run(self: Box<Self>) {
        if let Some(left) = self.serve().await {
            Box::pin(left.see_off()).await;
        }
    }

    /// Serves it; what its client has yet to take is left.
    async fn serve(mut self: Box<Self>) -> Option<Left> {
        let Self { stream, down, respond, unread, asked } = &mut *self;
        let decision = match unread.take().map_or_else(|| stream.decide(), Err) {
            Ok(decision) => decision,
            Err(refusal) => return stream.refuse(&refusal, &Trail::default(), 0, respond),
        };
        let mut timer = stream.worker().timers.borrow_mut().take();
        let (decision, places) = match stream.snapshot.services[decision.service].capped {
            false => (decision, Places::default()),
            true => match stream.admit(decision, &mut timer, respond).await {
                Ok(admitted) => admitted,
                Err(refusal) => {
                    stream.worker().timers.borrow_mut().put(timer);
                    return stream.refuse(&refusal, &Trail::default(), 0, respond);
                }
            },
        };
        stream.decision = Some(decision);
        match stream.forward(&decision, places, down, &mut timer, respond).await {
            Some(Ok(Reply::Http2(mut answered))) => {
                if let Some(asked) = asked.take() {
                    let tried = stream.upgrade_http2(asked, answered, &decision, &mut timer, respond);
                    let Some(ordinary) = Box::pin(tried).await else { return stream.left(respond) };
                    answered = ordinary;
                }
                return Poured::run(self, &decision, answered, timer).await;
            }
            Some(Ok(Reply::Http1(answered))) => return self.pass(answered, &decision, timer).await,
            Some(Ok(Reply::Any(answered))) => return Box::pin(self.pass(answered, &decision, timer)).await,
            Some(Ok(Reply::Tunnel(opened))) => {
                Box::pin(stream.carry(asked.take(), opened, &mut timer, respond)).await;
                stream.worker().timers.borrow_mut().put(timer);
            }
            Some(Err((refusal, trail))) => {
                stream.refuse(&refusal, &trail, down.bytes_in, respond);
                stream.worker().timers.borrow_mut().put(timer);
            }
            None => {
                stream.tell(&Trail::default(), 499, Some(Fault::Client), (down.bytes_in, 0));
                stream.worker().timers.borrow_mut().put(timer);
            }
        }
        stream.left(respond)
    }

    /// Passes on an answer over HTTP/1.
    async fn pass<W: Wire>(
        mut self: Box<Self>,
        mut answered: Box<Answered<W>>,
        decision: &Decision,
        mut timer: Timer,
    ) -> Option<Left> {
        let Self { stream, respond, asked, .. } = &mut *self;
        if let Some(asked) = asked.take() {
            let tried = stream.upgrade(asked, answered, decision, &mut timer, respond);
            match Box::pin(tried).await {
                Some(Ok(ordinary)) => answered = ordinary,
                Some(Err((refusal, trail))) => return stream.refuse(&refusal, &trail, 0, respond),
                None => return stream.left(respond),
            }
        }
        match self.answer(*answered, decision, timer) {
            Handed::Whole(left) => left,
            Handed::Begun(body, out) => body.pour(out).await,
        }
    }

    /// Sends the endpoint's answer when all of it is at hand; else its head, and the body that is to be poured.
    fn answer<W: Wire>(mut self: Box<Self>, answered: Answered<W>, decision: &Decision, timer: Timer) -> Handed<W> {
        let Self { stream, down, respond, .. } = &mut *self;
        let Answered { mut conn, mut response, upload, attempt, trail, at } = answered;
        let told = stream.told(&response, &conn.buf, &attempt, decision, trail.upstream_us);
        Aside::note(&mut down.aside, &response, &conn.buf, &attempt);
        let behind = conn.buf.len() - response.head_bytes;
        let at_hand = match response.framing {
            ResponseFraming::None => Some(0),
            ResponseFraming::Length(length) => usize::try_from(length).ok().filter(|&n| n == behind),
            ResponseFraming::Chunked | ResponseFraming::Close => None,
        };
        if let Some(n) = at_hand.filter(|&n| n == 0 || upload.is_whole()) {
            let data = &conn.buf[response.head_bytes..response.head_bytes + n];
            let sent = respond.send_whole(|out| told.write(out), data);
            if let Some(witness) = Aside::witness(&mut down.aside) {
                witness.data(data);
                witness.end();
            }
            conn.buf.drain(..response.head_bytes + n);
            let cut = sent.is_err().then_some(Fault::Client);
            let fault = cut.or((500..600).contains(&response.status).then_some(Fault::UpstreamAnswer));
            stream.tell(&trail, response.status, fault, (down.bytes_in, n as u64));
            let worker = stream.worker();
            attempt.give_back(conn, upload, &mut response, true, worker.now(at).mono_ms);
            worker.timers.borrow_mut().put(timer);
            return Handed::Whole(stream.left(respond));
        }
        let sent = respond.send_response(|out| told.write(out), false);
        let watch = Watch::of(&response, &conn.buf);
        conn.buf.drain(..response.head_bytes);
        let answered = Answered { conn, response, upload, attempt, trail, at };
        let streamed = Box::new(Streamed::new(self, answered, timer, watch));
        // A client that has reset the stream is told of when the body is dropped.
        match sent {
            Ok(out) => Handed::Begun(streamed, out),
            Err(_) => Handed::Whole(None),
        }
    }
}

// === impl Stream ===

impl Stream {
    #[inline]
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.bundle.worker
    }

    pub(crate) fn question(&self) -> Question<'_> {
        let idempotent = is_idempotent(self.head.method_bytes());
        Question {
            snapshot: &self.snapshot,
            listener: self.bundle.via.listener,
            head: &self.head,
            client: self.client(),
            now: self.now,
            worker: self.worker().index,
            repeatable: idempotent && !self.upgrade,
            at: Some(self.began),
        }
    }

    fn client(&self) -> IpAddr {
        self.caller.client
    }

    fn decide(&self) -> Result<Decision, Refusal> {
        let worker = self.worker();
        if worker.shed.is_on() && sheds(worker, &mut worker.chance.borrow_mut().rng) {
            return Err(Refusal::Overloaded);
        }
        let mut chance = worker.chance.borrow_mut();
        let chance = &mut *chance;
        let mut dice = Dice { splitters: &mut chance.splitters, tickets: &mut chance.tickets, rng: &mut chance.rng };
        decide(&self.question(), &mut dice)
    }

    /// A place among those in flight, where something is capped.
    async fn admit(
        &self,
        decision: Decision,
        timer: &mut Timer,
        respond: &mut Respond,
    ) -> Result<(Decision, Places), Refusal> {
        let gone = |cx: &mut Context<'_>| respond.poll_reset(cx).map(drop);
        admit(self.worker(), &self.question(), decision, timer, gone).await
    }

    /// Forwards it; none when the client resets the stream before there is an answer.
    async fn forward(
        &self,
        decision: &Decision,
        places: Places,
        down: &mut Upstream,
        timer: &mut Timer,
        respond: &mut Respond,
    ) -> Option<Result<Reply, (Refusal, Trail)>> {
        let (worker, snapshot, via) = (self.worker(), &self.snapshot, &self.bundle.via);
        let question = self.question();
        let outgoing = Outgoing {
            snapshot,
            head: &self.head,
            decision,
            caller: &self.caller,
            id: &self.id,
            trace: self.trace.as_deref(),
            instance: &worker.instance,
            tls: via.tls.as_deref(),
            framing: self.framing,
            upgrade: self.upgrade,
        };
        let (ends, began) = (via.ends, places.began(self.began));
        let job = Job { worker, snapshot, question: &question, outgoing: &outgoing, decision, ends, began };
        let _in_flight = worker.turns.begin();
        let service = &snapshot.services[decision.service];
        let pool = &service.pools[decision.pool];
        // Over HTTP/2 what goes out in one turn goes out at once anyway.
        if TcpStream::carries(pool, &pool.endpoints[decision.endpoint]) {
            worker.turns.up().await;
        }
        let respond = RefCell::new(respond);
        down.keep_pace(&service.spec.timeouts, &self.head);
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

    /// Answers it with weir's own; what its client has yet to take of that is left.
    pub(crate) fn refuse(
        &self,
        refusal: &Refusal,
        trail: &Trail,
        bytes_in: u64,
        respond: &mut Respond,
    ) -> Option<Left> {
        self.tell(trail, refusal.status(), Some(refusal.fault()), (bytes_in, 0));
        // A stream that is no more is told of.
        let _ = match grpc::is_call(&self.head) {
            true => respond.send_response(|out| grpc::refuse(refusal, out), true).map(drop),
            false => send_refusal(refusal, &self.head, respond),
        };
        self.left(respond)
    }

    /// The answer's head, to be written as the client gets it. `bytes` are what the spans of `response` point into.
    pub(crate) fn told<'a>(
        &'a self,
        response: &'a Response,
        bytes: &'a [u8],
        attempt: &'a Attempt,
        decision: &'a Decision,
        upstream_us: Option<u64>,
    ) -> Told<'a> {
        let back = Back {
            snapshot: &self.snapshot,
            head: &self.head,
            decision,
            caller: &self.caller,
            authority: &attempt.endpoint().authority,
            now: self.now,
            took: Took { began: self.began, upstream_us },
        };
        Told { back, response, bytes }
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
        tell(self.worker(), &self.snapshot, &self.head, &story);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.bundle.held.put(self.head.bytes.len());
        self.bundle.worker.put_head(std::mem::take(&mut self.head));
    }
}
