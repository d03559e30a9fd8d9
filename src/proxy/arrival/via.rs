//! The way that requests of one connection came: from whom, by which listener, and over which TLS.

use std::net::IpAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::proxy::worker::Worker;
use crate::throttle::visitors::Visit;
use crate::tls::identity::Identity;
use crate::upstream::preface::Ends;

/// The connection that a request came by.
#[derive(Debug, Clone)]
pub(crate) struct Via {
    /// The address at the other end.
    pub(crate) peer: IpAddr,
    /// Index of the listener.
    pub(crate) listener: usize,
    /// Whether it is counted among the connections of that address, which then answers for it.
    pub(crate) counted: bool,
    /// What TLS says of the client; none over plain HTTP.
    pub(crate) tls: Option<Rc<TlsFacts>>,
    /// The ends of the connection, where some pool's endpoints are told of them.
    pub(crate) ends: Option<Ends>,
}

/// What TLS says of a client.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// Whether the listener asks for certificates: then it alone knows who the client is.
    pub(crate) asks: bool,
    /// Who the client is, if it showed a certificate.
    pub(crate) identity: Option<Identity>,
}

// === impl Via ===

impl Via {
    /// A connection over plain HTTP, for which no address answers.
    pub(crate) fn plain(peer: IpAddr, listener: usize) -> Self {
        Self { peer, listener, counted: false, tls: None, ends: None }
    }

    /// The same, for which the address answers if it has a place among its connections.
    pub(crate) fn counted(self, visit: Option<&Visit>) -> Self {
        Self { counted: visit.is_some(), ..self }
    }

    /// Takes note of the connection's ends, if anybody is told of them.
    #[inline]
    pub(crate) fn look(&mut self, worker: &Worker, socket: &TcpStream) {
        if worker.snapshot().names_clients && self.ends.is_none() {
            let ends = socket.peer_addr().ok().zip(socket.local_addr().ok());
            self.ends = ends.map(|(source, destination)| Ends { source, destination });
        }
    }
}
