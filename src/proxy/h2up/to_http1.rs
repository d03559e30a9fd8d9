//! An endpoint's HTTP/2 answer on its way to an HTTP/1 client: framed anew, written as the client takes it, and only
//! then asked for more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::answer::{Answer, Piece};
use super::attempt::{Answered2, settle};
use crate::model::Fault;
use crate::proxy::arrival::link::Link;
use crate::proxy::attempt::forward::Attempt;
use crate::proxy::bodies::body::{push_chunk, push_last_chunk};
use crate::proxy::bodies::upload::Downstream;
use crate::proxy::clients::client::Client;
use crate::proxy::clients::relay::{End, write_framing};
use crate::proxy::clients::serve::{After, Told};
use crate::proxy::decide::{Decision, Question};
use crate::proxy::h1::response::ResponseFraming;
use crate::proxy::heads::answer::{Back, Took};
use crate::proxy::mirror::Aside;
use crate::proxy::tunnel::watch::Watch;
use crate::proxy::worker::timer::Timer;

/// Body bytes that are gathered before they are written: as many as on the way from HTTP/1.
const PIECE_BYTES: usize = 64 * 1024;

impl Told<'_> {
    /// Sends the endpoint's answer down.
    pub(in crate::proxy) async fn relay_http2<L: Link>(
        &self,
        question: &Question<'_>,
        decision: &Decision,
        client: &mut Client<'_, L>,
        answered: Box<Answered2>,
        timer: &mut Timer,
    ) -> After {
        if answered.answer.is_tunnel() {
            return self.upgrade_http2(question, decision, client, answered, timer).await;
        }
        let Answered2 { mut answer, attempt, mut trail, .. } = *answered;
        let (worker, parsed) = (self.request.worker, &self.request.parsed);
        let status = answer.response.status;
        let silent = matches!(status, 204 | 304) || self.head.method() == "HEAD";
        if answer.is_bare() && !silent {
            answer.response.length.get_or_insert(0);
        }
        // An HTTP/1.0 client knows the end of such a body by the end of the connection alone.
        let endless = parsed.http10 && answer.response.framing == ResponseFraming::Chunked;
        let keep = parsed.keep_alive && worker.draining().is_none() && client.is_read() && !endless;
        let mut out = client.behind_owed(worker.buffers.borrow_mut().take());
        let authority = &attempt.endpoint().authority;
        let snapshot = &self.request.snapshot;
        let (now, took) = (question.now, Took { began: self.request.began, upstream_us: trail.upstream_us });
        let back = Back { snapshot, head: self.head, decision, caller: self.caller, authority, now, took };
        Aside::note(&mut client.aside, &answer.response, &answer.bytes, &attempt);
        let chunked = write_head(&answer, &back, parsed.http10, &mut out);
        out.extend_from_slice(match (keep, parsed.http10) {
            (true, false) => b"\r\n",
            (true, true) => b"connection: keep-alive\r\n\r\n",
            (false, _) => b"connection: close\r\n\r\n",
        });
        let watch = Watch::of(&answer.response, &answer.bytes);
        let answer = &mut answer;
        let mut descent = Descent { client, answer, chunked, out, sent: 0, owed: 0, bytes_out: 0, end: None, watch };
        worker.turns.down().await;
        let end = descent.run(timer, attempt.service().spec.timeouts.idle, &attempt).await;
        let bytes_out = descent.bytes_out;
        worker.buffers.borrow_mut().put(descent.out);
        let cut = match end {
            End::Whole => None,
            End::Cut(fault) | End::Unsent(fault) => Some(fault),
        };
        if let Some(witness) = Aside::witness(&mut client.aside).filter(|_| cut.is_none()) {
            witness.end();
        }
        let fault = settle(answer, &attempt, &mut trail, cut, question);
        self.tell(Some(decision), &trail, status, fault, (client.bytes_in, bytes_out));
        let whole = end == End::Whole;
        if endless && !whole {
            // A reset is the only way to say that the body is not whole.
            let _ = socket2::SockRef::from(client.stream.socket()).set_linger(Some(Duration::ZERO));
        }
        match client.is_read() {
            _ if !whole => After::Cut,
            true if keep => After::Next,
            true if client.unused().is_empty() => After::Close,
            _ => After::Linger,
        }
    }
}

/// Writes the head but for what it says of the connection; true when the body goes out in chunks.
fn write_head(answer: &Answer, back: &Back<'_>, http10: bool, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&answer.bytes[answer.response.status_line.range()]);
    out.extend_from_slice(b"\r\n");
    back.fields(&answer.response, &answer.bytes, |name, value| {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    });
    write_framing(&answer.response, http10, out)
}

/// One answer on its way down.
struct Descent<'r, 'c, L> {
    client: &'r mut Client<'c, L>,
    answer: &'r mut Answer,
    chunked: bool,
    /// What is written next, at first the head.
    out: Vec<u8>,
    sent: usize,
    /// Body bytes in `out`: the endpoint may send as many more once they are written.
    owed: usize,
    bytes_out: u64,
    /// How it ends once `out` is written.
    end: Option<End>,
    /// Whether it has to end before its end.
    watch: Watch,
}

// === impl Descent ===

impl<L: Link> Descent<'_, '_, L> {
    /// Streams until the end. `idle`: how long nothing may move.
    async fn run(&mut self, timer: &mut Timer, idle: Duration, attempt: &Attempt) -> End {
        loop {
            let step = std::future::poll_fn(|cx| match self.poll(cx) {
                Poll::Pending => self.watch.poll_over(cx, attempt).map(|()| Some(End::Cut(Fault::Proxy))),
                step => step,
            });
            match timer.limit(Instant::now() + idle, step).await {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(_) if self.is_laden() || self.answer.uplink.waits_for_client() => {
                    return End::Cut(Fault::Client);
                }
                Err(_) => {
                    self.answer.doubt();
                    return End::Cut(Fault::UpstreamTimeout);
                }
            }
        }
    }

    /// Whether the client has yet to take something.
    fn is_laden(&self) -> bool {
        self.sent < self.out.len() || self.client.stream.is_laden()
    }

    /// One step of progress, or the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let mark = self.answer.uplink.mark();
        let mut moved = false;
        loop {
            while self.sent < self.out.len() {
                match Pin::new(&mut *self.client.stream).poll_write(cx, &self.out[self.sent..]) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        self.sent += n;
                        moved = true;
                    }
                    Poll::Ready(_) => return Poll::Ready(Some(End::Cut(Fault::Client))),
                    Poll::Pending => {
                        // A client that does not read may still send.
                        if let Poll::Ready(Err(_)) = self.answer.uplink.poll(cx, self.client) {
                            return Poll::Ready(Some(End::Cut(Fault::Client)));
                        }
                        moved |= self.answer.uplink.mark() != mark;
                        return if moved { Poll::Ready(None) } else { Poll::Pending };
                    }
                }
            }
            if !L::IS_PLAIN && self.client.stream.is_laden() {
                match Pin::new(&mut *self.client.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(End::Cut(Fault::Client))),
                    Poll::Pending => return if moved { Poll::Ready(None) } else { Poll::Pending },
                }
            }
            self.answer.taken(std::mem::take(&mut self.owed));
            self.out.clear();
            self.sent = 0;
            if self.end.is_some() {
                return Poll::Ready(self.end);
            }
            self.gather(cx);
            if self.out.is_empty() && self.end.is_none() {
                if self.client.is_read() && self.client.poll_gone(cx).is_ready() {
                    return Poll::Ready(Some(End::Cut(Fault::Client)));
                }
                moved |= self.answer.uplink.mark() != mark;
                return if moved { Poll::Ready(None) } else { Poll::Pending };
            }
        }
    }

    /// Frames what has come.
    fn gather(&mut self, cx: &mut Context<'_>) {
        while self.out.len() < PIECE_BYTES {
            match self.answer.poll(cx, self.client) {
                Poll::Ready(Piece::Data(data)) => {
                    if let Some(witness) = Aside::witness(&mut self.client.aside) {
                        witness.data(&data);
                    }
                    self.owed += data.len();
                    self.bytes_out += data.len() as u64;
                    match self.chunked {
                        true => push_chunk(&mut self.out, &data),
                        false => self.out.extend_from_slice(&data),
                    }
                }
                Poll::Ready(Piece::End(trailers)) => {
                    if self.chunked {
                        push_last_chunk(&mut self.out, &trailers);
                    }
                    self.end = Some(End::Whole);
                    return;
                }
                Poll::Ready(Piece::Cut(fault)) => {
                    self.end = Some(End::Cut(fault));
                    return;
                }
                Poll::Pending => return,
            }
        }
    }
}
