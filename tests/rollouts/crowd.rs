//! A crowd of keep-alive clients that ask at a steady pace and write down when a request failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Client, End};

/// Who asks, and how often.
#[derive(Debug, Clone)]
pub struct Asks {
    /// Clients, each on a connection of its own.
    pub clients: usize,
    /// Time from one answer to the next request of a client.
    pub pause: Duration,
    /// The `Host` of every request.
    pub host: &'static str,
    /// How many units there are; each request is of a random one and says so in `x-unit`. None: no such field.
    pub units: u64,
}

/// What the crowd met.
#[derive(Debug, Default)]
pub struct Met {
    /// Requests with a whole answer below 500.
    pub good: u64,
    /// Good answers by upstream.
    pub by_upstream: BTreeMap<String, u64>,
    /// When others failed, and how.
    pub failed: Vec<(Instant, String)>,
    /// Connections that were refused.
    pub refused: u64,
    /// New connections that broke before anything was answered on them: nobody took them, as when a process dies.
    pub unread: u64,
}

/// Clients at work.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    rests: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Met>>,
}

impl Default for Asks {
    /// About five hundred requests a second.
    fn default() -> Self {
        Self { clients: 6, pause: Duration::from_millis(10), host: "test", units: 0 }
    }
}

impl Met {
    /// Requests that failed between two moments.
    pub fn failed_between(&self, begin: Instant, end: Instant) -> usize {
        self.failed.iter().filter(|(at, _)| (begin..=end).contains(at)).count()
    }

    /// All requests that were answered, well or not.
    pub fn answered(&self) -> u64 {
        self.good + self.failed.len() as u64
    }

    fn add(&mut self, other: Self) {
        self.good += other.good;
        for (name, count) in other.by_upstream {
            *self.by_upstream.entry(name).or_default() += count;
        }
        self.failed.extend(other.failed);
        self.refused += other.refused;
        self.unread += other.unread;
    }
}

impl Crowd {
    /// Begins to ask.
    pub fn at(address: SocketAddr, asks: &Asks) -> Self {
        let (stop, rests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let clients = (0..asks.clients).map(|number| {
            let (stop, rests, asks) = (Arc::clone(&stop), Arc::clone(&rests), asks.clone());
            let work = move || ask(address, &asks, number as u64, &stop, &rests);
            std::thread::Builder::new().stack_size(256 * 1024).spawn(work).expect("a thread can be started")
        });
        Self { clients: clients.collect(), stop, rests }
    }

    /// Whether no new request is sent for now.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Ends the load and says what it met.
    pub fn stop(mut self) -> Met {
        self.stop.store(true, Ordering::Relaxed);
        let mut met = Met::default();
        for client in self.clients.drain(..) {
            met.add(client.join().expect("a client of the crowd panicked"));
        }
        met
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask(address: SocketAddr, asks: &Asks, number: u64, stop: &AtomicBool, rests: &AtomicBool) -> Met {
    let mut met = Met::default();
    let mut dice = Dice::new(number + 1);
    let mut client: Option<Client> = None;
    let mut asked_on = 0;
    while !stop.load(Ordering::Relaxed) {
        if rests.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let Some(open) = client.as_mut() else {
            client = Client::try_to(address).ok().map(|it| it.host(asks.host));
            asked_on = 0;
            if client.is_none() {
                met.refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            continue;
        };
        let unit = if asks.units == 0 { String::new() } else { format!("u{}", dice.below(asks.units)) };
        let fields: &[(&str, &str)] = if unit.is_empty() { &[] } else { &[("x-unit", &unit)] };
        match open.try_ask("GET", "/", fields, b"") {
            Ok(answer) if answer.status < 500 && answer.end == End::Whole => {
                met.good += 1;
                asked_on += 1;
                *met.by_upstream.entry(answer.upstream().to_owned()).or_default() += 1;
            }
            Ok(answer) => {
                asked_on += 1;
                met.failed.push((Instant::now(), format!("{} {:?}", answer.status, answer.end)));
                if answer.end == End::Cut {
                    client = None;
                }
            }
            Err(error) => {
                match asked_on {
                    0 => met.unread += 1,
                    _ => met.failed.push((Instant::now(), error.to_string())),
                }
                client = None;
            }
        }
        std::thread::sleep(asks.pause);
    }
    met
}

/// Small, seeded, good enough to draw units and moments (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Always the same sequence for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A number whose bits look random.
pub fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Whether request `number` of a server with this seed is one of the part that `ratio` says.
pub fn hits(seed: u64, number: u64, ratio: f64) -> bool {
    let bits = mixed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ mixed(number.wrapping_add(0x1234_5678)));
    ((bits >> 11) as f64 / (1_u64 << 53) as f64) < ratio
}
