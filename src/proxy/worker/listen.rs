//! A worker's thread: begins connections that were accepted ([`porter`](super::porter)) or handed over, sweeps, drains,
//! ends.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::crew::{Crew, Handed, Place};
use super::porter::{Door, Porter, accept, descriptors_max, pipes_max};
use super::pulse::feel;
use super::upkeep::upkeep;
use super::visitor::{Guest, let_in};
use super::{Seat, Worker};
use crate::proxy::announce;
use crate::proxy::arrival::connection;
use crate::proxy::arrival::handshake;
use crate::proxy::arrival::via::Via;
use crate::routing::matcher::contains;

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
        async move { tokio::join!(worker.costly.let_in(), worker.heavy.let_in()) }
    });
    loop {
        tokio::select! {
            // Ending goes first, so that a stream of publications cannot delay it.
            biased;
            changed = phase.changed() => if changed.is_err() || *phase.borrow() != Phase::Serving { break },
            published = revision.changed() => if published.is_err() { break } else { worker.follow() },
        }
    }
    // First, so that who ends makes room; connections that wait are accepted still, and then the sockets close.
    worker.begin_drain();
    for accepting in accepting {
        let _ = accepting.await;
    }
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

/// Serves a connection here, or hands it to worker `to`.
pub(super) fn place(worker: &Rc<Worker>, crew: &Arc<Crew>, to: usize, handed: Handed) {
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
pub(super) fn announces(worker: &Worker, peer: IpAddr, listener: usize) -> bool {
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
