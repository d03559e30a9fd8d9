//! Open loop: requests start at fixed times whatever the server does, and latency counts from the intended start, so a
//! stall is charged to every request that it delayed (no coordinated omission).
//!
//! The thread spins on its core between starts: a timer's slack would be larger than what is measured.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Progress};
use crate::epoll::Epoll;
use crate::histogram::Histogram;
use crate::options::Options;

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let rate: u64 = options.value("rate")?;
    let target = options.target()?;
    let request = options.request()?;
    let warm_up = options.seconds("warm-up")?;
    let length = warm_up + options.seconds("seconds")?;
    let mut epoll = Epoll::new()?;
    let mut connections = Vec::new();
    for token in 0..options.value("connections")? {
        let connection = Connection::open(target)?;
        epoll.add(&connection, token)?;
        connections.push(connection);
    }

    let mut histogram = Histogram::new();
    let mut idle: VecDeque<usize> = (0..connections.len()).collect();
    let mut next: u64 = 0;
    let mut failed: u64 = 0;
    let planned = (length.as_secs_f64() * rate as f64) as u64;
    let interval = Duration::from_nanos(1_000_000_000 / rate);
    let start = Instant::now();
    let deadline = start + length + Duration::from_secs(5);
    while next < planned || idle.len() < connections.len() {
        let now = Instant::now();
        if now > deadline {
            break;
        }
        while next < planned {
            let intended = start + interval * u32::try_from(next).map_err(io::Error::other)?;
            let Some(token) = (intended <= now).then(|| idle.pop_front()).flatten() else { break };
            connections[token].send(&request, intended)?;
            next += 1;
        }
        for token in epoll.ready(0)? {
            let connection = &mut connections[token];
            match connection.receive()? {
                Progress::Waiting => continue,
                Progress::Closed => return Err(io::Error::other("the server closed a connection")),
                Progress::Done(answer) => failed += u64::from(answer.status != 200),
            }
            if let Some(intended) = connection.sent.take()
                && intended >= start + warm_up
            {
                histogram.record(intended.elapsed());
            }
            idle.push_back(token);
        }
    }
    Ok(format!(
        "{{\"requests\":{},\"unanswered\":{},\"failed\":{failed},\
         \"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}}}",
        histogram.total(),
        planned - next + (connections.len() - idle.len()) as u64,
        histogram.quantile_us(0.5),
        histogram.quantile_us(0.9),
        histogram.quantile_us(0.99),
        histogram.quantile_us(0.999),
        histogram.longest_us(),
    ))
}
