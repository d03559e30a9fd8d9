//! An HTTP/2 server behind weir (prior knowledge), by h2: remembers what it saw and misbehaves on cue.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::upstream::own_address;

/// What it does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Reads all of it, then 200 with its name.
    Answer,
    /// This answer, after all of the request; an empty body and no trailers end with the head.
    Reply(Shape),
    /// 200, and every piece of the body as it comes, then its trailers.
    Echo,
    /// A gRPC call: every message back as it comes, then this `grpc-status`.
    Call(u32),
    /// A gRPC call: after the request this many messages, then `grpc-status: 0`.
    Stream(usize),
    /// The stream is reset before an answer.
    Refuse(Reason),
    /// A head, this many bytes, then a reset.
    CutAfter(usize, Reason),
    /// The beginning of this answer, then nothing.
    Hold(Shape),
    /// Nothing.
    Stall,
    /// 103, then [`Act::Answer`].
    Hint,
    /// 100, then [`Act::Echo`].
    Continue,
    /// 403 with a body at once, then the stream is reset without an error (RFC 9113 §8.1).
    Early,
    /// 200 and as many bytes as the peer takes, of this many.
    Large(usize),
    /// The connection ends gracefully after this answer.
    Farewell,
    /// The connection breaks off.
    Vanish,
    /// Answers with a frame that has nothing in it between two that have.
    Hollow,
}

/// An answer that a test shapes.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Shape {
    /// An empty answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// With one more field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// With one more trailer.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// One request as it saw it.
#[derive(Debug, Clone)]
pub struct Seen2 {
    /// Which connection, from 1.
    pub connection: u64,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub authority: String,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// Whether the body came to its end.
    pub whole: bool,
    /// Why its stream was reset, if it was.
    pub reset: Option<Reason>,
}

impl Seen2 {
    /// First value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Debug)]
struct State {
    act: Act,
    on_path: Vec<(String, Act)>,
    queue: VecDeque<Act>,
    seen: Vec<Seen2>,
    connections: u64,
    open: u64,
}

#[derive(Debug)]
struct Shared {
    name: String,
    streams_max: u32,
    state: Mutex<State>,
    over: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no helper thread panicked while it held the state")
    }
}

/// The server. Gone on drop.
#[derive(Debug)]
pub struct H2Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl H2Upstream {
    /// A well-behaved server.
    pub fn named(name: &str) -> Self {
        Self::with_streams(name, 200)
    }

    /// One that allows so many streams a connection.
    pub fn with_streams(name: &str, streams_max: u32) -> Self {
        let state = State {
            act: Act::Answer,
            on_path: Vec::new(),
            queue: VecDeque::new(),
            seen: Vec::new(),
            connections: 0,
            open: 0,
        };
        let shared =
            Arc::new(Shared { name: name.to_owned(), streams_max, state: Mutex::new(state), over: Notify::new() });
        let listener = std::net::TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let address = listener.local_addr().expect("a bound socket has an address");
        let its = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    biased;
                    () = its.over.notified() => {}
                    () = accept(&listener, &its) => {}
                }
            });
        });
        Self { shared, address, thread: Some(thread) }
    }

    /// Its address as an endpoint of a pool.
    pub fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every request is treated so.
    pub fn behave(&self, act: Act) {
        self.shared.lock().act = act;
    }

    /// Requests whose target starts with `prefix` are treated so.
    pub fn behave_on(&self, prefix: &str, act: Act) {
        self.shared.lock().on_path.push((prefix.to_owned(), act));
    }

    /// Forgets what was said of paths.
    pub fn forget_rules(&self) {
        self.shared.lock().on_path.clear();
    }

    /// The next request is treated so, once.
    pub fn next(&self, act: Act) {
        self.shared.lock().queue.push_back(act);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen2> {
        self.shared.lock().seen.clone()
    }

    /// The latest request; fails the test when there is none.
    #[track_caller]
    pub fn last(&self) -> Seen2 {
        self.shared.lock().seen.last().cloned().expect("the upstream has seen a request")
    }

    /// How many requests it has seen.
    pub fn count(&self) -> usize {
        self.shared.lock().seen.len()
    }

    /// How many connections began with the preface of HTTP/2.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// How many of them are open.
    pub fn open(&self) -> u64 {
        self.shared.lock().open
    }
}

impl Drop for H2Upstream {
    fn drop(&mut self) {
        self.shared.over.notify_one();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "upstream {} panicked", self.shared.name);
        }
    }
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(shared.streams_max);
    // A probe connects and says nothing.
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let id = {
        let mut state = shared.lock();
        state.connections += 1;
        state.open += 1;
        state.connections
    };
    let farewell = Arc::new(Notify::new());
    let vanish = Arc::new(Notify::new());
    loop {
        tokio::select! {
            biased;
            () = vanish.notified() => break,
            () = farewell.notified() => connection.graceful_shutdown(),
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { break };
                let (farewell, vanish) = (Arc::clone(&farewell), Arc::clone(&vanish));
                let task = Task { shared: Arc::clone(&shared), farewell, vanish };
                tokio::spawn(task.one(id, request, respond));
            }
        }
    }
    shared.lock().open -= 1;
}

struct Task {
    shared: Arc<Shared>,
    farewell: Arc<Notify>,
    vanish: Arc<Notify>,
}

impl Task {
    async fn one(self, connection: u64, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, mut body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).to_owned();
        let (index, act) = {
            let mut state = self.shared.lock();
            let by_path =
                state.on_path.iter().find(|(prefix, _)| target.starts_with(prefix)).map(|(_, act)| act.clone());
            let act = state.queue.pop_front().or(by_path).unwrap_or_else(|| state.act.clone());
            let authority = parts.uri.authority().map_or("", |it| it.as_str()).to_owned();
            let method = parts.method.as_str().to_owned();
            state.seen.push(Seen2 {
                connection,
                method,
                target,
                authority,
                fields: parts.headers,
                body: Vec::new(),
                trailers: HeaderMap::new(),
                whole: false,
                reset: None,
            });
            (state.seen.len() - 1, act)
        };
        let acted = self.act(index, act, &mut body, &mut respond).await;
        if let Err(error) = acted {
            self.shared.lock().seen[index].reset = error.reason();
        }
    }

    async fn act(
        &self,
        index: usize,
        act: Act,
        body: &mut RecvStream,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let name = self.shared.name.clone();
        let plain = Shape::status(200).body(format!("{name}\n").as_bytes());
        match act {
            Act::Answer => {
                self.read(index, body).await?;
                reply(respond, &name, &plain).await
            }
            Act::Reply(shape) => {
                self.read(index, body).await?;
                reply(respond, &name, &shape).await
            }
            Act::Hint => {
                let hint = Response::builder().status(103).header("link", "</a>").body(()).expect("a head");
                respond.send_informational(hint)?;
                reply(respond, &name, &plain).await
            }
            Act::Continue => {
                respond.send_informational(Response::builder().status(100).body(()).expect("a head"))?;
                self.echo(index, body, respond).await
            }
            Act::Echo => self.echo(index, body, respond).await,
            Act::Call(_) | Act::Stream(_) => self.grpc(index, act, body, respond).await,
            Act::Refuse(reason) => {
                respond.send_reset(reason);
                Ok(())
            }
            Act::CutAfter(bytes, reason) => {
                self.read(index, body).await?;
                cut(respond, &name, bytes, reason).await
            }
            Act::Hold(shape) => {
                let mut out = respond.send_response(head(shape.status, &name, &shape.fields), false)?;
                out.send_data(Bytes::from(shape.body), false)?;
                let reason = std::future::poll_fn(|cx| out.poll_reset(cx)).await?;
                self.shared.lock().seen[index].reset = Some(reason);
                Ok(())
            }
            Act::Stall => {
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
                self.shared.lock().seen[index].reset = Some(reason);
                Ok(())
            }
            Act::Early => {
                let mut out = respond.send_response(head(403, &name, &[]), false)?;
                out.send_data(Bytes::from_static(b"no"), true)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                respond.send_reset(Reason::NO_ERROR);
                Ok(())
            }
            Act::Large(bytes) => large(respond, &name, bytes).await,
            Act::Farewell => {
                self.read(index, body).await?;
                reply(respond, &name, &plain).await?;
                self.farewell.notify_one();
                Ok(())
            }
            Act::Hollow => {
                self.read(index, body).await?;
                hollow(respond, &name)
            }
            Act::Vanish => {
                self.vanish.notify_one();
                Ok(())
            }
        }
    }

    async fn grpc(
        &self,
        index: usize,
        act: Act,
        body: &mut RecvStream,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let mut out = respond.send_response(head(200, &self.shared.name, &[grpc()]), false)?;
        let Act::Stream(messages) = act else {
            while let Some(piece) = body.data().await {
                let piece = piece?;
                body.flow_control().release_capacity(piece.len())?;
                self.shared.lock().seen[index].body.extend_from_slice(&piece);
                send(&mut out, piece).await?;
            }
            self.end(index, body).await?;
            let status = if let Act::Call(status) = act { status } else { 0 };
            return out.send_trailers([ended(status)].into_iter().collect());
        };
        self.read(index, body).await?;
        for _ in 0..messages {
            send(&mut out, Bytes::from_static(b"\0\0\0\0\x01x")).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        out.send_trailers([ended(0)].into_iter().collect())
    }

    async fn read(&self, index: usize, body: &mut RecvStream) -> Result<(), h2::Error> {
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            self.shared.lock().seen[index].body.extend_from_slice(&piece);
        }
        self.end(index, body).await.map(drop)
    }

    async fn end(&self, index: usize, body: &mut RecvStream) -> Result<HeaderMap, h2::Error> {
        let trailers = body.trailers().await?.unwrap_or_default();
        let mut state = self.shared.lock();
        state.seen[index].trailers = trailers.clone();
        state.seen[index].whole = true;
        Ok(trailers)
    }

    async fn echo(
        &self,
        index: usize,
        body: &mut RecvStream,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let mut out = respond.send_response(head(200, &self.shared.name, &[]), false)?;
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            send(&mut out, piece.clone()).await?;
            self.shared.lock().seen[index].body.extend_from_slice(&piece);
        }
        let trailers = self.end(index, body).await?;
        out.send_trailers(trailers)
    }
}

fn grpc() -> (String, String) {
    ("content-type".to_owned(), "application/grpc".to_owned())
}

fn ended(status: u32) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("grpc-status"), HeaderValue::from(status))
}

fn head(status: u16, name: &str, fields: &[(String, String)]) -> Response<()> {
    let mut head = Response::builder().status(status).header("x-upstream", name);
    for (name, value) in fields {
        head = head.header(name, value);
    }
    head.body(()).expect("a test composes valid answers")
}

async fn reply(respond: &mut SendResponse<Bytes>, name: &str, shape: &Shape) -> Result<(), h2::Error> {
    let bare = shape.body.is_empty() && shape.trailers.is_empty();
    let mut out = respond.send_response(head(shape.status, name, &shape.fields), bare)?;
    if !shape.body.is_empty() {
        out.send_data(Bytes::from(shape.body.clone()), shape.trailers.is_empty())?;
    }
    if shape.trailers.is_empty() {
        return Ok(());
    }
    let pair = |(name, value): &(String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a test composes valid trailers");
        (name, HeaderValue::from_str(value).expect("a test composes valid trailers"))
    };
    out.send_trailers(shape.trailers.iter().map(pair).collect())
}

async fn cut(respond: &mut SendResponse<Bytes>, name: &str, bytes: usize, reason: Reason) -> Result<(), h2::Error> {
    let mut out = respond.send_response(head(200, name, &[]), false)?;
    out.send_data(Bytes::from(vec![b'p'; bytes]), false)?;
    // What is sent has to get out before h2 forgets it with the reset.
    tokio::time::sleep(Duration::from_millis(50)).await;
    out.send_reset(reason);
    Ok(())
}

/// A body with an empty piece in it.
fn hollow(respond: &mut SendResponse<Bytes>, name: &str) -> Result<(), h2::Error> {
    let mut out = respond.send_response(head(200, name, &[]), false)?;
    for piece in ["be", "", "fore"] {
        out.send_data(Bytes::from_static(piece.as_bytes()), piece == "fore")?;
    }
    Ok(())
}

async fn large(respond: &mut SendResponse<Bytes>, name: &str, bytes: usize) -> Result<(), h2::Error> {
    let mut out = respond.send_response(head(200, name, &[]), false)?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(16 * 1024);
        send(&mut out, Bytes::from(vec![b'l'; now])).await?;
        left -= now;
    }
    out.send_data(Bytes::new(), true)
}

/// Sends a piece when the peer has room for it.
async fn send(out: &mut SendStream<Bytes>, piece: Bytes) -> Result<(), h2::Error> {
    out.reserve_capacity(piece.len());
    while out.capacity() < piece.len() {
        match std::future::poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(room) => drop(room?),
            None => break,
        }
    }
    out.send_data(piece, false)
}
