//! Frames on the wire (RFC 9113 §4.1, §6): their heads, and the writers of those that are short. Pure.

use super::error::Reason;

/// Length of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;

/// The longest payload that is taken: SETTINGS_MAX_FRAME_SIZE as it stands when nothing is said (§6.5.2).
pub(super) const PAYLOAD_MAX: usize = 16_384;

/// Frame types (§6).
pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

/// Flags (§6).
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Without its reserved bit.
    pub(super) stream: u32,
}

// === impl Frame ===

impl Frame {
    #[inline]
    pub(super) fn read(head: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *head;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    #[inline]
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The payload of DATA or HEADERS without its padding; none when there is more padding than payload (§6.1).
#[inline]
pub(super) fn unpadded(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    if !frame.has(PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

/// A frame's head.
#[inline]
pub(super) fn head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [a, b, c, kind, flags, s0, s1, s2, s3]
}

#[inline]
pub(super) fn push_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&head(length, kind, flags, stream));
}

/// Appends a frame whose payload is one number.
fn push_number(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    push_head(out, 4, kind, 0, stream);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn push_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    push_number(out, RST_STREAM, stream, reason.0);
}

pub(super) fn push_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    push_number(out, WINDOW_UPDATE, stream, increment);
}

pub(super) fn push_ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    push_head(out, 8, PING, flags, 0);
    out.extend_from_slice(&payload);
}

/// `why`: for people who read along.
pub(super) fn push_goaway(out: &mut Vec<u8>, last: u32, reason: Reason, why: &str) {
    push_head(out, 8 + why.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&reason.0.to_be_bytes());
    out.extend_from_slice(why.as_bytes());
}

/// The number that a payload begins with.
#[inline]
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frame = Frame { length: 0x01_02_03, kind: HEADERS, flags: 0x25, stream: 0x7fff_fffe };
        assert_eq!(Frame::read(&head(frame.length, frame.kind, frame.flags, frame.stream)), frame);
        assert_eq!(Frame::read(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]).stream, 1, "the reserved bit is nobody's");
    }

    #[test]
    fn padding_is_taken_off_when_there_is_as_much() {
        let frame = |flags| Frame { length: 0, kind: DATA, flags, stream: 1 };
        assert_eq!(unpadded(frame(0), b"\x02ab"), Some(&b"\x02ab"[..]));
        assert_eq!(unpadded(frame(PADDED), b"\x02abcd"), Some(&b"ab"[..]));
        assert_eq!(unpadded(frame(PADDED), b"\x02ab"), Some(&b""[..]));
        for bad in [&b"\x03ab"[..], b"\x01", b""] {
            assert_eq!(unpadded(frame(PADDED), bad), None, "{bad:?}");
        }
    }
}
