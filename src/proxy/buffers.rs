//! A worker's spare buffers. A connection holds one only while bytes are moving, so that idle connections cost none
//! and busy ones share the few that are warm in the cache.

use super::h1::response::Line;

/// Size of an ordinary buffer: a request or response head with a small body.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// Size of a buffer for long bodies: fewer system calls per megabyte; larger ones gained nothing measurable.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Spare ordinary buffers kept per worker.
const SPARE_MAX: usize = 64;

/// Spare large buffers kept per worker.
const SPARE_LARGE_MAX: usize = 16;

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
}

// === impl Buffers ===

impl Buffers {
    /// An empty buffer of at least [`BUFFER_BYTES`].
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// An empty buffer of at least [`LARGE_BYTES`].
    pub(crate) fn take_large(&mut self) -> Vec<u8> {
        self.large.pop().unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES))
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
