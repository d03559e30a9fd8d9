//! Where an ACME authority looks whether a name is served from here ([`crate::tls::challenges`]): over plain HTTP
//! before any route is looked for, and in handshakes. It costs a request one branch where no `[acme]` is configured.

use std::sync::Arc;

use rustls::ServerConnection;
use rustls::server::Acceptor;
use tokio::net::TcpStream;

use super::link::{Link, Socket};
use crate::model::Head;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use crate::telemetry::handshake::HandshakeFault;
use crate::tls::challenges::Challenges;
use crate::tls::site::Site;

/// What a request over plain HTTP is answered, when it is one of http-01 for what is pending.
#[inline]
pub(crate) fn http<L: Link>(worker: &Worker, head: &Head) -> Option<Refusal> {
    if !L::IS_PLAIN {
        return None;
    }
    let challenges = worker.challenges.as_deref()?;
    let text = challenges.http(head.path())?;
    (head.method() == "GET").then_some(Refusal::Challenge(text))
}

/// The beginning of a handshake: a connection that goes by what the listener serves, or by a challenge that is pending.
pub(crate) async fn begin(
    worker: &Worker,
    socket: &TcpStream,
    site: &Site,
) -> Result<ServerConnection, HandshakeFault> {
    match worker.challenges.as_deref().filter(|challenges| challenges.wants_hellos()) {
        None => ServerConnection::new(site.config()).map_err(|_| HandshakeFault::Malformed),
        Some(challenges) => worker.costly.in_turns(listen(challenges, socket, site)).await,
    }
}

/// Reads the client's first words before it is known what they are answered from.
async fn listen(challenges: &Challenges, socket: &TcpStream, site: &Site) -> Result<ServerConnection, HandshakeFault> {
    let mut acceptor = Acceptor::default();
    loop {
        let accepted = acceptor.accept().map_err(|(error, mut alert)| {
            // It is told if that is possible at once.
            let _ = alert.write(&mut Socket(socket));
            HandshakeFault::of(&error)
        })?;
        if let Some(accepted) = accepted {
            let config = challenges.tls(&accepted.client_hello()).unwrap_or_else(|| site.config());
            return accepted.into_connection(Arc::clone(&config)).map_err(|(error, mut alert)| {
                let _ = alert.write(&mut Socket(socket));
                HandshakeFault::of(&error)
            });
        }
        socket.readable().await.map_err(|_| HandshakeFault::Gone)?;
        match acceptor.read_tls(&mut Socket(socket)) {
            Ok(0) => return Err(HandshakeFault::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(HandshakeFault::Gone),
        }
    }
}
