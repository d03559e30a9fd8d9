//! One hostile connection: what is still to be sent, what came, and how it ended.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use super::believing::Believing;
use super::frames::Walker;
use super::kinds::{Kind, Leaves, Reads, Speaks, Then};

/// Bytes of a flood that are prepared at once.
const BATCH_BYTES: usize = 64 * 1024;

/// What a slow reader takes at a time.
const SIP_BYTES: usize = 16;

/// What became of a connection when it was looked after.
pub(super) enum Fate {
    Goes,
    /// The server ended it, so.
    Ended(String),
    /// It has what it came for.
    Left,
}

pub(super) struct Peer {
    socket: TcpStream,
    pub(super) began: Instant,
    out: Vec<u8>,
    at: usize,
    round: u32,
    /// The system takes no more for now.
    pub(super) full: bool,
    walker: Walker,
    /// The last status of HTTP/1, or that an alert came.
    said: Option<String>,
    tls: Option<Box<ClientConnection>>,
}

// === impl Peer ===

impl Peer {
    /// Begins to connect from an address of this machine; what it says first is sent when that is done.
    pub(super) fn open(kind: &Kind, target: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        bind_late(&socket)?;
        socket.bind(&SocketAddr::V4(SocketAddrV4::new(from, 0)).into())?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if kind.reads == Reads::Sips {
            socket.set_recv_buffer_size(4096)?;
        }
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let tls = match &kind.speaks {
            Speaks::Tls(config) => Some(Box::new(handshake(config)?)),
            _ => None,
        };
        let (out, said, walker) = (kind.opening.to_vec(), None, Walker::default());
        let (socket, began) = (TcpStream::from(socket), Instant::now());
        Ok(Self { socket, began, out, at: 0, round: 0, full: true, walker, said, tls })
    }

    /// Adds what is due now.
    pub(super) fn drip(&mut self, round: fn(u32) -> Vec<u8>) {
        self.out.extend(round(self.round));
        self.round += 1;
    }

    /// Sends what it can; how many bytes.
    pub(super) fn push(&mut self, kind: &Kind) -> io::Result<usize> {
        let before = self.round;
        let mut sent = 0;
        loop {
            if self.at == self.out.len() {
                (self.at, self.full) = (0, false);
                self.out.clear();
                match (&mut self.tls, kind.then) {
                    (Some(tls), _) if tls.wants_write() => drop(tls.write_tls(&mut self.out)?),
                    // One batch each time, so that every connection of a thread has its turn.
                    (None, Then::Flood(round)) if self.round == before => {
                        while self.out.len() < BATCH_BYTES {
                            self.out.extend(round(self.round));
                            self.round += 1;
                        }
                    }
                    _ => return Ok(sent),
                }
            }
            match self.socket.write(&self.out[self.at..]) {
                Ok(count) => (self.at, sent) = (self.at + count, sent + count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.full = true;
                    return Ok(sent);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what came, after `kind`'s manner.
    pub(super) fn pull(&mut self, kind: &Kind, buffer: &mut [u8]) -> Fate {
        let most = if kind.reads == Reads::Sips { SIP_BYTES } else { buffer.len() };
        loop {
            let count = match self.socket.read(&mut buffer[..most]) {
                Ok(0) => return Fate::Ended(self.last_words("fin")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Goes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Fate::Ended(self.last_words("reset")),
            };
            if let Err(said) = self.hear(&kind.speaks, &buffer[..count]) {
                return Fate::Ended(said);
            }
            match kind.leaves {
                Leaves::Answered => return Fate::Left,
                Leaves::Shaken if self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking()) => {
                    // The end of the handshake is still to be said.
                    let _ = self.push(kind);
                    return Fate::Left;
                }
                Leaves::Shaken | Leaves::Never => {}
            }
            if kind.reads == Reads::Sips {
                return Fate::Goes;
            }
        }
    }

    fn hear(&mut self, speaks: &Speaks, bytes: &[u8]) -> Result<(), String> {
        match speaks {
            Speaks::Http1 => {
                if let Some(status) =
                    memchr::memmem::rfind(bytes, b"HTTP/1.1 ").and_then(|at| bytes.get(at + 9..at + 12))
                {
                    self.said = Some(String::from_utf8_lossy(status).into_owned());
                }
            }
            Speaks::Http2 => {
                self.walker.walk(bytes);
                self.said = self.walker.code.map(|code| format!("goaway {code}"));
            }
            // A record of kind alert (RFC 8446 §5.1).
            Speaks::TlsBytes if bytes[0] == 21 => self.said = Some("alert".to_owned()),
            Speaks::TlsBytes => {}
            Speaks::Tls(_) => {
                let Some(tls) = &mut self.tls else { return Ok(()) };
                let mut rest = bytes;
                while !rest.is_empty() && tls.read_tls(&mut rest).is_ok_and(|count| count > 0) {
                    tls.process_new_packets().map_err(|error| error.to_string())?;
                }
                self.full = false;
            }
        }
        Ok(())
    }

    fn last_words(&mut self, otherwise: &str) -> String {
        self.said.take().unwrap_or_else(|| otherwise.to_owned())
    }

    /// Ends it with a reset, so that no port waits for anybody.
    pub(super) fn leave(self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    pub(super) fn stream_resets(&self) -> u64 {
        self.walker.resets
    }
}

impl AsRawFd for Peer {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Has the port chosen when the target is known, so that every target has all ports.
fn bind_late(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value lives through the call and has the length that is said.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A client that believes everything, because verifying would make it slower than what it attacks.
pub(super) fn tls_client() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believing(schemes)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn handshake(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
}

/// What a client says first; the server works for each as for a new one.
pub(super) fn client_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut tls = handshake(&tls_client()).expect("a client of its own");
    while tls.wants_write() {
        tls.write_tls(&mut bytes).expect("a vector takes everything");
    }
    bytes
}
