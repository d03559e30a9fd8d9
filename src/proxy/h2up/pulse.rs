//! The question whether the peer of a connection is there, asked by PING (RFC 9113 §6.7). What follows from the answer
//! is decided where the connection is driven.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::proxy::http2::client::Connection;
use crate::proxy::worker::timer::Timer;

/// How long a peer that is asked whether it is there may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The question whether the peer is there.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    pub(super) asked: Option<Instant>,
}

impl Pulse {
    /// Asks. Ready: it has answered, or has not (and `asked` still stands).
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<S>,
        timer: &mut Timer,
    ) -> Poll<()> {
        let asked = match self.asked {
            Some(asked) => asked,
            None => {
                let asked = *self.asked.insert(Instant::now());
                if !connection.send_ping() {
                    return Poll::Ready(());
                }
                // It is written when the connection is polled.
                cx.waker().wake_by_ref();
                asked
            }
        };
        match connection.poll_pong(cx) {
            Poll::Ready(Ok(())) => {
                self.asked = None;
                Poll::Ready(())
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Pending => timer.poll_elapsed(cx, asked + PING_TIMEOUT),
        }
    }
}
