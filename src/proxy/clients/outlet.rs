//! A client's stream of HTTP/2 as the way out of a body, wherever that comes from: waits for room in it, and its end.
//! What the body is, and who is told of it, is its own matter ([`streamed`](super::streamed),
//! [`to_http2`](crate::proxy::h2up::to_http2)).

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::proxy::h1::trailers;
use crate::proxy::http2::error::Reason;
use crate::proxy::http2::handles::Outflow;
use crate::proxy::worker::timer::Timer;

/// Waits until the client takes more, `patience` at most; false when it does not, or is gone. `beside` goes on
/// meanwhile, and ends the wait when it is ready. `moved` becomes the moment at which a wait was over: the endpoint
/// has not kept the client waiting.
#[inline]
pub(in crate::proxy) async fn has_room(
    out: &mut Outflow,
    timer: &mut Timer,
    patience: Duration,
    moved: &mut Instant,
    mut beside: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> bool {
    if out.has_room() {
        return true;
    }
    // A window that is opened byte by byte is no room before all that waits has gone through it.
    let deadline = Instant::now() + patience;
    let room = std::future::poll_fn(|cx| match beside(cx) {
        Poll::Ready(()) => Poll::Ready(false),
        Poll::Pending => out.poll_room(cx).map(|room| room.is_ok()),
    });
    match timer.limit(deadline, room).await {
        Ok(true) => *moved = Instant::now(),
        Ok(false) => return false,
        Err(_) => {
            out.send_reset(Reason::CANCEL);
            return false;
        }
    }
    true
}

/// Sends the end, with trailers as lines.
pub(in crate::proxy) fn end(out: &mut Outflow, lines: &[u8]) {
    // A client that is gone needs no end.
    let _ = match lines.is_empty() {
        true => out.send_data(Bytes::new(), true),
        false => out.send_trailers(trailers::fields(lines)),
    };
}
