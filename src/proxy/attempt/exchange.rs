//! One attempt: a request to one endpoint over one connection, up to the head of its answer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::replay::Patience;
use super::wire::Wire;
use crate::model::{Fault, Timeouts};
use crate::proxy::bodies::splice;
use crate::proxy::bodies::upload::{Downstream, Upload};
use crate::proxy::clients::interim::{CONTINUE_PATIENCE, own_continue};
use crate::proxy::h1::response::{self, Response};
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::buffers::Buffers;
use crate::proxy::worker::timer::Timer;

/// Interim answers (1xx) that one request may get; curl and browsers expect one or two.
pub(crate) const INTERIM_MAX: u32 = 16;

/// What is read at first of an answer that is expected to be long: most heads fit.
const BITE_BYTES: usize = 2048;

/// A connection to an endpoint, in use.
#[derive(Debug)]
pub(crate) struct Conn<W: Wire> {
    pub(crate) stream: W,
    /// Which requests it may serve beside this one.
    pub(crate) mark: W::Mark,
    /// What has been read and not been used; without room until there is something to read.
    pub(crate) buf: Vec<u8>,
    /// Whether it served another request before.
    pub(crate) reused: bool,
    /// Whether its last answer went through a pipe. Then little more than the head is read at first, so that the body
    /// stays where it need not be copied from.
    pub(crate) long: bool,
}

/// Why an attempt ended without an answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client's doing, or this process's; the endpoint is not to blame.
    Client(Refusal),
    /// The endpoint's doing.
    Endpoint {
        /// The kind.
        fault: Fault,
        /// In a few words, for log and client.
        reason: &'static str,
        /// Whether it had begun to answer.
        answered: bool,
    },
}

/// What the wait for an answer sees.
enum Event {
    /// The answer's head.
    Head(Response),
    /// Body bytes moved: the idle deadline starts again.
    Moved,
    /// It failed.
    Failed(Failure),
}

/// Opens a connection.
pub(crate) async fn connect(addr: SocketAddr, timer: &mut Timer, deadline: Instant) -> Result<TcpStream, Failure> {
    let failed = Failure::unconnected;
    match timer.limit(deadline, TcpStream::connect(addr)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(failed("connect_refused")),
        // This process is short of something; the endpoint may be as well as ever.
        Ok(Err(error)) if is_exhaustion(&error) => Err(Failure::Client(Refusal::Full("weir".into()))),
        Ok(Err(_)) => Err(failed("connect_failed")),
        Err(_) => Err(failed("connect_timeout")),
    }
}

// === impl Failure ===

impl Failure {
    /// No connection, so nothing was sent.
    pub(crate) fn unconnected(reason: &'static str) -> Self {
        Self::Endpoint { fault: Fault::UpstreamConnect, reason, answered: false }
    }
}

/// Whether an error says that this process, or the machine, has no descriptor, memory or port left.
pub(crate) fn is_exhaustion(error: &std::io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| short.contains(&code))
}

/// How an exchange is carried out.
pub(crate) struct Terms<'a> {
    pub(crate) timeouts: &'a Timeouts,
    /// When it begins: now, or a moment ago.
    pub(crate) began: Instant,
    /// Whether the request is HEAD.
    pub(crate) to_head: bool,
    pub(crate) buffers: &'a RefCell<Buffers>,
    /// When to give it up for another try.
    pub(crate) patience: Option<Patience<'a>>,
}

/// Sends the request and waits for the head of the final answer.
pub(crate) async fn exchange<W: Wire, D: Downstream>(
    conn: &mut Conn<W>,
    upload: &mut Upload,
    down: &mut D,
    timer: &mut Timer,
    terms: &Terms<'_>,
) -> Result<Response, Failure> {
    let timeouts = terms.timeouts;
    let mut wait = Wait { interim: 0, terms, lines: terms.buffers.borrow_mut().take_lines() };
    let (mut moved, mut patience) = (terms.began, terms.patience);
    loop {
        let awaits_continue = !upload.is_complete() && down.awaits_continue();
        let limit = match upload.is_complete() {
            true => patience.map_or(timeouts.response_header, |it| it.after.min(timeouts.response_header)),
            false if awaits_continue => CONTINUE_PATIENCE.min(timeouts.idle),
            false if upload.waits_for_client() => down.patience().map_or(timeouts.idle, |it| it.min(timeouts.idle)),
            false => timeouts.idle,
        };
        let event = std::future::poll_fn(|cx| wait.poll(cx, conn, upload, down));
        match timer.limit(moved + limit, event).await {
            Ok(Event::Head(response)) => return Ok(response),
            Ok(Event::Moved) => moved = Instant::now(),
            Ok(Event::Failed(failure)) => return Err(failure),
            Err(_) if awaits_continue => {
                say_continue(down).await;
                moved = Instant::now();
            }
            Err(_) if upload.is_complete() && patience.take().is_some_and(|it| !(it.secure)()) => {}
            Err(_) if upload.waits_for_client() => return Err(Failure::Client(Refusal::BodyTimeout)),
            Err(_) => {
                let answered = !conn.buf.is_empty();
                return Err(Failure::Endpoint { fault: Fault::UpstreamTimeout, reason: "timeout", answered });
            }
        }
    }
}

/// Says `100 Continue` for an endpoint that does not.
#[cold]
pub(crate) async fn say_continue<D: Downstream>(down: &mut D) {
    std::future::poll_fn(|cx| {
        if let Some((interim, bytes)) = own_continue() {
            down.interim(cx, &interim, bytes);
        }
        Poll::Ready(())
    })
    .await;
}

struct Wait<'a> {
    interim: u32,
    terms: &'a Terms<'a>,
    lines: Vec<response::Line>,
}

// === impl Wait ===

impl Wait<'_> {
    fn poll<W: Wire, D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Conn<W>,
        upload: &mut Upload,
        down: &mut D,
    ) -> Poll<Event> {
        let (mark, was_complete) = (upload.mark(), upload.is_complete());
        let sent = match upload.poll(cx, &mut conn.stream, down) {
            Poll::Ready(Err(refusal)) => return Poll::Ready(Event::Failed(Failure::Client(refusal))),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        let moved = upload.mark() != mark;
        if let Some(buffer) = upload.release() {
            self.terms.buffers.borrow_mut().put(buffer);
        }
        let mut bite = if conn.long && conn.buf.is_empty() { BITE_BYTES } else { usize::MAX };
        while let Poll::Ready(read) = self.poll_read(cx, conn, bite) {
            let answered = !conn.buf.is_empty() || self.interim > 0;
            let failed = |fault, reason| Poll::Ready(Event::Failed(Failure::Endpoint { fault, reason, answered }));
            match read {
                Err(error) if !W::IS_TCP && error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return failed(Fault::UpstreamAnswer, if answered { "closed_in_head" } else { "closed" });
                }
                Ok(0) if answered => return failed(Fault::UpstreamAnswer, "closed_in_head"),
                Ok(0) => return failed(Fault::UpstreamAnswer, "closed"),
                // What is no TLS any more, such as an alert because of the certificate that was shown.
                Err(error) if !W::IS_TCP && error.kind() == std::io::ErrorKind::InvalidData => {
                    return failed(Fault::UpstreamAnswer, "tls_broken");
                }
                Err(_) => return failed(Fault::UpstreamAnswer, "reset"),
                Ok(n) => match self.parse(cx, conn, down) {
                    Ok(Some(response)) => {
                        if n == bite
                            && !splice::is_long(response.framing)
                            && let Some(stream) = conn.stream.tcp().filter(|_| W::IS_TCP)
                        {
                            // It was not long after all. What an error means shows when the body is read.
                            let _ = stream.try_read_buf(&mut conn.buf);
                        }
                        return Poll::Ready(Event::Head(response));
                    }
                    Ok(None) => bite = usize::MAX,
                    Err(reason) => return failed(Fault::UpstreamAnswer, reason),
                },
            }
        }
        if sent && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Event::Failed(Failure::Client(Refusal::ClientGone)));
        }
        // Moved bytes move the deadline; a request that its first write sent whole needs no second look.
        let at_once = sent && was_complete && mark == 0;
        if moved && !at_once { Poll::Ready(Event::Moved) } else { Poll::Pending }
    }

    /// Reads; many requests wait at once, so none holds a buffer before there is something to read.
    fn poll_read<W: Wire>(
        &self,
        cx: &mut Context<'_>,
        conn: &mut Conn<W>,
        bytes_max: usize,
    ) -> Poll<std::io::Result<usize>> {
        if conn.buf.capacity() == 0 {
            ready!(conn.stream.poll_readable(cx))?;
            conn.buf = self.terms.buffers.borrow_mut().take();
        }
        let read = poll_read_some(cx, &mut conn.stream, &mut conn.buf, bytes_max);
        if read.is_pending() && conn.buf.is_empty() {
            self.terms.buffers.borrow_mut().put(std::mem::take(&mut conn.buf));
        }
        read
    }

    /// The final head in the buffer; interim ones go to the client.
    fn parse<W: Wire, D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Conn<W>,
        down: &mut D,
    ) -> Result<Option<Response>, &'static str> {
        loop {
            let lines = std::mem::take(&mut self.lines);
            match response::parse(&conn.buf, self.terms.to_head, lines).map_err(|_| "malformed_answer")? {
                Err(lines) => {
                    self.lines = lines;
                    return Ok(None);
                }
                Ok(response) if response.status >= 200 || response.status == 101 => return Ok(Some(response)),
                Ok(interim) => {
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Err("too_many_interim_answers");
                    }
                    down.interim(cx, &interim, &conn.buf);
                    conn.buf.drain(..interim.head_bytes);
                    self.lines = interim.lines;
                    if conn.buf.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Reads into the spare room of `buf`, which grows by half when there is none.
pub(crate) fn poll_read<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    buf: &mut Vec<u8>,
) -> Poll<std::io::Result<usize>> {
    poll_read_some(cx, stream, buf, usize::MAX)
}

/// As [`poll_read`], at most `bytes_max`.
fn poll_read_some<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    buf: &mut Vec<u8>,
    bytes_max: usize,
) -> Poll<std::io::Result<usize>> {
    if buf.capacity() - buf.len() < 1024 {
        buf.reserve(buf.capacity().max(4096) / 2);
    }
    let room = buf.spare_capacity_mut();
    let bytes_max = bytes_max.min(room.len());
    let mut spare = ReadBuf::uninit(&mut room[..bytes_max]);
    match Pin::new(stream).poll_read(cx, &mut spare) {
        Poll::Ready(Ok(())) => {
            let n = spare.filled().len();
            // SAFETY: `poll_read` has initialised the first `n` bytes of the spare capacity, as `ReadBuf` vouches.
            #[expect(unsafe_code, reason = "reading into spare capacity without zeroing it first")]
            unsafe {
                buf.set_len(buf.len() + n);
            }
            Poll::Ready(Ok(n))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}
