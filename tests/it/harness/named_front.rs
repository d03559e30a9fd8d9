//! A front that wants to know whom each connection is opened for: it reads a header of the PROXY protocol, remembers
//! it, and hands everything behind it on. Its reader is strict, and its own: nothing of the library is used.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::upstream::own_address;

/// A header as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// 1 or 2.
    pub version: u8,
    /// The client and where it connected to; none: the connection is the sender's own.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

/// The front. Gone on drop.
#[derive(Debug)]
pub struct NamedFront {
    named: Arc<Mutex<Vec<Named>>>,
    address: SocketAddr,
    listener: Option<(i32, JoinHandle<()>)>,
}

impl NamedFront {
    /// In front of whatever listens there.
    pub fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let named = Arc::new(Mutex::new(Vec::new()));
        let (fd, seen) = (listener.as_raw_fd(), Arc::clone(&named));
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(client, to, &seen));
            }
        });
        Self { named, address, listener: Some((fd, thread)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as an endpoint of a pool.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every header so far that names a client.
    pub fn clients(&self) -> Vec<Named> {
        self.all().into_iter().filter(|named| named.ends.is_some()).collect()
    }

    /// Every header so far.
    pub fn all(&self) -> Vec<Named> {
        self.named.lock().expect("no helper thread panicked").clone()
    }
}

impl Drop for NamedFront {
    fn drop(&mut self) {
        if let Some((fd, thread)) = self.listener.take() {
            // SAFETY: the descriptor is open until the thread that owns the listener ends, which it does only then.
            #[expect(unsafe_code, reason = "a listener that another thread waits on is woken by shutdown(2)")]
            unsafe {
                libc::shutdown(fd, libc::SHUT_RDWR);
            }
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a front panicked");
        }
    }
}

fn serve(mut client: TcpStream, to: SocketAddr, seen: &Mutex<Vec<Named>>) {
    let Some(named) = read(&mut client) else { return };
    seen.lock().expect("no helper thread panicked").push(named);
    let Ok(server) = TcpStream::connect(to) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(up_from), Ok(up_to)) = (client.try_clone(), server.try_clone()) else { return };
    let up = std::thread::spawn(move || copy(up_from, up_to));
    copy(server, client);
    let _ = up.join();
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Reads exactly one header, byte by byte where its length is not known.
fn read(client: &mut TcpStream) -> Option<Named> {
    let mut first = [0; 12];
    client.read_exact(&mut first).ok()?;
    if first == *b"\r\n\r\n\0\r\nQUIT\n" {
        let mut fixed = [0; 4];
        client.read_exact(&mut fixed).ok()?;
        let mut block = vec![0; usize::from(u16::from_be_bytes([fixed[2], fixed[3]]))];
        client.read_exact(&mut block).ok()?;
        let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
        let ends = match (fixed[0], fixed[1]) {
            (0x20, 0) => None,
            (0x21, 0x11) => {
                let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&block[at..at + 4]).expect("four bytes"));
                Some((SocketAddr::new(ip(0), port(8)), SocketAddr::new(ip(4), port(10))))
            }
            (0x21, 0x21) => {
                let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&block[at..at + 16]).expect("sixteen bytes"));
                Some((SocketAddr::new(ip(0), port(32)), SocketAddr::new(ip(16), port(34))))
            }
            other => panic!("a header of version 2 with {other:?}"),
        };
        return Some(Named { version: 2, ends });
    }
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
        assert!(line.len() <= 107, "a line of version 1 ends in time: {line:?}");
    }
    let line = String::from_utf8(line).expect("a line of version 1 is text");
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    let ends = match words[..] {
        ["PROXY", "UNKNOWN"] => None,
        ["PROXY", "TCP4" | "TCP6", source, destination, from, to] => {
            let end =
                |ip: &str, port: &str| SocketAddr::new(ip.parse().expect("an address"), port.parse().expect("a port"));
            Some((end(source, from), end(destination, to)))
        }
        _ => panic!("a line of version 1: {line:?}"),
    };
    Some(Named { version: 1, ends })
}
