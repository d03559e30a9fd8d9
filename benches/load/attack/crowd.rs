//! The connections of one thread: opened at a rate, looked after in turn, opened again where the kind comes back.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::Instant;

use super::Orders;
use super::kinds::Then;
use super::peer::{Fate, Peer};
use super::tally::Tally;
use crate::epoll::Epoll;

/// Connections opened before the others are looked after again.
const OPENED_AT_ONCE_MAX: usize = 64;

/// Addresses that connections come from in turn.
const ADDRESSES: usize = 40;

/// Failures to open after which there is no point.
const FAILED_MAX: u64 = 10_000;

pub(super) struct Crowd {
    orders: Orders,
    epoll: Epoll,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Who sends something next, and when, in this order.
    drips: VecDeque<(Instant, usize, Instant)>,
    tally: Tally,
    buffer: Vec<u8>,
}

// === impl Crowd ===

impl Crowd {
    pub(super) fn new(orders: Orders) -> io::Result<Self> {
        let peers = (0..orders.connections).map(|_| None).collect();
        let free = (0..orders.connections).rev().collect();
        let (epoll, buffer) = (Epoll::new()?, vec![0; 64 * 1024]);
        Ok(Self { orders, epoll, peers, free, drips: VecDeque::new(), tally: Tally::default(), buffer })
    }

    pub(super) fn run(mut self) -> io::Result<Tally> {
        let began = Instant::now();
        let floods = matches!(self.orders.kind.then, Then::Flood(_));
        while began.elapsed() < self.orders.length && self.tally.failed < FAILED_MAX {
            let due = (began.elapsed().as_secs_f64() * self.orders.rate) as u64;
            let opening = self.open_some(due);
            self.drip();
            let busy = floods && self.flood();
            let wait_ms = if opening || busy { 0 } else { 1 };
            let ready: Vec<usize> = self.epoll.ready(wait_ms)?.collect();
            for token in ready {
                self.look_after(token);
            }
        }
        for peer in self.peers.iter().flatten() {
            self.tally.stream_resets += peer.stream_resets();
            self.tally.left += 1;
        }
        Ok(self.tally)
    }

    /// Opens connections while there is room and they are due; whether there may be more at once.
    fn open_some(&mut self, due: u64) -> bool {
        for _ in 0..OPENED_AT_ONCE_MAX {
            if self.tally.opened + self.tally.failed >= due {
                return false;
            }
            let Some(token) = self.free.pop() else { return false };
            let last = (self.tally.opened as usize % ADDRESSES) as u8 + self.orders.first_address;
            let from = Ipv4Addr::new(127, 0, self.orders.network, last.saturating_add(1));
            let opened = Peer::open(&self.orders.kind, self.orders.target, from)
                .and_then(|peer| self.epoll.add_edges(&peer, token).map(|()| peer));
            match opened {
                Ok(peer) => {
                    if let Then::Drip(every, _) = self.orders.kind.then {
                        self.drips.push_back((peer.began + every, token, peer.began));
                    }
                    self.peers[token] = Some(peer);
                    self.tally.opened += 1;
                    self.push(token);
                }
                Err(_) => {
                    self.free.push(token);
                    self.tally.failed += 1;
                    return false;
                }
            }
        }
        true
    }

    /// Sends what is due by now.
    fn drip(&mut self) {
        let Then::Drip(every, round) = self.orders.kind.then else { return };
        let now = Instant::now();
        while let Some((at, token, began)) = self.drips.front().copied().filter(|(at, ..)| *at <= now) {
            self.drips.pop_front();
            // Its place may be another one's by now.
            let Some(peer) = self.peers[token].as_mut().filter(|peer| peer.began == began) else { continue };
            peer.drip(round);
            self.drips.push_back((at + every, token, began));
            self.look_after(token);
        }
    }

    /// Sends a batch on every connection that takes one; whether any did.
    fn flood(&mut self) -> bool {
        let mut any = false;
        for token in 0..self.peers.len() {
            if self.peers[token].as_ref().is_some_and(|peer| !peer.full) {
                any = true;
                self.push(token);
            }
        }
        any
    }

    fn push(&mut self, token: usize) {
        let Some(peer) = &mut self.peers[token] else { return };
        match peer.push(&self.orders.kind) {
            Ok(sent) => self.tally.sent_bytes += sent as u64,
            // What the server said before it left is still to be read.
            Err(_) => self.pull(token, true),
        }
    }

    fn look_after(&mut self, token: usize) {
        self.pull(token, false);
        self.push(token);
    }

    fn pull(&mut self, token: usize, broken: bool) {
        let Some(peer) = &mut self.peers[token] else { return };
        let fate = match peer.pull(&self.orders.kind, &mut self.buffer) {
            Fate::Goes if broken => Fate::Ended("reset".to_owned()),
            fate => fate,
        };
        let how = match fate {
            Fate::Goes => return,
            Fate::Ended(how) => Some(how),
            Fate::Left => None,
        };
        let Some(peer) = self.peers[token].take() else { return };
        self.tally.stream_resets += peer.stream_resets();
        match how {
            Some(how) => self.tally.end(how, peer.began.elapsed()),
            None => self.tally.reached += 1,
        }
        peer.leave();
        if self.orders.kind.returns {
            self.free.push(token);
        }
    }
}
