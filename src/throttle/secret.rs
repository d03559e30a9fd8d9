//! What makes the hashes of keys: nobody outside knows which of them share a place in a table. Unlike the secrets of
//! the standard library it can be handed to the next process.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// 128 bits that a hash begins with.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u64; 2]);

/// A secret that may be replaced before it is used.
#[derive(Debug)]
pub(super) struct Shared([AtomicU64; 2]);

// === impl Secret ===

impl Secret {
    /// A new one, from the system's randomness.
    pub(super) fn new() -> Self {
        // Each half is a hash by a state of its own.
        Self([(); 2].map(|()| RandomState::new().hash_one(0_u8)))
    }
}

impl BuildHasher for Secret {
    type Hasher = DefaultHasher;

    #[inline]
    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        // In one piece: words one by one cost twice as much.
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_ne_bytes());
        hasher.write(&bytes);
        hasher
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new() -> Self {
        Self(Secret::new().0.map(AtomicU64::new))
    }

    #[inline]
    pub(super) fn load(&self) -> Secret {
        Secret([&self.0[0], &self.0[1]].map(|half| half.load(Ordering::Relaxed)))
    }

    pub(super) fn store(&self, secret: Secret) {
        self.0.iter().zip(secret.0).for_each(|(half, new)| half.store(new, Ordering::Relaxed));
    }
}
