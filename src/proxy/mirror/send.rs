//! A copy on its way: sent over connections of its own, its answer read and thrown away, never retried.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::net::TcpStream;

use super::copying::Copying;
use super::scene::{Side, Witness};
use crate::model::{Fault, Http2Use, Protocol, Timeouts};
use crate::proxy::attempt::exchange::{Conn, Failure, Terms, exchange, poll_read};
use crate::proxy::attempt::lines::Purpose;
use crate::proxy::attempt::reach::Reach;
use crate::proxy::attempt::wire::{AnyWire, Wire};
use crate::proxy::bodies::body::BodyReader;
use crate::proxy::bodies::upload::{Nobody, Upload};
use crate::proxy::h1::chunked::Piece;
use crate::proxy::h1::response::Response;
use crate::proxy::h2up;
use crate::proxy::h2up::answer::Answer;
use crate::proxy::h2up::exchange::{AtHand, Call};
use crate::proxy::h2up::outcome;
use crate::proxy::h2up::request::Ask;
use crate::proxy::h2up::trunk::Dial;
use crate::proxy::worker::timer::Timer;
use crate::telemetry::mirror::Lost;

/// Body bytes that are read of an answer; then it counts as answered, and its connection is closed.
pub(crate) const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Sends a copy that is whole, and counts what became of it.
pub(super) async fn run(mut copying: Box<Copying>) {
    let worker = Rc::clone(&copying.worker);
    let (mut deadline, mut timer) = {
        let mut timers = worker.timers.borrow_mut();
        (timers.take(), timers.take())
    };
    let began = Instant::now();
    copying.shard().sent.add(1);
    let timeout = copying.mirror().spec.timeout;
    let connect = copying.service().spec.timeouts.connect.min(timeout);
    let timeouts = Timeouts { connect, response_header: timeout, idle: timeout, ..Timeouts::default() };
    let outcome = {
        // Not by `limit`, which would move a large future twice.
        let mut delivering = pin!(deliver(&mut copying, began, &timeouts, &mut timer));
        let until = began + timeout;
        std::future::poll_fn(|cx| match delivering.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => deadline.poll_elapsed(cx, until).map(|()| Err(Lost::Timeout)),
        })
        .await
    };
    let shard = copying.shard();
    match outcome {
        Ok(status) => shard.answer(status, began.elapsed().as_micros() as u64),
        Err(how) => shard.lose_by(how),
    }
    let mut timers = worker.timers.borrow_mut();
    timers.put(deadline);
    timers.put(timer);
}

/// The status of its answer.
async fn deliver(copying: &mut Copying, began: Instant, timeouts: &Timeouts, timer: &mut Timer) -> Result<u16, Lost> {
    let scene = copying.scene.take();
    let mut witness = scene.as_ref().map(|scene| {
        let (head, body) = copying.message.split_at(copying.head_bytes);
        scene.asked(head, body);
        Witness::new(scene, Side::Copy)
    });
    if TcpStream::carries(copying.pool(), &copying.endpoint) {
        return over_http1::<TcpStream>(copying, began, timeouts, timer, &mut witness).await;
    }
    if let Some(dial) = http2(copying, timeouts)
        && let Some(done) = Box::pin(over_http2(copying, &dial, timer, &mut witness)).await
    {
        return done;
    }
    Box::pin(over_http1::<AnyWire>(copying, began, timeouts, timer, &mut witness)).await
}

/// How HTTP/2 is spoken with the endpoint, unless it is known to choose HTTP/1.1.
fn http2(copying: &Copying, &timeouts: &Timeouts) -> Option<Dial> {
    let (pool, endpoint, purpose) = (copying.pool(), &copying.endpoint, Purpose::Copies);
    match (endpoint.id.origin.protocol, &pool.tls) {
        (Protocol::H2c, _) => Some(Dial { timeouts, tls: None, purpose }),
        (Protocol::Https, Some(tls)) if pool.proxy_protocol.is_none() => {
            let chose_http1 = || copying.worker.copies.trunks.borrow_mut().chose_http1(endpoint);
            let tried = match tls.spec.http2 {
                Http2Use::Off => false,
                Http2Use::Auto => !chose_http1(),
                Http2Use::Only => true,
            };
            tried.then(|| Dial { timeouts, tls: Some(Arc::clone(tls)), purpose })
        }
        _ => None,
    }
}

async fn over_http1<W: Wire>(
    copying: &mut Copying,
    began: Instant,
    timeouts: &Timeouts,
    timer: &mut Timer,
    witness: &mut Option<Witness>,
) -> Result<u16, Lost> {
    let (worker, endpoint) = (Rc::clone(&copying.worker), Arc::clone(&copying.endpoint));
    let now_ms = worker.now(began).mono_ms;
    let reach = Reach {
        worker: &worker,
        purpose: Purpose::Copies,
        pool: copying.pool(),
        endpoint: &endpoint,
        connect: timeouts.connect,
        now_ms,
        named: copying.named,
        fresh: false,
    };
    let mut conn = W::open(&reach, timer).await.map_err(lost)?;
    let mut upload = Upload::new(std::mem::take(&mut copying.message), true);
    let terms = Terms { timeouts, began, to_head: copying.to_head, buffers: &worker.buffers, patience: None };
    let response = exchange(&mut conn, &mut upload, &mut Nobody, timer, &terms).await.map_err(lost)?;
    if response.status == 101 {
        return Err(Lost::Answer);
    }
    if let Some(witness) = witness {
        witness.head(&response, &conn.buf, "");
    }
    let end = read_body(&mut conn, &response, witness).await?;
    let reusable =
        end == End::Whole && response.keep_alive && upload.is_whole() && conn.buf.is_empty() && !conn.stream.is_laden();
    let mut buffers = worker.buffers.borrow_mut();
    buffers.put(std::mem::take(&mut conn.buf));
    buffers.put(upload.into_buffer());
    if reusable && !endpoint.is_draining() {
        let limits = &copying.snapshot().limits;
        // As for the clients' connections: a second less than the endpoint says.
        let theirs_ms = response.keep_alive_s.map_or(u64::MAX, |s| s.saturating_sub(1).saturating_mul(1000));
        let until_ms = now_ms.saturating_add((limits.upstream_keep_alive.as_millis() as u64).min(theirs_ms));
        W::idle(&worker.copies).borrow_mut().put(&endpoint, conn, until_ms, limits.upstream_idle_max);
    }
    Ok(response.status)
}

/// How far the body of an answer was read.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// To the bound, or to the end of the connection.
    Spent,
}

/// Reads a body and forgets it.
async fn read_body<W: Wire>(
    conn: &mut Conn<W>,
    response: &Response,
    witness: &mut Option<Witness>,
) -> Result<End, Lost> {
    let mut body = BodyReader::of_response(response.framing);
    let (mut at, mut read, mut spent) = (response.head_bytes, 0, false);
    loop {
        match body.next(&conn.buf[at..]).map_err(|_| Lost::Answer)? {
            (used, Piece::Data(range)) => {
                read += range.len() as u64;
                if let Some(witness) = witness {
                    witness.data(&conn.buf[at + range.start..at + range.end]);
                }
                at += used;
                continue;
            }
            (used, Piece::End) => {
                conn.buf.drain(..at + used);
                if let Some(witness) = witness {
                    witness.end();
                }
                return Ok(if spent { End::Spent } else { End::Whole });
            }
            (used, Piece::More) => at += used,
        }
        conn.buf.drain(..at);
        at = 0;
        if read >= ANSWER_BYTES_MAX {
            return Ok(End::Spent);
        }
        match std::future::poll_fn(|cx| poll_read(cx, &mut conn.stream, &mut conn.buf)).await {
            Ok(n) if n > 0 => {}
            Ok(_) if body.close() => spent = true,
            _ => return Err(Lost::Answer),
        }
    }
}

/// None: the endpoint chose HTTP/1.1, and nothing was sent.
async fn over_http2(
    copying: &mut Copying,
    dial: &Dial,
    timer: &mut Timer,
    witness: &mut Option<Witness>,
) -> Option<Result<u16, Lost>> {
    let (head, body) = copying.message.split_at(copying.head_bytes);
    let Some(ask) = Ask::read(head) else { return Some(Err(Lost::Answer)) };
    let call = Call {
        worker: &copying.worker,
        endpoint: &copying.endpoint,
        dial,
        ask: &ask,
        began: Instant::now(),
        framing: copying.framing,
        to_head: copying.to_head,
        upgrade: false,
        patience: None,
    };
    let at_hand = AtHand { framed: body.to_vec(), complete: true };
    match h2up::exchange::exchange(&call, at_hand, &mut Nobody, timer).await {
        Ok(mut answer) => Some(read_http2(&mut answer, witness).await),
        Err(outcome::Lost::Http1) => None,
        Err(outcome::Lost::Unconnected(_)) => Some(Err(Lost::Connect)),
        Err(outcome::Lost::Sent { fault: Fault::UpstreamTimeout, .. }) => Some(Err(Lost::Timeout)),
        Err(outcome::Lost::Client(_) | outcome::Lost::Unprocessed { .. } | outcome::Lost::Sent { .. }) => {
            Some(Err(Lost::Answer))
        }
    }
}

async fn read_http2(answer: &mut Answer, witness: &mut Option<Witness>) -> Result<u16, Lost> {
    if let Some(witness) = witness {
        witness.head(&answer.response, &answer.bytes, "");
    }
    let (status, mut read) = (answer.response.status, 0);
    loop {
        match std::future::poll_fn(|cx| answer.poll(cx, &mut Nobody)).await {
            h2up::answer::Piece::Data(data) => {
                answer.taken(data.len());
                if let Some(witness) = witness {
                    witness.data(&data);
                }
                read += data.len() as u64;
                if read >= ANSWER_BYTES_MAX {
                    return Ok(status);
                }
            }
            h2up::answer::Piece::End(_) => {
                if let Some(witness) = witness {
                    witness.end();
                }
                return Ok(status);
            }
            h2up::answer::Piece::Cut(_) => return Err(Lost::Answer),
        }
    }
}

fn lost(failure: Failure) -> Lost {
    match failure {
        Failure::Endpoint { fault: Fault::UpstreamConnect, .. } => Lost::Connect,
        Failure::Endpoint { fault: Fault::UpstreamTimeout, .. } => Lost::Timeout,
        Failure::Endpoint { .. } | Failure::Client(_) => Lost::Answer,
    }
}
