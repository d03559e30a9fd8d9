//! An HTTP/2 client, cleartext with prior knowledge or over TLS, blocking on the outside.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::tls::Tls;

/// One answer over HTTP/2.
#[derive(Debug, Clone)]
pub struct Answer2 {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub fields: http::HeaderMap,
    /// Body as far as it came.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: http::HeaderMap,
    /// Interim answers before it: status and fields.
    pub interim: Vec<(u16, http::HeaderMap)>,
    /// Why the body was cut, if it was.
    pub cut: Option<String>,
}

impl Answer2 {
    /// Which upstream answered; empty when weir did.
    pub fn upstream(&self) -> &str {
        self.fields.get("x-upstream").and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// First value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.get(name).and_then(|v| v.to_str().ok())
    }

    /// First value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|v| v.to_str().ok())
    }
}

/// One HTTP/2 connection on a runtime of its own.
#[derive(Debug)]
pub struct H2Client {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    over: std::sync::Arc<std::sync::Mutex<Option<String>>>,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl H2Client {
    /// Connects; fails the test when that does not work.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::on(async move { TcpStream::connect(address).await.expect("weir accepts") })
    }

    /// Connects over TLS; fails the test when that does not work, or does not lead to HTTP/2.
    #[track_caller]
    pub fn over(address: SocketAddr, tls: &Tls) -> Self {
        let tls = tls.clone().alpn(&["h2", "http/1.1"]);
        Self::on(async move {
            let stream = TcpStream::connect(address).await.expect("weir accepts");
            let name = rustls::pki_types::ServerName::try_from(tls.name).expect("a legal name");
            let stream = tokio_rustls::TlsConnector::from(tls.config).connect(name, stream).await;
            let stream = stream.expect("weir shakes hands");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            stream
        })
    }

    #[track_caller]
    fn on<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(connect: impl Future<Output = S>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        let over = std::sync::Arc::new(std::sync::Mutex::new(None));
        let told = std::sync::Arc::clone(&over);
        let sender = runtime.block_on(async {
            let (sender, connection) = handshake(connect.await).await.expect("weir speaks HTTP/2");
            tokio::spawn(async move {
                let how = match connection.await {
                    Ok(()) => "closed".to_owned(),
                    Err(error) => error.to_string(),
                };
                *told.lock().expect("nobody panics with it") = Some(how);
            });
            sender
        });
        Self { runtime, sender, over }
    }

    /// `GET path` and its answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer2 {
        self.ask("GET", path, &[], b"").unwrap_or_else(|error| panic!("GET {path} over h2: {error}"))
    }

    /// A request and its answer.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer2, h2::Error> {
        let request = compose(method, path, fields);
        let sender = self.sender.clone();
        let body = Bytes::copy_from_slice(body);
        self.runtime.block_on(async { within(one(sender, request, body, None)).await })
    }

    /// A request whose body ends with trailers, and its answer.
    pub fn ask_with_trailers(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
        trailers: &[(&'static str, &str)],
    ) -> Result<Answer2, h2::Error> {
        let request = compose("POST", path, fields);
        let sender = self.sender.clone();
        let body = Bytes::copy_from_slice(body);
        let value = |value: &str| http::HeaderValue::from_str(value).expect("a test composes valid trailers");
        let trailers = trailers.iter().map(|(name, it)| (http::HeaderName::from_static(name), value(it))).collect();
        self.runtime.block_on(async { within(one(sender, request, body, Some(trailers))).await })
    }

    /// Begins a request, sends `body` without its end, and resets the stream once `ready` says so.
    pub fn abandon(&mut self, method: &str, path: &str, body: &[u8], reason: h2::Reason, ready: impl Fn() -> bool) {
        let request = compose(method, path, &[]);
        let sender = self.sender.clone();
        let body = Bytes::copy_from_slice(body);
        self.runtime.block_on(async {
            let mut sender = within(sender.ready()).await.expect("the connection is open");
            let (_response, mut stream) = sender.send_request(request, false).expect("a stream can be opened");
            stream.send_data(body, false).expect("a body can be sent");
            within(async {
                while !ready() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            stream.send_reset(reason);
            // The reset has to get out before the runtime stops.
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
    }

    /// The same GET on `count` streams at once.
    pub fn many(&mut self, count: usize, path: &str) -> Vec<Result<Answer2, h2::Error>> {
        let sender = self.sender.clone();
        self.runtime.block_on(async {
            let streams: Vec<_> = (0..count)
                .map(|_| tokio::spawn(one(sender.clone(), compose("GET", path, &[]), Bytes::new(), None)))
                .collect();
            let mut answers = Vec::new();
            for stream in streams {
                answers.push(within(async { stream.await.expect("a client task does not panic") }).await);
            }
            answers
        })
    }

    /// Lets the connection work until the peer has ended it; how it ended, if within `time`.
    pub fn over_within(&mut self, time: Duration) -> Option<String> {
        let over = std::sync::Arc::clone(&self.over);
        self.runtime.block_on(async move {
            let began = tokio::time::Instant::now();
            while began.elapsed() < time {
                if let Some(how) = over.lock().expect("nobody panics with it").clone() {
                    return Some(how);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            None
        })
    }
}

fn compose(method: &str, path: &str, fields: &[(&str, &str)]) -> http::Request<()> {
    let authority = fields.iter().find(|(name, _)| *name == ":authority").map_or("test", |(_, value)| value);
    let mut request = http::Request::builder().method(method).uri(format!("http://{authority}{path}"));
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(':')) {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a test composes valid requests")
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("an answer over h2 within ten seconds")
}

async fn one(
    sender: SendRequest<Bytes>,
    request: http::Request<()>,
    body: Bytes,
    trailers: Option<http::HeaderMap>,
) -> Result<Answer2, h2::Error> {
    let mut sender = sender.ready().await?;
    let waits = request.headers().contains_key("expect");
    let (mut response, mut stream) = sender.send_request(request, body.is_empty() && trailers.is_none())?;
    let mut interim = Vec::new();
    let mut unsent = Some((body, trailers));
    let parts = loop {
        let told = std::future::poll_fn(|cx| response.poll_informational(cx));
        if !waits || interim.iter().any(|(status, _)| *status == 100) {
            send(&mut stream, unsent.take())?;
        }
        match told.await {
            Some(told) => {
                let (parts, ()) = told?.into_parts();
                interim.push((parts.status.as_u16(), parts.headers));
            }
            None => break response.await?,
        }
    };
    let (parts, mut incoming) = parts.into_parts();
    let (status, fields) = (parts.status.as_u16(), parts.headers);
    let mut answer = Answer2 { status, fields, body: Vec::new(), trailers: http::HeaderMap::new(), interim, cut: None };
    while let Some(piece) = incoming.data().await {
        match piece {
            Ok(piece) => {
                incoming.flow_control().release_capacity(piece.len())?;
                answer.body.extend_from_slice(&piece);
            }
            Err(error) => {
                answer.cut = Some(error.to_string());
                return Ok(answer);
            }
        }
    }
    match incoming.trailers().await {
        Ok(trailers) => answer.trailers = trailers.unwrap_or_default(),
        Err(error) => answer.cut = Some(error.to_string()),
    }
    Ok(answer)
}

/// Sends body and trailers, once.
fn send(stream: &mut h2::SendStream<Bytes>, unsent: Option<(Bytes, Option<http::HeaderMap>)>) -> Result<(), h2::Error> {
    match unsent {
        Some((body, None)) if !body.is_empty() => stream.send_data(body, true),
        Some((body, Some(trailers))) => {
            stream.send_data(body, false)?;
            stream.send_trailers(trailers)
        }
        _ => Ok(()),
    }
}
