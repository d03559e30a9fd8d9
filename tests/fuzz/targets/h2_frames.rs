//! The frames of an HTTP/2 connection are found whole, once and in order, however the bytes are cut; a second reader
//! that has all of them at once finds the same. An input is how many bytes stand before the first frame (one byte), and
//! then the bytes.

use weir::proxy::seam::{H2Frame, H2Frames, h2_frames};

use super::http::cuts;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// The error codes of RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const FRAME_SIZE_ERROR: u32 = 6;

/// Scans them at once, in every two pieces, and byte by byte.
pub(crate) fn check(input: &[u8]) {
    let Some((&skip, bytes)) = input.split_first() else { return };
    let skip = usize::from(skip % 32);
    let expected = read(bytes.get(skip..).unwrap_or_default(), bytes.len() < skip);
    assert_eq!(h2_frames(skip, [bytes]), expected);
    assert_eq!(h2_frames(skip, bytes.chunks(1)), expected, "byte by byte");
    for cut in cuts(bytes.len(), 64) {
        assert_eq!(h2_frames(skip, [&bytes[..cut], &bytes[cut..]]), expected, "in two pieces at {cut}");
    }
    for end in cuts(bytes.len(), 64) {
        let part = &bytes[..end];
        let expected = read(part.get(skip..).unwrap_or_default(), end < skip);
        assert_eq!(h2_frames(skip, [part]), expected, "the first {end} bytes");
    }
}

/// The same from all of the bytes. A frame is told when its head and what is kept of its payload are there.
fn read(mut bytes: &[u8], cut_before: bool) -> H2Frames {
    let mut frames = Vec::new();
    let (mut block_open, mut in_block_frame) = (false, false);
    while let Some(&[high, middle, low, kind, flags, _, _, _, _]) = bytes.get(..9) {
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let payload = &bytes[9..];
        let kept = length.min(if kind == GOAWAY { 36 } else { 4 });
        let of_block = [HEADERS, PUSH_PROMISE, CONTINUATION].contains(&kind);
        if payload.len() < kept {
            break;
        }
        if of_block {
            block_open = flags & 4 == 0;
        }
        let broken = wrong(kind, flags, length, frames.is_empty());
        frames.push(H2Frame { kind, flags, length, begins: payload[..kept].to_vec(), broken });
        if payload.len() < length {
            in_block_frame = of_block;
            return H2Frames { frames, in_block: block_open || in_block_frame, between: false };
        }
        bytes = &payload[length..];
    }
    in_block_frame |= bytes.get(3).is_some_and(|kind| [HEADERS, PUSH_PROMISE, CONTINUATION].contains(kind));
    H2Frames { frames, in_block: block_open || in_block_frame, between: bytes.is_empty() && !cut_before }
}

/// What section 6 says of lengths, and section 3.4 of the first frame.
fn wrong(kind: u8, flags: u8, length: usize, first: bool) -> Option<u32> {
    let ack = flags & 1 == 1;
    if first && (kind != SETTINGS || ack) {
        return Some(PROTOCOL_ERROR);
    }
    let lengths: &[usize] = match kind {
        2 => &[5],
        3 | 8 => &[4],
        SETTINGS if ack => &[0],
        6 => &[8],
        _ => &[],
    };
    let bad = match kind {
        SETTINGS if !ack => !length.is_multiple_of(6),
        GOAWAY => length < 8,
        _ => !lengths.is_empty() && !lengths.contains(&length),
    };
    bad.then_some(FRAME_SIZE_ERROR)
}
