//! A worker's spare buffers. A connection holds one only while bytes are moving, so that idle connections cost none
//! and busy ones share the few that are warm in the cache.

use std::cell::Cell;
use std::rc::Rc;

use crate::proxy::h1::response::Line;

/// Size of an ordinary buffer: a request or response head with a small body.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// Size of a buffer for long bodies: fewer system calls per megabyte; larger ones gained nothing measurable.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Spare ordinary buffers kept per worker.
const SPARE_MAX: usize = 64;

/// Spare large buffers kept per worker.
const SPARE_LARGE_MAX: usize = 16;

/// Large buffers in use per worker at most, 32 MB of them. A transfer to a client that does not take it holds one, so
/// they run out when as many clients are slow (as pipes do, [`crate::proxy::bodies::splice`]); transfers beyond that
/// make do with ordinary ones.
const LARGE_MAX: usize = 128;

/// Spare lists of fields kept per worker, and the most that one of them has room for.
const SPARE_LINES_MAX: usize = 64;
const LINES_MAX: usize = 64;

/// Size of a buffer for the head of an answer over HTTP/2, and the largest that is kept.
const HEAD_BYTES: usize = 512;
const HEAD_BYTES_MAX: usize = 4 * 1024;

/// Spare buffers for heads kept per worker.
const SPARE_HEADS_MAX: usize = 64;

/// Spare buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    heads: Vec<Vec<u8>>,
    lines: Vec<Vec<Line>>,
    /// Large ones in use.
    large_used: Rc<Cell<usize>>,
}

/// Leave to use a large buffer, until it is dropped.
#[derive(Debug)]
pub(crate) struct Leave(Rc<Cell<usize>>);

// === impl Buffers ===

impl Buffers {
    /// An empty buffer of at least [`BUFFER_BYTES`].
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// An empty buffer of at least [`LARGE_BYTES`], and leave to use it; none when too many are in use.
    pub(crate) fn take_large(&mut self) -> Option<(Vec<u8>, Leave)> {
        let used = self.large_used.get();
        (used < LARGE_MAX).then(|| {
            self.large_used.set(used + 1);
            let buffer = self.large.pop().unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES));
            (buffer, Leave(Rc::clone(&self.large_used)))
        })
    }

    /// An empty buffer for the head of an answer.
    pub(crate) fn take_head(&mut self) -> Vec<u8> {
        self.heads.pop().unwrap_or_else(|| Vec::with_capacity(HEAD_BYTES))
    }

    /// Takes one back.
    pub(crate) fn put_head(&mut self, mut head: Vec<u8>) {
        if (HEAD_BYTES..=HEAD_BYTES_MAX).contains(&head.capacity()) && self.heads.len() < SPARE_HEADS_MAX {
            head.clear();
            self.heads.push(head);
        }
    }

    /// An empty list for the fields of an answer.
    pub(crate) fn take_lines(&mut self) -> Vec<Line> {
        self.lines.pop().unwrap_or_else(|| Vec::with_capacity(16))
    }

    /// Takes a list back.
    pub(crate) fn put_lines(&mut self, mut lines: Vec<Line>) {
        if (1..=LINES_MAX).contains(&lines.capacity()) && self.lines.len() < SPARE_LINES_MAX {
            lines.clear();
            self.lines.push(lines);
        }
    }

    /// Takes a buffer back.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        match buffer.capacity() {
            BUFFER_BYTES..LARGE_BYTES if self.spare.len() < SPARE_MAX => self.spare.push(buffer),
            LARGE_BYTES.. if self.large.len() < SPARE_LARGE_MAX && buffer.capacity() <= 2 * LARGE_BYTES => {
                self.large.push(buffer);
            }
            _ => {}
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_run_out_and_come_back() {
        let mut buffers = Buffers::default();
        let taken: Vec<_> = std::iter::from_fn(|| buffers.take_large()).collect();
        assert_eq!(taken.len(), LARGE_MAX);
        for (buffer, leave) in taken {
            // Also one that is never put back, but lost with its connection.
            drop((buffer, leave));
        }
        assert!(buffers.take_large().is_some_and(|(buffer, _)| buffer.capacity() >= LARGE_BYTES));
    }
}
