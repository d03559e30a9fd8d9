//! Clients of what lasts: server-sent events, and calls of gRPC that stream from the server and both ways.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Stage;
use super::faults::Kind;
use super::ledger::Failure;
use super::link::{Addresses, Body, Link, NAME, Way};
use super::origin::{EVENT, EVENTS};

/// One message of gRPC: not compressed, five bytes.
pub(crate) const MESSAGE: Bytes = Bytes::from_static(b"\0\0\0\0\x05hello");

/// Messages of a conversation.
const MESSAGES: usize = 30;

/// Time from one to the next.
const BETWEEN: Duration = Duration::from_millis(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Events,
    ServerStream,
    Chat,
}

/// Name, way, what is asked, how many at a time.
const CLIENTS: [(&str, Way, Ask, usize); 6] = [
    ("events, HTTP/1.1", Way::Http1, Ask::Events, 4),
    ("events, HTTP/2 over TLS", Way::Http2Tls, Ask::Events, 4),
    ("gRPC server stream, h2c", Way::Http2, Ask::ServerStream, 4),
    ("gRPC server stream, HTTP/2 over TLS", Way::Http2Tls, Ask::ServerStream, 4),
    ("gRPC both ways, h2c", Way::Http2, Ask::Chat, 4),
    ("gRPC both ways, HTTP/2 over TLS", Way::Http2Tls, Ask::Chat, 4),
];

pub(crate) fn start(stage: &Arc<Stage>, to: Addresses) -> Vec<JoinHandle<()>> {
    let all = CLIENTS.into_iter().flat_map(|(key, way, ask, count)| (0..count).map(move |_| (key, way, ask)));
    all.map(|(key, way, ask)| tokio::spawn(run(Arc::clone(stage), key, way, ask, to))).collect()
}

async fn run(stage: Arc<Stage>, key: &'static str, way: Way, ask: Ask, to: Addresses) {
    while !stage.is_over() {
        let began = Instant::now();
        if let Some(how) = one(&stage, way, ask, to).await {
            stage.ledger.book(key, Kind::Once, &stage.faults, began, how);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn one(stage: &Stage, way: Way, ask: Ask, to: Addresses) -> Option<Result<(), Failure>> {
    let mut link = match Link::open(way, to, &stage.site.client_tls).await {
        Ok(link) => link,
        Err(failure) => return Some(Err(failure)),
    };
    let (sender, pieces) = mpsc::channel(4);
    let (method, path) = match ask {
        Ask::Events => (Method::GET, "/events"),
        Ask::ServerStream => (Method::POST, "/soak.Calls/Stream"),
        Ask::Chat => (Method::POST, "/soak.Calls/Echo"),
    };
    let request = Request::builder().method(method).uri(format!("http://{NAME}{path}")).header("host", NAME);
    let call = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers");
    let request = match ask {
        Ask::Events => Request::get(format!("http://{NAME}{path}")).header("host", NAME).body(Body::empty()),
        Ask::ServerStream => call.body(Body::Whole(Some(MESSAGE))),
        Ask::Chat => call.body(Body::Pieces(pieces)),
    };
    let answer = match link.send(request.expect("a request")).await? {
        Ok(answer) => answer,
        Err(failure) => return Some(Err(failure)),
    };
    let status = answer.status().as_u16();
    if status != 200 {
        return Some(Err(Failure::status(status)));
    }
    Some(match ask {
        Ask::Events => events(answer.into_body()).await,
        Ask::ServerStream => messages(answer.into_body(), None).await,
        Ask::Chat => messages(answer.into_body(), Some(sender)).await,
    })
}

async fn events(body: Incoming) -> Result<(), Failure> {
    let bytes = body.collect().await?.to_bytes();
    if bytes.len() == EVENTS * EVENT.len() {
        return Ok(());
    }
    Err(Failure { status: None, what: format!("{} bytes of events", bytes.len()) })
}

/// Reads messages to the end of the call; with `up` says each before it is heard.
async fn messages(mut body: Incoming, up: Option<mpsc::Sender<Frame<Bytes>>>) -> Result<(), Failure> {
    let mut heard = 0;
    if let Some(up) = up {
        for said in 1..=MESSAGES {
            let _ = up.send(Frame::data(MESSAGE)).await;
            while heard < said * MESSAGE.len() {
                let Some(frame) = body.frame().await else { break };
                let frame = frame?;
                heard += frame.data_ref().map_or(0, Bytes::len);
                if frame.is_trailers() {
                    return Err(Failure { status: None, what: format!("{:?}", frame.trailers_ref()) });
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }
    let rest = body.collect().await?;
    let status = rest.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    heard += rest.to_bytes().len();
    if heard == MESSAGES * MESSAGE.len() && status.as_ref().is_some_and(|status| status == "0") {
        return Ok(());
    }
    Err(Failure { status: None, what: format!("{heard} bytes, grpc-status {status:?}") })
}
