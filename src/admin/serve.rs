//! Accepts admin connections: HTTP/1.1, over TLS where that is wanted, a bounded number of them, bounded heads and head
//! times, a graceful end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::routes::{self, Admin};
use crate::tls::site::Site;

/// Connections at once: a few people, a scraper or two, probes. More wait in the accept queue of the system.
const CONNECTIONS_MAX: usize = 64;

/// Time for a request head, and so the longest idle time of a kept connection. Shorter under test, where it is waited
/// for.
const HEAD_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(10) };

/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most header fields of a request.
const FIELDS_MAX: usize = 64;

/// How long requests in flight may take to end once the API stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after accept failed (no descriptors left), so that it does not spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Descriptors held back, so that an operator gets in when clients have taken all others.
const RESERVE: usize = 4;

/// Descriptors that do nothing but be there.
#[derive(Debug, Default)]
struct Reserve(Vec<std::fs::File>);

impl Reserve {
    /// Fills it up as far as there are descriptors.
    fn fill(&mut self) {
        while self.0.len() < RESERVE {
            let Ok(file) = std::fs::File::open("/dev/null") else { return };
            self.0.push(file);
        }
    }

    /// Frees one for a connection; false when none is left.
    fn spend(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves the admin API on `listener` until `stop` ends, then lets requests in flight finish for a few seconds.
///
/// `site`: what it speaks TLS from; none: plain HTTP.
///
/// `stop` should end after the data plane has drained, so that `/readyz` can say 503 meanwhile. Needs a tokio runtime
/// with I/O and time. Fails only when the listener cannot be used at all.
pub async fn serve(
    listener: std::net::TcpListener,
    site: Option<Arc<Site>>,
    admin: Arc<Admin>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let router = routes::router(&admin);
    let (stopping, stopped) = watch::channel(());
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    let mut reserve = Reserve::default();
    reserve.fill();
    loop {
        while connections.try_join_next().is_some() {
            reserve.fill();
        }
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (stream, peer, permit))
        };
        let (stream, peer, permit) = tokio::select! {
            // The end goes first, so that a flood of connections cannot delay it.
            biased;
            () = &mut stop => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) && reserve.spend() => continue,
                Err(error) => {
                    tracing::warn!(%error, "the admin API cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        let (router, stopped, site) = (router.clone(), stopped.clone(), site.clone());
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            match site {
                None => connection(stream, peer, router, stopped).await,
                Some(site) => {
                    if let Some(stream) = shake_hands(stream, peer, &site).await {
                        connection(stream, peer, router, stopped).await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    drop(stopping);
    let _ = tokio::time::timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    Ok(())
}

/// The handshake; it has as long as a request's head.
async fn shake_hands(stream: TcpStream, peer: SocketAddr, site: &Site) -> Option<TlsStream<TcpStream>> {
    let mut config = ServerConfig::clone(&site.config());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let shaken = TlsAcceptor::from(Arc::new(config)).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, shaken).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::info!(client = %peer, %error, "a TLS handshake with the admin API failed");
            None
        }
        Err(_) => None,
    }
}

async fn connection<S>(stream: S, peer: SocketAddr, router: axum::Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What a client breaks off is its own affair.
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
