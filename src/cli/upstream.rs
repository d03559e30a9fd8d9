//! `weir upstream`: a server that answers every request with its name. A stand-in for a real version of a service in
//! tests, benchmarks, the compose file and `weir demo`; it does not try to be more.
//!
//! `/healthz` is always 200 and never late; `/echo` sends the request back as text. HTTP/1.1 only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use super::screen;
use crate::config::parse_duration;

/// Largest request body that `/echo` sends back.
const ECHO_BYTES_MAX: usize = 1 << 20;

/// Largest answer that can be asked for: 1 GiB is more than any test needs and less than a typing error may cost.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Connections that wait for accept; as the proxy has it.
const BACKLOG: i32 = 4096;

/// Time that requests in flight get after a signal.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  weir upstream --name canary --listen 127.0.0.1:9002 --delay 20ms --error-rate 0.05")]
pub(super) struct Arguments {
    /// The name that it answers with
    #[arg(long, default_value = "upstream", value_parser = header_value)]
    name: String,
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Waits this long before it answers, such as 10ms or 2s
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = duration)]
    delay: Duration,
    /// The status of its answers
    #[arg(long, default_value_t = 200, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// The part of its answers that are 500 instead, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "RATIO", value_parser = ratio)]
    error_rate: f64,
    /// The size of its answers, instead of one line with the name
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(0..=BODY_BYTES_MAX))]
    body_bytes: Option<u64>,
    /// Threads that serve
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
}

/// What answers.
#[derive(Debug)]
pub(super) struct Upstream {
    name: HeaderValue,
    body: Bytes,
    status: StatusCode,
    delay: Duration,
    /// An answer is an error when a random 64-bit number is below this.
    errors_below: u64,
    /// Requests answered, those of health checks left out.
    served: AtomicU64,
}

pub(super) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let upstream = Arc::new(Upstream::new(arguments));
    let first = listen(arguments.listen, arguments.workers > 1).map_err(|error| cannot_listen(arguments, error))?;
    let address = first.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let mut threads = Vec::new();
    for _ in 1..arguments.workers {
        let listener = listen(address, true).map_err(|error| cannot_listen(arguments, error))?;
        let (upstream, stopped) = (upstream.clone(), stopped.clone());
        threads.push(std::thread::spawn(move || serve_here(upstream, listener, stopped)));
    }
    screen::print(&format!("{} listens on {address}\n", arguments.name))?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let serving = tokio::spawn(serve(upstream, TcpListener::from_std(first)?, stopped));
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        tokio::select! {
            _ = serving => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::io::Result::Ok(())
    })?;
    drop(stop);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn cannot_listen(arguments: &Arguments, error: std::io::Error) -> Failure {
    Failure::Failed(anyhow::Error::new(error).context(format!("cannot listen on {}", arguments.listen)))
}

/// A listening socket. `shared`: several threads listen on the same address.
pub(super) fn listen(address: SocketAddr, shared: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Serves on the calling thread until it is told to stop.
pub(super) fn serve_here(
    upstream: Arc<Upstream>,
    listener: std::net::TcpListener,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    runtime()?.block_on(async { serve(upstream, TcpListener::from_std(listener)?, stopped).await })
}

async fn serve(
    upstream: Arc<Upstream>,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(upstream.clone(), stream, stopped.clone()));
            }
            // Out of descriptors: wait until some are free again.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, rest).await;
    Ok(())
}

async fn connection(upstream: Arc<Upstream>, stream: tokio::net::TcpStream, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(upstream.answer(request).await) }
    });
    let mut http = http1::Builder::new();
    let mut connection = pin!(http.pipeline_flush(true).serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    // What a client breaks is its own affair.
    let _ = connection.await;
}

// === impl Upstream ===

impl Upstream {
    fn new(arguments: &Arguments) -> Self {
        let size = arguments.body_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Self {
            body: size.map_or_else(|| Bytes::from(format!("{}\n", arguments.name)), |size| vec![b'x'; size].into()),
            status: StatusCode::from_u16(arguments.status).unwrap_or(StatusCode::OK),
            delay: arguments.delay,
            // The cast saturates, so that a rate of 1 is every answer.
            errors_below: (arguments.error_rate * u64::MAX as f64) as u64,
            ..Self::named(HeaderValue::from_str(&arguments.name).unwrap_or(HeaderValue::from_static("upstream")))
        }
    }

    /// One that answers 200 with its name.
    pub(super) fn named(name: HeaderValue) -> Self {
        let body = Bytes::from([name.as_bytes(), b"\n"].concat());
        Self { name, body, status: StatusCode::OK, delay: Duration::ZERO, errors_below: 0, served: AtomicU64::new(0) }
    }

    /// The same, with this delay and this part of its answers 500 instead.
    pub(super) fn misbehaving(self, delay: Duration, error_rate: f64) -> Self {
        Self { delay, errors_below: (error_rate * u64::MAX as f64) as u64, ..self }
    }

    /// Requests answered so far, those of health checks left out.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/healthz" {
            return self.response(StatusCode::OK, Bytes::from_static(b"ok\n"));
        }
        // Counted when it arrives, which is when the split was decided.
        let count = self.served.fetch_add(1, Ordering::Relaxed);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        if self.errors_below > 0 && mixed(count) < self.errors_below {
            return self.response(StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(b"error\n"));
        }
        if request.uri().path() == "/echo" {
            return match echo(request).await {
                Some(text) => self.response(self.status, text),
                None => self.response(StatusCode::PAYLOAD_TOO_LARGE, Bytes::from_static(b"too large\n")),
            };
        }
        self.response(self.status, self.body.clone())
    }

    fn response(&self, status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("x-upstream", self.name.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    }
}

/// The request as text: its line, its fields, its body. None when the body is too large or was cut short.
async fn echo(request: Request<Incoming>) -> Option<Bytes> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(&Limited::new(body, ECHO_BYTES_MAX).collect().await.ok()?.to_bytes());
    Some(text.into())
}

/// The output of splitmix64 for a counter: errors are spread as if at random and the same in every run.
fn mixed(count: u64) -> u64 {
    let mut z = count.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Reads a time as the configuration writes it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time such as 250ms, 2s or 1m".into())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "write a number from 0 to 1, such as 0.05".into())
}

fn header_value(text: &str) -> Result<String, String> {
    let legal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if legal { Ok(text.to_owned()) } else { Err("write visible ASCII characters without blanks".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "5", "ms", "-1s", "1y"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_rate_is_kept_over_a_thousand_answers() {
        let below = (0.1 * u64::MAX as f64) as u64;
        let errors = (0..1000).filter(|count| mixed(*count) < below).count();
        assert!((70..=130).contains(&errors), "{errors}");
    }
}
