//! Whole requests over HTTP/2, client and server on one thread and joined by a pipe, 32 at a time: weir's own engine, and
//! h2 doing the same.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderName, HeaderValue, Request, Response};
use tokio::task::{LocalSet, spawn_local};
use weir::proxy::seam::Exchanges;

/// Streams at a time.
const STREAMS: u64 = 32;

/// Bytes that the pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

type Lines = &'static [(&'static [u8], &'static [u8])];

const ASKED: Lines = &[
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"x-request-id", b"5f0c1b52-1f35-4c4a-9d0b-7a3d3f1d9e11"),
    (b"x-forwarded-for", b"192.0.2.7"),
];

const ANSWER: Lines = &[
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"128"),
    (b"date", b"Sat, 21 Nov 2026 16:00:00 GMT"),
    (b"via", b"1.1 weir"),
];

const BODY: &[u8] = &[b'x'; 128];
const PATH: &str = "/assets/page.html";

/// Runs `rounds` requests, 32 at a time; how long it took.
async fn all<F: Future<Output = usize>>(rounds: u64, ask: impl Fn() -> F + 'static) -> Duration
where
    F: 'static,
{
    let ask = Rc::new(ask);
    let began = Instant::now();
    let tasks: Vec<_> = (0..STREAMS)
        .map(|n| {
            let (ask, share) = (Rc::clone(&ask), rounds / STREAMS + u64::from(n < rounds % STREAMS));
            spawn_local(async move {
                for _ in 0..share {
                    assert_eq!(ask().await, BODY.len());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    began.elapsed()
}

async fn own(rounds: u64) -> Duration {
    let exchanges = Exchanges::begin(tokio::io::duplex(PIPE_BYTES), ANSWER, BODY).await.expect("both ends");
    let exchanges = Rc::new(exchanges);
    let ask = move || {
        let exchanges = Rc::clone(&exchanges);
        async move { exchanges.ask(PATH.as_bytes(), ASKED).await.expect("an answer") }
    };
    all(rounds, ask).await
}

async fn h2(rounds: u64) -> Duration {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    spawn_local(async move {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
        let mut connection = builder.handshake::<_, Bytes>(far).await.expect("a client");
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            spawn_local(async move {
                assert!(!request.headers().is_empty());
                let mut head = Response::new(());
                for (name, value) in ANSWER {
                    head.headers_mut().append(
                        HeaderName::from_bytes(name).expect("a name"),
                        HeaderValue::from_bytes(value).expect("a value"),
                    );
                }
                let mut out = respond.send_response(head, false).expect("the client waits");
                out.send_data(Bytes::from_static(BODY), true).expect("the client waits");
            });
        }
    });
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
    let (sender, connection) = builder.handshake::<_, Bytes>(near).await.expect("a server");
    spawn_local(connection);
    let ask = move || {
        let mut sender = sender.clone();
        async move {
            let mut request =
                Request::builder().uri(format!("http://shop.example:8080{PATH}")).body(()).expect("a request");
            for (name, value) in ASKED {
                request.headers_mut().append(
                    HeaderName::from_bytes(name).expect("a name"),
                    HeaderValue::from_bytes(value).expect("a value"),
                );
            }
            let (answer, _) = sender.send_request(request, true).expect("there is room");
            let mut body = answer.await.expect("an answer").into_body();
            let mut bytes = 0;
            while let Some(data) = body.data().await {
                let data = data.expect("a body");
                let _ = body.flow_control().release_capacity(data.len());
                bytes += data.len();
            }
            bytes
        }
    };
    all(rounds, ask).await
}

pub fn exchanging(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    c.bench_function("http2 request, both roles, own", |b| {
        b.iter_custom(|rounds| LocalSet::new().block_on(&runtime, own(rounds)));
    });
    c.bench_function("http2 request, both roles, h2", |b| {
        b.iter_custom(|rounds| LocalSet::new().block_on(&runtime, h2(rounds)));
    });
}
