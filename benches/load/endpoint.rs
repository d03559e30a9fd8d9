//! What the endpoints of rows share: connections to two addresses, each served by what it is for. One thread, until it
//! is ended.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::epoll::Epoll;
use crate::options::Options;

/// A connection to an endpoint.
pub(crate) trait Peer {
    /// Whether it reads until nothing is there, and goes on writing when it can: told once of each change.
    const EDGES: bool;

    fn new(stream: TcpStream) -> Self;

    /// Answers what is there; false when the client is gone. An error ends the program.
    fn serve(&mut self) -> io::Result<bool>;
}

/// Listens on `--target` and `--also`.
pub(crate) fn run<P: Peer>(options: &Options) -> io::Result<String> {
    let addresses: [SocketAddr; 2] = [options.target()?, options.value("also")?];
    let mut epoll = Epoll::new()?;
    let listeners = addresses.map(TcpListener::bind);
    let listeners: Vec<TcpListener> = listeners.into_iter().collect::<io::Result<_>>()?;
    for (token, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll.add(listener, token)?;
    }
    let mut peers: HashMap<usize, P> = HashMap::new();
    let mut next = listeners.len();
    loop {
        let ready: Vec<usize> = epoll.ready(1_000)?.collect();
        for token in ready {
            if let Some(listener) = listeners.get(token) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    if P::EDGES {
                        epoll.add_edges(&stream, next)?
                    } else {
                        epoll.add(&stream, next)?
                    }
                    peers.insert(next, P::new(stream));
                    next += 1;
                }
            } else if let Some(peer) = peers.get_mut(&token)
                && !peer.serve()?
            {
                peers.remove(&token);
            }
        }
    }
}
