//! One probe of one endpoint over the wire: a connection, or a request and its status.
//!
//! It has a connection of its own, so that what it proves holds for a new connection too. The body is not read.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::check_h2;
use crate::model::{Health, ProbeKind, Protocol, WarmUp};

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// No connection.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// The probe could not be made here: descriptors or ports ran out. Says nothing about the endpoint.
    #[error("the probe could not be made: {0}")]
    Ours(io::Error),
    /// The answer is missing or no HTTP.
    #[error("answer: {0}")]
    Answer(hyper::Error),
    /// An answer of another status than expected.
    #[error("status {got}, expected {}..={}", .expected.start(), .expected.end())]
    Status {
        /// What came.
        got: u16,
        /// What is healthy.
        expected: RangeInclusive<u16>,
    },
    /// The answer is missing or no HTTP/2.
    #[error("answer: {0}")]
    Http2(h2::Error),
    /// The health service answered with an error.
    #[error("grpc-status {0}, expected 0")]
    Grpc(u32),
    /// The health service says that it does not serve.
    #[error("the health service says {}", said(*.0))]
    NotServing(u64),
    /// The time was over.
    #[error("timed out after {0:?}")]
    Timeout(std::time::Duration),
    /// The configured path or host is no HTTP.
    #[error("request: {0}")]
    Request(http::Error),
}

/// The name of a serving status of grpc.health.v1 but SERVING.
fn said(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "something else",
    }
}

/// Who asks.
pub(super) const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"), " probe");

/// Probes `addr` once, within the timeout of `health`, in the endpoint's `protocol`. `authority` is the `Host` when
/// none is configured.
pub(crate) async fn check(
    addr: SocketAddr,
    protocol: Protocol,
    authority: &str,
    health: &Health,
) -> Result<(), CheckError> {
    let probe = async {
        let stream = TcpStream::connect(addr).await.map_err(connect_error)?;
        match &health.kind {
            ProbeKind::Tcp => Ok(()),
            ProbeKind::Http { path, host, expect } => {
                let host = host.as_deref().unwrap_or(authority);
                let got = match protocol {
                    Protocol::Http1 => status(stream, path, host).await?,
                    Protocol::H2c => check_h2::status(stream, addr, path, host).await?,
                };
                match got {
                    got if expect.contains(&got) => Ok(()),
                    got => Err(CheckError::Status { got, expected: expect.clone() }),
                }
            }
            ProbeKind::Grpc { service, host } => {
                check_h2::grpc(stream, addr, service, host.as_deref().unwrap_or(authority)).await
            }
        }
    };
    let timed = tokio::time::timeout(health.timeout, probe).await;
    timed.unwrap_or(Err(CheckError::Timeout(health.timeout)))
}

/// Asks for `path` as often as `warm_up` says, within its deadline; how many answers there were, of whatever status.
pub(crate) async fn warm_up(
    (addr, protocol, host): (SocketAddr, Protocol, &str),
    warm_up: &WarmUp,
    turns: &Semaphore,
) -> u32 {
    let mut answers = 0;
    let asking = async {
        for _ in 0..warm_up.requests {
            let Ok(_turn) = turns.acquire().await else { return };
            let one = async {
                let stream = TcpStream::connect(addr).await.map_err(connect_error)?;
                match protocol {
                    Protocol::Http1 => status(stream, &warm_up.path, host).await,
                    Protocol::H2c => check_h2::status(stream, addr, &warm_up.path, host).await,
                }
            };
            answers += u32::from(one.await.is_ok());
        }
    };
    // What is not done by then is left undone.
    let _ = tokio::time::timeout(warm_up.deadline, asking).await;
    answers
}

async fn status(stream: TcpStream, path: &str, host: &str) -> Result<u16, CheckError> {
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", USER_AGENT)
        .header("accept", "*/*")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(CheckError::Request)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CheckError::Answer)?;
    let (mut answer, connection) = (pin!(sender.send_request(request)), pin!(connection));
    let answer = tokio::select! {
        biased; // An answer that is there counts, also when the connection has ended with it.
        answer = &mut answer => answer,
        _ended = connection => answer.await,
    };
    Ok(answer.map_err(CheckError::Answer)?.status().as_u16())
}

fn connect_error(error: io::Error) -> CheckError {
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    match error.raw_os_error() {
        Some(code) if ours.contains(&code) => CheckError::Ours(error),
        _ => CheckError::Connect(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::testing::{Manners, Upstream};

    fn http() -> Health {
        let kind = ProbeKind::Http { path: "/healthz?deep=1".into(), host: None, expect: 200..=399 };
        Health { kind, timeout: Duration::from_millis(300), ..Health::default() }
    }

    async fn verdict(manners: Manners, health: &Health) -> Result<(), String> {
        let upstream = Upstream::start(manners).await;
        check(upstream.addr, Protocol::Http1, "engine:8080", health).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_healthy_status_passes_and_every_misbehaviour_fails_with_its_reason() {
        let cases = [
            (Manners::Status(200), None),
            (Manners::Status(302), None),
            (Manners::Status(404), Some("status 404, expected 200..=399")),
            (Manners::Status(503), Some("status 503")),
            (Manners::Stall, Some("timed out after 300ms")),
            (Manners::Garbage, Some("answer: ")),
            (Manners::HalfHead, Some("answer: ")),
            (Manners::Reset, Some("answer: ")),
        ];
        for (manners, reason) in cases {
            let context = format!("{manners:?}");
            match (verdict(manners, &http()).await, reason) {
                (Ok(()), None) => {}
                (Err(error), Some(reason)) => assert!(error.starts_with(reason), "{context}: {error}"),
                (got, wanted) => panic!("{context}: {got:?}, wanted {wanted:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_refused_connection_fails_and_names_the_connect() {
        let gone = Upstream::start(Manners::Stall).await.addr;
        tokio::task::yield_now().await;
        let error = check(gone, Protocol::Http1, "engine:8080", &Health::default()).await.expect_err("nobody listens");
        assert!(matches!(error, CheckError::Connect(_)), "{error}");
    }

    #[tokio::test]
    async fn a_tcp_probe_needs_a_connection_only() {
        assert_eq!(verdict(Manners::Stall, &Health::default()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_probe_sends_the_endpoints_authority_or_the_configured_host() {
        let upstream = Upstream::start(Manners::Status(204)).await;
        check(upstream.addr, Protocol::Http1, "engine:8080", &http()).await.expect("a pass");
        let request = upstream.last_request.lock().expect("the lock").to_lowercase();
        assert!(request.starts_with("get /healthz?deep=1 http/1.1\r\nhost: engine:8080\r\n"), "{request}");
        let kind = ProbeKind::Http { path: "/".into(), host: Some("shop.example".into()), expect: 200..=200 };
        let error = check(upstream.addr, Protocol::Http1, "engine:8080", &Health { kind, ..http() })
            .await
            .expect_err("204 is not 200");
        assert_eq!(error.to_string(), "status 204, expected 200..=200");
        assert!(upstream.last_request.lock().expect("the lock").contains("host: shop.example\r\n"));
    }
}
