//! What follows a 101: bytes both ways until either side is done.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::client::Client;
use super::exchange::Conn;

/// Bytes copied at once, each way.
const BUFFER_BYTES: usize = 16 * 1024;

/// Carries the upgraded connection; the bytes that went to the client. It has no idle limit yet: TCP keep-alive finds
/// peers that vanished.
pub(crate) async fn run(client: &mut Client<'_>, conn: &mut Conn) -> u64 {
    keep_alive(client.stream);
    keep_alive(&conn.stream);
    let early_up = client.unused().to_vec();
    let early_down = std::mem::take(&mut conn.buf);
    if conn.stream.write_all(&early_up).await.is_err() || client.stream.write_all(&early_down).await.is_err() {
        return 0;
    }
    let copied = tokio::io::copy_bidirectional_with_sizes(client.stream, &mut conn.stream, BUFFER_BYTES, BUFFER_BYTES);
    let (up, down) = copied.await.unwrap_or_default();
    client.bytes_in += up + early_up.len() as u64;
    down + early_down.len() as u64
}

/// Probes a silent peer after a minute, so that one that has vanished does not hold the tunnel for ever.
fn keep_alive(stream: &tokio::net::TcpStream) {
    let policy = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&policy);
}
