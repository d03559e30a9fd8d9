//! One probe of one endpoint over the wire: a connection, or a request and its status.
//!
//! It has a connection of its own, so that what it proves holds for a new connection too. The body is not read.

use std::io;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::check_h2;
use super::endpoint::Endpoint;
use super::preface;
use crate::model::{Address, Health, ProbeKind, Protocol, ProxyVersion};
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
        Self { addr: &endpoint.id.addr, protocol, host, authority, tls, proxy }
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
            let got = match http2 {
                true => check_h2::status(stream, &site(host), path).await?,
                false => status(stream, path, &site(host).host).await?,
            };
            match got {
                got if expect.contains(&got) => Ok(()),
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

async fn status<S>(stream: S, path: &str, host: &str) -> Result<u16, CheckError>
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
    let (mut answer, connection) = (pin!(sender.send_request(request)), pin!(connection));
    let answer = tokio::select! {
        biased; // An answer that is there counts, also when the connection has ended with it.
        answer = &mut answer => answer,
        _ended = connection => answer.await,
    };
    Ok(answer.map_err(CheckError::Answer)?.status().as_u16())
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
        check(&Whom { addr: &addr, protocol, host: "engine", authority: "engine:8080", tls: None, proxy: None }, health)
            .await
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
