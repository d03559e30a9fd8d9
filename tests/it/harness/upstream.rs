//! A server behind weir: answers with its name, remembers all it saw, and misbehaves on cue.
//!
//! One thread accepts, one thread serves each connection. A request that is not in canonical form, or a panic in one of
//! these threads, fails the test when the upstream is dropped.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::behaviour::{Behaviour, Door, Health};
use super::upstream_serve::accept;
use super::wire::Head;

static NEXT_ADDRESS: AtomicU32 = AtomicU32::new(1);

/// One request as an upstream saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection, counted from 1.
    pub connection: u64,
    /// Method.
    pub method: String,
    /// Request target, byte for byte.
    pub target: String,
    /// The whole head.
    pub head: Head,
    /// The body so far.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub whole: bool,
    /// When its head had come.
    pub at: Instant,
}

impl Seen {
    /// First value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }
}

/// What it is told and what it remembers.
#[derive(Debug)]
pub struct State {
    /// For new connections.
    pub door: Door,
    /// For probes.
    pub health: Health,
    /// For requests that no other rule fits.
    pub default: Behaviour,
    /// For requests by path; the first rule that fits counts.
    pub on_path: Vec<(String, Behaviour)>,
    /// For the next requests, one each.
    pub queue: VecDeque<Behaviour>,
    /// Requests.
    pub seen: Vec<Seen>,
    /// How many requests came, remembered or not.
    pub asked: u64,
    /// Whether requests are remembered.
    pub remembers: bool,
    /// How many probes came.
    pub probes: u64,
    /// What was not in canonical form.
    pub complaints: Vec<String>,
    /// How many connections were taken.
    pub accepted: u64,
    /// Open connections.
    pub open: HashMap<u64, TcpStream>,
    /// Ended connections.
    pub left: Vec<(u64, Instant)>,
}

/// What the threads of one upstream share.
#[derive(Debug)]
pub struct Shared {
    /// Its name.
    pub name: String,
    /// All else.
    pub state: Mutex<State>,
    /// Connections so far, for their numbers.
    pub connections: AtomicU64,
}

impl Shared {
    /// The state; a panic of another thread that held it fails the test.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no helper thread panicked while it held the state")
    }
}

/// The server. Killed and forgotten on drop.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: Option<(i32, JoinHandle<()>)>,
}

/// A loopback address that no other upstream of this machine's tests is likely to use.
pub fn own_address() -> Ipv4Addr {
    let process = std::process::id();
    let number = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = (process.wrapping_mul(31).wrapping_add(number)).to_be_bytes();
    Ipv4Addr::new(127, 2 + (process % 200) as u8, high, low.max(1))
}

/// Lets more connections wait to be accepted than the standard library does (128): hundreds come at once in some tests.
fn long_queue(listener: &TcpListener) {
    // SAFETY: a plain system call on a descriptor that is open.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(listener), 4_096) };
}

impl Upstream {
    /// Starts a well-behaved server on an address of its own.
    pub fn named(name: &str) -> Self {
        Self::at(name, SocketAddr::new(own_address().into(), 0))
    }

    /// Starts a well-behaved server on a given address.
    pub fn at(name: &str, address: SocketAddr) -> Self {
        let state = State {
            door: Door::Open,
            health: Health::Pass,
            default: Behaviour::Answer,
            on_path: Vec::new(),
            queue: VecDeque::new(),
            seen: Vec::new(),
            asked: 0,
            remembers: true,
            probes: 0,
            complaints: Vec::new(),
            accepted: 0,
            open: HashMap::new(),
            left: Vec::new(),
        };
        let shared =
            Arc::new(Shared { name: name.to_owned(), state: Mutex::new(state), connections: AtomicU64::new(0) });
        let mut upstream = Self { shared, address, listener: None };
        upstream.listen();
        upstream
    }

    /// A server that is down from the start; its port is known and refuses.
    pub fn down(name: &str) -> Self {
        let mut upstream = Self::named(name);
        upstream.kill();
        upstream
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).expect("an upstream's own address can be bound");
        long_queue(&listener);
        self.address = listener.local_addr().expect("a bound socket has an address");
        let fd = listener.as_raw_fd();
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::spawn(move || accept(&listener, &shared));
        self.listener = Some((fd, thread));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as an endpoint of a pool.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The same server, which only counts: for loads of which nobody could remember every request.
    pub fn forgetful(self) -> Self {
        self.shared.lock().remembers = false;
        self
    }

    /// How many requests came, remembered or not, without probes.
    pub fn asked(&self) -> u64 {
        self.shared.lock().asked
    }

    /// From now on every request is treated so.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().default = behaviour;
    }

    /// Requests whose target starts with `prefix` are treated so; the first rule that fits counts.
    pub fn behave_on(&self, prefix: &str, behaviour: Behaviour) {
        self.shared.lock().on_path.push((prefix.to_owned(), behaviour));
    }

    /// The next request (no probe) is treated so, once.
    pub fn next(&self, behaviour: Behaviour) {
        self.shared.lock().queue.push_back(behaviour);
    }

    /// What new connections meet from now on.
    pub fn door(&self, door: Door) {
        self.shared.lock().door = door;
    }

    /// What probes of `/healthz` get from now on.
    pub fn health(&self, health: Health) {
        self.shared.lock().health = health;
    }

    /// All requests seen so far, without probes.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// The latest request; fails the test when there is none.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.shared.lock().seen.last().cloned().expect("the upstream has seen a request")
    }

    /// How many requests it has seen, without probes.
    pub fn count(&self) -> usize {
        self.shared.lock().seen.len()
    }

    /// How many requests carried this `x-id`.
    pub fn count_of(&self, id: &str) -> usize {
        self.shared.lock().seen.iter().filter(|seen| seen.field("x-id") == Some(id)).count()
    }

    /// How many requests had this target.
    pub fn count_on(&self, target: &str) -> usize {
        self.shared.lock().seen.iter().filter(|seen| seen.target == target).count()
    }

    /// How many probes it has seen.
    pub fn probes(&self) -> u64 {
        self.shared.lock().probes
    }

    /// How many connections it has taken.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// When the connection was seen to end, if it has.
    pub fn left(&self, connection: u64) -> Option<Instant> {
        self.shared.lock().left.iter().find(|(id, _)| *id == connection).map(|(_, at)| *at)
    }

    /// Forgets all requests seen so far.
    pub fn forget(&self) {
        self.shared.lock().seen.clear();
    }

    /// What weir sent that was not in canonical form.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.lock().complaints.clone()
    }

    /// The same, and they are forgotten: a test that judges them itself does not fail for them later.
    pub fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().complaints)
    }

    /// Ends all connections; the listener stays.
    pub fn drop_connections(&self) {
        for (_, stream) in self.shared.lock().open.drain() {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Dies as by `kill -9`: the port refuses and all connections end.
    pub fn kill(&mut self) {
        if let Some((fd, thread)) = self.listener.take() {
            // SAFETY: the descriptor belongs to the listener of the thread that is joined below, so it is still open.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
            let ended = thread.join();
            if !std::thread::panicking() {
                assert!(ended.is_ok(), "the accept thread of upstream {} panicked", self.shared.name);
            }
        }
        self.drop_connections();
    }

    /// Listens again on the same port.
    pub fn restart(&mut self) {
        assert!(self.listener.is_none(), "only a killed upstream is restarted");
        self.listen();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
        let complaints = self.shared.state.lock().map(|state| state.complaints.clone());
        if !std::thread::panicking() {
            let complaints = complaints.expect("no helper thread panicked");
            assert!(complaints.is_empty(), "upstream {} complains: {complaints:#?}", self.shared.name);
        }
    }
}
