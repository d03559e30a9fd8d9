//! Who accepts at a listening socket: lets connections in as far as there is room, hands each to the worker with the
//! fewest, and at the end accepts whoever waits still. What is done with a connection is [`listen`](super::listen)'s.
//!
//! Every worker listens on a socket of its own (`SO_REUSEPORT`), which spreads accept without a lock but by a hash that
//! leaves few long-lived connections uneven. So a worker that accepts while another has fewer connections hands the
//! new one over; established connections never move.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::Worker;
use super::crew::{Crew, Handed};
use super::listen::{Phase, announces, place};
use super::visitor::{Guest, TurnedAway, let_in};
use crate::proxy::attempt::exchange::is_exhaustion;
use crate::proxy::bodies::splice::PIPES_MAX;
use crate::throttle::visitors::Visit;

/// A listening socket.
#[derive(Debug)]
pub enum Door {
    /// Of the internet.
    Tcp(StdListener),
    /// A file on this machine.
    Unix(StdUnixListener),
}

/// Who is at the other end of a unix socket: somebody on this machine.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Pause after accept failed for want of descriptors or memory: long enough not to spin, short enough not to be noticed
/// once there are some again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Connections that are accepted, or turned away, before others have their turn: some 100 µs of work.
const AT_ONCE_MAX: u32 = 8;

/// Connections that wait for accept. The system cuts it to `net.core.somaxconn`, 4096 since Linux 5.4.
pub const BACKLOG: u32 = 4096;

/// How long whoever waits at the end waits for room at most: twice what a connection without a request stays open then
/// ([`DRAIN_IDLE`](crate::proxy::arrival::connection::DRAIN_IDLE)). All this time the socket is open for others.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Between two lines about the same want.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Descriptors that are kept for everything but client connections and their endpoint connections.
const DESCRIPTORS_RESERVED: u64 = 40;

/// Accepts on one socket until the end begins, and who waits by then.
pub(super) async fn accept(
    worker: Rc<Worker>,
    crew: Arc<Crew>,
    porter: Porter,
    listener: usize,
    mut phase: watch::Receiver<Phase>,
) {
    let post = Post { worker, crew, porter, listener, descriptors_max: descriptors_max() };
    post.serve(&mut phase).await;
    post.last_call(&phase).await;
}

/// One socket, and for whom it accepts.
struct Post {
    worker: Rc<Worker>,
    crew: Arc<Crew>,
    porter: Porter,
    listener: usize,
    descriptors_max: u64,
}

// === impl Post ===

impl Post {
    /// Accepts until the end begins.
    async fn serve(&self, phase: &mut watch::Receiver<Phase>) {
        let worker = &self.worker;
        let mut complaint: Option<Instant> = None;
        let mut in_a_row = 0;
        while *phase.borrow() == Phase::Serving {
            in_a_row += 1;
            if in_a_row > AT_ONCE_MAX {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
            if self.is_full() {
                // Who waits for nothing gives way to who wants something.
                worker.squeeze();
                tokio::select! {
                    // Draining ends the wait as well as room does.
                    biased;
                    _ = phase.changed() => {}
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
                continue;
            }
            let accepted = tokio::select! {
                // The end is no hurry for whoever waits already.
                biased;
                accepted = self.porter.accept() => accepted,
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let spread = self.crew.workers() > 1;
                    let to = if spread { self.crew.least_loaded(worker.index) } else { worker.index };
                    self.welcome(stream, peer, to);
                }
                Err(error) if is_exhaustion(&error) => {
                    worker.make_room();
                    worker.squeeze();
                    if complaint.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
                        tracing::warn!(%error, "cannot accept; clients wait for descriptors");
                        complaint = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                // The client was gone before it was accepted.
                Err(_) => {}
            }
        }
    }

    /// Accepts who waits now that the end has begun: clients that got through to the system, and would be reset with
    /// the socket. The system itself is asked, since what the event loop knows of the socket may be older than they
    /// are. No more than a queue holds are let in, since behind them somebody may wait for ever.
    async fn last_call(&self, phase: &watch::Receiver<Phase>) {
        let worker = &self.worker;
        let began = Instant::now();
        let mut let_in = 0;
        while let_in < BACKLOG {
            let accepted = if self.is_full() { None } else { Some(self.porter.accept_now()) };
            match accepted {
                // Another worker may be gone before it takes what it is handed.
                Some(Ok((stream, peer))) => self.welcome(stream, peer, worker.index),
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Some(Err(error)) if !is_exhaustion(&error) => {}
                wanting => {
                    if began.elapsed() >= LAST_CALL || *phase.borrow() == Phase::Ended {
                        return;
                    }
                    if wanting.is_some() {
                        worker.make_room();
                    }
                    // What drains makes room.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            }
            let_in += 1;
            if let_in % AT_ONCE_MAX == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether this worker has as many connections as it may have.
    fn is_full(&self) -> bool {
        let Self { worker, crew, descriptors_max, .. } = self;
        worker.shard().open.value() >= connections_max(worker, crew, *descriptors_max)
    }

    /// Lets a connection in, to be served by worker `to`, or turns it away.
    fn welcome(&self, stream: StdStream, peer: IpAddr, to: usize) {
        let Self { worker, crew, porter, listener, .. } = self;
        let Ok(visit) = porter.let_in(worker, peer, *listener) else { return };
        let guest = Guest { peer, listener: *listener, visit };
        if stream.set_nonblocking(true).is_ok() {
            place(worker, crew, to, Handed { stream, guest });
        }
    }
}

/// Who accepts at a door. What it accepts is not registered with the event loop before it is known whether it may come
/// in, and which worker serves it: whoever is turned away costs two calls of the system.
pub(super) enum Porter {
    /// Of the internet.
    Tcp(AsyncFd<StdListener>),
    /// A file on this machine.
    Unix(AsyncFd<StdUnixListener>),
}

// === impl Porter ===

impl Porter {
    /// At a door that does not block.
    pub(super) fn new(door: Door) -> io::Result<Self> {
        match door {
            Door::Tcp(listener) => registered(listener).map(Porter::Tcp),
            Door::Unix(listener) => registered(listener).map(Porter::Unix),
        }
    }

    /// The next connection.
    async fn accept(&self) -> io::Result<(StdStream, IpAddr)> {
        match self {
            Porter::Tcp(listener) => listener.async_io(Interest::READABLE, by_tcp).await,
            Porter::Unix(listener) => listener.async_io(Interest::READABLE, by_unix).await,
        }
    }

    /// A connection that waits, as the system knows it; `WouldBlock` when there is none.
    fn accept_now(&self) -> io::Result<(StdStream, IpAddr)> {
        match self {
            Porter::Tcp(listener) => by_tcp(listener.get_ref()),
            Porter::Unix(listener) => by_unix(listener.get_ref()),
        }
    }

    /// Lets a connection in, as far as its address is known here. Who is behind a balancer is known when its header has
    /// come; whoever is at a unix socket may speak for everybody.
    fn let_in(&self, worker: &Worker, peer: IpAddr, listener: usize) -> Result<Option<Visit>, TurnedAway> {
        match self {
            Porter::Tcp(_) if !announces(worker, peer, listener) => let_in(worker, peer),
            _ => Ok(None),
        }
    }
}

fn by_tcp(listener: &StdListener) -> io::Result<(StdStream, IpAddr)> {
    listener.accept().map(|(stream, peer)| (stream, peer.ip()))
}

/// A connection by a unix socket, carried as if it were one of the internet: what is done to it is the same to the
/// system (read, write, peek, shutdown, splice), and options of TCP that it does not have fail without harm.
fn by_unix(listener: &StdUnixListener) -> io::Result<(StdStream, IpAddr)> {
    listener.accept().map(|(stream, _)| (StdStream::from(OwnedFd::from(stream)), LOCAL))
}

fn registered<L: AsRawFd>(listener: L) -> io::Result<AsyncFd<L>> {
    // SAFETY: a listener of the standard library is the same descriptor for as long as it lives.
    #[expect(unsafe_code, reason = "what is registered must not change its descriptor, which no type says")]
    let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    Ok(registered?)
}

/// Client connections that this worker may hold: its part of the limit, and of the descriptors, of which a request
/// needs two.
fn connections_max(worker: &Worker, crew: &Crew, descriptors_max: u64) -> u64 {
    let workers = crew.workers() as u64;
    let limit = worker.snapshot().limits.connections_max as u64;
    let pipes = 2 * pipes_max(crew, descriptors_max) as u64;
    let descriptors = descriptors_max.saturating_sub(DESCRIPTORS_RESERVED + (8 + pipes) * workers) / 2;
    (limit.min(descriptors) / workers).max(2)
}

/// Pipes that a worker may have open, of two descriptors each: together at most an eighth of all descriptors.
pub(super) fn pipes_max(crew: &Crew, descriptors_max: u64) -> usize {
    let share = descriptors_max / 16 / crew.workers().max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX).min(PIPES_MAX)
}

/// Descriptors that the process may have open.
pub(super) fn descriptors_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    #[expect(unsafe_code, reason = "getrlimit has no safe form in libc")]
    let answered = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if answered == 0 { limit.rlim_cur } else { 1024 }
}
