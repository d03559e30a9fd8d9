//! Sockets, descriptors and the ports file: what the process takes from the system before it serves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::model::Name;

/// Connections that wait for accept. The system cuts it to `net.core.somaxconn`, 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// The sockets of one listener, one for each worker; bound, not yet listening.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) name: Name,
    pub(super) address: SocketAddr,
    sockets: Vec<Socket>,
}

// === impl Bound ===

impl Bound {
    /// Binds one socket per worker to `address`; port 0 is chosen once for all of them.
    pub(super) fn new(name: &Name, address: SocketAddr, workers: usize) -> io::Result<Self> {
        refuse_taken(address)?;
        let first = bind(address, workers > 1)?;
        let address = local(&first)?;
        let mut sockets = vec![first];
        for _ in 1..workers {
            sockets.push(bind(address, true)?);
        }
        Ok(Self { name: name.clone(), address, sockets })
    }

    /// Begins to listen, all sockets at once: from here on connections wait for their worker.
    pub(super) fn listen(self) -> io::Result<Vec<TcpListener>> {
        // Once more: of two processes that started together, both have bound by now and the first one listens.
        refuse_taken(self.address)?;
        let listen = |socket: Socket| {
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        self.sockets.into_iter().map(listen).collect()
    }
}

/// Binds and listens on the admin address.
pub(super) fn bind_admin(address: SocketAddr) -> io::Result<(SocketAddr, Socket)> {
    let socket = bind(address, false)?;
    Ok((local(&socket)?, socket))
}

/// Begins to listen on the admin socket.
pub(super) fn listen_admin(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails when another process listens on `address`. Sockets of one user that all set `SO_REUSEPORT` share a port
/// without a word (socket(7)), so a second weir would take a part of the first one's clients; a socket without it is
/// told.
fn refuse_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 { Ok(()) } else { bind(address, false).map(drop) }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for connections of the process before it to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` serves both families, as operators expect of it, whatever `net.ipv6.bindv6only` says.
        socket.set_only_v6(false)?;
    }
    // Accepted connections inherit it on Linux, which saves each of them the call.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the socket has no internet address"))
}

/// Raises the limit of open descriptors to what the system allows; the limit after that.
pub(super) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit, which lives on this stack.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: setrlimit reads one rlimit, which lives on this stack.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Writes `{"listeners":{"public":"127.0.0.1:PORT"},"admin":"127.0.0.1:PORT"}`, so that whoever asked for port 0 learns
/// which it was. A reader sees the whole file or none.
pub(super) fn write_ports(path: &Path, listeners: &[(Name, SocketAddr)], admin: SocketAddr) -> io::Result<()> {
    let mut names = serde_json::Map::new();
    for (name, address) in listeners {
        names.insert(name.to_string(), address.to_string().into());
    }
    let text = serde_json::json!({ "listeners": names, "admin": admin.to_string() }).to_string();
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_share_one_port() {
        let name = Name::new("public").expect("a name");
        let bound = Bound::new(&name, "127.0.0.1:0".parse().expect("an address"), 3).expect("bound");
        let address = bound.address;
        let listeners = bound.listen().expect("listening");
        assert_eq!(listeners.len(), 3);
        for listener in listeners {
            assert_eq!(listener.local_addr().expect("an address"), address);
        }
    }

    #[test]
    fn a_port_on_which_another_process_listens_is_refused_although_it_could_be_shared() {
        let name = Name::new("public").expect("a name");
        for workers in [1, 2] {
            let first = Bound::new(&name, "127.0.0.1:0".parse().expect("an address"), workers).expect("bound");
            let address = first.address;
            // Started together: neither listens yet, and the one that is second to listen gives way.
            let late = Bound::new(&name, address, 2);
            let listening = first.listen().expect("listening");
            let refused = late.and_then(Bound::listen).expect_err("the first one listens");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            let refused = Bound::new(&name, address, 2).expect_err("the first one listens");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            drop(listening);
            Bound::new(&name, address, 2).expect("nobody listens any more");
        }
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_one() {
        let first = raise_descriptor_limit().expect("a limit");
        assert_eq!(raise_descriptor_limit().expect("a limit"), first);
    }
}
