//! Helpers of this room's tests: a name server over UDP that says what it is told, and an upstream that misbehaves.
//!
//! Everything binds port 0 of a loopback address and ends with its value.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// What the name server says of a name.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// These addresses (both families), with this time to live.
    Addresses(Vec<IpAddr>, u32),
    NxDomain,
    ServFail,
    /// It takes the question and never answers.
    Nothing,
}

pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    names: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// How an upstream treats a connection.
#[derive(Debug, Clone)]
pub(crate) enum Manners {
    /// It answers with this status.
    Status(u16),
    /// It resets the connection once it has read something.
    Reset,
    /// It reads and never answers.
    Stall,
    /// It answers with something that is no HTTP.
    Garbage,
    /// It ends the connection in the middle of the head.
    HalfHead,
}

pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) manners: Arc<Mutex<Manners>>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) last_request: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

/// Waits until something holds, at most five seconds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "waited five seconds for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// === impl NameServer ===

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let addr = socket.local_addr().expect("an address");
        let names: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let asked: Arc<AtomicUsize> = Arc::default();
        let (told, count) = (Arc::clone(&names), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.expect("a datagram");
                count.fetch_add(1, Ordering::Relaxed);
                let question = Message::from_vec(&buffer[..length]).expect("a question");
                let answer = reply(&question, &told.lock().expect("the lock"));
                if let Some(answer) = answer {
                    socket.send_to(&answer.to_vec().expect("an answer"), from).await.expect("sent");
                }
            }
        });
        Self { addr, names, asked, task }
    }

    pub(crate) fn tell(&self, host: &str, says: Says) {
        self.names.lock().expect("the lock").insert(host.to_owned(), says);
    }

    pub(crate) fn addresses(&self, host: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|addr| addr.parse().expect("an address")).collect();
        self.tell(host, Says::Addresses(addresses, ttl));
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reply(question: &Message, names: &HashMap<String, Says>) -> Option<Message> {
    let query = question.queries.first().expect("a query").clone();
    let host = query.name().to_utf8().trim_end_matches('.').to_lowercase();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(query.clone());
    match names.get(&host) {
        Some(Says::Nothing) => return None,
        Some(Says::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
        None | Some(Says::NxDomain) => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(Says::Addresses(addresses, ttl)) => {
            for addr in addresses {
                let data = match (addr, query.query_type()) {
                    (IpAddr::V4(addr), RecordType::A) => RData::A((*addr).into()),
                    (IpAddr::V6(addr), RecordType::AAAA) => RData::AAAA((*addr).into()),
                    _ => continue,
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
            }
        }
    }
    Some(answer)
}

// === impl Upstream ===

impl Upstream {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let manners = Arc::new(Mutex::new(manners));
        let connections: Arc<AtomicUsize> = Arc::default();
        let last_request: Arc<Mutex<String>> = Arc::default();
        let (now, count, last) = (Arc::clone(&manners), Arc::clone(&connections), Arc::clone(&last_request));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                count.fetch_add(1, Ordering::Relaxed);
                let manners = now.lock().expect("the lock").clone();
                tokio::spawn(treat(stream, manners, Arc::clone(&last)));
            }
        });
        Self { addr, manners, connections, last_request, task }
    }

    pub(crate) fn turn(&self, manners: Manners) {
        *self.manners.lock().expect("the lock") = manners;
    }

    pub(crate) fn seen(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn treat(mut stream: TcpStream, manners: Manners, last: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    // A probe over TCP sends nothing and closes; then there is nobody to answer.
    let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
    *last.lock().expect("the lock") = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let text = match manners {
        Manners::Status(code) => format!("HTTP/1.1 {code} X\r\ncontent-length: 2\r\n\r\nok"),
        Manners::Garbage => "\0\0SMTP ready\r\n\r\n".into(),
        Manners::HalfHead => "HTTP/1.1 200 OK\r\ncontent-".into(),
        Manners::Stall => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return;
        }
        Manners::Reset => {
            stream.set_zero_linger().expect("linger");
            return;
        }
    };
    // The prober may be gone already; what it made of this is asserted there.
    let _ = stream.write_all(text.as_bytes()).await;
}
