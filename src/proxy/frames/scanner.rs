//! Finds the frames in a stream of bytes (RFC 9113 §4.1). Pure; a payload is skipped but for its first bytes.

/// Length of a frame's head.
const HEAD_BYTES: usize = 9;

/// Bytes of a payload that are kept: those that hold a code, an increment or the length of padding.
const PAYLOAD_KEPT: usize = 4;

/// The same of a GOAWAY: its last stream, its code, and 28 bytes of why.
const GOAWAY_KEPT: usize = 36;

/// Bytes of a frame that are kept at most.
const KEPT_BYTES_MAX: usize = HEAD_BYTES + GOAWAY_KEPT;

/// Frame types (RFC 9113 §6).
pub(in crate::proxy) const DATA: u8 = 0x0;
pub(in crate::proxy) const HEADERS: u8 = 0x1;
pub(in crate::proxy) const PRIORITY: u8 = 0x2;
pub(in crate::proxy) const RST_STREAM: u8 = 0x3;
pub(in crate::proxy) const SETTINGS: u8 = 0x4;
pub(in crate::proxy) const PUSH_PROMISE: u8 = 0x5;
pub(in crate::proxy) const PING: u8 = 0x6;
pub(in crate::proxy) const GOAWAY: u8 = 0x7;
pub(in crate::proxy) const WINDOW_UPDATE: u8 = 0x8;
pub(in crate::proxy) const CONTINUATION: u8 = 0x9;

/// Flags.
pub(in crate::proxy) const END_STREAM: u8 = 0x1;
pub(in crate::proxy) const END_HEADERS: u8 = 0x4;
pub(in crate::proxy) const PADDED: u8 = 0x8;

/// A frame, as soon as its head and the beginning of its payload are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Frame<'a> {
    /// Its type.
    pub(in crate::proxy) kind: u8,
    /// Its flags.
    pub(in crate::proxy) flags: u8,
    /// Length of its payload.
    pub(in crate::proxy) length: usize,
    /// The first bytes of its payload: four, of a GOAWAY 36, and all of it if it has no more.
    pub(in crate::proxy) begins: &'a [u8],
}

/// Where in a stream of frames the bytes so far have ended.
#[derive(Debug)]
pub(in crate::proxy) struct Scanner {
    kept: [u8; KEPT_BYTES_MAX],
    /// How many bytes are kept.
    have: usize,
    /// How many have to be, before the frame can be told.
    need: usize,
    /// Bytes that pass unseen.
    skip: usize,
    /// Whether these belong to a header block.
    skips_block: bool,
    /// Whether a header block has begun whose last frame has not.
    in_block: bool,
}

// === impl Scanner ===

impl Scanner {
    /// One for a stream that begins with `skip` bytes of something else.
    pub(in crate::proxy) fn after(skip: usize) -> Self {
        Self { kept: [0; KEPT_BYTES_MAX], have: 0, need: HEAD_BYTES, skip, skips_block: false, in_block: false }
    }

    /// Whether the bytes so far end within a header block: between its frames, or within one of them.
    pub(in crate::proxy) fn is_in_block(&self) -> bool {
        let in_head = self.have > 3 && is_of_block(self.kept[3]);
        self.in_block || in_head || (self.skip > 0 && self.skips_block)
    }

    /// Whether the bytes so far end with a frame.
    pub(in crate::proxy) fn is_between_frames(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Goes through the next bytes and tells of every frame.
    #[inline]
    pub(in crate::proxy) fn scan(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Frame<'_>)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                break;
            }
            // Most frames come whole, or with what is told of them.
            if self.have == 0
                && let Some((head, payload)) = bytes.split_first_chunk::<HEAD_BYTES>()
            {
                let (length, kind) = (length_of(head), head[3]);
                if let Some(begins) = payload.get(..kept_of(kind, length)) {
                    tell(Frame { kind, flags: head[4], length, begins });
                    self.told(kind, head[4], length);
                    bytes = payload;
                    continue;
                }
            }
            let told = self.collect(&mut bytes);
            if let Some((kind, flags, length)) = told {
                let begins = &self.kept[HEAD_BYTES..self.need];
                tell(Frame { kind, flags, length, begins });
                let passed = begins.len();
                self.told(kind, flags, length);
                self.skip = length - passed;
                self.have = 0;
                self.need = HEAD_BYTES;
            }
        }
    }

    /// Keeps the next bytes of a frame that comes in pieces; type, flags and length, when it can be told.
    #[cold]
    #[inline(never)]
    fn collect(&mut self, bytes: &mut &[u8]) -> Option<(u8, u8, usize)> {
        loop {
            let taken = (self.need - self.have).min(bytes.len());
            self.kept[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            *bytes = &bytes[taken..];
            if self.have < self.need {
                return None;
            }
            let (head, _) = self.kept.split_first_chunk::<HEAD_BYTES>()?;
            let (length, kind, flags) = (length_of(head), head[3], head[4]);
            if self.need > HEAD_BYTES || length == 0 {
                return Some((kind, flags, length));
            }
            self.need += kept_of(kind, length);
        }
    }

    /// What follows from a frame for those behind it.
    #[inline]
    fn told(&mut self, kind: u8, flags: u8, length: usize) {
        self.skip = length;
        self.skips_block = is_of_block(kind);
        if self.skips_block {
            self.in_block = flags & END_HEADERS == 0;
        }
    }
}

/// Length of a payload.
#[inline]
fn length_of(head: &[u8; HEAD_BYTES]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// How much of a payload is told.
#[inline]
fn kept_of(kind: u8, length: usize) -> usize {
    length.min(if kind == GOAWAY { GOAWAY_KEPT } else { PAYLOAD_KEPT })
}

#[inline]
fn is_of_block(kind: u8) -> bool {
    matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn a_header_block_lasts_until_the_frame_that_ends_it() {
        let mut scanner = Scanner::after(3);
        scanner.scan(b"pre", |_| panic!("no frame yet"));
        assert!(scanner.is_between_frames() && !scanner.is_in_block());
        let states: Vec<bool> = [(HEADERS, 0), (CONTINUATION, 0), (CONTINUATION, END_HEADERS), (DATA, 0)]
            .map(|(kind, flags)| {
                scanner.scan(&frame(kind, flags, b""), |_| {});
                scanner.is_in_block()
            })
            .to_vec();
        assert_eq!(states, [true, true, false, false]);
        let whole = frame(HEADERS, END_HEADERS, b"0123456789");
        for cut in 4..whole.len() {
            let mut scanner = Scanner::after(0);
            scanner.scan(&whole[..cut], |_| {});
            assert!(scanner.is_in_block(), "{cut}");
            scanner.scan(&whole[cut..], |_| {});
            assert!(!scanner.is_in_block(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn every_frame_is_told_once_however_the_bytes_are_cut(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..90)), 0..20),
            cuts in prop::collection::vec(1_usize..70, 1..8),
            skip in 0_usize..40,
        ) {
            let mut bytes = vec![0xff; skip];
            frames.iter().for_each(|(kind, flags, payload)| bytes.extend(frame(*kind, *flags, payload)));
            let mut scanner = Scanner::after(skip);
            let mut told = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                scanner.scan(piece, |f| told.push((f.kind, f.flags, f.length, f.begins.to_vec())));
                rest = after;
            }
            let expected: Vec<_> = frames.iter().map(|(kind, flags, payload)| {
                let kept = payload.len().min(if *kind == GOAWAY { 36 } else { 4 });
                (*kind, *flags, payload.len(), payload[..kept].to_vec())
            }).collect();
            prop_assert_eq!(told, expected);
            prop_assert!(scanner.is_between_frames());
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            Scanner::after(0).scan(&bytes, |frame| assert!(frame.begins.len() <= frame.length));
        }
    }
}
