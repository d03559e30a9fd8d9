//! What follows a 101: bytes both ways until either side is done.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::client::Client;
use super::exchange::Conn;
use super::link::Link;
use super::wire::Wire;

/// Bytes copied at once, each way.
const BUFFER_BYTES: usize = 16 * 1024;

/// Carries the upgraded connection; the bytes that went to the client. `reset` tells whether the endpoint reset it,
/// rather than closing it or the client going away. It has no idle limit yet: TCP keep-alive finds peers that vanished.
pub(crate) async fn run<L: Link, W: Wire>(client: &mut Client<'_, L>, conn: &mut Conn<W>, reset: &mut bool) -> u64 {
    keep_alive(client.stream.socket());
    if let Some(stream) = conn.stream.tcp() {
        keep_alive(stream);
    }
    let early_up = client.unused().to_vec();
    let early_down = std::mem::take(&mut conn.buf);
    let mut endpoint = Watched { stream: &mut conn.stream, reset };
    if endpoint.write_all(&early_up).await.is_err() || client.stream.write_all(&early_down).await.is_err() {
        return 0;
    }
    let copied = tokio::io::copy_bidirectional_with_sizes(client.stream, &mut endpoint, BUFFER_BYTES, BUFFER_BYTES);
    let (up, down) = copied.await.unwrap_or_default();
    client.bytes_in += up + early_up.len() as u64;
    down + early_down.len() as u64
}

/// The endpoint's side, and whether reading from it failed. That writing does says nothing: it may have closed in order
/// while the client was still sending.
struct Watched<'a, W> {
    stream: &'a mut W,
    reset: &'a mut bool,
}

// === impl Watched ===

impl<W: Wire> AsyncRead for Watched<'_, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(cx, buf);
        *self.reset |= matches!(read, Poll::Ready(Err(_)));
        read
    }
}

impl<W: Wire> AsyncWrite for Watched<'_, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Probes a silent peer after a minute, so that one that has vanished does not hold the tunnel for ever.
fn keep_alive(stream: &tokio::net::TcpStream) {
    let policy = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&policy);
}
