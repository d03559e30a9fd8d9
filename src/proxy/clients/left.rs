//! What is left of an answer that was handed over whole, and that its client has yet to take: it has its time like any
//! piece before it. Who waits for it holds nothing else of the request. Answers under way are for
//! [`streamed`](super::streamed) and `h2up::to_http2`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::stream::{Bundle, Stream};
use crate::proxy::http2::error::Reason;
use crate::proxy::http2::handles::Outflow;
use crate::proxy::http2::server::Respond;

/// How long a client may take for an answer of which no service says it: as long as nginx's `send_timeout`.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is left.
pub(crate) struct Left {
    /// Its connection is not idle.
    bundle: Rc<Bundle>,
    out: Outflow,
    /// How long it may take.
    idle: Duration,
}

// === impl Stream ===

impl Stream {
    /// What its client has yet to take, once it was answered whole; mostly nothing.
    #[inline]
    pub(crate) fn left(&self, respond: &Respond) -> Option<Left> {
        respond.left().and_then(|out| self.left_behind(out))
    }

    /// The same where its way is at hand.
    #[inline]
    pub(crate) fn left_behind(&self, out: Outflow) -> Option<Left> {
        if !out.is_ending() {
            return None;
        }
        let service = self.decision.map(|decision| &self.snapshot.services[decision.service]);
        let idle = service.map_or(PATIENCE, |service| service.spec.timeouts.idle);
        Some(Left { bundle: Rc::clone(&self.bundle), out, idle })
    }
}

// === impl Left ===

impl Left {
    /// Waits until the client has taken it; one that takes too long is told that there is no more.
    pub(crate) async fn see_off(self) {
        let Self { bundle, mut out, idle } = self;
        let mut timer = bundle.worker.timers.borrow_mut().take();
        // A window that is opened byte by byte is no room before all that waits has gone through it.
        let sent = std::future::poll_fn(|cx| out.poll_sent(cx));
        if timer.limit(Instant::now() + idle, sent).await.is_err() {
            out.send_reset(Reason::CANCEL);
        }
        bundle.worker.timers.borrow_mut().put(timer);
    }
}
