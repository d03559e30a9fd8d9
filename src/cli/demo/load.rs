//! The demo's own load: a few keep-alive connections and a few hundred requests a second, so that a shift can be
//! seen and no machine is troubled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Connections.
const CONNECTIONS: u32 = 8;

/// Requests a second over all connections, when nobody says otherwise.
pub(super) const PER_SECOND: u32 = 200;

/// Time for one request; a proxy on the same machine needs a thousandth.
const PATIENCE: Duration = Duration::from_secs(5);

/// A load that runs.
#[derive(Debug)]
pub(super) struct Load {
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
}

// === impl Load ===

impl Load {
    /// Starts to send so many requests a second to `address`, from a thread of its own.
    pub(super) fn start(address: SocketAddr, per_second: u32) -> Self {
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let thread = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let pause = Duration::from_secs(1) * CONNECTIONS / per_second.max(1);
                let client = |_| tokio::spawn(send(address, pause, shared.clone(), stopped.clone()));
                for client in (0..CONNECTIONS).map(client).collect::<Vec<_>>() {
                    let _ = client.await;
                }
            });
        });
        Self { counts, stop, thread }
    }

    /// Requests so far that were not answered with a success.
    pub(super) fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Lets the requests in flight finish; how many were sent and how many failed.
    pub(super) fn stop(self) -> (u64, u64) {
        self.stop.send_replace(true);
        let _ = self.thread.join();
        (self.counts.sent.load(Ordering::Relaxed), self.counts.failed.load(Ordering::Relaxed))
    }
}

/// One connection's part of the load.
async fn send(address: SocketAddr, pause: Duration, counts: Arc<Counts>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sender = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        counts.sent.fetch_add(1, Ordering::Relaxed);
        if !matches!(timeout(PATIENCE, one(address, &mut sender)).await, Ok(Some(()))) {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            sender = None;
        }
    }
}

/// One request on the connection that is there, or on a new one.
async fn one(address: SocketAddr, kept: &mut Option<SendRequest<Empty<Bytes>>>) -> Option<()> {
    let mut sender = match ready(kept.take()).await {
        Some(sender) => sender,
        None => connect(address).await?,
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = "/".parse().ok()?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(&address.to_string()).ok()?);
    let response = sender.send_request(request).await.ok()?;
    let success = response.status().is_success();
    response.into_body().collect().await.ok()?;
    *kept = Some(sender);
    success.then_some(())
}

/// The connection, unless the other side closed it meanwhile.
async fn ready(kept: Option<SendRequest<Empty<Bytes>>>) -> Option<SendRequest<Empty<Bytes>>> {
    let mut sender = kept?;
    sender.ready().await.ok().map(|()| sender)
}

async fn connect(address: SocketAddr) -> Option<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}
