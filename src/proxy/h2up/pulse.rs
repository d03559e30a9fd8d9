//! The question whether the peer of a connection is there, asked by PING (RFC 9113 §6.7). What follows from the answer
//! is decided where the connection is driven.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};

use super::super::timer::Timer;

/// How long a peer that is asked whether it is there may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The question whether the peer is there.
pub(super) struct Pulse {
    pub(super) pings: Option<PingPong>,
    pub(super) asked: Option<Instant>,
}

impl Pulse {
    /// Asks. Ready: it has answered, or has not (and `asked` still stands).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Ready(()) };
        let asked = match self.asked {
            Some(asked) => asked,
            None => {
                let asked = *self.asked.insert(Instant::now());
                if pings.send_ping(Ping::opaque()).is_err() {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                asked
            }
        };
        match pings.poll_pong(cx) {
            Poll::Ready(Ok(_)) => {
                self.asked = None;
                Poll::Ready(())
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Pending => timer.poll_elapsed(cx, asked + PING_TIMEOUT),
        }
    }
}
