//! HTTP/2 frame by frame, legal or not: what a hostile client or endpoint sends, and what it gets for it.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::octets::*;
use super::tls::Tls;
use super::wire::Wire;

/// The block of a request: method, scheme, authority `test` and path.
pub fn block(method: &str, path: &str) -> Vec<u8> {
    let mut block = literal(":method", method);
    block.extend(literal(":scheme", "http"));
    block.extend(literal(":authority", "test"));
    block.extend(literal(":path", path));
    block
}

/// HEADERS of a GET without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", path))
}

/// HEADERS of a POST whose body follows.
pub fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block("POST", path))
}

/// HEADERS of a request with these fields after its pseudo-fields, without a body.
pub fn get_with(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[&block("GET", "/"), fields].concat())
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload[at..at + 4].try_into().map(u32::from_be_bytes).expect("four bytes")
    }

    /// The status in the block of an answer: an index of the static table, or digits somewhere near its beginning.
    pub fn status(&self) -> Option<u16> {
        let known = [200, 204, 206, 304, 400, 404, 500];
        match self.payload.first()? {
            first @ 0x88..=0x8e => Some(known[usize::from(first - 0x88)]),
            // Literal values of three digits are shorter as they are or by Huffman's code; h2 writes the latter.
            0x08 | 0x48 if self.payload.len() > 2 => Some(digits(&self.payload[2..], self.payload[1])),
            _ => None,
        }
    }
}

/// Digits in Huffman's code of HPACK, or plain.
fn digits(bytes: &[u8], length: u8) -> u16 {
    if length & 0x80 == 0 {
        return std::str::from_utf8(&bytes[..3]).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    }
    let mut bits = bytes.iter().take(usize::from(length & 0x7f)).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    let mut left = 8 * u32::from(length & 0x7f);
    let mut number = 0;
    for _ in 0..3 {
        // RFC 7541, appendix B: 0 to 2 have five bits, 3 to 9 have six.
        bits &= (1 << left) - 1;
        let five = bits >> (left - 5);
        let (digit, used) = if five < 3 { (five, 5) } else { ((bits >> (left - 6)) - 0x19 + 3, 6) };
        number = number * 10 + digit as u16;
        left -= used;
    }
    number
}

/// How a peer took what it was sent.
#[derive(Debug, Clone, Default)]
pub struct Reaction {
    /// Code and words of its GOAWAY, if it was an error.
    pub goaway: Option<(u32, String)>,
    /// Streams that it reset, and with which code.
    pub resets: Vec<(u32, u32)>,
    /// Heads of answers: stream and status.
    pub answers: Vec<(u32, u16)>,
    /// Bytes of DATA that came.
    pub data: usize,
    /// Acknowledged PINGs.
    pub pongs: usize,
    /// Whether it ended the connection.
    pub closed: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Raw {
    wire: Wire,
    /// What has come so far.
    pub reaction: Reaction,
}

impl Raw {
    /// A client, cleartext with prior knowledge, with the greetings done.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::greet(Self::stranger(address), b"")
    }

    /// A client that has sent nothing.
    #[track_caller]
    pub fn stranger(address: SocketAddr) -> Self {
        let wire = Wire::new(TcpStream::connect(address).expect("weir accepts"));
        Self { wire, reaction: Reaction::default() }
    }

    /// A client over TLS, with the greetings done.
    #[track_caller]
    pub fn over(address: SocketAddr, tls: &Tls) -> Self {
        Self::greet(Self::stranger_over(address, tls), b"")
    }

    /// A client over TLS that has sent nothing of HTTP/2.
    #[track_caller]
    pub fn stranger_over(address: SocketAddr, tls: &Tls) -> Self {
        let wire = Wire::new(TcpStream::connect(address).expect("weir accepts"));
        wire.patience(Duration::from_secs(10));
        let wire = wire.secure(tls.clone().alpn(&["h2"]).connection()).expect("weir shakes hands");
        Self { wire, reaction: Reaction::default() }
    }

    /// Sends preface and SETTINGS with these entries, and acknowledges those of weir.
    #[track_caller]
    pub fn greet(mut self, settings: &[u8]) -> Self {
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
        self.wire.write(&hello).expect("weir reads");
        self.wire.patience(Duration::from_secs(10));
        let first = self.next().expect("SETTINGS come first").expect("SETTINGS come first");
        assert_eq!((first.kind, first.flags & ACK), (SETTINGS, 0));
        self.wire.write(&frame(SETTINGS, ACK, 0, b"")).expect("weir reads");
        self
    }

    /// Sends these bytes; an error when the peer is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write(bytes)
    }

    /// How long the next frame is waited for from now on.
    pub fn patience(&self, time: Duration) {
        self.wire.patience(time);
    }

    /// The next frame; none at the end.
    pub fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let ahead = self.wire.ahead();
            if ahead.len() >= 9 {
                let length = usize::from(ahead[0]) << 16 | usize::from(ahead[1]) << 8 | usize::from(ahead[2]);
                if ahead.len() >= 9 + length {
                    let mut bytes = Vec::new();
                    self.wire.exactly(9 + length as u64, &mut bytes)?;
                    let stream = bytes[5..9].try_into().map(u32::from_be_bytes).expect("four bytes");
                    return Ok(Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes.split_off(9) }));
                }
            }
            if self.wire.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes in what comes until `until` holds, the peer ends, or `time` is over.
    pub fn listen(&mut self, time: Duration, until: impl Fn(&Reaction) -> bool) -> &Reaction {
        let began = Instant::now();
        while !self.reaction.closed && !until(&self.reaction) {
            let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else { break };
            self.wire.patience(left);
            match self.next() {
                Ok(Some(frame)) => self.note(&frame),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Ok(None) | Err(_) => self.reaction.closed = true,
            }
        }
        &self.reaction
    }

    fn note(&mut self, frame: &Frame) {
        let reaction = &mut self.reaction;
        match frame.kind {
            GOAWAY if frame.code() != 0 => {
                reaction.goaway = Some((frame.code(), String::from_utf8_lossy(&frame.payload[8..]).into_owned()));
            }
            RST_STREAM => reaction.resets.push((frame.stream, frame.code())),
            HEADERS => {
                if let Some(status) = frame.status() {
                    reaction.answers.push((frame.stream, status));
                }
            }
            DATA => reaction.data += frame.payload.len(),
            PING if frame.flags & ACK != 0 => reaction.pongs += 1,
            PING => drop(self.wire.write(&self::frame(PING, ACK, 0, &frame.payload))),
            _ => {}
        }
    }

    /// Whether the peer is still there: it answers a PING within `time`.
    pub fn is_alive(&mut self, time: Duration) -> bool {
        let before = self.reaction.pongs;
        let _ = self.send(&frame(PING, 0, 0, &[7; 8]));
        self.listen(time, |reaction| reaction.pongs > before).pongs > before
    }

    /// Sends round after round, as fast as the peer takes them, reading what it says meanwhile; how many were written
    /// when its GOAWAY or its end was seen, or `rounds`.
    pub fn flood(&mut self, rounds: u32, round: impl Fn(u32) -> Vec<u8>) -> u32 {
        const AT_ONCE: u32 = 16;
        let mut written = 0;
        while written < rounds && !self.reaction.closed && self.reaction.goaway.is_none() {
            let bytes: Vec<u8> = (written..written + AT_ONCE).flat_map(&round).collect();
            if self.send(&bytes).is_err() {
                // What it said before it left is still to be read.
                self.listen(Duration::from_secs(2), |_| false);
                self.reaction.closed = true;
                break;
            }
            written += AT_ONCE;
            self.listen(Duration::from_millis(1), |reaction| reaction.goaway.is_some());
        }
        let ends = self.reaction.goaway.is_some();
        self.listen(Duration::from_millis(if ends { 3_000 } else { 300 }), |_| false);
        written
    }
}

/// An endpoint that speaks HTTP/2 frame by frame: each connection is handed to `script` when the greetings are done.
#[derive(Debug)]
pub struct RawEndpoint {
    address: SocketAddr,
}

impl RawEndpoint {
    /// Serves until the test ends; `script` gets the connection, and is told how many there were before.
    pub fn serving(script: impl Fn(&mut Raw, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
        let address = listener.local_addr().expect("it has an address");
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let script = Arc::clone(&script);
                std::thread::spawn(move || {
                    let mut raw = Raw { wire: Wire::new(stream), reaction: Reaction::default() };
                    raw.wire.patience(Duration::from_secs(10));
                    let mut preface = Vec::new();
                    let greeted = raw.wire.exactly(PREFACE.len() as u64, &mut preface).is_ok();
                    let hello = [frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b"")].concat();
                    if greeted && raw.send(&hello).is_ok() {
                        script(&mut raw, index);
                    }
                });
            }
        });
        Self { address }
    }

    /// As weir writes it.
    pub fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }
}
