//! The beginning of a connection on a listener that speaks TLS: wait holding next to nothing, shake hands in bounded
//! time, and go on as any connection. What fails is counted by kind, and logged for who looks for it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use super::challenge;
use super::connection::{DRAIN_IDLE, linger, run, unless_it_gives_way};
use super::link::Link;
use super::secure::Secure;
use super::via::{TlsFacts, Via};
use crate::proxy::clients::h2;
use crate::proxy::clients::serve::{send, tell_unread};
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::proxy::worker::timer::Timer;
use crate::proxy::worker::visitor::offend;
use crate::telemetry::handshake::HandshakeFault;
use crate::throttle::visitors::Offence;
use crate::tls::site::Site;

/// How a handshake is counted that gave way to new clients: it took too long for the company that it had.
const CROWDED_OUT: HandshakeFault = HandshakeFault::Timeout;

/// Serves one client connection until its end.
pub(crate) async fn begin(worker: Rc<Worker>, site: Arc<Site>, socket: TcpStream, mut via: Via) {
    let mut timer = worker.timers.borrow_mut().take();
    let patience = worker.snapshot().limits.header_timeout;
    // Whoever opens a connection and says nothing costs a socket and a timer, and is told nothing.
    let began = Instant::now();
    let first = unless_it_gives_way(&worker, began, first_byte(&worker, &socket));
    let shaken = match timer.limit(began + patience, async { first.await.unwrap_or(Err(CROWDED_OUT)) }).await {
        Ok(Ok(first)) if is_http(first) => return refuse_plain(&worker, socket, &via, timer).await,
        Ok(Ok(_)) => {
            let shaking = Box::pin(async {
                let tls = challenge::begin(&worker, &socket, &site).await?;
                Secure::accept(&worker, socket, tls).await
            });
            let shaking = unless_it_gives_way(&worker, began, shaking);
            timer.limit(Instant::now() + patience, async { shaking.await.unwrap_or(Err(CROWDED_OUT)) }).await
        }
        Ok(Err(fault)) => Ok(Err(fault)),
        Err(elapsed) => Err(elapsed),
    };
    let fault = match shaken {
        Ok(Ok(mut link)) => {
            if let Some(counts) = worker.shard().handshakes.get(via.listener) {
                counts.done(link.kind());
            }
            worker.timers.borrow_mut().put(timer);
            if link.is_challenge() {
                return link.bid_farewell();
            }
            via.look(&worker, link.socket());
            via.tls = Some(Rc::new(TlsFacts { asks: site.asks_clients(), identity: link.identity() }));
            return match link.wants_http2() {
                true => h2::run(worker, link, Vec::new(), via).await,
                false => run(worker, link, via).await,
            };
        }
        Ok(Err(fault)) => fault,
        Err(_) => HandshakeFault::Timeout,
    };
    tell(&worker, &via, fault);
    worker.timers.borrow_mut().put(timer);
}

/// The first byte that the client sends, which stays to be read.
async fn first_byte(worker: &Worker, socket: &TcpStream) -> Result<u8, HandshakeFault> {
    let drained = async {
        while worker.draining().is_none() {
            worker.drain.notified().await;
        }
        tokio::time::sleep(DRAIN_IDLE).await;
    };
    let mut first = [0];
    tokio::select! {
        // A client that has sent something is served, also at the end.
        biased;
        peeked = socket.peek(&mut first) => match peeked {
            Ok(1) => Ok(first[0]),
            _ => Err(HandshakeFault::Gone),
        },
        () = drained => Err(HandshakeFault::Timeout),
    }
}

/// Counts and logs a handshake that failed.
fn tell(worker: &Worker, via: &Via, fault: HandshakeFault) {
    if let Some(counts) = worker.shard().handshakes.get(via.listener) {
        counts.failed(fault);
    }
    match fault {
        // Whom a certificate of weir's does not please, or who gets none, has done nothing.
        HandshakeFault::Alert | HandshakeFault::NoCertificate => {}
        HandshakeFault::Gone => offend(worker, via, Offence::Nothing),
        HandshakeFault::Timeout
        | HandshakeFault::PlainHttp
        | HandshakeFault::Unlike
        | HandshakeFault::ClientCertificate
        | HandshakeFault::Malformed => offend(worker, via, Offence::Garbage),
    }
    tracing::debug!(client = %via.peer, fault = fault.as_str(), "a TLS handshake failed");
}

/// Answers a client that speaks plain HTTP, in its own language.
async fn refuse_plain(worker: &Worker, mut socket: TcpStream, via: &Via, mut timer: Timer) {
    tell(worker, via, HandshakeFault::PlainHttp);
    let refusal = Refusal::PlainHttp;
    tell_unread(worker, &worker.snapshot(), via, &refusal, Instant::now());
    if send(&mut socket, &refusal, None, false, &mut timer).await {
        linger(&mut socket, &mut timer).await;
    }
    worker.timers.borrow_mut().put(timer);
}

/// Whether a byte begins a request line, or the preface of HTTP/2. A TLS connection begins with 22, a record of kind
/// handshake (RFC 8446 §5.1).
fn is_http(first: u8) -> bool {
    first.is_ascii_uppercase()
}
