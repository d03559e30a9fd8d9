//! A worker's spare buffers. A connection holds one only while bytes are moving, so that idle connections cost none
//! and busy ones share the few that are warm in the cache.

/// Size of an ordinary buffer: a request or response head with a small body.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// Size of a buffer for long bodies: fewer system calls per megabyte; larger ones gained nothing measurable.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Spare ordinary buffers kept per worker.
const SPARE_MAX: usize = 64;

/// Spare large buffers kept per worker.
const SPARE_LARGE_MAX: usize = 16;

/// Spare buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
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
