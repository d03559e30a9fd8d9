//! The endpoints: servers of HTTP/1.1 or h2c that answer, stream, echo, and fail when they are told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::faults::Mode;
use super::link::Body;
use super::sockets::{ACCEPT, frame, hear};
use super::streams::MESSAGE;

/// A short answer, an event, and how many events there are.
pub(crate) const SMALL: &str = "a short answer of an endpoint, as long as those of compare\n";
pub(crate) const EVENT: &str = "data: something has happened\n\n";
pub(crate) const EVENTS: usize = 40;

/// A long answer.
pub(crate) const LARGE_BYTES: usize = 1_000_000;

/// Messages of a stream of gRPC.
const MESSAGES: usize = 30;

/// Time from one event or message to the next.
const BETWEEN: Duration = Duration::from_millis(30);

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    H2c,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    speaks: Speaks,
    mode: watch::Sender<Mode>,
}

impl Origin {
    /// One that serves, on an address of its own, so that nobody takes its port while it is gone.
    pub(crate) async fn start(number: u8, speaks: Speaks) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 19, std::process::id() as u8, number], 0))).await?;
        let address = listener.local_addr()?;
        let (mode, told) = watch::channel(Mode::Serves);
        tokio::spawn(accept(listener, speaks, told));
        Ok(Self { address, speaks, mode })
    }

    /// As an endpoint of a pool.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.speaks == Speaks::H2c { "h2c" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub(crate) fn behave(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, speaks: Speaks, mut mode: watch::Receiver<Mode>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Gone {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, speaks, mode.clone()));
                }
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves a connection until it ends, or has to.
async fn connection(mut stream: TcpStream, speaks: Speaks, mode: watch::Receiver<Mode>) {
    let _ = stream.set_nodelay(true);
    if *mode.borrow() == Mode::Resets {
        let _ = stream.read(&mut [0; 64]).await;
        reset(stream.as_raw_fd());
        return;
    }
    let (fd, its) = (stream.as_raw_fd(), mode.clone());
    let service = service_fn(move |request| answer(request, its.clone()));
    let served = async {
        let io = TokioIo::new(stream);
        // How it ended is for the clients to say.
        let _ = match speaks {
            Speaks::Http1 => http1::Builder::new().serve_connection(io, service).with_upgrades().await,
            Speaks::H2c => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.enable_connect_protocol().serve_connection(io, service).await
            }
        };
    };
    tokio::pin!(served);
    tokio::select! {
        () = &mut served => {}
        failed = fails(mode) => if failed == Mode::Resets { reset(fd) },
    }
}

/// Waits until connections have to end.
async fn fails(mut mode: watch::Receiver<Mode>) -> Mode {
    match mode.wait_for(|mode| matches!(mode, Mode::Gone | Mode::Resets)).await {
        Ok(mode) => *mode,
        Err(_) => Mode::Gone,
    }
}

/// Has the connection end with a reset when it is closed, which is to be at once.
fn reset(fd: RawFd) {
    // SAFETY: whoever calls this holds the stream that the descriptor is of.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

async fn answer(request: Request<Incoming>, mut mode: watch::Receiver<Mode>) -> Result<Response<Body>, Infallible> {
    let _ = mode.wait_for(|mode| *mode != Mode::Stalls).await;
    let plain = |text: String| Response::new(Body::Whole(Some(text.into())));
    let answer = match request.uri().path() {
        "/small" => plain(SMALL.to_owned()),
        "/large" => {
            Response::new(pieces(LARGE_BYTES / 10_000, Bytes::from_static(&[b'l'; 10_000]), Duration::ZERO, None))
        }
        "/count" => match count(request.into_body()).await {
            Some(bytes) => plain(bytes.to_string()),
            None => Response::builder().status(400).body(Body::empty()).expect("an answer"),
        },
        "/events" => {
            let events = pieces(EVENTS, Bytes::from_static(EVENT.as_bytes()), BETWEEN, None);
            Response::builder().header("content-type", "text/event-stream").body(events).expect("an answer")
        }
        "/soak.Calls/Echo" => call(echo(request.into_body())),
        "/soak.Calls/Stream" => call(pieces(MESSAGES, MESSAGE, BETWEEN, Some(status()))),
        "/ws" => socket(request, mode),
        _ => Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).expect("an answer"),
    };
    Ok(answer)
}

fn call(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(body).expect("an answer")
}

fn status() -> HeaderMap {
    [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))].into_iter().collect()
}

async fn count(mut body: Incoming) -> Option<usize> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.ok()?.data_ref().map_or(0, Bytes::len);
    }
    Some(bytes)
}

/// The same piece so many times, and trailers.
fn pieces(count: usize, piece: Bytes, between: Duration, trailers: Option<HeaderMap>) -> Body {
    let (sender, pieces) = mpsc::channel(4);
    tokio::spawn(async move {
        for _ in 0..count {
            if sender.send(Frame::data(piece.clone())).await.is_err() {
                return;
            }
            if !between.is_zero() {
                tokio::time::sleep(between).await;
            }
        }
        if let Some(trailers) = trailers {
            let _ = sender.send(Frame::trailers(trailers)).await;
        }
    });
    Body::Pieces(pieces)
}

/// Every piece back as it comes, and the status.
fn echo(mut body: Incoming) -> Body {
    let (sender, pieces) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if frame.is_data() && sender.send(frame).await.is_err() {
                return;
            }
        }
        let _ = sender.send(Frame::trailers(status())).await;
    });
    Body::Pieces(pieces)
}

/// Grants a WebSocket, whichever way it was asked for, and sends every message back.
fn socket(mut request: Request<Incoming>, mode: watch::Receiver<Mode>) -> Response<Body> {
    let two = request.method() == Method::CONNECT;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let mut stream = TokioIo::new(stream);
        tokio::select! {
            () = echo_messages(&mut stream) => {}
            _ = fails(mode) => {}
        }
    });
    if two {
        return Response::new(Body::empty());
    }
    // All clients of HTTP/1 send one key. What weir asks with for a client of HTTP/2 has one of its own.
    let key = request.headers().get("sec-websocket-key").map(|key| key.as_bytes().to_vec()).unwrap_or_default();
    let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
    answer.header("sec-websocket-accept", accept_of(&key)).body(Body::empty()).expect("an answer")
}

fn accept_of(key: &[u8]) -> String {
    use base64::Engine as _;
    use sha1::Digest as _;
    let digest = sha1::Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    debug_assert!(key != b"dGhlIHNhbXBsZSBub25jZQ==" || accept == ACCEPT, "RFC 6455 section 1.3");
    accept
}

async fn echo_messages(stream: &mut TokioIo<hyper::upgrade::Upgraded>) {
    while let Ok((first, payload)) = hear(stream, true).await {
        if stream.write_all(&frame(first, &payload, false)).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if first == 0x88 {
            let _ = stream.shutdown().await;
            return;
        }
    }
}
