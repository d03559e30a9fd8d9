//! The beginning of a connection from a balancer that speaks the PROXY protocol: who is at its other end. It comes
//! before TLS. Exactly the header is read, in bounded time and memory; what follows stays for whoever serves.

mod checksum;
pub mod header;

use std::net::IpAddr;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::header::{Garbled, V2_BYTES_MAX, parse};
use crate::proxy::arrival::connection::DRAIN_IDLE;
use crate::proxy::worker::Worker;
use crate::telemetry::meter::Unannounced;

/// Waits for the header on a connection from `peer`, which must send one; whom it speaks for, or none when the
/// connection is to be closed without a word.
pub(super) async fn learn(worker: &Worker, stream: &mut TcpStream, peer: IpAddr) -> Option<IpAddr> {
    let mut timer = worker.timers.borrow_mut().take();
    let patience = worker.snapshot().limits.header_timeout;
    let read = Box::pin(read(worker, stream));
    let fault = match timer.limit(Instant::now() + patience, read).await {
        Ok(Ok(source)) => {
            worker.timers.borrow_mut().put(timer);
            return Some(source.unwrap_or(peer));
        }
        Ok(Err(fault)) => fault,
        Err(_) => Fault::Late,
    };
    worker.timers.borrow_mut().put(timer);
    let (kind, why) = match fault {
        Fault::Gone => (Unannounced::Gone, "it left before the header was whole".to_owned()),
        Fault::Late => (Unannounced::Timeout, "the header did not come in time".to_owned()),
        Fault::Garbled(garbled) => (Unannounced::Malformed, garbled.to_string()),
    };
    worker.shard().unannounced[kind as usize].add(1);
    tracing::debug!(%peer, why, "a connection without its PROXY protocol header was closed");
    None
}

/// Why there is no header.
enum Fault {
    Gone,
    Late,
    Garbled(Garbled),
}

/// Reads exactly the header: what may be the client's is only looked at.
async fn read(worker: &Worker, stream: &mut TcpStream) -> Result<Option<IpAddr>, Fault> {
    let mut bytes = vec![0; V2_BYTES_MAX];
    let mut have = 0;
    let drained = async {
        while worker.draining().is_none() {
            worker.drain.notified().await;
        }
        tokio::time::sleep(DRAIN_IDLE).await;
    };
    tokio::pin!(drained);
    loop {
        let seen = tokio::select! {
            // A balancer that has sent something is served, also at the end.
            biased;
            seen = stream.peek(&mut bytes[have..]) => seen.map_err(|_| Fault::Gone)?,
            () = &mut drained => return Err(Fault::Late),
        };
        if seen == 0 {
            return Err(Fault::Gone);
        }
        let announced = parse(&bytes[..have + seen]).map_err(Fault::Garbled)?;
        // As long as it is not whole, everything is of the header.
        let end = announced.map_or(have + seen, |announced| announced.bytes);
        stream.read_exact(&mut bytes[have..end]).await.map_err(|_| Fault::Gone)?;
        have = end;
        if let Some(announced) = announced {
            return Ok(announced.source);
        }
    }
}
