//! Frames of HTTP/2 (RFC 9113 §4.1) and fields of HPACK (RFC 7541 §6) as bytes, legal or not. The attacks of
//! `benches/load` are made of them too, so nothing of the rest of the stage is used here.

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

/// A frame with these parts, in bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field of a header block: a literal with a new name, not indexed (RFC 7541 §6.2.2).
pub fn literal(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[0_u8][..], &string(name.as_bytes()), &string(value.as_ref())].concat()
}

/// The same, into the dynamic table (§6.2.1).
pub fn indexed(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[0x40_u8][..], &string(name.as_bytes()), &string(value.as_ref())].concat()
}

/// A string that is not compressed (§5.2): its length, a number with a prefix of seven bits (§5.1), and its bytes.
pub fn string(bytes: &[u8]) -> Vec<u8> {
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
    out.extend_from_slice(bytes);
    out
}

/// One entry of SETTINGS.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}
