//! One connection, one request after the other, a fixed number: what instruction counts are taken over.

use std::io;
use std::time::Instant;

use crate::connection::{Connection, Progress};
use crate::epoll::Epoll;
use crate::options::Options;

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let requests: usize = options.value("requests")?;
    let request = options.request()?;
    let mut epoll = Epoll::new()?;
    let mut connection = Connection::open(options.target()?)?;
    epoll.add(&connection, 0)?;
    for _ in 0..requests {
        connection.send(&request, Instant::now())?;
        loop {
            let woken = epoll.ready(30_000)?.count();
            match connection.receive()? {
                Progress::Done(answer) if answer.status == 200 => break,
                Progress::Done(answer) => return Err(io::Error::other(format!("status {}", answer.status))),
                Progress::Closed => return Err(io::ErrorKind::ConnectionReset.into()),
                Progress::Waiting if woken == 0 => return Err(io::ErrorKind::TimedOut.into()),
                Progress::Waiting => {}
            }
        }
    }
    Ok(format!("{{\"requests\":{requests}}}"))
}
