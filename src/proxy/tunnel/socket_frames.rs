//! Where WebSocket frames begin and end in one direction of a tunnel (RFC 6455 §5.2), so that a Close frame can be put
//! between two of them when a tunnel has to end. Frames are never changed, joined or refused: what is no WebSocket
//! passes as it is, and is given up on.

/// How far a direction has come.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Whether frames of this direction are masked: those of clients are (§5.3).
    masked: bool,
    state: State,
    /// A Close frame has passed: nothing may follow it (§5.5.1).
    closed: bool,
}

#[derive(Debug)]
enum State {
    /// Within a head, of which `len` bytes have been seen; 0: between two frames.
    Head { seen: [u8; HEAD_BYTES_MAX], len: usize },
    /// Within a frame, of which so many bytes are to come.
    Payload { left: u64, close: bool },
    /// It is no WebSocket.
    Lost,
}

/// Two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// 1001: this end goes away (§7.4.1), upon which clients come back.
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// A Close frame; with `mask` as from a client.
pub(crate) fn close_frame(mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let [high, low] = GOING_AWAY;
    match mask {
        None => out.extend_from_slice(&[0x88, 2, high, low]),
        Some([a, b, c, d]) => out.extend_from_slice(&[0x88, 0x82, a, b, c, d, high ^ a, low ^ b]),
    }
}

// === impl Frames ===

impl Frames {
    pub(crate) fn new(masked: bool) -> Self {
        Self { masked, state: State::Head { seen: [0; HEAD_BYTES_MAX], len: 0 }, closed: false }
    }

    /// Bytes that are no WebSocket from the first.
    pub(crate) fn none() -> Self {
        Self { masked: false, state: State::Lost, closed: false }
    }

    /// Whether a frame could be put here.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Head { len: 0, .. })
    }

    /// Whether what passes is no WebSocket.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Whether a Close frame has passed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sees bytes pass.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_lost() {
            let n = self.pass_frame(bytes);
            bytes = &bytes[n..];
        }
    }

    /// Sees bytes pass up to the end of the frame that they are in; how many these are.
    pub(crate) fn pass_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Head { seen, len } => {
                    seen[*len] = bytes[at];
                    *len += 1;
                    at += 1;
                    match head(&seen[..*len], self.masked) {
                        Head::More => {}
                        Head::Bad => self.state = State::Lost,
                        Head::Whole { length, close } => self.state = State::Payload { left: length, close },
                    }
                }
                State::Payload { left, .. } => {
                    let n = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    at += n;
                }
                State::Lost => return bytes.len(),
            }
            if let State::Payload { left: 0, close } = self.state {
                self.closed |= close;
                self.state = State::Head { seen: [0; HEAD_BYTES_MAX], len: 0 };
                return at;
            }
        }
        at
    }
}

enum Head {
    More,
    Bad,
    Whole { length: u64, close: bool },
}

/// Reads a head as far as it is there.
fn head(seen: &[u8], masked: bool) -> Head {
    let &[first, second, ref rest @ ..] = seen else { return Head::More };
    let (opcode, control, last) = (first & 0x0f, first & 0x08 != 0, first & 0x80 != 0);
    let known = matches!(opcode, 0..=2 | 8..=10);
    if !known || (second & 0x80 != 0) != masked || control && (!last || second & 0x7f > 125) {
        return Head::Bad;
    }
    let (extra, length) = match second & 0x7f {
        126 => (2, rest.first_chunk::<2>().map(|&length| u16::from_be_bytes(length).into())),
        127 => (8, rest.first_chunk::<8>().map(|&length| u64::from_be_bytes(length))),
        short => (0, Some(u64::from(short))),
    };
    match length {
        Some(length) if length > i64::MAX as u64 => Head::Bad,
        Some(length) if rest.len() == extra + if masked { 4 } else { 0 } => Head::Whole { length, close: opcode == 8 },
        _ => Head::More,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of `opcode` with `payload` zeros.
    fn frame(opcode: u8, last: bool, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![opcode | if last { 0x80 } else { 0 }];
        match payload {
            0..=125 => frame.push(mask | payload as u8),
            126..=0xffff => frame.extend([&[mask | 126][..], &(payload as u16).to_be_bytes()].concat()),
            _ => frame.extend([&[mask | 127][..], &(payload as u64).to_be_bytes()].concat()),
        }
        frame.extend(vec![0x55; if masked { 4 } else { 0 }]);
        frame.extend(vec![0; payload]);
        frame
    }

    proptest! {
        #[test]
        fn the_ends_of_frames_are_found_however_they_are_cut(
            frames in proptest::collection::vec(
                (0_u8..3, any::<bool>(), prop_oneof![0_usize..300, 65_000..66_000_usize]), 1..6,
            ),
            masked: bool,
            cut in 1_usize..5_000,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(op, last, len)| frame(op, last, masked, len)).collect();
            let mut ends = Vec::new();
            let mut tracker = Frames::new(masked);
            let all = frames.concat();
            let mut at = 0;
            for piece in all.chunks(cut) {
                let mut used = 0;
                while used < piece.len() {
                    used += tracker.pass_frame(&piece[used..]);
                    if tracker.is_between() {
                        ends.push(at + used);
                    }
                }
                at += piece.len();
            }
            let expected: Vec<usize> = (1..=frames.len()).map(|n| frames[..n].concat().len()).collect();
            prop_assert_eq!(ends, expected);
            prop_assert!(!tracker.is_closed() && !tracker.is_lost());
        }

        #[test]
        fn no_bytes_panic_it(bytes: Vec<u8>, masked: bool) {
            let mut tracker = Frames::new(masked);
            tracker.pass(&bytes);
            prop_assert!(tracker.pass_frame(&bytes) <= bytes.len());
        }
    }

    #[test]
    fn a_close_frame_is_seen_and_read_as_what_it_is() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let mut bytes = frame(1, true, mask.is_some(), 5);
            close_frame(mask, &mut bytes);
            let mut tracker = Frames::new(mask.is_some());
            tracker.pass(&bytes[..bytes.len() - 1]);
            assert!(!tracker.is_closed());
            tracker.pass(&bytes[bytes.len() - 1..]);
            assert!(tracker.is_closed() && tracker.is_between());
        }
    }

    #[test]
    fn what_is_no_websocket_is_given_up_on() {
        for bytes in
            [&b"hello, this is text"[..], &[0x83, 0], &[0x08, 0], &[0x88, 126, 1, 0], &[0x81, 0x80, 0, 0, 0, 0]]
        {
            let mut tracker = Frames::new(false);
            tracker.pass(bytes);
            assert!(tracker.is_lost(), "{bytes:?}");
        }
    }
}
