//! Extended CONNECT (RFC 8441) by hand: a client whose stream is a tunnel, and a server that sends back every byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::upstream::own_address;

const PATIENCE: Duration = Duration::from_secs(10);

/// A client's tunnel.
#[derive(Debug)]
pub struct H2Socket {
    runtime: Runtime,
    pub answer: Response<()>,
    up: SendStream<Bytes>,
    down: RecvStream,
    ahead: Vec<u8>,
}

/// An extended CONNECT for `/ws`, as a browser sends it.
pub fn ask(path: &str, protocol: Option<&'static str>) -> Request<()> {
    let mut request = Request::builder().method(Method::CONNECT).uri(format!("http://test{path}"));
    if let Some(protocol) = protocol {
        request = request.extension(Protocol::from_static(protocol));
    }
    request.header("sec-websocket-version", "13").body(()).expect("a head")
}

impl H2Socket {
    /// Opens it; the answer's head is there.
    #[track_caller]
    pub fn open(address: SocketAddr, request: Request<()>) -> Result<Self, h2::Error> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        let opened: Result<_, h2::Error> = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("weir accepts");
            let (sender, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(connection);
            let mut sender = sender.ready().await?;
            // Not before the peer's SETTINGS are there.
            for _ in 0..200 {
                if sender.is_extended_connect_protocol_enabled() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(sender.is_extended_connect_protocol_enabled(), "it is announced");
            let (answer, up) = sender.send_request(request, false)?;
            let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time")?;
            Ok((up, answer))
        });
        let (up, answer): (_, Response<RecvStream>) = opened?;
        let (parts, down) = answer.into_parts();
        Ok(Self { runtime, answer: Response::from_parts(parts, ()), up, down, ahead: Vec::new() })
    }

    pub fn status(&self) -> u16 {
        self.answer.status().as_u16()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Sends bytes as the peer takes them, while reading what comes.
    pub fn say(&mut self, bytes: &[u8]) {
        let (up, down, ahead) = (&mut self.up, &mut self.down, &mut self.ahead);
        self.runtime.block_on(async {
            for piece in bytes.chunks(16_000) {
                up.reserve_capacity(piece.len());
                while up.capacity() < piece.len() {
                    tokio::select! {
                        room = std::future::poll_fn(|cx| up.poll_capacity(cx)) => {
                            room.expect("it is open").expect("it is open");
                        }
                        Some(data) = down.data() => {
                            let data = data.expect("it is whole");
                            let _ = down.flow_control().release_capacity(data.len());
                            ahead.extend_from_slice(&data);
                        }
                    }
                }
                up.send_data(Bytes::copy_from_slice(piece), false).expect("it is open");
            }
        });
    }

    /// The next `count` bytes.
    #[track_caller]
    pub fn hear(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            match self.more() {
                Ok(Some(data)) => self.ahead.extend_from_slice(&data),
                ended => panic!("only {} of {count} bytes came: {ended:?}", self.ahead.len()),
            }
        }
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Ends this side.
    pub fn end(&mut self) {
        self.up.send_data(Bytes::new(), true).expect("it is open");
        self.pause();
    }

    pub fn reset(mut self, reason: Reason) {
        self.up.send_reset(reason);
        self.pause();
    }

    /// How the other side ends: in order, or by a reset.
    pub fn ended(&mut self) -> Result<(), Option<Reason>> {
        loop {
            match self.more() {
                Ok(Some(data)) => self.ahead.extend_from_slice(&data),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.reason()),
            }
        }
    }

    /// Bytes that have come and not been asked for.
    pub fn rest(&self) -> &[u8] {
        &self.ahead
    }

    fn more(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let down = &mut self.down;
        self.runtime.block_on(async {
            let data = tokio::time::timeout(PATIENCE, down.data()).await.expect("something in time");
            if let Some(Ok(data)) = &data {
                let _ = down.flow_control().release_capacity(data.len());
            }
            data.transpose()
        })
    }

    /// What was said has to get out.
    fn pause(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    }
}

/// A server. Its thread lasts as long as the test.
#[derive(Debug)]
pub struct H2SocketUpstream {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    heads: Vec<http::request::Parts>,
    /// How each tunnel ended: in order, or by a reset.
    ended: Vec<Option<Reason>>,
}

impl H2SocketUpstream {
    /// One that announces extended CONNECT, or does not.
    pub fn new(announces: bool) -> Self {
        let listener = std::net::TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let its = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, announces, Arc::clone(&its)));
                }
            });
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    pub fn heads(&self) -> Vec<http::request::Parts> {
        self.shared.lock().expect("no panic").heads.clone()
    }

    pub fn ended(&self) -> Vec<Option<Reason>> {
        self.shared.lock().expect("no panic").ended.clone()
    }
}

async fn connection(stream: TcpStream, announces: bool, shared: Arc<Mutex<Shared>>) {
    let mut builder = h2::server::Builder::new();
    if announces {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            let granted = parts.method == Method::CONNECT && path != "/refused";
            let status = if granted || path == "/plain" { 200 } else { 403 };
            shared.lock().expect("no panic").heads.push(parts);
            let head = Response::builder().status(status).header("x-upstream", "h2").body(()).expect("a head");
            if !granted {
                let mut out = respond.send_response(head, false).expect("an answer can be sent");
                let _ = out.send_data(Bytes::from_static(b"no!\n"), true);
                return;
            }
            let out = respond.send_response(head, false).expect("an answer can be sent");
            let ended = echo(body, out, path == "/cut").await.err().and_then(|error| error.reason());
            shared.lock().expect("no panic").ended.push(ended);
        });
    }
}

async fn echo(mut body: RecvStream, mut out: SendStream<Bytes>, cut: bool) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        if cut {
            out.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        out.reserve_capacity(data.len());
        while out.capacity() < data.len() {
            match std::future::poll_fn(|cx| out.poll_capacity(cx)).await {
                Some(room) => drop(room?),
                None => return Ok(()),
            }
        }
        let _ = body.flow_control().release_capacity(data.len());
        out.send_data(data, false)?;
    }
    out.send_data(Bytes::new(), true)
}
