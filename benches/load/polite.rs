//! Two clients that do nothing wrong, in open loop on one thread: one over kept connections, one that opens a
//! connection for each request. What is measured is how they fare beside others; a connection that is closed is a
//! failed request and is opened again.
//!
//! Latency counts from the intended start, also that of connecting. The thread spins between starts, as in `rate`.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Progress};
use crate::epoll::Epoll;
use crate::histogram::Histogram;
use crate::options::Options;

/// How long a request may take until it counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// New connections under way at a time; more are not begun, and counted as failed.
const FRESH_MAX: usize = 1024;

/// What one of the two saw.
struct Side {
    histogram: Histogram,
    failed: u64,
    /// When its first request begins, and how far apart they are.
    start: Instant,
    interval: Duration,
    next: u32,
    planned: u32,
    counted_from: Instant,
}

/// A connection of its own for one request.
struct Fresh {
    connection: Connection,
    intended: Instant,
    sent: bool,
}

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let target = options.target()?;
    let (warm_up, length) = (options.seconds("warm-up")?, options.seconds("seconds")?);
    let request = options.request()?;
    let once = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").into_bytes();
    let mut epoll = Epoll::new()?;
    let mut connections = Vec::new();
    for token in 0..options.value("connections")? {
        connections.push(Connection::open(target)?);
        epoll.add(&connections[token], token)?;
    }
    let (start, whole) = (Instant::now() + Duration::from_millis(20), warm_up + length);
    let mut kept = Side::new(options.value("rate")?, start, warm_up, whole);
    let mut fresh = Side::new(options.value("fresh-rate")?, start, warm_up, whole);
    let mut idle: VecDeque<usize> = (0..connections.len()).collect();
    let mut opened: Vec<Fresh> = Vec::new();
    let deadline = start + whole + PATIENCE;
    while Instant::now() < deadline {
        let now = Instant::now();
        while let Some(intended) = kept.due(now) {
            let Some(token) = idle.pop_front() else { break };
            kept.next += 1;
            // What fails here is seen when it is read.
            let _ = connections[token].send(&request, intended);
        }
        while let Some(intended) = fresh.due(now) {
            fresh.next += 1;
            match (opened.len() < FRESH_MAX).then(|| Connection::begin(target)) {
                Some(Ok(connection)) => opened.push(Fresh { connection, intended, sent: false }),
                _ => fresh.failed += 1,
            }
        }
        let ready: Vec<usize> = epoll.ready(0)?.collect();
        for token in ready {
            if receive(&mut connections[token], &mut kept)? {
                continue;
            }
            if connections[token].sent.is_none() {
                idle.push_back(token);
            } else {
                kept.failed += 1;
                connections[token] = Connection::open(target)?;
                epoll.add(&connections[token], token)?;
                idle.push_back(token);
            }
        }
        opened.retain_mut(|one| one.goes_on(&once, &mut fresh));
        if kept.is_done() && fresh.is_done() && idle.len() == connections.len() && opened.is_empty() {
            break;
        }
    }
    kept.failed += u64::from(kept.planned - kept.next) + (connections.len() - idle.len()) as u64;
    fresh.failed += opened.len() as u64;
    Ok(format!("{{\"kept\":{},\"fresh\":{}}}", kept.json(), fresh.json()))
}

/// Takes what came on a kept connection; whether it waits for more. `sent` stays where it was closed.
fn receive(connection: &mut Connection, side: &mut Side) -> io::Result<bool> {
    match connection.receive() {
        Ok(Progress::Waiting) => return Ok(true),
        Ok(Progress::Done(answer)) => {
            if let Some(intended) = connection.sent.take() {
                side.answered(intended, answer.status);
            }
            if answer.last {
                connection.sent = Some(Instant::now());
            }
        }
        Ok(Progress::Closed) | Err(_) => connection.sent = connection.sent.or_else(|| Some(Instant::now())),
    }
    Ok(false)
}

// === impl Side ===

impl Side {
    fn new(rate: u32, start: Instant, warm_up: Duration, whole: Duration) -> Self {
        let planned = (whole.as_secs_f64() * f64::from(rate)) as u32;
        let interval = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
        let counted_from = start + warm_up;
        Self { histogram: Histogram::new(), failed: 0, start, interval, next: 0, planned, counted_from }
    }

    /// When the next request should begin, if that is by now.
    fn due(&self, now: Instant) -> Option<Instant> {
        let intended = self.start + self.interval * self.next;
        (self.next < self.planned && intended <= now).then_some(intended)
    }

    fn answered(&mut self, intended: Instant, status: u16) {
        self.failed += u64::from(status != 200);
        if intended >= self.counted_from {
            self.histogram.record(intended.elapsed());
        }
    }

    fn is_done(&self) -> bool {
        self.next >= self.planned
    }

    fn json(&self) -> String {
        format!(
            "{{\"requests\":{},\"failed\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}}}",
            self.histogram.total(),
            self.failed,
            self.histogram.quantile_us(0.5),
            self.histogram.quantile_us(0.99),
            self.histogram.quantile_us(0.999),
            self.histogram.longest_us(),
        )
    }
}

// === impl Fresh ===

impl Fresh {
    /// Sends, or takes what came; false when it is over.
    fn goes_on(&mut self, request: &[u8], side: &mut Side) -> bool {
        if self.intended.elapsed() > PATIENCE {
            side.failed += 1;
            return false;
        }
        if !self.sent {
            match self.connection.send(request, self.intended) {
                Ok(()) => self.sent = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {
                    side.failed += 1;
                    return false;
                }
            }
        }
        match self.connection.receive() {
            Ok(Progress::Waiting) => true,
            Ok(Progress::Done(answer)) => {
                side.answered(self.intended, answer.status);
                false
            }
            Ok(Progress::Closed) | Err(_) => {
                side.failed += 1;
                false
            }
        }
    }
}
