//! What is to be written: frames in one buffer, and long pieces of bodies between them, as they are. Pure.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame;

/// Pieces from here on are written as they are, not copied: what a system call for one more piece costs is about what
/// copying that much does.
const KEPT_FROM_BYTES: usize = 4 * 1024;

/// Slices of one write. Linux takes 1,024; more than these are seldom there.
const SLICES_MAX: usize = 32;

/// What has been written is cut off the buffer from here on, when all of it never is.
const CUT_FROM_BYTES: usize = 64 * 1024;

/// What is kept of an empty buffer: the heads and small bodies of some dozen answers.
const EMPTY_BYTES_MAX: usize = 16 * 1024;

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) buf: Vec<u8>,
    /// How much of it has been written.
    at: usize,
    /// Pieces, each behind so much of the buffer.
    kept: VecDeque<(usize, Bytes)>,
    /// Bytes in these.
    kept_bytes: usize,
    /// Whether what it goes to takes several pieces at once; else all is copied.
    vectored: bool,
}

// === impl Output ===

impl Output {
    pub(super) fn new(vectored: bool) -> Self {
        Self { vectored, ..Self::default() }
    }

    /// Bytes that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.buf.len() - self.at + self.kept_bytes
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a DATA frame.
    #[inline]
    pub(super) fn push_data(&mut self, stream: u32, data: Bytes, end: bool) {
        let flags = if end { frame::END_STREAM } else { 0 };
        frame::push_head(&mut self.buf, data.len(), frame::DATA, flags, stream);
        if data.len() < KEPT_FROM_BYTES || !self.vectored {
            self.buf.extend_from_slice(&data);
        } else {
            self.kept_bytes += data.len();
            self.kept.push_back((self.buf.len(), data));
        }
    }

    /// What goes next, when it is one slice.
    #[inline]
    pub(super) fn single(&self) -> Option<&[u8]> {
        self.kept.is_empty().then(|| &self.buf[self.at..])
    }

    /// What goes next, in order.
    pub(super) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let (mut at, mut count) = (self.at, 0);
        let mut push = |slice: &'a [u8]| {
            if !slice.is_empty() && count < SLICES_MAX {
                into[count] = IoSlice::new(slice);
                count += 1;
            }
        };
        for (behind, piece) in self.kept.iter().take(SLICES_MAX) {
            push(&self.buf[at..*behind]);
            push(piece);
            at = *behind;
        }
        if self.kept.len() < SLICES_MAX {
            push(&self.buf[at..]);
        }
        count
    }

    /// Room for [`Output::slices`].
    pub(super) fn no_slices<'a>() -> [IoSlice<'a>; SLICES_MAX] {
        [IoSlice::new(&[]); SLICES_MAX]
    }

    /// So many bytes have been written.
    pub(super) fn written(&mut self, mut bytes: usize) {
        while let Some((behind, piece)) = self.kept.front_mut() {
            let before = (*behind - self.at).min(bytes);
            self.at += before;
            bytes -= before;
            if self.at < *behind || bytes == 0 {
                break;
            }
            let taken = piece.len().min(bytes);
            piece.advance(taken);
            self.kept_bytes -= taken;
            bytes -= taken;
            if !piece.is_empty() {
                break;
            }
            self.kept.pop_front();
        }
        self.at += bytes;
        debug_assert!(self.at <= self.buf.len());
        if self.at == self.buf.len() && self.kept.is_empty() {
            self.at = 0;
            self.buf.clear();
        } else if self.at >= CUT_FROM_BYTES {
            self.buf.drain(..self.at);
            self.kept.iter_mut().for_each(|(behind, _)| *behind -= self.at);
            self.at = 0;
        }
    }

    /// Lets go of room that a connection at rest does not need.
    pub(super) fn rest(&mut self) {
        if self.buf.is_empty() && self.buf.capacity() > EMPTY_BYTES_MAX {
            self.buf.shrink_to(EMPTY_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_appended_is_written_in_order_however_it_is_cut(
            pieces in prop::collection::vec((0_usize..9_000, any::<bool>()), 0..90),
            cuts in prop::collection::vec(1_usize..30_000, 1..9),
            vectored: bool,
        ) {
            let (mut output, mut expected, mut got) = (Output::new(vectored), Vec::new(), Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            for (n, (length, write)) in pieces.into_iter().enumerate() {
                let data = Bytes::from(vec![n as u8; length]);
                expected.extend_from_slice(&frame::head(length, frame::DATA, 0, n as u32));
                expected.extend_from_slice(&data);
                output.push_data(n as u32, data, false);
                if write {
                    step(&mut output, &mut got, cuts.next().unwrap());
                }
                prop_assert_eq!(output.len(), expected.len() - got.len());
            }
            while !output.is_empty() {
                step(&mut output, &mut got, cuts.next().unwrap());
            }
            prop_assert_eq!(got, expected);
        }
    }

    /// Writes at most `most` bytes.
    fn step(output: &mut Output, got: &mut Vec<u8>, most: usize) {
        let before = got.len();
        if let Some(slice) = output.single() {
            got.extend_from_slice(&slice[..slice.len().min(most)]);
        } else {
            let mut slices = Output::no_slices();
            let count = output.slices(&mut slices);
            assert!(count > 0);
            for slice in &slices[..count] {
                let left = most - (got.len() - before);
                got.extend_from_slice(&slice[..slice.len().min(left)]);
            }
        }
        output.written(got.len() - before);
    }
}
