//! The frames of a WebSocket end where a second reader, which has all of the bytes at once, finds their ends, however
//! the bytes are cut. An input is whether they are masked (one byte), and then the bytes.

use weir::proxy::seam::{SocketFrames, socket_frames};

use super::http::cuts;

/// Follows them at once, in every two pieces, and byte by byte.
pub(crate) fn check(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else { return };
    let masked = first & 1 == 1;
    let expected = read(bytes, masked);
    assert_eq!(socket_frames(masked, [bytes]), expected);
    assert_eq!(socket_frames(masked, bytes.chunks(1)), expected, "byte by byte");
    for cut in cuts(bytes.len(), 64) {
        assert_eq!(socket_frames(masked, [&bytes[..cut], &bytes[cut..]]), expected, "in two pieces at {cut}");
    }
}

/// Where RFC 6455 section 5.2 says that frames end, up to the first that cannot be one.
fn read(bytes: &[u8], masked: bool) -> SocketFrames {
    let mut found = SocketFrames { ends: Vec::new(), lost: false, closed: false };
    let mut at = 0;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        let (opcode, short) = (first % 16, second % 128);
        let fits = match opcode {
            0..=2 => true,
            8..=10 => first >= 128 && short <= 125,
            _ => false,
        };
        if !fits || (second >= 128) != masked {
            found.lost = true;
            break;
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(digits) = bytes.get(at + 2..at + 2 + extended) else { break };
        let length = digits.iter().fold(0_u64, |length, &digit| length << 8 | u64::from(digit));
        let length = if extended == 0 { u64::from(short) } else { length };
        if length >= 1 << 63 {
            found.lost = true;
            break;
        }
        let head = 2 + extended + if masked { 4 } else { 0 };
        let left = (bytes.len() - at).saturating_sub(head) as u64;
        if bytes.len() - at < head || left < length {
            break;
        }
        at += head + length as usize;
        found.ends.push(at);
        found.closed |= opcode == 8;
    }
    found
}
