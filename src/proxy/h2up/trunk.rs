//! One HTTP/2 connection to an endpoint, shared by streams of one worker: who has a place on it, and whether it takes
//! more.
//!
//! A task of its own drives it for as long as somebody holds it ([`super::opening`]). Peers that vanish are found by
//! TCP; whether a peer that let a request time out is there at all is asked by PING, and until it says so it gets no
//! new stream. There are no other PINGs: gRPC servers end a connection for a third one without data in five minutes
//! (gRFC A8).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rustls::ClientConnection;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::opening::{Opening, watch};
use crate::model::Timeouts;
use crate::proxy::arrival::secure::Secure;
use crate::proxy::attempt::lines::Purpose;
use crate::proxy::http2::client::{Answered, Sender, Wait};
use crate::proxy::http2::error::Error;
use crate::proxy::http2::handles::Outflow;
use crate::proxy::http2::head::HeadWriter;
use crate::proxy::worker::Worker;
use crate::tls::pool::{PoolTls, Terms};
use crate::upstream::endpoint::Endpoint;

/// Streams that one connection carries, if the peer allows as many (RFC 9113 §6.5.2 advises against fewer than 100).
pub(crate) const STREAMS_MAX: usize = 128;

/// Why a connection did not come about for want of something in this process.
pub(crate) const NO_ROOM: &str = "no_room";

/// Why a connection is over that takes no more streams.
pub(crate) const RETIRED: &str = "goaway";

/// Why a connection carries no streams for which the endpoint chose HTTP/1.1.
pub(crate) const HTTP1: &str = "http1";

/// How a connection is opened.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) timeouts: Timeouts,
    /// What TLS is spoken with; none: without TLS.
    pub(crate) tls: Option<Arc<PoolTls>>,
    /// What it is for.
    pub(crate) purpose: Purpose,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Trunk {
    /// The terms of its TLS; see [`Terms::number`].
    pub(crate) terms: Option<u64>,
    state: RefCell<State>,
    /// Streams that it carries, and requests that wait for it to open.
    streams: Cell<usize>,
    /// When it was first seen to carry none since it carried some.
    idle_since: Cell<Option<Instant>>,
    /// Told when it is no longer opening.
    settled: Notify,
    /// Whether it is doubted that the peer is there.
    doubted: Cell<bool>,
    /// Wakes its task.
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug)]
enum State {
    Opening,
    /// The peer's SETTINGS have come: with more streams than it allows, all above would be refused.
    Open(Sender),
    /// No more streams begin, and why.
    Over(&'static str),
}

/// A request's place on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    trunk: Rc<Trunk>,
    /// Whether it was open before.
    pub(crate) reused: bool,
    /// Where it waits for a stream of its own, if it has to.
    wait: RefCell<Option<Wait>>,
}

// === impl Trunk ===

impl Trunk {
    /// One that is about to open; its task is started. `link`: what it goes over, if that is there already.
    pub(crate) fn open(
        worker: &Rc<Worker>,
        endpoint: &Arc<Endpoint>,
        dial: Dial,
        terms: Option<Arc<Terms>>,
        link: Option<Secure<ClientConnection>>,
    ) -> Rc<Self> {
        let trunk = Rc::new(Self {
            terms: terms.as_ref().map(|terms| terms.number),
            state: RefCell::new(State::Opening),
            streams: Cell::new(0),
            idle_since: Cell::new(None),
            settled: Notify::new(),
            doubted: Cell::new(false),
            waker: RefCell::new(None),
        });
        let (worker, endpoint, weak) = (Rc::clone(worker), Arc::clone(endpoint), Rc::downgrade(&trunk));
        spawn_local(Box::pin(async move {
            let mut timer = worker.timers.borrow_mut().take();
            let opening = Opening {
                worker: &worker,
                endpoint: &endpoint,
                trunk: &weak,
                timeouts: &dial.timeouts,
                purpose: dial.purpose,
            };
            let why = match (link, dial.tls.as_ref().zip(terms)) {
                (Some(link), _) => {
                    watch(link.tcp());
                    opening.carry(link, &mut timer).await
                }
                (None, Some((tls, terms))) => opening.live_tls(tls, &terms, &mut timer).await,
                (None, None) => opening.live(&mut timer).await,
            };
            worker.timers.borrow_mut().put(timer);
            if let Some(trunk) = weak.upgrade() {
                trunk.end(why);
            }
        }));
        trunk
    }

    /// Whether one more stream may begin now.
    pub(crate) fn has_room(&self) -> bool {
        let most = match &*self.state.borrow() {
            // What the peer allows is not known yet. Who turns out to be too many goes on to another connection.
            State::Opening => STREAMS_MAX,
            State::Open(sender) => allowed(sender),
            State::Over(_) => return false,
        };
        !self.doubted.get() && self.streams.get() < most.min(STREAMS_MAX)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over(_))
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.get()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Since when it carries nothing, as far as has been looked; that is now at the latest.
    pub(crate) fn idle_since(&self, now: Instant) -> Option<Instant> {
        if self.streams.get() > 0 {
            return None;
        }
        let since = self.idle_since.get().unwrap_or(now);
        self.idle_since.set(Some(since));
        Some(since)
    }

    /// A place on it.
    pub(crate) fn place(self: &Rc<Self>) -> Place {
        self.streams.set(self.streams.get() + 1);
        self.idle_since.set(None);
        let reused = matches!(*self.state.borrow(), State::Open(_));
        Place { trunk: Rc::clone(self), reused, wait: RefCell::new(None) }
    }

    /// Whether more streams are placed on it than the peer allows.
    fn is_crowded(&self) -> bool {
        let state = self.state.borrow();
        matches!(&*state, State::Open(sender) if self.streams.get() > allowed(sender))
    }

    /// No more streams begin; those that have begun go on.
    pub(crate) fn end(&self, why: &'static str) {
        *self.state.borrow_mut() = State::Over(why);
        self.settled.notify_waiters();
    }

    /// It is doubted no more.
    pub(super) fn trust(&self) {
        self.doubted.set(false);
    }

    /// Keeps what wakes its task.
    pub(super) fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if kept.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// It is there.
    pub(super) fn settle(&self, sender: Sender) {
        *self.state.borrow_mut() = State::Open(sender);
        self.settled.notify_waiters();
    }
}

// === impl Place ===

impl Place {
    /// Waits until the connection is there; else why it is not.
    pub(crate) async fn settled(&self) -> Result<(), &'static str> {
        loop {
            // Made before the look, so that what is said between the two is heard.
            let settled = self.trunk.settled.notified();
            match &*self.trunk.state.borrow() {
                State::Open(_) => return Ok(()),
                State::Over(why) => return Err(why),
                State::Opening => {}
            }
            settled.await;
        }
    }

    /// Whether the connection is there.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.trunk.state.borrow(), State::Open(_))
    }

    /// Whether the peer takes an extended CONNECT.
    pub(crate) fn takes_websockets(&self) -> bool {
        matches!(&*self.trunk.state.borrow(), State::Open(sender) if sender.is_extended_connect())
    }

    /// Begins a stream; an error when nothing was sent.
    pub(crate) fn send(&self, head: impl FnOnce(&mut HeadWriter<'_>), end: bool) -> Result<(Answered, Outflow), Error> {
        match &mut *self.trunk.state.borrow_mut() {
            State::Open(sender) => sender.send_request(head, end),
            State::Opening | State::Over(_) => Err(Error::User),
        }
    }

    /// Ready when the peer allows one more stream; an error when none will begin.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &*self.trunk.state.borrow() {
            State::Open(sender) => self.wait.borrow_mut().get_or_insert_with(|| sender.wait()).poll(cx),
            State::Opening | State::Over(_) => Poll::Ready(Err(Error::User)),
        }
    }

    /// Whether the peer allows fewer streams than are placed there.
    pub(crate) fn is_crowded(&self) -> bool {
        self.trunk.is_crowded()
    }

    /// It takes no more streams.
    pub(crate) fn retire(&self) {
        self.trunk.end(RETIRED);
    }

    /// A request timed out on it: perhaps nobody is there.
    pub(crate) fn doubt(&self) {
        self.trunk.doubted.set(true);
        if let Some(waker) = self.trunk.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// How many streams the peer allows.
fn allowed(sender: &Sender) -> usize {
    sender.streams_max().unwrap_or(0)
}

impl Drop for Place {
    fn drop(&mut self) {
        self.trunk.streams.set(self.trunk.streams.get().saturating_sub(1));
    }
}

// === impl Dial ===

impl Dial {
    /// The terms of TLS as they are now.
    pub(crate) fn terms(&self) -> Option<Arc<Terms>> {
        self.tls.as_ref().map(|tls| tls.terms())
    }
}
