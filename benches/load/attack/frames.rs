//! What attacks send of HTTP/2, made of frames and fields ([`octets`](super::octets)), and what they hear.

use super::octets::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, setting, string};

pub(crate) const HEAD_BYTES: usize = 9;

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
    let payload: Vec<u8> = entries.iter().flat_map(|&(id, value)| setting(id, value)).collect();
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
