//! What tests and benches see of the heads that this room writes, a request on its way up and an answer on its way
//! down, of the frames that it finds, and of HPACK, without sockets. Nothing in the program uses it, and it decides
//! nothing of its own.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use tokio::io::DuplexStream;

use crate::model::{Head, Now};
use crate::proxy::arrival::via::Via;
use crate::proxy::clients::relay::write_framing;
use crate::proxy::decide::Decision;
use crate::proxy::decide::dice::Rng;
use crate::proxy::frames::rules::broken;
use crate::proxy::frames::scanner::Scanner;
use crate::proxy::h1::request::Parsed;
use crate::proxy::h1::response::Response;
use crate::proxy::heads::answer::{Back, Took};
use crate::proxy::heads::outgoing::{Caller, Outgoing, RequestId};
use crate::proxy::hpack::decoder::{Decoded, Decoder};
use crate::proxy::hpack::encoder::{Encoder, Index};
use crate::proxy::hpack::fields::Fields;
use crate::proxy::http2::trial::{self, Trial};
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::socket_frames::Frames;
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

/// A frame of HTTP/2, as it is told to those who watch floods and rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H2Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Length of its payload, bytes.
    pub length: usize,
    /// The first bytes of its payload.
    pub begins: Vec<u8>,
    /// The error code of the rule that it breaks, if it breaks one (RFC 9113 §7).
    pub broken: Option<u32>,
}

/// What is found in one direction of an HTTP/2 connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H2Frames {
    /// The frames that can be told, in order.
    pub frames: Vec<H2Frame>,
    /// Whether the bytes end within a header block.
    pub in_block: bool,
    /// Whether the bytes end with a frame.
    pub between: bool,
}

/// The frames of HTTP/2 in bytes that come in pieces, of which the first `skip` are none.
pub fn h2_frames<'a>(skip: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> H2Frames {
    let mut scanner = Scanner::after(skip);
    let mut frames = Vec::new();
    for piece in pieces {
        scanner.scan(piece, |frame| {
            let broken = broken(&frame, frames.is_empty()).map(|reason| reason.0);
            let (kind, flags, length) = (frame.kind, frame.flags, frame.length);
            frames.push(H2Frame { kind, flags, length, begins: frame.begins.to_vec(), broken });
        });
    }
    H2Frames { frames, in_block: scanner.is_in_block(), between: scanner.is_between_frames() }
}

/// What is found in one direction of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFrames {
    /// Where frames end, counted in bytes from the beginning.
    pub ends: Vec<usize>,
    /// Whether it is no WebSocket.
    pub lost: bool,
    /// Whether a whole Close frame is in it.
    pub closed: bool,
}

/// The frames of a WebSocket in bytes that come in pieces; `masked`: as clients send them.
pub fn socket_frames<'a>(masked: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> SocketFrames {
    let mut tracker = Frames::new(masked);
    let (mut ends, mut at) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() && !tracker.is_lost() {
            let passed = tracker.pass_frame(piece);
            at += passed;
            piece = &piece[passed..];
            if tracker.is_between() {
                ends.push(at);
            }
        }
    }
    SocketFrames { ends, lost: tracker.is_lost(), closed: tracker.is_closed() }
}

pub use crate::proxy::http2::trial::Fed;

/// Feeds an end of HTTP/2 with what a peer says behind its SETTINGS, in pieces of so many bytes; after each, whoever
/// holds its streams does what the next of `acts` says.
pub fn http2_feed(is_client: bool, bytes: &[u8], piece: usize, acts: &[u8]) -> Fed {
    trial::feed(is_client, bytes, piece, acts)
}

/// The two ends of HPACK (RFC 7541), and the list between them.
#[derive(Debug)]
pub struct Hpack {
    decoder: Decoder,
    encoder: Encoder,
    fields: Fields,
}

// === impl Hpack ===

impl Hpack {
    /// Fresh ends; the decoder takes size updates up to `table_max` bytes.
    pub fn new(table_max: usize) -> Self {
        Self { decoder: Decoder::new(table_max), encoder: Encoder::new(), fields: Fields::default() }
    }

    /// Decodes a block whose list may count `list_max`; whether all of it is there, or what is wrong.
    pub fn decode(&mut self, block: &[u8], list_max: usize) -> Result<bool, String> {
        self.fields.clear();
        let decoded = self.decoder.decode(block, list_max, &mut self.fields);
        match decoded {
            Ok(Decoded::FarTooLarge) => Err("far too large".into()),
            decoded => decoded.map(|decoded| decoded == Decoded::Whole).map_err(|error| error.to_string()),
        }
    }

    /// What was decoded last.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter()
    }

    /// The first value of a name in it.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// How many fields it has.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// What the list of it counts (RFC 9113 §6.5.2).
    pub fn list_size(&self) -> usize {
        self.fields.list_size()
    }

    /// Has the encoder's table be smaller from the next block on, or larger again.
    pub fn set_table_max(&mut self, bytes: usize) {
        self.encoder.set_table_max(bytes);
    }

    /// Begins a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.encoder.begin(out);
    }

    /// Writes the status of an answer.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        self.encoder.status(status, out);
    }

    /// Writes a field; none: it is never indexed, false: not indexed.
    pub fn field(&mut self, name: &[u8], value: &[u8], indexed: Option<bool>, out: &mut Vec<u8>) {
        let index = match indexed {
            Some(true) => Index::Yes,
            Some(false) => Index::No,
            None => Index::Never,
        };
        self.encoder.field(name, value, index, out);
    }
}

/// A client and a server of the engine for HTTP/2, joined by a pipe.
#[derive(Debug)]
pub struct Exchanges(Trial);

// === impl Exchanges ===

impl Exchanges {
    /// Both ends of a pipe, on the thread's `LocalSet`; each request is answered with these fields and this body.
    pub async fn begin(
        pipe: (DuplexStream, DuplexStream),
        answer: &'static [(&'static [u8], &'static [u8])],
        body: &'static [u8],
    ) -> std::io::Result<Self> {
        Ok(Self(Trial::begin(pipe, answer, body).await?))
    }

    /// One GET with these fields; bytes of the answer's body.
    pub async fn ask(&self, path: &[u8], fields: &[(&[u8], &[u8])]) -> std::io::Result<usize> {
        Ok(self.0.ask(path, fields).await?)
    }
}
