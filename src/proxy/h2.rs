//! HTTP/2 from clients, by h2: each stream is one request in canonical form, forwarded as any other.
//!
//! h2 keeps the protocol: framing, header compression, flow control; [`frames`](super::frames) bounds what a client may
//! have it do for nothing. What is done here is accepting streams, asking silent clients, and the end in two steps
//! (GOAWAY).
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Ping, PingPong, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response as HttpResponse};
use tokio::task::spawn_local;

use super::connect;
use super::connection::{IDLE_ENOUGH, SILENT_ENOUGH};
use super::forward::Trail;
use super::frames::held::Held;
use super::frames::watched::{Verdict, Watched};
use super::h1::request::{Framing, Refused};
use super::h1::{syntax, trailers};
use super::link::Link;
use super::record::{Story, tell};
use super::refusal::Refusal;
use super::socket;
use super::stream::Stream;
use super::timer::Timer;
use super::via::Via;
use super::visitor::offend;
use super::worker::Worker;
use crate::model::{Fault, FieldId, Head, Limits};
use crate::telemetry::flood::{Flood, Side};
use crate::throttle::visitors::Offence;

/// Flow-control window of a stream: room for a large read on the way up without a stall per round trip.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Flow-control window of a connection (Envoy's advice for edges).
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client may take to go that was asked to make room.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// Resets by the client before a stream was served that end its connection (CVE-2023-44487; h2's own default is 20).
const PENDING_RESETS_MAX: usize = 20;

/// Serves a connection of which `read` has been read: the HTTP/2 preface, or nothing where TLS has agreed on it.
pub(crate) async fn run<L: Link>(worker: Rc<Worker>, stream: L, read: Vec<u8>, via: Via) {
    let limits = worker.snapshot().limits;
    let mut timer = worker.timers.borrow_mut().take();
    let (watched, watch) = Watched::client(stream, read, limits.glitches_max);
    let handshake = settings(&limits).handshake(watched);
    let mut connection = match timer.limit(Instant::now() + limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        failed => {
            worker.timers.borrow_mut().put(timer);
            let left = matches!(&failed, Ok(Err(error)) if has_left(error));
            return offend(&worker, &via, if left { Offence::Nothing } else { Offence::Garbage });
        }
    };
    let held = Rc::new(Held::new(&limits));
    let mut alive = Alive::new(connection.ping_pong(), timer, limits.keep_alive);
    let mut drained = pin!(worker.drain.notified());
    let mut asked = false;
    let mut draining = worker.draining().is_some();
    if draining {
        connection.graceful_shutdown();
    }
    std::future::poll_fn(|cx| {
        alive.look(Rc::strong_count(&held) > 1);
        while !draining && drained.as_mut().poll(cx).is_ready() {
            // It may also mean that idle connections should give way, which one with streams does not.
            draining = worker.draining().is_some();
            if draining {
                connection.graceful_shutdown();
                continue;
            }
            drained.set(worker.drain.notified());
            if alive.gone_by.is_none() && !alive.busy && gives_way(&worker, alive.idle_since, asked) {
                // In two steps, so that a request which is on its way is served; a client that does not answer the
                // first one is not waited for.
                connection.graceful_shutdown();
                alive.gone_by = Some(Instant::now() + GIVE_WAY);
            }
        }
        match alive.poll_silent(cx) {
            Poll::Ready(Silence::Gone) => return Poll::Ready(()),
            Poll::Ready(Silence::Idle) => connection.graceful_shutdown(),
            Poll::Pending => {}
        }
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    asked = true;
                    (alive.heard, alive.busy) = (Instant::now(), true);
                    let serving = Stream::serve(&worker, &via, &held, request, respond, alive.heard);
                    // Boxed, because a task is moved before it runs.
                    spawn_local(Box::pin(serving));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // By now h2 has written what there was to write, unless the client does not take it.
                Poll::Pending if !watch.is_stuck() && alive.poll_gone(cx).is_ready() => return Poll::Ready(()),
                Poll::Pending => match ready!(watch.poll(cx, &mut alive.timer, limits.header_timeout)) {
                    Verdict::Tell(reason) => connection.abrupt_shutdown(reason),
                    Verdict::Over => return Poll::Ready(()),
                },
            }
        }
    })
    .await;
    if let Some(flood) = watch.flood() {
        worker.shard().floods.ended(Side::Client, flood);
        tell_ended(&worker, &via, flood);
        offend(&worker, &via, Offence::Flood);
    } else if !asked {
        offend(&worker, &via, Offence::Nothing);
    }
    worker.timers.borrow_mut().put(alive.timer);
}

/// Whether a client left rather than say something wrong.
fn has_left(error: &h2::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    error.get_io().is_some_and(|error| matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
}

/// What is said of this side, and borne from the other.
fn settings(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.head_bytes_max as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}

/// Whether a connection without streams makes room for new clients: by the same measure as one of HTTP/1.
fn gives_way(worker: &Worker, idle_since: Instant, asked: bool) -> bool {
    idle_since.elapsed() >= (if asked { IDLE_ENOUGH } else { SILENT_ENOUGH }) && worker.gives_way(!asked)
}

/// Logs a connection that was ended for what its client did, as a request that was refused.
#[cold]
fn tell_ended(worker: &Worker, via: &Via, flood: Flood) {
    let trail = Trail { failed: format!("http2:{}", flood.as_str()), ..Trail::default() };
    let story = Story {
        began: Instant::now(),
        client: Some(via.peer),
        protocol: "HTTP/2.0",
        request_id: b"",
        trace: None,
        decision: None,
        trail: &trail,
        status: 400,
        fault: Some(Fault::Client),
        bytes_in: 0,
        bytes_out: 0,
    };
    tell(worker, &worker.snapshot(), &Head::default(), &story);
}

/// Whether a client still wants something: what it has open, and whether it is there at all.
struct Alive {
    pings: Option<PingPong>,
    timer: Timer,
    /// When it last said something.
    heard: Instant,
    /// When it was asked.
    asked: Option<Instant>,
    /// Whether it has open streams.
    busy: bool,
    /// Since when it has had none, as far as has been looked.
    idle_since: Instant,
    /// Until when it may take to go, when it was asked to make room.
    gone_by: Option<Instant>,
    /// How long it may; none once it has been told that this is the end.
    keep_alive: Option<Duration>,
}

/// What silence has come to.
enum Silence {
    /// The client asks for nothing, and has been let for long enough.
    Idle,
    /// It was asked whether it is there, and did not answer.
    Gone,
}

impl Alive {
    fn new(pings: Option<PingPong>, timer: Timer, keep_alive: Duration) -> Self {
        let now = Instant::now();
        let keep_alive = Some(keep_alive);
        Self { pings, timer, heard: now, asked: None, busy: false, idle_since: now, gone_by: None, keep_alive }
    }

    /// Takes note of whether it has open streams: with the end of the last one idleness begins anew.
    fn look(&mut self, busy: bool) {
        if std::mem::replace(&mut self.busy, busy) && !busy {
            self.idle_since = Instant::now();
            self.gone_by = self.gone_by.map(|_| self.idle_since + GIVE_WAY);
        }
    }

    /// Ready when it was asked to make room, has no streams, and has had its time to go.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.gone_by {
            Some(gone_by) if !self.busy => self.timer.poll_elapsed(cx, gone_by),
            _ => Poll::Pending,
        }
    }

    /// Ready when something follows from its silence.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Silence> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            match self.asked {
                None => {
                    let ask_at = self.heard + PING_INTERVAL;
                    let idle_at = self.keep_alive.map(|keep_alive| self.idle_since + keep_alive);
                    ready!(self.timer.poll_elapsed(cx, idle_at.map_or(ask_at, |idle_at| idle_at.min(ask_at))));
                    let now = Instant::now();
                    if idle_at.is_some_and(|idle_at| now >= idle_at) {
                        self.idle_since = now;
                        if !self.busy {
                            self.keep_alive = None;
                            return Poll::Ready(Silence::Idle);
                        }
                    } else if pings.send_ping(Ping::opaque()).is_err() {
                        return Poll::Ready(Silence::Gone);
                    } else {
                        self.asked = Some(now);
                    }
                }
                Some(asked) => match pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => (self.asked, self.heard) = (None, Instant::now()),
                    Poll::Ready(Err(_)) => return Poll::Ready(Silence::Gone),
                    Poll::Pending => {
                        return self.timer.poll_elapsed(cx, asked + PING_TIMEOUT).map(|()| Silence::Gone);
                    }
                },
            }
        }
    }
}

/// Writes the request in canonical form into `head`. h2 has refused what RFC 9113 §8.2 forbids; what is left
/// is what its types cannot say.
/// `key`: of the WebSocket that it asks for.
pub(crate) fn canonical(
    request: &Request<RecvStream>,
    limits: &Limits,
    key: Option<&socket::Key>,
    head: &mut Head,
) -> Result<Framing, Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let method = socket::method(request)?;
    if method == "CONNECT" {
        return connect::canonical(request, limits, head);
    }
    if !syntax::is_method(method.as_bytes()) {
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
        _ if request.body().is_end_stream() || key.is_some() => Framing::None,
        None => Framing::Chunked,
        Some(Some(length)) => Framing::Length(length),
        Some(None) => return malformed("the Content-Length is not a number"),
    };
    let authority = std::str::from_utf8(authority).unwrap_or_default();
    let fields = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes().trim_ascii()));
    let own = ("sec-websocket-key", key.map_or(&b""[..], socket::Key::as_bytes));
    let fields = fields.filter(|(name, _)| key.is_none() || *name != own.0).chain(key.map(|_| own));
    head.redescribe(method, authority, target, fields);
    debug_assert!(head.fields.iter().all(|field| field.id != FieldId::Nominated));
    Ok(framing)
}

/// Trailers that may pass, as lines.
pub(crate) fn trailer_lines(trailers: Option<&HeaderMap>) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in trailers.into_iter().flatten() {
        trailers::push(&mut lines, name.as_str().as_bytes(), value.as_bytes());
    }
    lines
}

/// Trailers from their lines.
pub(crate) fn trailer_map(lines: &[u8]) -> HeaderMap {
    trailers::fields(lines).filter_map(|(name, value)| field(name, value)).collect()
}

/// A field for hyper; none when its types refuse it, which strict parsing has made impossible.
pub(crate) fn field(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok())
}

/// weir's own answer on a stream: head and body.
pub(crate) fn refusal_response(refusal: &Refusal, head: &Head) -> (HttpResponse<()>, Bytes) {
    let (kind, text) = refusal.body();
    let mut response = HttpResponse::builder()
        .status(if refusal.status() == 499 { 400 } else { refusal.status() })
        .header(http::header::CONTENT_TYPE, kind)
        .header(http::header::CONTENT_LENGTH, text.len());
    for (name, value) in refusal.fields() {
        response = response.header(name, value);
    }
    if let Some(location) = refusal.location(head) {
        response = response.header(http::header::LOCATION, location);
    }
    let body = if head.method() == "HEAD" { Bytes::new() } else { Bytes::from(text) };
    (response.body(()).expect("status and fields are ours, and a head holds no byte that a field may not"), body)
}
