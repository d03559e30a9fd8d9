//! One probe of one endpoint over the wire: a connection, or a request and its status.
//!
//! It has a connection of its own, so that what it proves holds for a new connection too. The body is not read, unless
//! it must show who answers.

use std::io;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::check_h2;
use super::endpoint::Endpoint;
use super::preface;
use crate::model::{Address, Health, IDENTITY_BODY_BYTES_MAX, Identity, ProbeKind, Protocol, ProxyVersion};
use crate::telemetry::uplink::UplinkFault;
use crate::tls::pool::PoolTls;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// No connection.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// The probe could not be made here: descriptors or ports ran out. Says nothing about the endpoint.
    #[error("the probe could not be made: {0}")]
    Ours(io::Error),
    /// The TLS handshake failed.
    #[error("{}: {error}", fault.as_str())]
    Tls {
        /// In a word.
        fault: UplinkFault,
        /// In its own words.
        error: io::Error,
    },
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
    /// The answer is healthy, but of somebody else than expected: the address may be another program's by now.
    #[error("it is somebody else: {what}")]
    Stranger {
        /// What was expected and what came.
        what: String,
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

/// Who is probed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whom<'a> {
    /// The pool that it is to be of.
    pub(crate) pool: &'a str,
    /// Where.
    pub(crate) addr: &'a Address,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The host of its origin, whose name its certificate is for.
    pub(crate) host: &'a str,
    /// The `Host` when none is configured.
    pub(crate) authority: &'a str,
    /// What it is spoken to with, where it speaks TLS.
    pub(crate) tls: Option<&'a PoolTls>,
    /// How it is told that the connection is weir's own; none: not at all.
    pub(crate) proxy: Option<ProxyVersion>,
}

// === impl Whom ===

impl<'a> Whom<'a> {
    pub(crate) fn of(endpoint: &'a Endpoint, tls: Option<&'a PoolTls>, proxy: Option<ProxyVersion>) -> Self {
        let origin = &endpoint.id.origin;
        let (protocol, host, authority) = (origin.protocol, &*origin.host, &*endpoint.authority);
        Self { pool: &endpoint.id.pool, addr: &endpoint.id.addr, protocol, host, authority, tls, proxy }
    }
}

/// Probes once, within the timeout of `health`, over what requests go over: TLS where the endpoint speaks it.
pub(crate) async fn check(whom: &Whom<'_>, health: &Health) -> Result<(), CheckError> {
    let probe = async {
        let addr = match whom.addr {
            Address::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.map_err(connect_error)?;
                introduce(&mut stream, whom.proxy).await?;
                return ask(stream, false, whom, health).await;
            }
            Address::Ip(addr) => *addr,
        };
        let mut stream = TcpStream::connect(addr).await.map_err(connect_error)?;
        introduce(&mut stream, whom.proxy).await?;
        let Some(tls) = whom.tls.filter(|_| whom.protocol == Protocol::Https) else {
            return ask(stream, whom.protocol == Protocol::H2c, whom, health).await;
        };
        let bad_name = |error| CheckError::Tls { fault: UplinkFault::Name, error: io::Error::other(error) };
        let name = tls.server_name(whom.host).map_err(bad_name)?;
        // Nobody speaks HTTP/2 on a connection that is one client's.
        let terms = tls.terms();
        let config = if whom.proxy.is_some() { &terms.probes.http1 } else { &terms.probes.any };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(handshake_error)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        ask(stream, http2, whom, health).await
    };
    let timed = tokio::time::timeout(health.timeout, probe).await;
    timed.unwrap_or(Err(CheckError::Timeout(health.timeout)))
}

/// Says that the connection is weir's own, where that has to be said.
async fn introduce<S: AsyncWrite + Unpin>(stream: &mut S, proxy: Option<ProxyVersion>) -> Result<(), CheckError> {
    let Some(version) = proxy else { return Ok(()) };
    stream.write_all(&preface::header(version, None)).await.map_err(CheckError::Connect)
}

/// Asks over a connection, of which it is known whether HTTP/2 is spoken.
async fn ask<S>(stream: S, http2: bool, whom: &Whom<'_>, health: &Health) -> Result<(), CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let site = |host: &Option<String>| check_h2::Site {
        scheme: if whom.protocol == Protocol::Https { "https" } else { "http" },
        host: host.clone().unwrap_or_else(|| whom.authority.to_owned()),
    };
    match &health.kind {
        ProbeKind::Tcp => Ok(()),
        ProbeKind::Http { path, host, expect } => {
            let body_max = if health.identity.body.is_some() { IDENTITY_BODY_BYTES_MAX } else { 0 };
            let answer = match http2 {
                true => check_h2::get(stream, &site(host), path, body_max).await?,
                false => get(stream, path, &site(host).host, body_max).await?,
            };
            match answer.status {
                got if expect.contains(&got) => answer.is_of(&health.identity.for_pool(whom.pool)),
                got => Err(CheckError::Status { got, expected: expect.clone() }),
            }
        }
        ProbeKind::Grpc { .. } if whom.protocol == Protocol::Https && !http2 => {
            let error = io::Error::other("the endpoint did not choose HTTP/2 (ALPN), which gRPC needs");
            Err(CheckError::Tls { fault: UplinkFault::Unlike, error })
        }
        ProbeKind::Grpc { service, host } => check_h2::grpc(stream, &site(host), service).await,
    }
}

/// What came of a request: no more of its body than was asked for.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

// === impl Answer ===

impl Answer {
    /// Whether it is of whom it must be.
    fn is_of(&self, identity: &Identity) -> Result<(), CheckError> {
        let values = |name: &str| self.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        if let Some((pinned, was)) = identity.stranger(values) {
            let was = was.map_or_else(|| "without that field".into(), |was| format!("with \"{was}\""));
            return Err(CheckError::Stranger { what: format!("it answers {was}, expected {pinned}") });
        }
        match identity.is_in(&self.body) {
            true => Ok(()),
            false => Err(CheckError::Stranger { what: "expect_body is not in its answer".into() }),
        }
    }
}

/// The answer to `GET path`, with so much of its body at most.
async fn get<S>(stream: S, path: &str, host: &str, body_max: usize) -> Result<Answer, CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", USER_AGENT)
        .header("accept", "*/*")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(CheckError::Request)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CheckError::Answer)?;
    let exchange = async {
        let (head, mut incoming) = sender.send_request(request).await.map_err(CheckError::Answer)?.into_parts();
        let mut body = Vec::new();
        while body.len() < body_max {
            let Some(frame) = incoming.frame().await else { break };
            let Ok(piece) = frame.map_err(CheckError::Answer)?.into_data() else { break };
            body.extend_from_slice(&piece[..piece.len().min(body_max - body.len())]);
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    let (mut exchange, connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        biased; // An answer that is there counts, also when the connection has ended with it.
        answer = &mut exchange => answer,
        _ended = connection => exchange.await,
    }
}

fn handshake_error(error: io::Error) -> CheckError {
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).map(UplinkFault::of);
    CheckError::Tls { fault: told.unwrap_or(UplinkFault::Closed), error }
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
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::upstream::testing::{Manners, Upstream};

    fn http() -> Health {
        let kind = ProbeKind::Http { path: "/healthz?deep=1".into(), host: None, expect: 200..=399 };
        Health { kind, timeout: Duration::from_millis(300), ..Health::default() }
    }

    async fn plain(addr: SocketAddr, health: &Health) -> Result<(), CheckError> {
        let (addr, protocol) = (addr.into(), Protocol::Http1);
        let (host, authority) = ("engine", "engine:8080");
        let whom = Whom { pool: "canary", addr: &addr, protocol, host, authority, tls: None, proxy: None };
        check(&whom, health).await
    }

    async fn verdict(manners: Manners, health: &Health) -> Result<(), String> {
        let upstream = Upstream::start(manners).await;
        plain(upstream.addr, health).await.map_err(|error| error.to_string())
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
    async fn an_answer_of_somebody_else_is_a_strangers_whatever_its_status() {
        use crate::model::Pinned;
        let with = |name: &str, value: &str, body: Option<&str>| Health {
            identity: Identity { headers: vec![Pinned::new(name, value)], body: body.map(Into::into) },
            ..http()
        };
        // The answers of this upstream say `content-length: 2` and `ok`.
        let ok = |health| async move { verdict(Manners::Status(200), &health).await };
        assert_eq!(ok(with("Content-Length", "2", Some("ok"))).await, Ok(()));
        for (health, told) in [
            (
                with("x-pool", "{pool}", None),
                "it is somebody else: it answers without that field, expected x-pool: canary",
            ),
            (
                with("content-length", "1*", None),
                "it is somebody else: it answers with \"2\", expected content-length: 1*",
            ),
            (with("content-length", "2", Some("canary")), "it is somebody else: expect_body is not in its answer"),
        ] {
            assert_eq!(ok(health).await, Err(told.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_refused_connection_fails_and_names_the_connect() {
        let gone = Upstream::start(Manners::Stall).await.addr;
        tokio::task::yield_now().await;
        let error = plain(gone, &Health::default()).await.expect_err("nobody listens");
        assert!(matches!(error, CheckError::Connect(_)), "{error}");
    }

    #[tokio::test]
    async fn a_tcp_probe_needs_a_connection_only() {
        assert_eq!(verdict(Manners::Stall, &Health::default()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_probe_sends_the_endpoints_authority_or_the_configured_host() {
        let upstream = Upstream::start(Manners::Status(204)).await;
        plain(upstream.addr, &http()).await.expect("a pass");
        let request = upstream.last_request.lock().expect("the lock").to_lowercase();
        assert!(request.starts_with("get /healthz?deep=1 http/1.1\r\nhost: engine:8080\r\n"), "{request}");
        let kind = ProbeKind::Http { path: "/".into(), host: Some("shop.example".into()), expect: 200..=200 };
        let error = plain(upstream.addr, &Health { kind, ..http() }).await.expect_err("204 is not 200");
        assert_eq!(error.to_string(), "status 204, expected 200..=200");
        assert!(upstream.last_request.lock().expect("the lock").contains("host: shop.example\r\n"));
    }
}
