//! A server that speaks no HTTP: it says its name, sends back every byte, and says farewell when its peer has ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::upstream::own_address;

/// What it says last, to a peer that ended its side in order.
pub const FAREWELL: &[u8] = b"farewell\n";

/// What has it say farewell and end, and what has it break off.
pub const LEAVE: &[u8] = b"leave!";
pub const BREAK: &[u8] = b"break!";

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Talk {
    /// Every byte that came.
    pub heard: Vec<u8>,
    /// How it ended: in order (true), or broken off; none: it is open.
    pub ended: Option<bool>,
}

/// The server. Its threads end with their connections.
#[derive(Debug)]
pub struct Talker {
    name: String,
    address: SocketAddr,
    talks: Arc<Mutex<Vec<Talk>>>,
}

impl Talker {
    pub fn named(name: &str) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).expect("an address of its own can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let talks: Arc<Mutex<Vec<Talk>>> = Arc::default();
        let (its, greeting) = (Arc::clone(&talks), format!("{name}\n"));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let index = {
                    let mut talks = its.lock().expect("no panic");
                    talks.push(Talk::default());
                    talks.len() - 1
                };
                let (talks, greeting) = (Arc::clone(&its), greeting.clone());
                std::thread::spawn(move || {
                    let ended = talk(stream, greeting.as_bytes(), |bytes| {
                        talks.lock().expect("no panic")[index].heard.extend_from_slice(bytes);
                    });
                    talks.lock().expect("no panic")[index].ended = Some(ended.is_ok());
                });
            }
        });
        Self { name: name.to_owned(), address, talks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says first.
    pub fn greeting(&self) -> String {
        format!("{}\n", self.name)
    }

    /// Its connections, in the order in which they came.
    pub fn talks(&self) -> Vec<Talk> {
        self.talks.lock().expect("no panic").clone()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.talks().iter().filter(|talk| talk.ended.is_none()).count()
    }
}

fn talk(mut stream: TcpStream, greeting: &[u8], hear: impl Fn(&[u8])) -> std::io::Result<()> {
    let mut space = vec![0; 64 * 1024];
    stream.write_all(greeting)?;
    loop {
        let count = match stream.read(&mut space) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hear(&space[..count]);
        match &space[..count] {
            b"" | LEAVE => return stream.write_all(FAREWELL),
            BREAK => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                return Err(ErrorKind::ConnectionReset.into());
            }
            bytes => stream.write_all(bytes)?,
        }
    }
}
