//! One HTTP/1 request from head to answer: decide, forward, relay, tell.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWriteExt;

use super::client::Client;
use super::relay::{End, Relay, write_framing};
use crate::model::{Fault, Head};
use crate::proxy::arrival::challenge;
use crate::proxy::arrival::link::Link;
use crate::proxy::arrival::via::Via;
use crate::proxy::attempt::forward::{Answered, Job, Reply, Trail, forward};
use crate::proxy::attempt::wire::Wire;
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::decide::admit::{Places, admit};
use crate::proxy::decide::{Decision, Dice, Question, decide, is_idempotent};
use crate::proxy::h1::request::{Framing, Parsed};
use crate::proxy::h1::response::ResponseFraming;
use crate::proxy::heads::answer::{Back, Took};
use crate::proxy::heads::outgoing::{Caller, Outgoing, RequestId};
use crate::proxy::heads::trace::Trace;
use crate::proxy::mirror::Aside;
use crate::proxy::record::{Story, tell};
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::pulse::sheds;
use crate::proxy::worker::timer::Timer;
use crate::proxy::worker::{Lease, Worker};
use crate::switchboard::snapshot::Snapshot;

/// What becomes of the client's connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come; what has been read of it stands in the head's buffer.
    Next,
    /// It is closed; nothing the client may still be sending matters.
    Close,
    /// It is closed in such a way that the answer cannot look whole.
    Cut,
    /// It is closed once the client has had a chance to read the answer to a request it may still be sending.
    Linger,
}

/// Everything that is known of one request.
pub(crate) struct Request<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) snapshot: Rc<Lease>,
    via: &'a Via,
    pub(crate) parsed: Parsed,
    pub(crate) began: Instant,
}

/// Serves the request whose head has been parsed.
pub(crate) async fn serve<L: Link>(
    worker: &Rc<Worker>,
    via: &Via,
    stream: &mut L,
    head: &mut Head,
    parsed: Parsed,
    timer: &mut Timer,
) -> After {
    let request = Request { worker, snapshot: worker.snapshot(), via, parsed, began: Instant::now() };
    let _in_flight = worker.turns.begin();
    request.serve(stream, head, timer).await
}

// === impl Request ===

impl Request<'_> {
    async fn serve<L: Link>(&self, stream: &mut L, head: &mut Head, timer: &mut Timer) -> After {
        // What stands behind the head is the client's to read; most requests have nothing there.
        let mut rest = Vec::new();
        if head.bytes.len() > self.parsed.head_bytes || self.parsed.framing != Framing::None {
            rest = self.worker.buffers.borrow_mut().take();
            rest.extend_from_slice(&head.bytes[self.parsed.head_bytes..]);
            head.bytes.truncate(self.parsed.head_bytes);
        }
        let mut client = Client::new(stream, rest, &self.parsed);
        let after = self.answer(&mut client, head, timer).await;
        head.bytes.clear();
        if after == After::Next {
            head.bytes.extend_from_slice(client.unused());
        }
        let rest = client.rest;
        if rest.capacity() > 0 {
            self.worker.buffers.borrow_mut().put(rest);
        }
        after
    }

    async fn answer<L: Link>(&self, client: &mut Client<'_, L>, head: &Head, timer: &mut Timer) -> After {
        let snapshot = &self.snapshot;
        let now = self.worker.now(self.began);
        let caller = Caller::new(head, self.via, &snapshot.trusted_proxies);
        let idempotent = is_idempotent(head.method_bytes());
        let question = Question {
            snapshot,
            listener: self.via.listener,
            head,
            client: caller.client,
            now,
            worker: self.worker.index,
            repeatable: idempotent && !self.parsed.upgrade,
            at: Some(self.began),
        };
        let (decided, id) = self.decide::<L>(&question);
        let trace = self.worker.trace(snapshot, head, caller.trusted);
        let told = Told { request: self, head, caller: &caller, id: &id, trace: trace.as_deref() };
        let mut decision = match decided {
            Ok(decision) => decision,
            Err(refusal) => return told.refuse(client, None, &Trail::default(), refusal, timer).await,
        };
        let mut places = Places::default();
        if snapshot.services[decision.service].capped {
            match admit(self.worker, &question, decision, timer, gone(client)).await {
                Ok(admitted) => (decision, places) = admitted,
                Err(refusal) => return told.refuse(client, None, &Trail::default(), refusal, timer).await,
            }
        }
        let outgoing = Outgoing {
            snapshot,
            head,
            decision: &decision,
            caller: &caller,
            id: &id,
            trace: trace.as_deref(),
            instance: &self.worker.instance,
            tls: self.via.tls.as_deref(),
            framing: self.parsed.framing,
            upgrade: self.parsed.upgrade,
        };
        let job = Job {
            worker: self.worker,
            snapshot,
            question: &question,
            outgoing: &outgoing,
            decision: &decision,
            ends: self.via.ends,
            began: places.began(self.began),
        };
        client.keep_pace(&snapshot.services[decision.service].spec.timeouts);
        self.worker.turns.up().await;
        match forward(&job, places, client, timer).await {
            Ok(Reply::Http1(answered)) => told.relay(&question, &decision, client, answered, timer).await,
            Ok(Reply::Any(answered)) => Box::pin(told.relay(&question, &decision, client, answered, timer)).await,
            Ok(Reply::Http2(answered)) => {
                Box::pin(told.relay_http2(&question, &decision, client, answered, timer)).await
            }
            Ok(Reply::Tunnel(opened)) => Box::pin(told.carry(&decision, opened, client, timer)).await,
            Err((refusal, trail)) => told.refuse(client, Some(&decision), &trail, refusal, timer).await,
        }
    }

    fn decide<L: Link>(&self, question: &Question<'_>) -> (Result<Decision, Refusal>, RequestId) {
        let mut chance = self.worker.chance.borrow_mut();
        let chance = &mut *chance;
        let mut dice = Dice { splitters: &mut chance.splitters, tickets: &mut chance.tickets, rng: &mut chance.rng };
        let decided = match challenge::http::<L>(self.worker, question.head) {
            Some(answer) => Err(answer),
            None if self.worker.shed.is_on() && sheds(self.worker, dice.rng) => Err(Refusal::Overloaded),
            None => decide(question, &mut dice),
        };
        (decided, RequestId::new(question.head, dice.rng))
    }
}

/// Ready when a client that waits has left; one that still sends its body is not asked.
fn gone<L: Link>(client: &mut Client<'_, L>) -> impl FnMut(&mut Context<'_>) -> Poll<()> {
    |cx| if client.is_read() { client.poll_gone(cx) } else { Poll::Pending }
}

/// What telemetry and the answer have to know.
pub(crate) struct Told<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) head: &'a Head,
    pub(crate) caller: &'a Caller,
    id: &'a RequestId,
    trace: Option<&'a Trace>,
}

// === impl Told ===

impl Told<'_> {
    /// Sends the endpoint's answer down.
    async fn relay<L: Link, W: Wire>(
        &self,
        question: &Question<'_>,
        decision: &Decision,
        client: &mut Client<'_, L>,
        mut answered: Box<Answered<W>>,
        timer: &mut Timer,
    ) -> After {
        let Answered { conn, response, upload, attempt, trail, .. } = &mut *answered;
        let (worker, parsed) = (self.request.worker, &self.request.parsed);
        let upgraded = response.status == 101;
        if upgraded && !(parsed.upgrade && response.upgrade) {
            attempt.fail(Fault::UpstreamAnswer, question);
            let refusal = Refusal::Upstream { fault: Fault::UpstreamAnswer, reason: "unasked_upgrade" };
            return self.refuse(client, Some(decision), trail, refusal, timer).await;
        }
        // An HTTP/1.0 client knows the end of such a body by the end of the connection alone.
        let endless =
            parsed.http10 && matches!(response.framing, ResponseFraming::Chunked | ResponseFraming::Close) && !upgraded;
        let keep = parsed.keep_alive && worker.draining().is_none() && client.is_read() && !upgraded && !endless;
        let mut out = client.behind_owed(worker.buffers.borrow_mut().take());
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&conn.buf[response.status_line.range()]);
        out.extend_from_slice(b"\r\n");
        let (snapshot, authority) = (&self.request.snapshot, &attempt.endpoint().authority);
        let (now, took) = (question.now, Took { began: self.request.began, upstream_us: trail.upstream_us });
        let back = Back { snapshot, head: self.head, decision, caller: self.caller, authority, now, took };
        back.fields(response, &conn.buf, |name, value| {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        });
        Aside::note(&mut client.aside, response, &conn.buf, attempt);
        let chunked = write_framing(response, parsed.http10, &mut out);
        out.extend_from_slice(match (upgraded, keep, parsed.http10) {
            (true, ..) => b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
            (false, true, false) => b"\r\n",
            (false, true, true) => b"connection: keep-alive\r\n\r\n",
            (false, false, _) => b"connection: close\r\n\r\n",
        });
        let mut relay = Relay::new(worker, client, conn, upload, response, chunked, out);
        worker.turns.down().await;
        let end = relay.run(timer, attempt.service().spec.timeouts.idle, attempt).await;
        let mut bytes_out = relay.bytes_out;
        worker.buffers.borrow_mut().put(relay.out);
        if upgraded && end == End::Whole {
            bytes_out += self.tunnel(client, conn, attempt, trail, timer).await;
        }
        if let End::Unsent(fault) = end {
            attempt.fail(fault, question);
            let refusal = Refusal::Upstream { fault, reason: "malformed_body" };
            return self.refuse(client, Some(decision), trail, refusal, timer).await;
        }
        let fault = match end {
            End::Whole => (500..600).contains(&response.status).then_some(Fault::UpstreamAnswer),
            End::Cut(fault) | End::Unsent(fault) => {
                if fault.blames_pool() {
                    attempt.fail(fault, question);
                }
                Some(fault)
            }
        };
        self.tell(Some(decision), trail, response.status, fault, (client.bytes_in, bytes_out));
        let whole = end == End::Whole && !upgraded;
        if endless && !whole {
            // A reset is the only way to say that the body is not whole.
            let _ = socket2::SockRef::from(client.stream.socket()).set_linger(Some(std::time::Duration::ZERO));
        }
        let after = match client.is_read() {
            _ if upgraded => After::Close,
            _ if !whole => After::Cut,
            true if keep => After::Next,
            true if client.unused().is_empty() => After::Close,
            _ => After::Linger,
        };
        answered.give_back(whole, question.now.mono_ms);
        after
    }

    /// Answers in the proxy's own name.
    async fn refuse<L: Link>(
        &self,
        client: &mut Client<'_, L>,
        decision: Option<&Decision>,
        trail: &Trail,
        refusal: Refusal,
        timer: &mut Timer,
    ) -> After {
        // A small body that has arrived already is read, so that the connection can go on.
        let mut rest = Vec::new();
        let read = client.buffered(&mut rest).unwrap_or(false);
        let keep =
            self.request.parsed.keep_alive && read && !refusal.closes() && self.request.worker.draining().is_none();
        let sent = match refusal {
            Refusal::ClientGone => false,
            _ => client.settle(timer).await && send(client.stream, &refusal, Some(self.head), keep, timer).await,
        };
        let bytes = (client.bytes_in, 0);
        self.tell(decision, trail, refusal.status(), Some(refusal.fault()), bytes);
        match (sent, keep) {
            (true, true) => After::Next,
            (true, false) => After::Linger,
            (false, _) => After::Close,
        }
    }

    pub(crate) fn tell(
        &self,
        decision: Option<&Decision>,
        trail: &Trail,
        status: u16,
        fault: Option<Fault>,
        bytes: (u64, u64),
    ) {
        let story = Story {
            began: self.request.began,
            client: Some(self.caller.client),
            protocol: if self.request.parsed.http10 { "HTTP/1.0" } else { "HTTP/1.1" },
            request_id: self.id.as_bytes(self.head),
            trace: self.trace,
            decision,
            trail,
            status,
            fault,
            bytes_in: bytes.0,
            bytes_out: bytes.1,
        };
        tell(self.request.worker, &self.request.snapshot, self.head, &story);
    }
}

/// Sends weir's own answer; false when the client does not take it.
pub(crate) async fn send<L: Link>(
    stream: &mut L,
    refusal: &Refusal,
    head: Option<&Head>,
    keep: bool,
    timer: &mut Timer,
) -> bool {
    let text = response_text(refusal, head, keep);
    // An answer of a few hundred bytes fits any socket buffer; a client that does not take it is not worth waiting for.
    let deadline = Instant::now() + std::time::Duration::from_secs(1);
    let written = async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    };
    matches!(timer.limit(deadline, written).await, Ok(Ok(())))
}

/// weir's own answer to an HTTP/1 client.
fn response_text(refusal: &Refusal, head: Option<&Head>, keep: bool) -> String {
    use std::fmt::Write;
    let (status, phrase) = (refusal.status(), refusal.phrase());
    let (kind, body) = refusal.body();
    let mut text = format!("HTTP/1.1 {status} {phrase}\r\ncontent-type: {kind}\r\n");
    let _ = write!(text, "content-length: {}\r\n", body.len());
    if status == 405 {
        text.push_str("allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n");
    }
    if let Some(location) = head.and_then(|head| refusal.location(head)) {
        let _ = write!(text, "location: {location}\r\n");
    }
    for (name, value) in refusal.fields() {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str(if keep { "\r\n" } else { "connection: close\r\n\r\n" });
    if head.is_none_or(|head| head.method() != "HEAD") {
        text.push_str(&body);
    }
    text
}

/// Tells of a head that could not be read.
pub(crate) fn tell_unread(worker: &Worker, snapshot: &Snapshot, via: &Via, refusal: &Refusal, began: Instant) {
    let story = Story {
        began,
        client: Some(via.peer),
        protocol: "HTTP/1.1",
        request_id: b"",
        trace: None,
        decision: None,
        trail: &Trail::default(),
        status: refusal.status(),
        fault: Some(refusal.fault()),
        bytes_in: 0,
        bytes_out: 0,
    };
    tell(worker, snapshot, &Head::default(), &story);
}
