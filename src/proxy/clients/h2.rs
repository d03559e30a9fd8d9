//! HTTP/2 from clients: each stream is one request in canonical form, forwarded as any other.
//!
//! [`http2`](crate::proxy::http2) keeps the protocol: framing, header compression, flow control;
//! [`frames`](crate::proxy::frames) bounds what a client may have it do for nothing. What is done here is accepting
//! streams, asking silent clients, and the end in two steps (GOAWAY).
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::{Bundle, Task};
use crate::model::{Fault, FieldId, Head, Limits};
use crate::proxy::arrival::connection::{IDLE_ENOUGH, SILENT_ENOUGH};
use crate::proxy::arrival::link::Link;
use crate::proxy::arrival::via::Via;
use crate::proxy::attempt::forward::Trail;
use crate::proxy::frames::held::Held;
use crate::proxy::frames::watched::{Verdict, Watch, Watched};
use crate::proxy::h1::request::{Framing, Refused};
use crate::proxy::h1::{syntax, trailers};
use crate::proxy::hpack::fields::Fields;
use crate::proxy::http2::error::Error;
use crate::proxy::http2::head::{HeadWriter, Request, put_fields};
use crate::proxy::http2::server::{self, Connection, Respond};
use crate::proxy::http2::settings::Config;
use crate::proxy::record::{Story, tell};
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::connect;
use crate::proxy::tunnel::socket;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::proxy::worker::visitor::offend;
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

/// How long it may take to go that has asked for nothing for too long: as long as nginx waits for what comes behind its
/// own end (`lingering_timeout`).
const LEAVE: Duration = Duration::from_secs(5);

/// Resets by the client before a stream was served that end its connection (CVE-2023-44487; 20 is what others take).
const PENDING_RESETS_MAX: usize = 20;

/// Serves a connection of which `read` has been read: the HTTP/2 preface, or nothing where TLS has agreed on it.
pub(crate) async fn run<L: Link>(worker: Rc<Worker>, stream: L, read: Vec<u8>, via: Via) {
    let limits = worker.snapshot().limits;
    let mut timer = worker.timers.borrow_mut().take();
    let (watched, watch) = Watched::client(stream, read, limits.glitches_max);
    let settings = settings(&worker, &limits, &watch);
    let handshake = server::handshake(watched, &settings);
    let mut connection = match timer.limit(Instant::now() + limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        failed => {
            worker.timers.borrow_mut().put(timer);
            let left = matches!(&failed, Ok(Err(error)) if has_left(error));
            return offend(&worker, &via, if left { Offence::Nothing } else { Offence::Garbage });
        }
    };
    let mut alive = Alive::new(timer, limits.keep_alive);
    let bundle = Rc::new(Bundle { worker, via, held: Held::new(&limits) });
    let Bundle { worker, via, .. } = &*bundle;
    let mut drained = pin!(worker.drain.notified());
    let mut asked = false;
    let mut draining = worker.draining().is_some();
    if draining {
        connection.graceful_shutdown();
    }
    std::future::poll_fn(|cx| {
        alive.look(Rc::strong_count(&bundle) > 1);
        while !draining && drained.as_mut().poll(cx).is_ready() {
            // It may also mean that idle connections should give way, which one with streams does not.
            draining = worker.draining().is_some();
            if draining {
                connection.graceful_shutdown();
                continue;
            }
            drained.set(worker.drain.notified());
            if alive.gone_by.is_none() && !alive.busy && gives_way(worker, alive.idle_since, asked) {
                // In two steps, so that a request which is on its way is served; a client that does not answer the
                // first one is not waited for.
                connection.graceful_shutdown();
                alive.gone_by = Some(Instant::now() + GIVE_WAY);
            }
        }
        match alive.poll_silent(cx, &mut connection) {
            Poll::Ready(Silence::Gone) => return Poll::Ready(()),
            Poll::Ready(Silence::Idle) => connection.graceful_shutdown(),
            Poll::Pending => {}
        }
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, body, respond)))) => {
                    asked = true;
                    (alive.heard, alive.busy) = (Instant::now(), true);
                    worker.hands.serve(Task::new(&bundle, (request, body), respond, alive.heard));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // By now all that there was to write has been written, unless the client does not take it.
                Poll::Pending if !watch.is_stuck() && alive.poll_gone(cx).is_ready() => return Poll::Ready(()),
                Poll::Pending => {
                    // A client that reads nothing is not told, and gone in time all the same.
                    if let Some(breach) = connection.breach() {
                        watch.note(breach);
                    }
                    match ready!(watch.poll(cx, &mut alive.timer, limits.header_timeout)) {
                        Verdict::Tell(reason) => connection.abrupt_shutdown(reason),
                        Verdict::Over => return Poll::Ready(()),
                    }
                }
            }
        }
    })
    .await;
    book(worker, via, watch.flood(), asked);
    worker.timers.borrow_mut().put(alive.timer);
}

/// Counts, logs and books what a connection that is over was: a flood, or nothing at all.
fn book(worker: &Worker, via: &Via, flood: Option<Flood>, asked: bool) {
    if let Some(flood) = flood {
        worker.shard().floods.ended(Side::Client, flood);
        tell_ended(worker, via, flood);
        offend(worker, via, Offence::Flood);
    } else if !asked {
        offend(worker, via, Offence::Nothing);
    }
}

/// Whether a client left rather than say something wrong.
fn has_left(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error, Error::Io(BrokenPipe | ConnectionReset | UnexpectedEof))
}

/// What is said of this side, and borne from the other.
fn settings(worker: &Worker, limits: &Limits, watch: &Watch) -> Config {
    Config {
        stream_window: STREAM_WINDOW_BYTES,
        connection_window: CONNECTION_WINDOW_BYTES,
        list_max: limits.head_bytes_max as u32,
        streams_max: Some(limits.streams_max),
        enable_connect: true,
        pending_resets_max: PENDING_RESETS_MAX,
        purse: Rc::clone(&worker.purse),
        turns: Some(Rc::clone(&worker.heavy)),
        excess: Rc::clone(&watch.excess),
    }
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
    fn new(timer: Timer, keep_alive: Duration) -> Self {
        let now = Instant::now();
        let keep_alive = Some(keep_alive);
        Self { timer, heard: now, asked: None, busy: false, idle_since: now, gone_by: None, keep_alive }
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
    fn poll_silent<S>(&mut self, cx: &mut Context<'_>, connection: &mut Connection<S>) -> Poll<Silence>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
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
                            self.gone_by.get_or_insert(now + LEAVE);
                            return Poll::Ready(Silence::Idle);
                        }
                    } else if !connection.send_ping() {
                        return Poll::Ready(Silence::Gone);
                    } else {
                        self.asked = Some(now);
                    }
                }
                Some(asked) => match connection.poll_pong(cx) {
                    Poll::Ready(Ok(())) => (self.asked, self.heard) = (None, Instant::now()),
                    Poll::Ready(Err(_)) => return Poll::Ready(Silence::Gone),
                    Poll::Pending => {
                        return self.timer.poll_elapsed(cx, asked + PING_TIMEOUT).map(|()| Silence::Gone);
                    }
                },
            }
        }
    }
}

/// Writes the request in canonical form into `head`. [`http2`](crate::proxy::http2) has refused what RFC 9113 §8
/// forbids; what is left is what weir has rules of its own for. `bare`: nothing follows the head. `key`: of the
/// WebSocket that it asks for.
pub(crate) fn canonical(
    request: &Request,
    bare: bool,
    limits: &Limits,
    key: Option<&socket::Key>,
    head: &mut Head,
) -> Result<Framing, Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let method = socket::method(request)?;
    if method == b"CONNECT" {
        return connect::canonical(request, limits, head);
    }
    if !syntax::is_method(method) {
        return malformed("the method is not in upper case letters");
    }
    let target = request.path().unwrap_or(b"/");
    if target.len() > limits.target_bytes_max {
        return Err(Refused::TargetTooLong);
    }
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    if !syntax::is_path(&target[..path_len]) || !syntax::is_query(&target[path_len..]) {
        return malformed("the target holds a byte that no URL may hold");
    }
    let whole_server = target == b"*" && method == b"OPTIONS";
    if !target.starts_with(b"/") && !whole_server {
        return malformed("the target is not a path");
    }
    if request.count() > limits.fields_max {
        return Err(Refused::HeadTooLarge);
    }
    head.begin(method, target);
    let told = fields(request, key, head);
    let authority = match (request.authority(), told.host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return malformed("the authority and the Host differ");
        }
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => return malformed("the authority is missing"),
    };
    if told.hosts > 1 || !syntax::is_authority(authority) {
        return malformed("the authority is malformed");
    }
    head.set_authority(authority);
    if !told.expects_well {
        return Err(Refused::Expectation);
    }
    debug_assert!(head.fields.iter().all(|field| field.id != FieldId::Nominated));
    match told.length.map(syntax::content_length) {
        _ if bare || key.is_some() => Ok(Framing::None),
        None => Ok(Framing::Chunked),
        Some(Some(length)) => Ok(Framing::Length(length)),
        Some(None) => malformed("the Content-Length is not a number"),
    }
}

/// What the fields of a request say of its form.
struct Told<'a> {
    host: Option<&'a [u8]>,
    hosts: usize,
    length: Option<&'a [u8]>,
    /// Whether it expects nothing that weir does not know.
    expects_well: bool,
}

/// Copies the fields, with `key` in place of one that the client sent.
fn fields<'a>(request: &'a Request, key: Option<&socket::Key>, head: &mut Head) -> Told<'a> {
    let mut told = Told { host: None, hosts: 0, length: None, expects_well: true };
    for (name, value) in request.fields() {
        if key.is_some() && name == socket::KEY {
            continue;
        }
        let value = value.trim_ascii();
        match head.push_field(name, value) {
            FieldId::Host => {
                told.hosts += 1;
                told.host.get_or_insert(value);
            }
            FieldId::Expect => told.expects_well &= value.eq_ignore_ascii_case(b"100-continue"),
            FieldId::Framing if name == b"content-length" => told.length = told.length.or(Some(value)),
            _ => {}
        }
    }
    if let Some(key) = key {
        head.push_field(socket::KEY, key.as_bytes());
    }
    told
}

/// Trailers that may pass, as lines. The room of those that came goes back to where it came from.
pub(crate) fn trailer_lines(trailers: Option<Fields>) -> Vec<u8> {
    let Some(trailers) = trailers else { return Vec::new() };
    let mut lines = Vec::with_capacity(trailers.list_size());
    for (name, value) in trailers.iter() {
        trailers::push(&mut lines, name, value);
    }
    put_fields(trailers);
    lines
}

/// Sends weir's own answer on a stream; an error when that is no more.
pub(crate) fn send_refusal(refusal: &Refusal, head: &Head, respond: &mut Respond) -> Result<(), Error> {
    let (kind, text) = refusal.body();
    let body = if head.method() == "HEAD" { b"" } else { text.as_bytes() };
    let write = |out: &mut HeadWriter<'_>| {
        out.status(if refusal.status() == 499 { 400 } else { refusal.status() });
        out.field(b"content-type", kind.as_bytes());
        out.field(b"content-length", text.len().to_string().as_bytes());
        for (name, value) in refusal.fields() {
            out.field(name.as_bytes(), value.as_bytes());
        }
        if let Some(location) = refusal.location(head) {
            out.field(b"location", location.as_bytes());
        }
    };
    respond.send_whole(write, body)
}
