//! Hostile clients: each kind opens connections by the hundred or the hundred thousand, does on them what a proxy must
//! not let itself be used for, for a bounded time, and says what became of them. `benches/floods` runs them.
//!
//! They are quick and dumb: one thread each for a part of the connections, nothing is waited for but what the kind
//! says. They speak from several addresses of the loopback network, because one has too few ports.

#[path = "../../../tests/it/harness/believing.rs"]
#[allow(unreachable_pub, missing_docs, reason = "it is the tests' as well")]
mod believing;
mod crowd;
pub(crate) mod frames;
mod kinds;
#[path = "../../../tests/it/harness/octets.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "it is the tests' as well, and they use more of it")]
pub(crate) mod octets;
mod peer;
mod tally;

use std::io;
use std::thread;
use std::time::Duration;

use crate::options::Options;
use crowd::Crowd;
use kinds::Kind;
use tally::Tally;

/// What one thread is to do.
#[derive(Clone)]
pub(crate) struct Orders {
    kind: Kind,
    target: std::net::SocketAddr,
    /// Connections at a time.
    connections: usize,
    /// Connections opened in a second, at most.
    rate: f64,
    length: Duration,
    /// The network that its addresses are of, 127.0.N.0, and where they begin.
    network: u8,
    first_address: u8,
}

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let threads: usize = options.value("threads")?;
    let connections: usize = options.value("connections")?;
    let rate: f64 = options.value("rate")?;
    let name = options.text("kind")?;
    let target = options.target()?;
    let kind = Kind::named(name, target).ok_or_else(|| io::Error::other(format!("no kind {name}")))?;
    let orders = Orders {
        kind,
        target,
        connections: connections / threads,
        rate: rate / threads as f64,
        length: options.seconds("seconds")?,
        network: options.value("network")?,
        first_address: 0,
    };
    let mut all = Tally::default();
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let orders = Orders { first_address: (thread * 40) as u8, ..orders.clone() };
            thread::spawn(move || Crowd::new(orders)?.run())
        })
        .collect();
    for thread in running {
        all.add(thread.join().map_err(|_| io::Error::other("a thread of the attack panicked"))??);
    }
    Ok(all.json())
}
