//! A modest load beside a fault: keep-alive clients that count every answer and every failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, End};
use super::tls::Tls;

/// What the load met.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests that got a whole 2xx answer.
    pub good: usize,
    /// Everything else, one line each.
    pub failures: Vec<String>,
    /// Good answers by upstream.
    pub by_upstream: BTreeMap<String, usize>,
    /// Connections that had to be made again.
    pub reconnects: usize,
    /// Time of every answer.
    pub times: Vec<Duration>,
}

impl Report {
    /// The time that all but one in a hundred answers stayed within.
    pub fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.good += other.good;
        self.failures.extend(other.failures);
        for (name, count) in other.by_upstream {
            *self.by_upstream.entry(name).or_default() += count;
        }
        self.reconnects += other.reconnects;
        self.times.extend(other.times);
    }

    /// Fails the test unless every request was answered well on a connection that stayed.
    #[track_caller]
    pub fn assert_flawless(&self) {
        let first = self.failures.iter().take(5).collect::<Vec<_>>();
        assert!(self.failures.is_empty(), "{} failed of {}: {first:#?}", self.failures.len(), self.good);
        assert_eq!(self.reconnects, 0, "connections were closed");
        assert!(self.good > 0, "the load ran");
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Report>>,
}

impl Load {
    /// `clients` keep-alive clients, each `GET /load` every `pause`.
    pub fn start(address: SocketAddr, clients: usize, pause: Duration) -> Self {
        Self::of("GET", address, clients, pause)
    }

    /// The same, every request on a new connection.
    pub fn fresh(address: SocketAddr, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || work("GET", || Client::try_to(address), Some(1), number, pause, &stop))
        });
        Self { clients: clients.collect(), stop }
    }

    /// The same over TLS; every tenth request on a new connection.
    pub fn over(address: SocketAddr, tls: &Tls, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let (stop, tls) = (Arc::clone(&stop), tls.clone());
            std::thread::spawn(move || {
                let connect = move || Client::try_over(address, &tls);
                work("GET", connect, Some(10), number, pause, &stop)
            })
        });
        Self { clients: clients.collect(), stop }
    }

    /// The same with another method; a body of four bytes goes with it.
    pub fn of(method: &'static str, address: SocketAddr, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || work(method, || Client::try_to(address), None, number, pause, &stop))
        });
        Self { clients: clients.collect(), stop }
    }

    /// Ends the load and reports; a panic in a client fails the test.
    #[track_caller]
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for client in self.clients.drain(..) {
            report.add(client.join().expect("a load client panicked"));
        }
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn work(
    method: &str,
    connect: impl Fn() -> std::io::Result<Client>,
    renew_every: Option<u64>,
    number: usize,
    pause: Duration,
    stop: &AtomicBool,
) -> Report {
    let mut report = Report::default();
    let mut client = None;
    let body: &[u8] = if method == "GET" { b"" } else { b"body" };
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let renewed = renew_every.is_some_and(|every| turn.is_multiple_of(every));
        if client.is_none() || renewed {
            report.reconnects += usize::from(turn > 0 && !renewed);
            client = match connect() {
                Ok(client) => Some(client),
                Err(error) => {
                    let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
                    report.failures.push(if refused { "connect refused".into() } else { format!("connect: {error}") });
                    None
                }
            };
        }
        let Some(open) = client.as_mut() else {
            std::thread::sleep(pause.max(Duration::from_millis(5)));
            continue;
        };
        let id = format!("{number}-{turn}");
        let began = Instant::now();
        match open.try_ask(method, "/load", &[("x-id", &id)], body) {
            Ok(answer) if answer.status / 100 == 2 && answer.end == End::Whole => {
                report.good += 1;
                *report.by_upstream.entry(answer.upstream().to_owned()).or_default() += 1;
                report.times.push(began.elapsed());
                if answer.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
                    client = None;
                }
            }
            Ok(answer) => {
                report.failures.push(format!("{id}: {} {:?} {}", answer.status, answer.end, answer.text()));
                client = None;
            }
            Err(error) => {
                report.failures.push(format!("{id}: {error}"));
                client = None;
            }
        }
        std::thread::sleep(pause);
    }
    report
}
