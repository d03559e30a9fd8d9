//! Clients that ask and are answered: short answers and uploads, over each protocol, calls of gRPC.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;

use super::Stage;
use super::faults::Kind;
use super::ledger::Failure;
use super::link::{Addresses, Body, Link, NAME, Way};
use super::origin::{LARGE_BYTES, SMALL};

/// What one client asks again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// A short answer.
    Small,
    /// An answer of a megabyte.
    Large,
    /// An upload with its length.
    Upload,
    /// One in chunks.
    Chunked,
    /// A unary call.
    Call,
}

/// Requests of a connection, before it is closed and another one opened.
const REQUESTS_MAX: usize = 300;

/// Bytes of an upload.
const UPLOAD_BYTES: usize = 200_000;

/// Name, way, what is asked, connections, users of each, pause between two requests of one.
const CLIENTS: [(&str, Way, Ask, usize, usize, u64); 12] = [
    ("GET, HTTP/1.1", Way::Http1, Ask::Small, 6, 1, 5),
    ("GET, HTTP/1.1 over TLS", Way::Http1Tls, Ask::Small, 4, 1, 5),
    ("GET, HTTP/2 over TLS", Way::Http2Tls, Ask::Small, 2, 6, 10),
    ("GET, h2c", Way::Http2, Ask::Small, 2, 6, 10),
    ("1 MB, HTTP/1.1", Way::Http1, Ask::Large, 1, 1, 50),
    ("1 MB, HTTP/2 over TLS", Way::Http2Tls, Ask::Large, 1, 2, 100),
    ("upload, HTTP/1.1", Way::Http1, Ask::Upload, 2, 1, 30),
    ("chunked upload, HTTP/1.1 over TLS", Way::Http1Tls, Ask::Chunked, 2, 1, 30),
    ("upload, HTTP/2 over TLS", Way::Http2Tls, Ask::Upload, 1, 3, 50),
    ("chunked upload, h2c", Way::Http2, Ask::Chunked, 1, 3, 50),
    ("gRPC call, h2c", Way::Http2, Ask::Call, 2, 4, 10),
    ("gRPC call, HTTP/2 over TLS", Way::Http2Tls, Ask::Call, 2, 4, 10),
];

pub(crate) fn start(stage: &Arc<Stage>, to: Addresses) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for (key, way, ask, connections, users, pause_ms) in CLIENTS {
        for _ in 0..connections {
            let client = Client { stage: Arc::clone(stage), key, ask, pause: Duration::from_millis(pause_ms) };
            tasks.push(tokio::spawn(client.run(way, to, users)));
        }
    }
    tasks
}

#[derive(Clone)]
struct Client {
    stage: Arc<Stage>,
    key: &'static str,
    ask: Ask,
    pause: Duration,
}

impl Client {
    async fn run(self, way: Way, to: Addresses, users: usize) {
        while !self.stage.is_over() {
            let began = Instant::now();
            let mut link = match Link::open(way, to, &self.stage.site.client_tls).await {
                Ok(link) => link,
                Err(failure) => {
                    self.stage.ledger.book(self.key, Kind::Repeatable, &self.stage.faults, began, Err(failure));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let others: Vec<_> = (1..users)
                .filter_map(|_| link.share())
                .map(|mut shared| {
                    let client = self.clone();
                    tokio::spawn(async move { client.use_up(&mut shared).await })
                })
                .collect();
            self.use_up(&mut link).await;
            for other in others {
                other.await.expect("a client does not panic");
            }
        }
    }

    async fn use_up(&self, link: &mut Link) {
        for _ in 0..REQUESTS_MAX {
            if self.stage.is_over() || !link.is_ready().await {
                return;
            }
            let began = Instant::now();
            let kind = if self.ask == Ask::Small { Kind::Repeatable } else { Kind::Once };
            let Some(answer) = link.send(self.request()).await else { return };
            let how = match answer {
                Ok(answer) => self.read(answer).await,
                Err(failure) => Err(failure),
            };
            let failed = how.is_err();
            self.stage.ledger.book(self.key, kind, &self.stage.faults, began, how);
            if failed {
                return;
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn request(&self) -> Request<Body> {
        let (method, path) = match self.ask {
            Ask::Small => (Method::GET, "/small"),
            Ask::Large => (Method::GET, "/large"),
            Ask::Upload | Ask::Chunked => (Method::POST, "/count"),
            Ask::Call => (Method::POST, "/soak.Calls/Echo"),
        };
        let request = Request::builder().method(method).uri(format!("http://{NAME}{path}")).header("host", NAME);
        let body = match self.ask {
            Ask::Small | Ask::Large => Body::empty(),
            Ask::Upload => Body::Whole(Some(Bytes::from(vec![b'u'; UPLOAD_BYTES]))),
            Ask::Chunked => pieces(),
            Ask::Call => {
                let request = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers");
                return request.body(Body::Whole(Some(super::streams::MESSAGE))).expect("a request");
            }
        };
        request.body(body).expect("a request")
    }

    async fn read(&self, answer: http::Response<hyper::body::Incoming>) -> Result<(), Failure> {
        let status = answer.status().as_u16();
        let whole = answer.into_body().collect().await?;
        if status != 200 {
            return Err(Failure::status(status));
        }
        let grpc = whole.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        let body = whole.to_bytes();
        let right = match self.ask {
            Ask::Small => body == SMALL,
            Ask::Large => body.len() == LARGE_BYTES,
            Ask::Upload | Ask::Chunked => body == UPLOAD_BYTES.to_string(),
            Ask::Call => body == super::streams::MESSAGE && grpc.as_ref().is_some_and(|status| status == "0"),
        };
        let told = || format!("{} bytes, grpc-status {grpc:?}", body.len());
        if right { Ok(()) } else { Err(Failure { status: None, what: told() }) }
    }
}

/// An upload whose length is not known before.
fn pieces() -> Body {
    let (sender, pieces) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for _ in 0..UPLOAD_BYTES / 10_000 {
            let piece = http_body::Frame::data(Bytes::from_static(&[b'c'; 10_000]));
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    Body::Pieces(pieces)
}
