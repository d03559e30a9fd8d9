//! HTTP/2 from clients, by hyper: each stream is one request in canonical form, forwarded as any other.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::body::{push_chunk, push_last_chunk};
use super::h1::request::{Framing, Refused};
use super::h1::syntax;
use super::refusal::Refusal;
use super::serve::Via;
use super::stream::{Answer, Stream};
use super::upload::{Downstream, PIECE_BYTES};
use super::worker::Worker;
use crate::model::{FieldId, Head, Limits};

/// Flow-control window of a stream: room for a large read on the way up without a stall per round trip.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Flow-control window of a connection (Envoy's advice for edges).
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Resets by the client before a stream was served that end its connection (CVE-2023-44487; h2's own default is 20).
const PENDING_RESETS_MAX: usize = 20;

/// Serves a connection whose first bytes, `read`, are the HTTP/2 preface.
pub(crate) async fn run(worker: Rc<Worker>, stream: TcpStream, read: Vec<u8>, via: Via) {
    let limits = worker.snapshot().limits;
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.head_bytes_max as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let service = {
        let worker = Rc::clone(&worker);
        service_fn(move |request| {
            let worker = Rc::clone(&worker);
            // Boxed here, because hyper moves the future of a stream several times before it runs.
            Box::pin(async move { Ok::<_, Infallible>(serve(worker, via, request).await) })
        })
    };
    let io = TokioIo::new(Prefixed { read, at: 0, stream });
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut drained = std::pin::pin!(worker.drain.notified());
    if worker.draining().is_some() {
        connection.as_mut().graceful_shutdown();
    }
    tokio::select! {
        // The order does not matter: draining only changes how the connection ends.
        _ = connection.as_mut() => return,
        () = drained.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Serves one stream.
async fn serve(worker: Rc<Worker>, via: Via, request: Request<Incoming>) -> Response<Answer> {
    let limits = worker.snapshot().limits;
    let read = canonical(&request, &limits);
    let (head, framing, refused) = match read {
        Ok((head, framing)) => (head, framing, None),
        Err(refused) => (Head::default(), Framing::None, Some(Refusal::Head(refused))),
    };
    let down = Upstream {
        body: Some(request.into_body()).filter(|body| !body.is_end_stream()),
        chunked: framing == Framing::Chunked,
        bytes_in: 0,
    };
    Stream::new(worker, via, head, framing).serve(down, refused).await
}

/// The request in canonical form. hyper and h2 have refused what RFC 9113 §8.2 forbids; what is left is what their
/// types cannot say.
fn canonical(request: &Request<Incoming>, limits: &Limits) -> Result<(Head, Framing), Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    if matches!(request.method(), &http::Method::CONNECT | &http::Method::TRACE) {
        return Err(Refused::Method);
    }
    if !syntax::is_method(request.method().as_str().as_bytes()) {
        return malformed("the method is not in upper case letters");
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let path_len = target.find('?').unwrap_or(target.len());
    if target.len() > limits.target_bytes_max {
        return Err(Refused::TargetTooLong);
    }
    if !syntax::is_path(&target.as_bytes()[..path_len]) || !syntax::is_query(&target.as_bytes()[path_len..]) {
        return malformed("the target holds a byte that no URL may hold");
    }
    let whole_server = target == "*" && request.method() == http::Method::OPTIONS;
    if !target.starts_with('/') && !whole_server {
        return malformed("the target is not a path");
    }
    if request.headers().len() > limits.fields_max {
        return Err(Refused::HeadTooLarge);
    }
    let mut hosts = request.headers().get_all(http::header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    let authority = match (request.uri().authority(), host) {
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            return malformed("the authority and the Host differ");
        }
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host,
        (None, None) => return malformed("the authority is missing"),
    };
    if hosts.next().is_some() || !syntax::is_authority(authority) {
        return malformed("the authority is malformed");
    }
    let expects = request.headers().get_all(http::header::EXPECT).iter();
    if expects.into_iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refused::Expectation);
    }
    let length = request.headers().get(http::header::CONTENT_LENGTH);
    let framing = match length.map(|value| syntax::content_length(value.as_bytes())) {
        _ if request.body().is_end_stream() => Framing::None,
        None => Framing::Chunked,
        Some(Some(length)) => Framing::Length(length),
        Some(None) => return malformed("the Content-Length is not a number"),
    };
    let authority = std::str::from_utf8(authority).unwrap_or_default();
    let fields = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes().trim_ascii()));
    let head = Head::describe(request.method().as_str(), authority, target, fields);
    debug_assert!(head.fields.iter().all(|field| field.id != FieldId::Nominated));
    Ok((head, framing))
}

/// A stream's body on its way to an endpoint.
#[derive(Debug)]
pub(crate) struct Upstream {
    body: Option<Incoming>,
    chunked: bool,
    pub(crate) bytes_in: u64,
}

impl Downstream for Upstream {
    fn buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        match self.poll_body(&mut Context::from_waker(Waker::noop()), out) {
            Poll::Ready(complete) => complete,
            Poll::Pending => Ok(false),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, Refusal>> {
        while let Some(body) = &mut self.body {
            if out.len() >= PIECE_BYTES {
                return Poll::Ready(Ok(false));
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers of requests are dropped, as in HTTP/1.
                    let Ok(data) = frame.into_data() else { continue };
                    self.bytes_in += data.len() as u64;
                    match self.chunked {
                        true => push_chunk(out, &data),
                        false => out.extend_from_slice(&data),
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Refusal::ClientGone)),
                // hyper also ends a body so when its stream was reset without an error code.
                Poll::Ready(None) if !body.is_end_stream() => return Poll::Ready(Err(Refusal::ClientGone)),
                Poll::Ready(None) => {
                    self.body = None;
                    if self.chunked {
                        push_last_chunk(out);
                    }
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // hyper drops the whole exchange when its stream is reset.
        Poll::Pending
    }
}

/// A field for hyper; none when its types refuse it, which strict parsing has made impossible.
pub(crate) fn field(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok())
}

/// weir's own answer on a stream.
pub(crate) fn refusal_response(refusal: &Refusal, to_head: bool) -> Response<Answer> {
    let text = format!("weir: {refusal}\n");
    let mut response = Response::builder()
        .status(if refusal.status() == 499 { 400 } else { refusal.status() })
        .header(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(http::header::CONTENT_LENGTH, text.len());
    if let Some(seconds) = refusal.retry_after_s() {
        response = response.header(http::header::RETRY_AFTER, seconds);
    }
    let body = if to_head { Bytes::new() } else { Bytes::from(text) };
    response.body(Answer::whole(body)).expect("status and fields are constants of ours")
}

/// Runs hyper's tasks on this worker's thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A stream of which the first bytes have been read already.
#[derive(Debug)]
struct Prefixed {
    read: Vec<u8>,
    at: usize,
    stream: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.at < self.read.len() {
            let n = buf.remaining().min(self.read.len() - self.at);
            buf.put_slice(&self.read[self.at..self.at + n]);
            self.at += n;
            if self.at == self.read.len() {
                self.read = Vec::new();
                self.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
