//! An end of HTTP/2 bears whatever its peer says: nothing panics, what it keeps and has to say is bounded, and nothing
//! is left on the account of what waits to be taken. An input is the length of the pieces in which it comes (one byte),
//! what is done with its streams meanwhile (as many bytes as the second says), and then frames.

use weir::proxy::seam::http2_feed;

/// What may wait to be written: 192 KiB at which nothing more is read, and the answers to one more piece.
const UNWRITTEN_MAX: usize = 320 * 1024;

/// What may wait to become a frame or a block: the longest frame, and the frames that a block may have.
const UNFINISHED_MAX: usize = 8 * 16_400;

/// Feeds both roles.
pub(crate) fn check(input: &[u8]) {
    let Some((&[piece, count], rest)) = input.split_first_chunk::<2>() else { return };
    let (acts, bytes) = rest.split_at(rest.len().min(usize::from(count)));
    // All but the largest are about a frame or less; that one is all of it.
    let piece = if piece == u8::MAX { bytes.len() } else { usize::from(piece) * 16 + 1 };
    for is_client in [false, true] {
        let fed = http2_feed(is_client, bytes, piece, acts);
        assert!(fed.untaken <= bytes.len() && fed.streams <= 8, "{fed:?}");
        assert!(fed.unwritten <= UNWRITTEN_MAX + bytes.len() * 8 && fed.unfinished <= UNFINISHED_MAX, "{fed:?}");
        assert_eq!(fed.left, 0, "{fed:?}");
    }
}
