//! The way down: an endpoint's answer to an HTTP/1 client, streamed with back-pressure.
//!
//! A body that ends before it is whole never looks whole to the client: the connection is closed without the last byte
//! or the last chunk.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::client::Client;
use crate::model::Fault;
use crate::proxy::arrival::link::Link;
use crate::proxy::attempt::exchange::{Conn, poll_read};
use crate::proxy::attempt::forward::Attempt;
use crate::proxy::attempt::wire::Wire;
use crate::proxy::bodies::body::{BodyReader, push_chunk, push_last_chunk};
use crate::proxy::bodies::splice::{self, Pipe};
use crate::proxy::bodies::upload::{Downstream, Upload};
use crate::proxy::h1::chunked::Piece;
use crate::proxy::h1::response::{Response, ResponseFraming};
use crate::proxy::mirror::Aside;
use crate::proxy::tunnel::watch::Watch;
use crate::proxy::worker::Worker;
use crate::proxy::worker::buffers::{BUFFER_BYTES, LARGE_BYTES, Leave};
use crate::proxy::worker::timer::Timer;

/// Body bytes that are gathered before they are written to the client, where they have to be framed anew.
const PIECE_BYTES: usize = 64 * 1024;

/// How a relayed body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has everything.
    Whole,
    /// It was cut short, by whose fault.
    Cut(Fault),
    /// It was found broken before a byte of the answer went out.
    Unsent(Fault),
}

/// One answer on its way down.
pub(crate) struct Relay<'r, 'c, L, W: Wire> {
    worker: &'r Worker,
    pub(crate) client: &'r mut Client<'c, L>,
    pub(crate) conn: &'r mut Conn<W>,
    pub(crate) upload: &'r mut Upload,
    pub(crate) body: BodyReader,
    /// Whether the client gets chunks.
    pub(crate) chunked: bool,
    /// What is written before anything else, at first the head.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// Body bytes handed to the client's socket, framing aside.
    pub(crate) bytes_out: u64,
    /// Bytes at the front of `conn.buf` that are to be written as they are.
    direct: usize,
    direct_sent: usize,
    /// Leave for a large buffer.
    large: Option<Leave>,
    /// Whether the last read filled the buffer, so that a larger one would save reads.
    filled: bool,
    /// Body bytes on their way past the buffers.
    pipe: Option<Pipe>,
    /// Whether the body is worth a pipe.
    long: bool,
    /// Whether the endpoint has been told not to wait for company for its acknowledgements.
    hastened: bool,
    /// Bytes written since others had their turn.
    turn_bytes: usize,
    /// Whether it has to end before its end.
    watch: Watch,
}

/// Writes the framing of an answer; true when the body goes out in chunks.
#[inline]
pub(crate) fn write_framing(response: &Response, http10: bool, out: &mut Vec<u8>) -> bool {
    match response.framing {
        ResponseFraming::None => {
            // RFC 9110 §8.6: no Content-Length with 1xx and 204; with HEAD and 304 it tells of the body not sent.
            if let Some(length) = response.length.filter(|_| response.status >= 200 && response.status != 204) {
                let _ = write!(out, "content-length: {length}\r\n");
            }
            false
        }
        ResponseFraming::Length(length) => {
            let _ = write!(out, "content-length: {length}\r\n");
            false
        }
        ResponseFraming::Chunked | ResponseFraming::Close if http10 => false,
        ResponseFraming::Chunked | ResponseFraming::Close => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            true
        }
    }
}

// === impl Relay ===

impl<'r, 'c, L: Link, W: Wire> Relay<'r, 'c, L, W> {
    pub(crate) fn new(
        worker: &'r Worker,
        client: &'r mut Client<'c, L>,
        conn: &'r mut Conn<W>,
        upload: &'r mut Upload,
        response: &Response,
        chunked: bool,
        out: Vec<u8>,
    ) -> Self {
        let watch = Watch::of(response, &conn.buf);
        conn.buf.drain(..response.head_bytes);
        conn.long = false;
        let body = BodyReader::of_response(response.framing);
        // What goes through a pipe is seen by nobody.
        let long = L::IS_PLAIN
            && W::IS_TCP
            && splice::is_long(response.framing)
            && Aside::witness(&mut client.aside).is_none();
        Self {
            worker,
            client,
            conn,
            upload,
            body,
            chunked,
            out,
            sent: 0,
            bytes_out: 0,
            direct: 0,
            direct_sent: 0,
            large: None,
            filled: false,
            pipe: None,
            long,
            hastened: false,
            turn_bytes: 0,
            watch,
        }
    }

    /// Streams until the end. `idle`: how long nothing may move.
    pub(crate) async fn run(&mut self, timer: &mut Timer, idle: Duration, attempt: &Attempt) -> End {
        if let Err(fault) = self.gather() {
            return End::Unsent(fault);
        }
        self.look_ahead();
        loop {
            let step = std::future::poll_fn(|cx| match self.poll(cx) {
                Poll::Pending => self.watch.poll_over(cx, attempt).map(|()| Some(End::Cut(Fault::Proxy))),
                step => step,
            });
            match timer.limit_from(|| Instant::now() + idle, step).await {
                Ok(Some(end)) => {
                    if let Some(witness) = Aside::witness(&mut self.client.aside).filter(|_| end == End::Whole) {
                        witness.end();
                    }
                    return end;
                }
                // Others have their turn while this transfer could go on and on.
                Ok(None) if self.turn_bytes >= L::TURN_BYTES_MAX => {
                    self.turn_bytes = 0;
                    tokio::task::yield_now().await;
                }
                Ok(None) => {}
                Err(_) if self.waits_for_client() || self.upload.waits_for_client() => return End::Cut(Fault::Client),
                Err(_) => return End::Cut(Fault::UpstreamTimeout),
            }
        }
    }

    fn waits_for_client(&self) -> bool {
        self.has_unwritten() || self.client.stream.is_laden()
    }

    fn has_unwritten(&self) -> bool {
        self.sent < self.out.len() || self.direct_sent < self.direct || self.pipe.as_ref().is_some_and(Pipe::is_laden)
    }

    /// One step of progress, or the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        // The upload goes on beside the answer; an endpoint that takes no more of it shows here as its close.
        let mark = self.upload.mark();
        if let Poll::Ready(Err(_)) = self.upload.poll(cx, &mut self.conn.stream, self.client) {
            return Poll::Ready(Some(End::Cut(Fault::Client)));
        }
        let mut moved = self.upload.mark() != mark;
        loop {
            while self.waits_for_client() {
                match self.poll_write(cx) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        moved = true;
                        self.turn_bytes += n;
                    }
                    Poll::Ready(_) => return Poll::Ready(Some(End::Cut(Fault::Client))),
                    Poll::Pending if moved => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.settle();
            if self.body.is_done() {
                return Poll::Ready(Some(End::Whole));
            }
            if self.turn_bytes >= L::TURN_BYTES_MAX {
                return Poll::Ready(None);
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(fault)) => return Poll::Ready(Some(End::Cut(fault))),
                Poll::Pending if self.client.is_read() && self.client.poll_gone(cx).is_ready() => {
                    return Poll::Ready(Some(End::Cut(Fault::Client)));
                }
                Poll::Pending if moved => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes to the client what comes next; how much it took, at least 1 for what was pending within the link.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if !L::IS_PLAIN && !self.has_unwritten() {
            return Pin::new(&mut *self.client.stream).poll_flush(cx).map_ok(|()| 1);
        }
        let laden = self.pipe.as_ref().is_some_and(Pipe::is_laden);
        let (from, sent) = match &mut self.pipe {
            _ if self.sent < self.out.len() => (&self.out[..], &mut self.sent),
            _ if self.direct_sent < self.direct => (&self.conn.buf[..self.direct], &mut self.direct_sent),
            Some(pipe) => {
                let moved = ready!(pipe.poll_empty(cx, self.client.stream.socket()))?;
                self.bytes_out += moved as u64;
                return Poll::Ready(Ok(moved));
            }
            None => return Poll::Ready(Ok(0)),
        };
        let n = match laden {
            true => ready!(splice::poll_write_more(cx, self.client.stream.socket(), &from[*sent..]))?,
            false => ready!(Pin::new(&mut *self.client.stream).poll_write(cx, &from[*sent..]))?,
        };
        *sent += n;
        Poll::Ready(Ok(n))
    }

    /// Fills a pipe before the head is written, so that both leave in full segments.
    fn look_ahead(&mut self) {
        let Some(left) = self.body.length().filter(|_| self.long) else { return };
        let Some(stream) = self.conn.stream.tcp() else { return };
        let Some(mut pipe) = self.worker.pipes.borrow_mut().take() else { return };
        self.conn.long = true;
        match pipe.try_fill(stream, left) {
            Ok(n) if n > 0 => {
                self.body.pass(n as u64);
                self.pipe = Some(pipe);
            }
            // Whatever it is, it will be met again by whoever waits for it.
            _ => self.worker.pipes.borrow_mut().put(pipe),
        }
    }

    /// Gets more of the body from the endpoint, into a pipe or the buffer.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let got = match self.poll_fill(cx) {
            Poll::Ready(Ok(false)) => self.poll_buffer(cx),
            filled => filled.map_ok(|_| ()),
        };
        if got.is_pending() && self.body.length().is_some() && !std::mem::replace(&mut self.hastened, true) {
            // Linux holds an acknowledgement back for 40 ms in the hope of a request to carry it, and none comes before
            // the body is whole; an endpoint that sends with `TCP_CORK`, as nginx with `tcp_nopush`, waits for it
            // before it sends the rest. Measured on 0.7 % of 100 kB answers.
            if let Some(stream) = self.conn.stream.tcp() {
                let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
            }
        }
        got
    }

    /// Fills a pipe; false when there is none to fill, or nothing that it is for.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        let Some(left) = self.body.length().filter(|_| self.long) else { return Poll::Ready(Ok(false)) };
        let pipe = self.pipe.take().or_else(|| self.worker.pipes.borrow_mut().take());
        let Some(mut pipe) = pipe else {
            self.long = false;
            return Poll::Ready(Ok(false));
        };
        let filled = match self.conn.stream.tcp() {
            Some(stream) => pipe.poll_fill(cx, stream, left),
            // Only what is TCP is long.
            None => return Poll::Ready(Ok(false)),
        };
        match filled {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.body.pass(n as u64);
                self.pipe = Some(pipe);
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Err(error)) if splice::is_refusal(&error) => {
                self.worker.pipes.borrow_mut().give_up();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(_) => Poll::Ready(Err(Fault::UpstreamAnswer)),
            Poll::Pending => {
                self.worker.pipes.borrow_mut().put(pipe);
                Poll::Pending
            }
        }
    }

    /// Reads into the buffer.
    fn poll_buffer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.enlarge();
        match ready!(poll_read(cx, &mut self.conn.stream, &mut self.conn.buf)) {
            Ok(0) if self.body.close() => self.last_chunk(),
            Ok(n) if n > 0 => {
                self.filled = self.conn.buf.len() == self.conn.buf.capacity();
                self.gather()?;
            }
            _ => return Poll::Ready(Err(Fault::UpstreamAnswer)),
        }
        Poll::Ready(Ok(()))
    }

    /// Everything gathered has been written: the buffers are empty again.
    fn settle(&mut self) {
        self.out.clear();
        self.sent = 0;
        self.conn.buf.drain(..self.direct);
        (self.direct, self.direct_sent) = (0, 0);
        if self.body.is_done()
            && let Some(pipe) = self.pipe.take()
        {
            self.worker.pipes.borrow_mut().put(pipe);
        }
    }

    /// Takes a larger buffer where it saves reads.
    fn enlarge(&mut self) {
        let long = match self.body {
            BodyReader::Length(left) => left as usize > 2 * BUFFER_BYTES,
            _ => std::mem::take(&mut self.filled),
        };
        if long && self.conn.buf.is_empty() && self.conn.buf.capacity() < LARGE_BYTES {
            let mut buffers = self.worker.buffers.borrow_mut();
            if let Some((large, leave)) = buffers.take_large() {
                buffers.put(std::mem::replace(&mut self.conn.buf, large));
                self.large = Some(leave);
            }
        }
    }

    /// Turns what has been read into what is to be written. A body of known length goes out as it lies in the buffer;
    /// the first piece travels with the head, so that a small answer is one write.
    fn gather(&mut self) -> Result<(), Fault> {
        let mut at = 0;
        loop {
            let input = &self.conn.buf[at..];
            let (used, piece) = self.body.next(input).map_err(|_| Fault::UpstreamAnswer)?;
            match piece {
                Piece::Data(range) => {
                    self.bytes_out += range.len() as u64;
                    if let Some(witness) = Aside::witness(&mut self.client.aside) {
                        witness.data(&input[range.clone()]);
                    }
                    if self.chunked {
                        push_chunk(&mut self.out, &input[range]);
                    } else if at == 0
                        && !matches!(self.body, BodyReader::Chunked(_))
                        && (self.out.is_empty() || range.len() > PIECE_BYTES)
                    {
                        self.direct = range.end;
                        return Ok(());
                    } else {
                        self.out.extend_from_slice(&input[range]);
                    }
                    at += used;
                }
                Piece::More => {
                    self.conn.buf.drain(..at + used);
                    return Ok(());
                }
                Piece::End => {
                    self.conn.buf.drain(..at + used);
                    self.last_chunk();
                    return Ok(());
                }
            }
        }
    }

    fn last_chunk(&mut self) {
        if std::mem::take(&mut self.chunked) {
            push_last_chunk(&mut self.out, &self.body.take_trailers());
        }
    }
}
