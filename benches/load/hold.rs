//! Many idle keep-alive connections: each makes one request and is then held, silent, until standard input ends.
//!
//! Prints `held` once every connection has its answer, so that whoever started it can measure the proxy.

use std::io::{self, Read};
use std::time::Instant;

use crate::connection::{Connection, Progress};
use crate::epoll::Epoll;
use crate::options::Options;

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let target = options.target()?;
    let request = options.request()?;
    let mut held = Vec::new();
    for token in 0..options.value("connections")? {
        let mut epoll = Epoll::new()?;
        let mut connection = Connection::open(target)?;
        epoll.add(&connection, token)?;
        connection.send(&request, Instant::now())?;
        loop {
            let woken = epoll.ready(10_000)?.count();
            match connection.receive()? {
                Progress::Done(answer) if answer.status == 200 && !answer.last => break,
                Progress::Done(_) | Progress::Closed => return Err(io::Error::other("a connection could not be held")),
                Progress::Waiting if woken == 0 => return Err(io::ErrorKind::TimedOut.into()),
                Progress::Waiting => {}
            }
        }
        held.push(connection);
    }
    println!("held");
    io::stdin().read_to_end(&mut Vec::new())?;
    let mut closed = 0;
    for connection in &mut held {
        if !matches!(connection.receive(), Ok(Progress::Waiting)) {
            closed += 1;
        }
    }
    Ok(format!("{{\"connections\":{},\"closed\":{closed}}}", held.len()))
}
