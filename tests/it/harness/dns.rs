//! A name server of a few records on loopback, over UDP and TCP, that can be told to fail.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the server says about every name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// These addresses with this time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The name does not exist.
    NoSuchName,
    /// The server has failed.
    ServerFailure,
    /// The name exists without addresses.
    Empty,
    /// No answer at all.
    Silent,
}

/// The server; stops on drop.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Dns {
    /// Serves these IPv4 addresses with a time to live of one second.
    pub fn serving(addresses: &[SocketAddr]) -> Self {
        let zone = Arc::new(Mutex::new(Zone::Addresses(addresses.iter().map(SocketAddr::ip).collect(), 1)));
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("a bound socket has an address");
        let (queries, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let threads = vec![
            over_udp(udp, Arc::clone(&zone), Arc::clone(&queries), Arc::clone(&stop)),
            over_tcp(tcp, Arc::clone(&zone), Arc::clone(&stop)),
        ];
        Self { address, zone, queries, stop, threads }
    }

    /// The table that makes weir ask this server.
    pub fn table(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address)
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the server says this.
    pub fn say(&self, zone: Zone) {
        *self.zone.lock().expect("nobody panics with it") = zone;
    }

    /// From now on the name has these addresses.
    pub fn flip(&self, addresses: &[SocketAddr]) {
        self.say(Zone::Addresses(addresses.iter().map(SocketAddr::ip).collect(), 1));
    }

    /// How many queries came over UDP.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the name server panicked");
        }
    }
}

/// One port for both protocols.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
        let address = udp.local_addr().expect("a bound socket has an address");
        if let Ok(tcp) = TcpListener::bind(address) {
            udp.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout is accepted");
            tcp.set_nonblocking(true).expect("a socket can be made non-blocking");
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

fn over_udp(
    socket: UdpSocket,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut packet = [0_u8; 4096];
        while !stop.load(Ordering::Relaxed) {
            let Ok((count, from)) = socket.recv_from(&mut packet) else { continue };
            queries.fetch_add(1, Ordering::Relaxed);
            let zone = zone.lock().expect("nobody panics with it").clone();
            let Some(mut reply) = reply(&packet[..count], &zone) else { continue };
            let extended = packet[10..12] != [0, 0];
            if reply.len() > 512 && !extended {
                // TC: the whole answer is to be had over TCP (RFC 1035 section 4.2.1).
                reply[2] |= 2;
                reply.truncate(12);
                reply[4..12].fill(0);
            }
            let _ = socket.send_to(&reply, from);
        }
    })
}

fn over_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut length = [0_u8; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut query = vec![0_u8; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut query).is_err() {
                    break;
                }
                let zone = zone.lock().expect("nobody panics with it").clone();
                let Some(reply) = reply(&query, &zone) else { break };
                let size = u16::try_from(reply.len()).expect("a test zone is small").to_be_bytes();
                let _ = stream.write_all(&[&size[..], &reply].concat());
            }
        }
    })
}

/// The answer to one query, or none where the server is silent or the query is no query.
fn reply(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|b| *b == 0)? + 1;
    let kind = u16::from_be_bytes([*query.get(name_end)?, *query.get(name_end + 1)?]);
    let question = query.get(12..name_end + 4)?;
    let (code, addresses, ttl) = match zone {
        Zone::Addresses(addresses, ttl) => (0, addresses.clone(), *ttl),
        Zone::NoSuchName => (3, Vec::new(), 0),
        Zone::ServerFailure => (2, Vec::new(), 0),
        Zone::Empty => (0, Vec::new(), 0),
        Zone::Silent => return None,
    };
    let fitting: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|address| matches!((kind, address), (1, IpAddr::V4(_)) | (28, IpAddr::V6(_))))
        .collect();
    let mut reply = query[..2].to_vec();
    reply.extend([0x84 | (query[2] & 1), 0x80 | code, 0, 1]);
    reply.extend(u16::try_from(fitting.len()).ok()?.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question);
    for address in fitting {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(ttl.to_be_bytes());
        let bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        reply.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
        reply.extend(bytes);
    }
    Some(reply)
}
