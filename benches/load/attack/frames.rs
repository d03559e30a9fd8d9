//! Frames of HTTP/2 (RFC 9113 §4.1) and fields of HPACK (RFC 7541 §6), as far as attacks need them.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const HEAD_BYTES: usize = 9;

/// A frame with these parts.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A number with a prefix of seven bits (RFC 7541 §5.1), and its bytes: a string that is not compressed.
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = bytes.len();
    if left < 127 {
        out.push(left as u8);
    } else {
        out.push(127);
        left -= 127;
        while left >= 128 {
            out.push((left % 128) as u8 | 128);
            left /= 128;
        }
        out.push(left as u8);
    }
    out.extend(bytes);
    out
}

/// A field with a new name; `kind`: 0x40 into the dynamic table, 0 not.
pub(super) fn field(kind: u8, name: &str, value: &str) -> Vec<u8> {
    [&[kind][..], &string(name.as_bytes()), &string(value.as_bytes())].concat()
}

/// The block of `GET path`.
pub(super) fn get_block(path: &str) -> Vec<u8> {
    // The static table: 2 is GET, 6 is http, 4 is a path, 1 an authority.
    [&[0x82, 0x86, 0x04][..], &string(path.as_bytes()), &[0x01], &string(b"localhost")].concat()
}

/// A whole request without a body, and further fields.
pub(super) fn get(stream: u32, path: &str, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &[&get_block(path), more].concat())
}

/// The beginning of a client, with these entries of SETTINGS.
pub(super) fn hello(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        entries.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// Walks over what a server sends.
#[derive(Debug, Default)]
pub(super) struct Walker {
    head: Vec<u8>,
    /// Bytes of the frame's payload that are still to come.
    left: usize,
    goaway: Option<Vec<u8>>,
    /// Code of the last GOAWAY.
    pub(super) code: Option<u32>,
    pub(super) resets: u64,
}

// === impl Walker ===

impl Walker {
    pub(super) fn walk(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                if let Some(goaway) = &mut self.goaway {
                    goaway.extend(payload);
                    self.code = goaway.get(4..8).map(|code| code.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)));
                }
                (self.left, bytes) = (self.left - payload.len(), rest);
                continue;
            }
            let (head, rest) = bytes.split_at((HEAD_BYTES - self.head.len()).min(bytes.len()));
            self.head.extend(head);
            bytes = rest;
            if self.head.len() == HEAD_BYTES {
                self.left = self.head[..3].iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
                self.resets += u64::from(self.head[3] == RST_STREAM);
                self.goaway = (self.head[3] == GOAWAY).then(Vec::new);
                self.head.clear();
            }
        }
    }
}
