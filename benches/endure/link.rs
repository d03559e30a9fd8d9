//! Connections of clients: over TCP or TLS, with one of the two protocols.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::ledger::Failure;

/// What a link speaks, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

/// Where weir listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
}

/// The name in certificates and in `Host`.
pub(crate) const NAME: &str = "soak.test";

/// A body that is there, or comes in pieces.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<Frame<Bytes>>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces(_) => http_body::SizeHint::default(),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) enum Link {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Link {
    pub(crate) async fn open(way: Way, to: Addresses, tls: &Arc<rustls::ClientConfig>) -> Result<Self, Failure> {
        match way {
            Way::Http1 | Way::Http2 => Self::over(TcpStream::connect(to.plain).await?, way == Way::Http2).await,
            Way::Http1Tls | Way::Http2Tls => {
                let mut config = (**tls).clone();
                config.alpn_protocols = vec![if way == Way::Http2Tls { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
                let name = ServerName::try_from(NAME)?;
                let stream = TcpStream::connect(to.secure).await?;
                let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
                Self::over(stream, way == Way::Http2Tls).await
            }
        }
    }

    async fn over<S>(stream: S, two: bool) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(Self::Two(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(Self::One(sender))
    }

    /// Another user of the same connection, where it can have several.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two(sender) => Some(Self::Two(sender.clone())),
        }
    }

    /// Whether a request can be sent; not once the peer has said that it closes.
    pub(crate) async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends it. None: it was not looked at, by what the protocol says, and may be sent again elsewhere.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Option<Result<Response<Incoming>, Failure>> {
        let answer = match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Two(sender) => sender.send_request(request).await,
        };
        match answer {
            Err(error) if error.is_canceled() || is_unseen(&error) => None,
            answer => Some(answer.map_err(Failure::from)),
        }
    }
}

/// Whether a stream stands above the last one of a GOAWAY, or was refused (RFC 9113 §6.8, §8.7).
fn is_unseen(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return refused || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR));
        }
        source = error.source();
    }
    false
}
