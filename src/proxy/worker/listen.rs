//! A worker's thread: accepts, spreads connections over the workers, sweeps, drains, ends.
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
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::crew::{Crew, Handed, Place};
use super::pulse::feel;
use super::upkeep::upkeep;
use super::visitor::{Guest, TurnedAway, let_in};
use super::{Seat, Worker};
use crate::proxy::announce;
use crate::proxy::arrival::connection;
use crate::proxy::arrival::handshake;
use crate::proxy::arrival::via::Via;
use crate::proxy::attempt::exchange::is_exhaustion;
use crate::proxy::bodies::splice::PIPES_MAX;
use crate::routing::matcher::contains;
use crate::throttle::visitors::Visit;

/// How far the end of the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// No new connection; what is in flight finishes, every answer closes its connection.
    Draining,
    /// Everything ends now.
    Ended,
}

/// What a worker thread is handed.
pub struct Berth {
    /// What the worker itself needs.
    pub seat: Seat,
    /// Its sockets, listening and not blocking, by the snapshot's listeners: each has none, one or several.
    pub doors: Vec<Vec<Door>>,
    /// The number of the newest snapshot; changes after it is published.
    pub revision: watch::Receiver<u64>,
    /// How far the end is. Its sender being gone means [`Phase::Ended`].
    pub phase: watch::Receiver<Phase>,
    /// All workers, this one included.
    pub crew: Arc<Crew>,
    /// Connections handed over by other workers.
    pub handed: mpsc::Receiver<Handed>,
}

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

/// Between two lines about the same want.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Descriptors that are kept for everything but client connections and their endpoint connections.
const DESCRIPTORS_RESERVED: u64 = 40;

/// Runs a worker on this thread until the end.
pub fn run(berth: Berth) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(work(berth))
}

async fn work(berth: Berth) -> io::Result<()> {
    let Berth { seat, doors, mut revision, mut phase, crew, handed } = berth;
    let worker = Worker::new(seat);
    worker.pipes.borrow_mut().limit(pipes_max(&crew, descriptors_max()));
    let doors =
        doors.into_iter().enumerate().flat_map(|(index, doors)| doors.into_iter().map(move |door| (index, door)));
    let accepting: Vec<_> = doors
        .map(|(index, door)| {
            let porter = Porter::new(door)?;
            let (worker, crew, phase) = (Rc::clone(&worker), Arc::clone(&crew), phase.clone());
            Ok(spawn_local(accept(worker, crew, porter, index, phase)))
        })
        .collect::<io::Result<_>>()?;
    let receiving = spawn_local(receive(Rc::clone(&worker), Arc::clone(&crew), handed));
    let upkeep = spawn_local(upkeep(Rc::clone(&worker)));
    let pulse = spawn_local(feel(Rc::clone(&worker)));
    let costly = spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.costly.let_in().await }
    });
    loop {
        tokio::select! {
            // Ending goes first, so that a stream of publications cannot delay it.
            biased;
            changed = phase.changed() => if changed.is_err() || *phase.borrow() != Phase::Serving { break },
            published = revision.changed() => if published.is_err() { break } else { worker.follow() },
        }
    }
    // Connections that the system has accepted already are accepted still; then the sockets close.
    for accepting in accepting {
        let _ = accepting.await;
    }
    worker.begin_drain();
    let ended = async {
        while phase.has_changed().is_ok() && *phase.borrow() != Phase::Ended {
            if phase.changed().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        // Whichever comes first: nothing left to do, or no time left.
        biased;
        () = all_closed(&worker, &crew) => {}
        () = ended => {}
    }
    receiving.abort();
    upkeep.abort();
    pulse.abort();
    costly.abort();
    worker.let_go();
    worker.logger.borrow_mut().flush();
    Ok(())
}

/// Whether every connection of the worker has ended, and none is on its way to it.
async fn all_closed(worker: &Worker, crew: &Crew) {
    while crew.load(worker.index) > 0 {
        worker.closed.notified().await;
    }
}

/// Who accepts at a door. What it accepts is not registered with the event loop before it is known whether it may come
/// in, and which worker serves it: whoever is turned away costs two calls of the system.
enum Porter {
    Tcp(AsyncFd<StdListener>),
    Unix(AsyncFd<StdUnixListener>),
}

// === impl Porter ===

impl Porter {
    fn new(door: Door) -> io::Result<Self> {
        match door {
            Door::Tcp(listener) => registered(listener).map(Porter::Tcp),
            Door::Unix(listener) => registered(listener).map(Porter::Unix),
        }
    }

    /// The next connection. One by a unix socket is carried as if it were one of the internet: what is done to it is
    /// the same to the system (read, write, peek, shutdown, splice), and options of TCP that it does not have fail
    /// without harm.
    async fn accept(&self) -> io::Result<(StdStream, IpAddr)> {
        match self {
            Porter::Tcp(listener) => {
                let accepted = listener.async_io(Interest::READABLE, StdListener::accept).await;
                accepted.map(|(stream, peer)| (stream, peer.ip()))
            }
            Porter::Unix(listener) => {
                let (stream, _) = listener.async_io(Interest::READABLE, StdUnixListener::accept).await?;
                Ok((StdStream::from(OwnedFd::from(stream)), LOCAL))
            }
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

fn registered<L: AsRawFd>(listener: L) -> io::Result<AsyncFd<L>> {
    // SAFETY: a listener of the standard library is the same descriptor for as long as it lives.
    #[expect(unsafe_code, reason = "what is registered must not change its descriptor, which no type says")]
    let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    Ok(registered?)
}

/// Accepts on one socket until draining begins, and what waits by then.
async fn accept(
    worker: Rc<Worker>,
    crew: Arc<Crew>,
    listener: Porter,
    index: usize,
    mut phase: watch::Receiver<Phase>,
) {
    let descriptors_max = descriptors_max();
    let mut complaint: Option<Instant> = None;
    let (mut in_a_row, mut at_the_end) = (0, 0);
    loop {
        in_a_row += 1;
        if in_a_row > AT_ONCE_MAX {
            in_a_row = 0;
            tokio::task::yield_now().await;
            if *phase.borrow() != Phase::Serving {
                at_the_end += AT_ONCE_MAX;
                if at_the_end > BACKLOG {
                    // No more than these waited when the end began, and behind them somebody may wait for ever.
                    return;
                }
            }
        }
        while worker.shard().open.value() >= connections_max(&worker, &crew, descriptors_max) {
            // Who waits for nothing gives way to who wants something.
            worker.squeeze();
            tokio::select! {
                // Draining ends the wait as well as room does.
                biased;
                _ = phase.changed() => return,
                () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            }
        }
        let accepted = tokio::select! {
            // What waits is accepted before draining is noticed: it is a client that got through.
            biased;
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(visit) = listener.let_in(&worker, peer, index) else { continue };
                let guest = Guest { peer, listener: index, visit };
                // A worker that drains may be gone before it takes what it is handed.
                let serving = *phase.borrow() == Phase::Serving;
                let to = if serving && crew.workers() > 1 { crew.least_loaded(worker.index) } else { worker.index };
                if stream.set_nonblocking(true).is_ok() {
                    place(&worker, &crew, to, Handed { stream, guest });
                }
            }
            Err(error) if is_exhaustion(&error) => {
                worker.make_room();
                worker.squeeze();
                if complaint.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
                    tracing::warn!(%error, "cannot accept; clients wait for descriptors");
                    complaint = Some(Instant::now());
                }
                if *phase.borrow() != Phase::Serving {
                    // Draining ends this wait as well, and only what it closes makes room.
                    return;
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The client was gone before it was accepted.
            Err(_) => {}
        }
    }
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
fn pipes_max(crew: &Crew, descriptors_max: u64) -> usize {
    let share = descriptors_max / 16 / crew.workers().max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX).min(PIPES_MAX)
}

fn descriptors_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    #[expect(unsafe_code, reason = "getrlimit has no safe form in libc")]
    let answered = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if answered == 0 { limit.rlim_cur } else { 1024 }
}

/// Serves a connection here, or hands it to worker `to`.
fn place(worker: &Rc<Worker>, crew: &Arc<Crew>, to: usize, handed: Handed) {
    worker.shard().accepted.add(1);
    if to == worker.index {
        take_over(worker, Place::take(crew, to), handed);
    } else if let Err(handed) = crew.hand(to, handed) {
        take_over(worker, Place::take(crew, worker.index), handed);
    }
}

/// Takes connections over from other workers.
async fn receive(worker: Rc<Worker>, crew: Arc<Crew>, mut handed: mpsc::Receiver<Handed>) {
    while let Some(handed) = handed.recv().await {
        take_over(&worker, Place::handed(&crew, worker.index), handed);
    }
}

fn take_over(worker: &Rc<Worker>, place: Place, Handed { stream, guest }: Handed) {
    if let Ok(stream) = TcpStream::from_std(stream) {
        begin(worker, place, stream, guest);
    }
}

/// Whether a connection from `peer` must begin with a header of the PROXY protocol.
fn announces(worker: &Worker, peer: IpAddr, listener: usize) -> bool {
    let snapshot = worker.snapshot();
    let from = snapshot.listeners.get(listener).and_then(|listener| listener.proxy_protocol.as_deref());
    from.is_some_and(|from| contains(from, peer))
}

fn begin(worker: &Rc<Worker>, place: Place, stream: TcpStream, guest: Guest) {
    let open = connection::Open::new(worker);
    let worker = Rc::clone(worker);
    let Guest { peer, listener, visit } = guest;
    match worker.site(listener).cloned() {
        site if announces(&worker, peer, listener) => spawn_local(async move {
            let mut stream = stream;
            if let Some(source) = announce::learn(&worker, &mut stream, peer).await
                // A balancer that speaks for nobody is asking for itself.
                && let Ok(visit) = if source == peer { Ok(None) } else { let_in(&worker, source) }
            {
                let via = Via::plain(source, listener).counted(visit.as_ref());
                match site {
                    None => Box::pin(connection::run(worker, stream, via)).await,
                    Some(site) => Box::pin(handshake::begin(worker, site, stream, via)).await,
                }
                drop(visit);
            }
            drop((open, place));
        }),
        None => spawn_local(async move {
            connection::run(worker, stream, Via::plain(peer, listener).counted(visit.as_ref())).await;
            drop((open, place, visit));
        }),
        Some(site) => spawn_local(async move {
            handshake::begin(worker, site, stream, Via::plain(peer, listener).counted(visit.as_ref())).await;
            drop((open, place, visit));
        }),
    };
}
