//! An endpoint's HTTP/2 answer on its way to an HTTP/2 client: piece by piece as the client's stream has room, which is
//! when the endpoint may send more. Pieces are handed on as they are.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answer::Piece;
use super::attempt::{Answered2, settle};
use super::grpc;
use crate::model::Fault;
use crate::proxy::clients::left::Left;
use crate::proxy::clients::outlet;
use crate::proxy::clients::stream::Task;
use crate::proxy::decide::Decision;
use crate::proxy::http2::error::{Error, Reason};
use crate::proxy::http2::handles::Outflow;
use crate::proxy::mirror::Aside;
use crate::proxy::tunnel::watch::Watch;
use crate::proxy::worker::timer::Timer;

/// An answer under way.
pub(in crate::proxy) struct Poured {
    task: Box<Task>,
    answered: Box<Answered2>,
    timer: Timer,
    idle: Duration,
    moved: Instant,
    bytes_out: u64,
    told: bool,
    /// Whether it has to end before its end.
    watch: Watch,
}

// === impl Poured ===

impl Poured {
    /// Sends the head of an answer, and what follows it; what its client has yet to take of the end is left.
    pub(in crate::proxy) async fn run(
        mut task: Box<Task>,
        decision: &Decision,
        mut answered: Box<Answered2>,
        timer: Timer,
    ) -> Option<Left> {
        let Task { stream, down, respond, .. } = &mut *task;
        let Answered2 { answer, attempt, trail, at } = &mut *answered;
        // Most answers are there as a whole by now.
        let first = std::future::poll_fn(|cx| Poll::Ready(answer.poll(cx, down))).await;
        Aside::note(&mut down.aside, &answer.response, &answer.bytes, attempt);
        let whole = match &first {
            Poll::Ready(Piece::End(trailers)) if trailers.is_empty() => Some(&b""[..]),
            Poll::Ready(Piece::Data(data)) if answer.is_over() => Some(&data[..]),
            _ => None,
        };
        let head = stream.told(&answer.response, &answer.bytes, attempt, decision, trail.upstream_us);
        let sent = match whole {
            Some(data) => respond.send_whole(|out| head.write(out), data).map(|()| None),
            None => respond.send_response(|out| head.write(out), false).map(Some),
        };
        let (moved, idle) = (*at, attempt.service().spec.timeouts.idle);
        let watch = Watch::of(&answer.response, &answer.bytes);
        let mut poured = Self { task, answered, timer, idle, moved, bytes_out: 0, told: false, watch };
        // A client that has reset the stream is told of when the answer is dropped.
        let out = sent.ok()?;
        match (out, first) {
            (Some(mut out), first) => {
                let mut first = Some(first);
                let rushing = |cx: &mut Context<'_>| {
                    let first = first.take().unwrap_or(Poll::Pending);
                    Poll::Ready(poured.rush(cx, &mut out, first))
                };
                match std::future::poll_fn(rushing).await {
                    Some(next) => Box::pin(poured.pour(out, next)).await,
                    None => poured.task.stream.left_behind(out),
                }
            }
            (None, whole) => {
                if let Poll::Ready(Piece::Data(data)) = whole {
                    poured.note(&data);
                }
                poured.finish(None);
                poured.task.stream.left(&poured.task.respond)
            }
        }
    }

    /// Sends what is there. None: that was all.
    fn rush(&mut self, cx: &mut Context<'_>, out: &mut Outflow, mut next: Poll<Piece>) -> Option<Poll<Piece>> {
        loop {
            match next {
                Poll::Ready(Piece::Data(data)) if out.has_room() => self.send(out, data).ok()?,
                Poll::Ready(Piece::End(trailers)) => {
                    self.end(out, &trailers);
                    return None;
                }
                next => return Some(next),
            }
            next = self.answered.answer.poll(cx, &mut self.task.down);
        }
    }

    async fn pour(mut self, mut out: Outflow, mut next: Poll<Piece>) -> Option<Left> {
        loop {
            let step = match std::mem::replace(&mut next, Poll::Pending) {
                Poll::Ready(piece) => Some(piece),
                Poll::Pending => {
                    std::future::poll_fn(|cx| match self.poll(cx) {
                        Poll::Ready(next) => Poll::Ready(Some(next)),
                        Poll::Pending => out.poll_reset(cx).map(|_| None),
                    })
                    .await
                }
            };
            match step {
                Some(Piece::Data(data)) => {
                    // Its own body goes on meanwhile.
                    let Self { task, answered, timer, idle, moved, .. } = &mut self;
                    let (uplink, down) = (&mut answered.answer.uplink, &mut task.down);
                    let beside = |cx: &mut Context<'_>| match uplink.poll(cx, down) {
                        Poll::Ready(Err(_)) => Poll::Ready(()),
                        _ => Poll::Pending,
                    };
                    if !outlet::has_room(&mut out, timer, *idle, moved, beside).await
                        || self.send(&mut out, data).is_err()
                    {
                        return None;
                    }
                }
                Some(Piece::End(trailers)) => {
                    self.end(&mut out, &trailers);
                    return self.task.stream.left_behind(out);
                }
                // A call is told in its own way, so that its client takes it for what may be made again.
                Some(Piece::Cut(Fault::Proxy)) if self.is_call() => {
                    self.finish(Some(Fault::Proxy));
                    let _ = out.send_trailers(grpc::CLOSED);
                    return self.task.stream.left_behind(out);
                }
                // So that the client cannot take it for whole.
                Some(Piece::Cut(fault)) => {
                    self.finish(Some(fault));
                    out.send_reset(Reason::INTERNAL_ERROR);
                    return None;
                }
                None => return None,
            }
        }
    }

    /// Sends a piece, for which the client has room; the endpoint may send as much more.
    fn send(&mut self, out: &mut Outflow, data: Bytes) -> Result<(), Error> {
        let bytes = data.len();
        self.note(&data);
        out.send_data(data, false)?;
        self.answered.answer.taken(bytes);
        Ok(())
    }

    /// Sends the end, with trailers as lines.
    fn end(&mut self, out: &mut Outflow, trailers: &[u8]) {
        self.finish(None);
        outlet::end(out, trailers);
    }

    /// Takes note of a piece that the client gets.
    fn note(&mut self, data: &[u8]) {
        self.bytes_out += data.len() as u64;
        if let Some(witness) = Aside::witness(&mut self.task.down.aside) {
            witness.data(data);
        }
    }

    fn is_call(&self) -> bool {
        grpc::is_call(&self.task.stream.head)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let mark = self.answered.answer.uplink.mark();
        let polled = self.answered.answer.poll(cx, &mut self.task.down);
        if polled.is_ready() || self.answered.answer.uplink.mark() != mark {
            self.moved = Instant::now();
        }
        if polled.is_ready() {
            return polled;
        }
        if self.watch.poll_over(cx, &self.answered.attempt).is_ready() {
            return Poll::Ready(Piece::Cut(Fault::Proxy));
        }
        ready!(self.timer.poll_elapsed(cx, self.moved + self.idle));
        if self.answered.answer.uplink.waits_for_client() {
            return Poll::Ready(Piece::Cut(Fault::Client));
        }
        self.answered.answer.doubt();
        Poll::Ready(Piece::Cut(Fault::UpstreamTimeout))
    }

    /// Tells the story, once.
    fn finish(&mut self, cut: Option<Fault>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if let Some(witness) = Aside::witness(&mut self.task.down.aside).filter(|_| cut.is_none()) {
            witness.end();
        }
        let Answered2 { answer, attempt, trail, .. } = &mut *self.answered;
        let status = answer.response.status;
        let fault = settle(answer, attempt, trail, cut, &self.task.stream.question());
        self.task.stream.tell(trail, status, fault, (self.task.down.bytes_in, self.bytes_out));
        let worker = self.task.worker();
        worker.timers.borrow_mut().put(std::mem::take(&mut self.timer));
        let mut buffers = worker.buffers.borrow_mut();
        buffers.put_lines(std::mem::take(&mut answer.response.lines));
        buffers.put_head(std::mem::take(&mut answer.bytes));
    }
}

impl Drop for Poured {
    fn drop(&mut self) {
        // It is dropped before its end only when the client is gone or resets the stream; the endpoint's stream is
        // reset with it.
        self.finish(Some(Fault::Client));
    }
}
