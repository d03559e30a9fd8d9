//! Rules of RFC 9113 about single frames, each with the error that the RFC names. Pure.

use super::scanner::{Frame, GOAWAY, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::proxy::http2::error::Reason;

/// Says that a SETTINGS frame acknowledges.
const ACK: u8 = 0x1;

/// What is wrong with a frame, as the error of a connection. `first`: whether it is the first one.
pub(in crate::proxy) fn broken(frame: &Frame<'_>, first: bool) -> Option<Reason> {
    // §3.4: whatever else it sends, a peer begins with its SETTINGS.
    if first && (frame.kind != SETTINGS || frame.flags & ACK != 0) {
        return Some(Reason::PROTOCOL_ERROR);
    }
    let fits = match frame.kind {
        // §6.3; an error of the stream there, which may be taken for one of the connection (§5.4.1).
        PRIORITY => frame.length == 5,
        // §6.4, §6.9
        RST_STREAM | WINDOW_UPDATE => frame.length == 4,
        // §6.5
        SETTINGS if frame.flags & ACK != 0 => frame.length == 0,
        SETTINGS => frame.length.is_multiple_of(6),
        // §6.7
        PING => frame.length == 8,
        // §6.8
        GOAWAY => frame.length >= 8,
        _ => true,
    };
    (!fits).then_some(Reason::FRAME_SIZE_ERROR)
}

#[cfg(test)]
mod tests {
    use super::super::scanner::HEADERS;
    use super::*;

    fn found(kind: u8, flags: u8, length: usize, first: bool) -> Option<Reason> {
        broken(&Frame { kind, flags, length, begins: &[] }, first)
    }

    #[test]
    fn a_peer_begins_with_its_settings() {
        assert_eq!(found(SETTINGS, 0, 0, true), None);
        assert_eq!(found(SETTINGS, 0, 12, true), None);
        for (kind, flags) in [(SETTINGS, ACK), (HEADERS, 4), (PING, 0), (b'P', 0)] {
            assert_eq!(found(kind, flags, 0, true), Some(Reason::PROTOCOL_ERROR), "{kind}");
        }
    }

    #[test]
    fn frames_of_one_length_have_that_length() {
        let rows: [(u8, u8, &[usize], &[usize]); 7] = [
            (PRIORITY, 0, &[5], &[0, 4, 6]),
            (RST_STREAM, 0, &[4], &[0, 3, 5]),
            (WINDOW_UPDATE, 0, &[4], &[0, 3, 5]),
            (SETTINGS, 0, &[0, 6, 60], &[1, 5, 7]),
            (SETTINGS, ACK, &[0], &[1, 6]),
            (PING, 0, &[8], &[0, 7, 9]),
            (GOAWAY, 0, &[8, 9, 900], &[0, 7]),
        ];
        for (kind, flags, good, bad) in rows {
            assert!(good.iter().all(|&length| found(kind, flags, length, false).is_none()), "{kind}");
            let wrong = |&length: &usize| found(kind, flags, length, false) == Some(Reason::FRAME_SIZE_ERROR);
            assert!(bad.iter().all(wrong), "{kind}");
        }
    }
}
