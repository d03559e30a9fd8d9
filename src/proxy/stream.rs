//! One HTTP/2 stream: decide, forward, and an answer whose body reads the endpoint's connection as the client takes it.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response as HttpResponse;
use http_body::{Body, Frame};

use super::answer::Back;
use super::body::BodyReader;
use super::decide::{Decision, Dice, Question, decide};
use super::exchange::{Conn, poll_read};
use super::forward::{Answered, Attempt, Job, Trail, forward};
use super::h1::chunked::Piece;
use super::h1::request::Framing;
use super::h1::response::Response;
use super::h2::{Upstream, field, refusal_response};
use super::outgoing::{Caller, Outgoing, RequestId};
use super::record::{Story, tell};
use super::refusal::Refusal;
use super::serve::Via;
use super::timer::Timer;
use super::upload::Upload;
use super::worker::Worker;
use crate::model::{Fault, Head};
use crate::switchboard::snapshot::Snapshot;

/// One request on a stream, and what its answer's body has to know until its end.
pub(crate) struct Stream {
    worker: Rc<Worker>,
    snapshot: Rc<Arc<Snapshot>>,
    via: Via,
    head: Head,
    framing: Framing,
    began: Instant,
    caller: Caller,
    id: RequestId,
    decision: Option<Decision>,
}

/// The body of an answer.
pub(crate) enum Answer {
    /// All of it, at hand.
    Whole(Option<Bytes>),
    /// Read from the endpoint as the client takes it.
    Streamed(Box<Streamed>),
}

/// A body under way.
pub(crate) struct Streamed {
    stream: Stream,
    down: Upstream,
    conn: Option<Conn>,
    upload: Option<Upload>,
    response: Response,
    attempt: Attempt,
    trail: Trail,
    body: BodyReader,
    timer: Timer,
    idle: Duration,
    moved: Instant,
    bytes_out: u64,
    told: bool,
}

// === impl Stream ===

impl Stream {
    pub(crate) fn new(worker: Rc<Worker>, via: Via, head: Head, framing: Framing) -> Self {
        let snapshot = worker.snapshot();
        let caller = Caller::new(&head, via.peer, &snapshot.trusted_proxies);
        let id = RequestId::new(&head, &mut worker.chance.borrow_mut().rng);
        Self { worker, snapshot, via, head, framing, began: Instant::now(), caller, id, decision: None }
    }

    fn question(&self) -> Question<'_> {
        let idempotent = matches!(self.head.method(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE");
        Question {
            snapshot: &self.snapshot,
            listener: self.via.listener,
            head: &self.head,
            client: self.client(),
            now: self.worker.now(self.began),
            worker: self.worker.index,
            repeatable: idempotent,
        }
    }

    fn client(&self) -> IpAddr {
        self.caller.client
    }

    /// Serves it; `refused`: its head cannot be served at all.
    pub(crate) async fn serve(mut self, mut down: Upstream, refused: Option<Refusal>) -> HttpResponse<Answer> {
        let decided = match refused {
            Some(refusal) => Err(refusal),
            None => {
                let mut chance = self.worker.chance.borrow_mut();
                let chance = &mut *chance;
                let (splitters, tickets) = (&mut chance.splitters, &mut chance.tickets);
                decide(&self.question(), &mut Dice { splitters, tickets, rng: &mut chance.rng })
            }
        };
        let decision = match decided {
            Ok(decision) => decision,
            Err(refusal) => return self.refuse(&refusal, &Trail::default(), &down),
        };
        self.decision = Some(decision);
        let mut timer = self.worker.timers.borrow_mut().take();
        let question = self.question();
        let outgoing = Outgoing {
            snapshot: &self.snapshot,
            head: &self.head,
            decision: &decision,
            caller: &self.caller,
            id: &self.id,
            instance: &self.worker.instance,
            framing: self.framing,
            upgrade: false,
        };
        let (worker, snapshot) = (&self.worker, &self.snapshot);
        let job =
            Job { worker, snapshot, question: &question, outgoing: &outgoing, decision: &decision, began: self.began };
        // The stream's own count of what is under way, so that an exchange dropped by a reset is told of as well.
        let gone = Gone { stream: &self, told: false };
        let forwarded = forward(&job, &mut down, &mut timer).await;
        gone.not();
        match forwarded {
            Ok(answered) if answered.response.status == 101 => {
                answered.attempt.fail(Fault::UpstreamAnswer, &question);
                let refusal = Refusal::Upstream { fault: Fault::UpstreamAnswer, reason: "unasked_upgrade" };
                self.refuse(&refusal, &answered.trail, &down)
            }
            Ok(answered) => self.answer(answered, down, timer),
            Err((refusal, trail)) => {
                self.worker.timers.borrow_mut().put(timer);
                self.refuse(&refusal, &trail, &down)
            }
        }
    }

    fn refuse(&self, refusal: &Refusal, trail: &Trail, down: &Upstream) -> HttpResponse<Answer> {
        self.tell(trail, refusal.status(), Some(refusal.fault()), (down.bytes_in, 0));
        refusal_response(refusal, self.head.method() == "HEAD")
    }

    /// The endpoint's answer, its body whole when it is at hand already.
    fn answer(self, answered: Answered, down: Upstream, timer: Timer) -> HttpResponse<Answer> {
        let Answered { conn, response, upload, attempt, trail, at } = answered;
        let Some(decision) = self.decision else { return refusal_response(&Refusal::NoRoute, false) };
        let mut parts = HttpResponse::builder().status(response.status);
        if let Some(headers) = parts.headers_mut() {
            let authority = &attempt.endpoint().authority;
            let now = self.worker.now(self.began);
            let back = Back {
                snapshot: &self.snapshot,
                head: &self.head,
                decision: &decision,
                caller: &self.caller,
                authority,
                now,
            };
            headers.reserve(response.lines.len() + 1);
            back.fields(&response, &conn.buf, |name, value| {
                if let Some((name, value)) = field(name, value) {
                    headers.append(name, value);
                }
            });
            if let Some(length) = response.length.filter(|_| response.status != 204) {
                headers.insert(http::header::CONTENT_LENGTH, length.into());
            }
        }
        let idle = attempt.service().spec.timeouts.idle;
        let body = BodyReader::of_response(response.framing);
        let mut streamed = Streamed {
            stream: self,
            down,
            conn: Some(conn),
            upload: Some(upload),
            response,
            attempt,
            trail,
            body,
            timer,
            idle,
            moved: at,
            bytes_out: 0,
            told: false,
        };
        let answer = match streamed.at_hand() {
            Some(bytes) => Answer::whole(bytes),
            None => Answer::Streamed(Box::new(streamed)),
        };
        parts.body(answer).unwrap_or_else(|_| refusal_response(&Refusal::ClientGone, false))
    }

    fn tell(&self, trail: &Trail, status: u16, fault: Option<Fault>, bytes: (u64, u64)) {
        let story = Story {
            began: self.began,
            client: Some(self.client()),
            protocol: "HTTP/2.0",
            request_id: self.id.as_bytes(&self.head),
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

/// Tells of a stream whose client reset it while an endpoint was at work: hyper drops the exchange without a word.
struct Gone<'a> {
    stream: &'a Stream,
    told: bool,
}

impl Gone<'_> {
    fn not(mut self) {
        self.told = true;
    }
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.stream.tell(&Trail::default(), 499, Some(Fault::Client), (0, 0));
        }
    }
}

// === impl Streamed ===

impl Streamed {
    /// The whole body, when nothing has to be waited for; the story is over then.
    fn at_hand(&mut self) -> Option<Bytes> {
        let conn = self.conn.as_mut()?;
        conn.buf.drain(..self.response.head_bytes);
        let body = match (&self.body, &self.upload) {
            (BodyReader::Done, _) => Bytes::new(),
            (BodyReader::Length(length), Some(upload)) if *length == conn.buf.len() as u64 && upload.is_whole() => {
                let body = Bytes::copy_from_slice(&conn.buf);
                conn.buf.clear();
                body
            }
            _ => return None,
        };
        self.bytes_out = body.len() as u64;
        self.body = BodyReader::Done;
        self.finish(None);
        Some(body)
    }

    /// Gives back the connection and tells the story, once.
    fn finish(&mut self, cut: Option<Fault>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let status = self.response.status;
        let fault = cut.or((500..600).contains(&status).then_some(Fault::UpstreamAnswer));
        if let Some(fault) = cut.filter(|fault| fault.blames_pool()) {
            self.attempt.fail(fault, &self.stream.question());
        }
        self.stream.tell(&self.trail, status, fault, (self.down.bytes_in, self.bytes_out));
        self.stream.worker.timers.borrow_mut().put(std::mem::take(&mut self.timer));
        if let (Some(conn), Some(upload)) = (self.conn.take(), self.upload.take()) {
            let now_ms = self.stream.worker.now(Instant::now()).mono_ms;
            self.attempt.give_back(conn, upload, &self.response, cut.is_none(), now_ms);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            let (Some(conn), Some(upload)) = (&mut self.conn, &mut self.upload) else { return Poll::Ready(None) };
            // The upload goes on beside the answer; what breaks there shows here as the endpoint's close.
            let _ = upload.poll(cx, &mut conn.stream, &mut self.down);
            let (used, piece) = match self.body.next(&conn.buf) {
                Ok(next) => next,
                Err(_) => return self.cut(Fault::UpstreamAnswer),
            };
            match piece {
                Piece::Data(range) => {
                    let data = Bytes::copy_from_slice(&conn.buf[range]);
                    conn.buf.drain(..used);
                    self.bytes_out += data.len() as u64;
                    self.moved = Instant::now();
                    return Poll::Ready(Some(Ok(data)));
                }
                Piece::End => {
                    conn.buf.drain(..used);
                    self.finish(None);
                    return Poll::Ready(None);
                }
                Piece::More => {
                    conn.buf.drain(..used);
                }
            }
            match poll_read(cx, &mut conn.stream, &mut conn.buf) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(Ok(_)) if self.body.close() => {}
                Poll::Ready(_) => return self.cut(Fault::UpstreamAnswer),
                Poll::Pending => {
                    ready!(self.timer.poll_elapsed(cx, self.moved + self.idle));
                    return self.cut(Fault::UpstreamTimeout);
                }
            }
        }
    }

    fn cut(&mut self, fault: Fault) -> Poll<Option<Result<Bytes, Cut>>> {
        self.finish(Some(fault));
        Poll::Ready(Some(Err(Cut)))
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // hyper drops a body before its end only when the client is gone or resets the stream.
        self.finish(Some(Fault::Client));
    }
}

/// The endpoint's answer broke off: the stream is reset, so that the client cannot take it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer of the endpoint broke off")]
pub(crate) struct Cut;

// === impl Answer ===

impl Answer {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Answer::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Answer::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Streamed(streamed) => streamed.poll(cx).map(|next| next.map(|next| next.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(bytes) => bytes.is_none(),
            Answer::Streamed(streamed) => streamed.told,
        }
    }
}
