//! The body of an answer on a stream, read from the endpoint's connection as the client takes it.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::left::Left;
use super::outlet;
use super::stream::Task;
use crate::model::Fault;
use crate::proxy::attempt::exchange::{Conn, poll_read};
use crate::proxy::attempt::forward::{Answered, Attempt, Trail};
use crate::proxy::attempt::wire::Wire;
use crate::proxy::bodies::body::BodyReader;
use crate::proxy::bodies::upload::Upload;
use crate::proxy::h1::chunked::Piece;
use crate::proxy::h1::response::Response;
use crate::proxy::http2::error::Reason;
use crate::proxy::http2::handles::Outflow;
use crate::proxy::mirror::Aside;
use crate::proxy::tunnel::watch::Watch;
use crate::proxy::worker::timer::Timer;

/// How far an answer was handed over.
pub(crate) enum Handed<W: Wire> {
    /// All of it, or its stream is no more.
    Whole(Option<Left>),
    /// Its head; the body is to be poured.
    Begun(Box<Streamed<W>>, Outflow),
}

/// A body under way.
pub(crate) struct Streamed<W: Wire> {
    task: Box<Task>,
    conn: Option<Conn<W>>,
    upload: Option<Upload>,
    response: Response,
    attempt: Attempt,
    trail: Trail,
    body: BodyReader,
    /// Those of the body, as lines, once it has ended.
    trailers: Vec<u8>,
    timer: Timer,
    idle: Duration,
    moved: Instant,
    bytes_out: u64,
    told: bool,
    /// Whether it has to end before its end.
    watch: Watch,
}

// === impl Streamed ===

impl<W: Wire> Streamed<W> {
    /// The body of `answered`, whose head has been taken off its buffer.
    pub(crate) fn new(task: Box<Task>, answered: Answered<W>, timer: Timer, watch: Watch) -> Self {
        let Answered { conn, response, upload, attempt, trail, at } = answered;
        Self {
            task,
            idle: attempt.service().spec.timeouts.idle,
            body: BodyReader::of_response(response.framing),
            trailers: Vec::new(),
            conn: Some(conn),
            upload: Some(upload),
            response,
            attempt,
            trail,
            timer,
            moved: at,
            bytes_out: 0,
            told: false,
            watch,
        }
    }

    /// Sends the body as the client takes it; what it has yet to take of the end is left.
    pub(crate) async fn pour(mut self: Box<Self>, mut out: Outflow) -> Option<Left> {
        loop {
            let next = std::future::poll_fn(|cx| match self.poll(cx) {
                Poll::Ready(next) => Poll::Ready(Some(next)),
                Poll::Pending => out.poll_reset(cx).map(|_| None),
            });
            match next.await {
                Some(Some(Ok(data))) => {
                    // Its own body goes on meanwhile.
                    let Self { task, conn, upload, timer, idle, moved, .. } = &mut *self;
                    let beside = |cx: &mut Context<'_>| match (conn.as_mut(), upload.as_mut()) {
                        (Some(conn), Some(upload)) => match upload.poll(cx, &mut conn.stream, &mut task.down) {
                            Poll::Ready(Err(_)) => Poll::Ready(()),
                            _ => Poll::Pending,
                        },
                        _ => Poll::Pending,
                    };
                    if !outlet::has_room(&mut out, timer, *idle, moved, beside).await
                        || out.send_data(data, false).is_err()
                    {
                        return None;
                    }
                }
                Some(Some(Err(Cut))) => {
                    out.send_reset(Reason::INTERNAL_ERROR);
                    return None;
                }
                Some(None) => {
                    outlet::end(&mut out, &self.trailers);
                    return self.task.stream.left_behind(out);
                }
                None => return None,
            }
        }
    }

    /// Gives back the connection and tells the story, once.
    fn finish(&mut self, cut: Option<Fault>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if let Some(witness) = Aside::witness(&mut self.task.down.aside).filter(|_| cut.is_none()) {
            witness.end();
        }
        let status = self.response.status;
        let fault = cut.or((500..600).contains(&status).then_some(Fault::UpstreamAnswer));
        if let Some(fault) = cut.filter(|fault| fault.blames_pool()) {
            self.attempt.fail(fault, &self.task.stream.question());
        }
        self.task.stream.tell(&self.trail, status, fault, (self.task.down.bytes_in, self.bytes_out));
        self.task.worker().timers.borrow_mut().put(std::mem::take(&mut self.timer));
        if let (Some(conn), Some(upload)) = (self.conn.take(), self.upload.take()) {
            let now_ms = self.task.worker().now(Instant::now()).mono_ms;
            self.attempt.give_back(conn, upload, &mut self.response, cut.is_none(), now_ms);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            let (Some(conn), Some(upload)) = (&mut self.conn, &mut self.upload) else { return Poll::Ready(None) };
            // The upload goes on beside the answer; an endpoint that takes no more of it shows here as its close.
            let mark = upload.mark();
            if let Poll::Ready(Err(_)) = upload.poll(cx, &mut conn.stream, &mut self.task.down) {
                return self.cut(Fault::Client);
            }
            if upload.mark() != mark {
                self.moved = Instant::now();
            }
            let waits_for_client = upload.waits_for_client();
            let (used, piece) = match self.body.next(&conn.buf) {
                Ok(next) => next,
                Err(_) => return self.cut(Fault::UpstreamAnswer),
            };
            match piece {
                Piece::Data(range) => {
                    let data = Bytes::copy_from_slice(&conn.buf[range]);
                    if let Some(witness) = Aside::witness(&mut self.task.down.aside) {
                        witness.data(&data);
                    }
                    conn.buf.drain(..used);
                    self.bytes_out += data.len() as u64;
                    self.moved = Instant::now();
                    return Poll::Ready(Some(Ok(data)));
                }
                Piece::End => {
                    conn.buf.drain(..used);
                    self.trailers = self.body.take_trailers();
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
                Poll::Pending if self.watch.poll_over(cx, &self.attempt).is_ready() => return self.cut(Fault::Proxy),
                Poll::Pending => {
                    ready!(self.timer.poll_elapsed(cx, self.moved + self.idle));
                    return self.cut(if waits_for_client { Fault::Client } else { Fault::UpstreamTimeout });
                }
            }
        }
    }

    fn cut(&mut self, fault: Fault) -> Poll<Option<Result<Bytes, Cut>>> {
        self.finish(Some(fault));
        Poll::Ready(Some(Err(Cut)))
    }
}

impl<W: Wire> Drop for Streamed<W> {
    fn drop(&mut self) {
        // A body is dropped before its end only when the client is gone or resets the stream.
        self.finish(Some(Fault::Client));
    }
}

/// The endpoint's answer broke off: the stream is reset, so that the client cannot take it for whole.
#[derive(Debug)]
struct Cut;
