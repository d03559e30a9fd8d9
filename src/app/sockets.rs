//! Sockets, descriptors and the ports file: what the process takes from the system before it serves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use super::handover::Parcel;
use super::unix::{self, SocketFile};
use crate::model::{Bind, Name};
use crate::proxy::worker::porter::{BACKLOG, Door};

/// The sockets of one listener: one for each worker when this process opened them, as many as there are when another
/// one did.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) name: Name,
    /// As the configuration has it.
    asked: Bind,
    /// As it is: port 0 replaced by what the system chose.
    pub(super) address: Bind,
    sockets: Vec<Socket>,
    state: State,
    /// The file of a unix socket.
    file: Option<SocketFile>,
}

/// How far sockets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bound by this process; nobody can connect yet.
    Bound,
    /// Connections wait for their worker.
    Listening,
}

// === impl Bound ===

impl Bound {
    /// Binds one socket per worker to `address`; port 0 is chosen once for all of them. A unix socket is one, and all
    /// workers accept on it.
    pub(super) fn new(name: &Name, asked: &Bind, workers: usize) -> io::Result<Self> {
        let (address, sockets) = match asked {
            Bind::Tcp(address) => {
                refuse_taken(*address)?;
                let first = bind(*address, workers > 1)?;
                let address = local(&first)?;
                let mut sockets = vec![first];
                for _ in 1..workers {
                    sockets.push(bind(address, true)?);
                }
                (Bind::Tcp(address), sockets)
            }
            Bind::Unix { path, mode } => (asked.clone(), vec![unix::bind(path, *mode)?]),
        };
        Self::of(name, asked, address, sockets, State::Bound)
    }

    /// Takes sockets that another process opened and listens on.
    pub(super) fn taken_over(name: &Name, asked: &Bind, sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let sockets: Vec<Socket> = sockets.into_iter().map(Socket::from).collect();
        for socket in &sockets {
            let listens = socket.is_listener()? && socket.r#type()? == Type::STREAM;
            if !listens {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "what was handed over is no listening socket"));
            }
            socket.set_nonblocking(true)?;
            if socket.domain()? != Domain::UNIX {
                socket.set_tcp_nodelay(true)?;
            }
        }
        let first = sockets.first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no socket"))?;
        let address = address_of(first)?;
        Self::of(name, asked, address, sockets, State::Listening)
    }

    fn of(name: &Name, asked: &Bind, address: Bind, sockets: Vec<Socket>, state: State) -> io::Result<Self> {
        let file = address.path().map(SocketFile::at).transpose()?;
        Ok(Self { name: name.clone(), asked: asked.clone(), address, sockets, state, file })
    }

    /// Begins to listen, all sockets at once: from here on connections wait for their worker.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        if self.state == State::Listening {
            return Ok(());
        }
        if let Bind::Tcp(address) = self.address {
            // Once more: of two processes that started together, both have bound by now and the first one listens.
            refuse_taken(address)?;
        }
        for socket in &self.sockets {
            socket.listen(BACKLOG as i32)?;
        }
        self.state = State::Listening;
        Ok(())
    }

    /// The doors of each worker. Every socket is at least one worker's, since connections wait at each of them; where
    /// there are fewer sockets than workers, several accept on one.
    pub(super) fn doors(&self, workers: usize) -> io::Result<Vec<Vec<Door>>> {
        let mut doors: Vec<Vec<Door>> = (0..workers).map(|_| Vec::new()).collect();
        for at in 0..self.sockets.len().max(workers) {
            let socket: OwnedFd = self.sockets[at % self.sockets.len()].try_clone()?.into();
            let door = match self.address {
                Bind::Tcp(_) => Door::Tcp(socket.into()),
                Bind::Unix { .. } => Door::Unix(socket.into()),
            };
            doors[at % workers].push(door);
        }
        Ok(doors)
    }

    /// The sockets for another process.
    pub(super) fn parcel(&self) -> io::Result<Parcel> {
        let sockets = self.sockets.iter().map(|socket| Ok(socket.try_clone()?.into()));
        let (what, asked) = (format!("listeners.{}", self.name), Some(self.asked.to_string()));
        Ok(Parcel { what, asked, sockets: sockets.collect::<io::Result<_>>()? })
    }

    /// Takes the file of a unix socket away: nobody listens there any more.
    pub(super) fn remove(&self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

/// Binds the admin address; it does not listen yet.
pub(super) fn bind_admin(address: SocketAddr) -> io::Result<(SocketAddr, Socket)> {
    let socket = bind(address, false)?;
    Ok((local(&socket)?, socket))
}

/// Takes an admin socket that another process opened and listens on.
pub(super) fn take_admin(sockets: Vec<OwnedFd>) -> io::Result<(SocketAddr, Socket)> {
    let mut sockets = sockets.into_iter().map(Socket::from);
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let (Some(socket), None) = (sockets.next(), sockets.next()) else {
        return Err(wrong("the admin API listens on one socket"));
    };
    if !socket.is_listener()? {
        return Err(wrong("what was handed over is no listening socket"));
    }
    socket.set_nonblocking(true)?;
    Ok((local(&socket)?, socket))
}

/// Begins to listen on the admin socket, unless it listens already.
pub(super) fn listen_admin(socket: &Socket) -> io::Result<TcpListener> {
    if !socket.is_listener()? {
        socket.listen(BACKLOG as i32)?;
    }
    Ok(socket.try_clone()?.into())
}

/// Fails when another process listens on `address`. Sockets of one user that all set `SO_REUSEPORT` share a port
/// without a word (socket(7)), so a second weir would take a part of the first one's clients; a socket without it is
/// told.
fn refuse_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 { Ok(()) } else { bind(address, false).map(drop) }
}

/// Where a socket is bound.
pub(super) fn address_of(socket: &Socket) -> io::Result<Bind> {
    let address = socket.local_addr()?;
    match address.as_pathname() {
        // Its mode is whoever made it's affair.
        Some(path) => Ok(Bind::Unix { path: path.to_owned(), mode: Bind::MODE }),
        None => local(socket).map(Bind::Tcp),
    }
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
pub(super) fn write_ports(path: &Path, listeners: &[(Name, Bind)], admin: SocketAddr) -> io::Result<()> {
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

    fn free() -> Bind {
        Bind::Tcp("127.0.0.1:0".parse().expect("an address"))
    }

    fn public() -> Name {
        Name::new("public").expect("a name")
    }

    #[test]
    fn all_workers_share_one_port() {
        let mut bound = Bound::new(&public(), &free(), 3).expect("bound");
        bound.listen().expect("listening");
        let doors = bound.doors(3).expect("doors");
        assert_eq!(doors.len(), 3);
        for door in doors.iter().flatten() {
            let Door::Tcp(listener) = door else { panic!("{door:?}") };
            assert_eq!(Bind::Tcp(listener.local_addr().expect("an address")), bound.address);
        }
    }

    #[test]
    fn every_socket_that_was_handed_over_has_a_worker_and_every_worker_a_socket() {
        let mut bound = Bound::new(&public(), &free(), 5).expect("bound");
        bound.listen().expect("listening");
        for (workers, most) in [(1, 5), (2, 3), (5, 1), (8, 1)] {
            let parcel = bound.parcel().expect("copies");
            assert_eq!((parcel.what.as_str(), parcel.asked.as_deref()), ("listeners.public", Some("127.0.0.1:0")));
            let other = Bound::taken_over(&public(), &free(), parcel.sockets).expect("they listen");
            assert_eq!(other.address, bound.address);
            let doors = other.doors(workers).expect("doors");
            let counts: Vec<usize> = doors.iter().map(Vec::len).collect();
            assert!(counts.iter().all(|&count| count > 0 && count <= most), "{workers}: {counts:?}");
            assert_eq!(counts.iter().sum::<usize>(), workers.max(5));
        }
    }

    #[test]
    fn what_does_not_listen_cannot_be_taken_over() {
        let bound = Bound::new(&public(), &free(), 1).expect("bound");
        let parcel = bound.parcel().expect("copies");
        assert!(Bound::taken_over(&public(), &free(), parcel.sockets).is_err());
        assert!(Bound::taken_over(&public(), &free(), Vec::new()).is_err());
    }

    #[test]
    fn a_port_on_which_another_process_listens_is_refused_although_it_could_be_shared() {
        for workers in [1, 2] {
            let mut first = Bound::new(&public(), &free(), workers).expect("bound");
            let address = first.address.clone();
            // Started together: neither listens yet, and the one that is second to listen gives way.
            let late = Bound::new(&public(), &address, 2);
            first.listen().expect("listening");
            let refused = late.and_then(|mut late| late.listen()).expect_err("the first one listens");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            let refused = Bound::new(&public(), &address, 2).expect_err("the first one listens");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            drop(first);
            Bound::new(&public(), &address, 2).expect("nobody listens any more");
        }
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_one() {
        let first = raise_descriptor_limit().expect("a limit");
        assert_eq!(raise_descriptor_limit().expect("a limit"), first);
    }
}
