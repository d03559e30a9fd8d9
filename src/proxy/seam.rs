//! What tests and benches see of the heads that this room writes: a request on its way up and an answer on its way
//! down, without sockets. Nothing in the program uses it, and it decides nothing of its own.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::answer::{Back, Took};
use super::decide::Decision;
use super::dice::Rng;
use super::h1::request::Parsed;
use super::h1::response::Response;
use super::outgoing::{Caller, Outgoing, RequestId};
use super::refusal::Refusal;
use super::relay::write_framing;
use super::via::Via;
use crate::model::{Head, Now};
use crate::switchboard::snapshot::Snapshot;

/// How the heads written here name this process in `Via`.
pub const INSTANCE: &str = "weir-seam";

/// One decided request of an HTTP/1 client.
#[derive(Debug, Clone, Copy)]
pub struct Crossing<'a> {
    /// What it was decided on.
    pub snapshot: &'a Snapshot,
    /// Its head.
    pub head: &'a Head,
    /// What the parser found beside the head.
    pub parsed: &'a Parsed,
    /// Where it goes.
    pub decision: &'a Decision,
    /// The address at the other end of the client's connection.
    pub peer: IpAddr,
}

// === impl Crossing ===

impl Crossing<'_> {
    /// Appends the head that the endpoint gets. A request id is drawn when the client has none.
    pub fn request(&self, rng: &mut Rng, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Self { snapshot, head, parsed, decision, peer } = *self;
        let caller = Caller::new(head, &Via::plain(peer, 0), &snapshot.trusted_proxies);
        let id = RequestId::new(head, rng);
        let (framing, upgrade) = (parsed.framing, parsed.upgrade);
        let (instance, tls) = (INSTANCE, None);
        let outgoing = Outgoing {
            snapshot,
            head,
            decision,
            caller: &caller,
            id: &id,
            trace: None,
            instance,
            tls,
            framing,
            upgrade,
        };
        outgoing.write(self.authority(), out)
    }

    /// Appends the head that the client gets for the answer parsed from `bytes`; true when its body goes out in chunks.
    pub fn answer(&self, response: &Response, bytes: &[u8], now: Now, out: &mut Vec<u8>) -> bool {
        let Self { snapshot, head, decision, .. } = *self;
        let caller = Caller::new(head, &Via::plain(self.peer, 0), &snapshot.trusted_proxies);
        let took = Took { began: Instant::now(), upstream_us: None };
        let back = Back { snapshot, head, decision, caller: &caller, authority: self.authority(), now, took };
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&bytes[response.status_line.range()]);
        out.extend_from_slice(b"\r\n");
        back.fields(response, bytes, |name, value| {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        });
        let chunked = write_framing(response, self.parsed.http10, out);
        out.extend_from_slice(b"\r\n");
        chunked
    }

    fn authority(&self) -> &str {
        let Decision { service, pool, endpoint, .. } = *self.decision;
        &self.snapshot.services[service].pools[pool].endpoints[endpoint].authority
    }
}

/// The client of a request, as trusted proxies tell it.
pub fn client(head: &Head, peer: IpAddr, trusted_proxies: &[IpNet]) -> IpAddr {
    Caller::new(head, &Via::plain(peer, 0), trusted_proxies).client
}
