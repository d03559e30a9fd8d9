//! A peer that speaks frames by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::core::PREFACE;
use super::super::frame::{self, *};

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) struct Raw {
    pub(super) io: DuplexStream,
}

// === impl Came ===

impl Came {
    /// The number that it begins with.
    pub(super) fn number(&self) -> u32 {
        number(&self.payload).expect("it holds one")
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

// === impl Raw ===

impl Raw {
    /// A client that has said hello, with these settings.
    pub(super) async fn client(io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self { io };
        raw.send(&[PREFACE, &said(settings)[..]].concat()).await;
        raw
    }

    /// A server that has, and has read the client's preface.
    pub(super) async fn server(io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self { io };
        let mut preface = [0; 24];
        raw.io.read_exact(&mut preface).await.expect("a client");
        assert_eq!(&preface, PREFACE);
        raw.send(&said(settings)).await;
        raw
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // A peer that is gone is found by what it says.
        let _ = self.io.write_all(bytes).await;
    }

    /// The next frame; none at the end.
    pub(super) async fn next(&mut self) -> Option<Came> {
        let mut head = [0; HEAD_BYTES];
        self.io.read_exact(&mut head).await.ok()?;
        let Frame { length, kind, flags, stream } = Frame::read(&head);
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.expect("a whole frame");
        Some(Came { kind, flags, stream, payload })
    }

    /// The next frame of a kind; others are passed over.
    pub(super) async fn next_of(&mut self, kind: u8) -> Came {
        loop {
            let came = self.next().await.unwrap_or_else(|| panic!("the end came before a frame of kind {kind}"));
            if came.kind == kind && !(kind == SETTINGS && came.has(ACK)) {
                return came;
            }
        }
    }

    /// Sends a PING, and all frames until its answer.
    pub(super) async fn until_pong(&mut self) -> Vec<Came> {
        self.send(&ping(0, *b"tick-tac")).await;
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Some(came) if came.kind == PING && came.has(ACK) => return all,
                Some(came) => all.push(came),
                None => panic!("the end came before the answer, behind {all:?}"),
            }
        }
    }

    /// Stream and code of the next reset.
    pub(super) async fn reset(&mut self) -> (u32, u32) {
        let came = self.next_of(RST_STREAM).await;
        (came.stream, came.number())
    }

    /// Code and words of the next GOAWAY that is an error, and that the end follows.
    pub(super) async fn end(&mut self) -> (u32, String) {
        let came = self.next_of(GOAWAY).await;
        while let Some(came) = self.next().await {
            assert_ne!(came.kind, HEADERS, "behind the end");
        }
        let (code, why) = (number(&came.payload[4..]).expect("a code"), came.payload[8..].to_vec());
        (code, String::from_utf8(why).expect("words"))
    }
}

/// A frame's bytes.
pub(super) fn of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&frame::head(payload.len(), kind, flags, stream)[..], payload].concat()
}

pub(super) fn said(settings: &[(u16, u32)]) -> Vec<u8> {
    let entries: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    of(SETTINGS, 0, 0, &entries)
}

pub(super) fn ping(flags: u8, payload: [u8; 8]) -> Vec<u8> {
    of(PING, flags, 0, &payload)
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    of(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn update(stream: u32, by: u32) -> Vec<u8> {
    of(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(super) fn goaway(last: u32, code: u32) -> Vec<u8> {
    of(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A field as a literal that is not indexed.
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| {
        let mut out = Vec::new();
        match text.len() {
            short @ 0..127 => out.push(short as u8),
            long => {
                out.push(127);
                let mut left = long - 127;
                while left >= 128 {
                    out.push((left % 128) as u8 | 0x80);
                    left /= 128;
                }
                out.push(left as u8);
            }
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![0], string(name), string(value)].concat()
}

pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// The block of a request.
pub(super) fn asking(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", "/")];
    block(&[&pseudo[..], more].concat())
}

/// A request without a body.
pub(super) fn get(stream: u32) -> Vec<u8> {
    of(HEADERS, END_HEADERS | END_STREAM, stream, &asking("GET", &[]))
}

/// One whose body follows.
pub(super) fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    of(HEADERS, END_HEADERS, stream, &asking("POST", more))
}

/// The head of an answer.
pub(super) fn answer(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    of(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    of(DATA, flags, stream, bytes)
}
