//! From a header value or a client address to a bucket. The definition is part of the contract: the same salt and unit
//! give the same bucket on every replica, in every version, and in any other program that follows these lines.
//!
//! `bucket = (u64(murmur3_x86_32(utf8("{salt}:{unit}"), seed 0)) × 1 000 000) >> 32`
//!
//! The product is taken in 64 bits and its upper half kept, so that no bucket is favoured by more than one hash value
//! in 4 295, which `% 1 000 000` of a smaller hash, or of FNV over short sequential ids, would not give. A unit that is
//! an address is written as text: `192.0.2.7`, or the first 64 bits of an IPv6 address as
//! `2001:db8:0:1::/64`; an IPv4-mapped address counts as IPv4.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};

use crate::model::BUCKETS;

/// Longest text of a [`ClientUnit`]: four groups of four digits, their colons, `:/64` and room to spare.
const UNIT_BYTES_MAX: usize = 48;

/// A client address as a unit: its text, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct ClientUnit {
    text: [u8; UNIT_BYTES_MAX],
    len: usize,
}

/// murmur3_x86_32 (Appleby), fed in pieces.
struct Murmur {
    hash: u32,
    word: u32,
    len: u32,
}

/// The bucket of a unit, `0..1_000_000`.
pub fn bucket_of(salt: &str, unit: &[u8]) -> u32 {
    let mut murmur = Murmur { hash: 0, word: 0, len: 0 };
    murmur.write(salt.as_bytes());
    murmur.write(b":");
    murmur.write(unit);
    ((u64::from(murmur.finish()) * u64::from(BUCKETS)) >> 32) as u32
}

/// The unit of a client: its IPv4 address, or the /64 that an IPv6 client may choose its addresses from.
pub fn client_unit(ip: IpAddr) -> ClientUnit {
    let mut unit = ClientUnit { text: [0; UNIT_BYTES_MAX], len: 0 };
    let mut rest = unit.text.as_mut_slice();
    let written = match ip.to_canonical() {
        IpAddr::V4(ip) => write!(rest, "{ip}"),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            write!(rest, "{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    };
    debug_assert!(written.is_ok(), "an address outgrew its buffer");
    let left = rest.len();
    unit.len = UNIT_BYTES_MAX - left;
    unit
}

// === impl ClientUnit ===

impl ClientUnit {
    /// The text, as [`bucket_of`] takes it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

// === impl Murmur ===

impl Murmur {
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.len.is_multiple_of(4)
            && let Some((&byte, tail)) = rest.split_first()
        {
            self.push(byte);
            rest = tail;
        }
        while let Some((chunk, tail)) = rest.split_first_chunk::<4>() {
            self.mix(u32::from_le_bytes(*chunk));
            self.len = self.len.wrapping_add(4);
            rest = tail;
        }
        for &byte in rest {
            self.push(byte);
        }
    }

    fn push(&mut self, byte: u8) {
        self.word |= u32::from(byte) << (8 * (self.len % 4));
        self.len = self.len.wrapping_add(1);
        if self.len.is_multiple_of(4) {
            self.mix(self.word);
            self.word = 0;
        }
    }

    fn mix(&mut self, word: u32) {
        self.hash ^= Self::scramble(word);
        self.hash = self.hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
    }

    fn scramble(word: u32) -> u32 {
        word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593)
    }

    fn finish(self) -> u32 {
        let mut hash = self.hash ^ Self::scramble(self.word) ^ self.len;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
        hash ^ (hash >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u32 {
        let mut murmur = Murmur { hash: 0, word: 0, len: 0 };
        murmur.write(bytes);
        murmur.finish()
    }

    fn unit(ip: &str) -> String {
        let unit = client_unit(ip.parse().expect("an address"));
        String::from_utf8_lossy(unit.as_bytes()).into_owned()
    }

    #[test]
    fn the_hash_is_murmur3_x86_32() {
        // Known answers of the reference implementation, seed 0.
        assert_eq!(hash(b""), 0);
        assert_eq!(hash(b"test"), 0xBA6B_D213);
        assert_eq!(hash(b"Hello, world!"), 0xC036_3E43);
    }

    #[test]
    fn buckets_never_change_between_versions() {
        // Computed from the definition by an independent program.
        let golden = [
            ("", "", 168_554),
            ("engine", "1", 49_402),
            ("engine", "2", 606_064),
            ("engine", "3", 679_182),
            ("engine", "user-42", 701_340),
            ("", "user-42", 782_991),
            ("engine", "192.0.2.7", 542_560),
            ("engine", "2001:db8:0:1::/64", 490_736),
            ("rollout-7", "müller", 800_771),
        ];
        for (salt, unit, bucket) in golden {
            assert_eq!(bucket_of(salt, unit.as_bytes()), bucket, "{salt}:{unit}");
        }
    }

    #[test]
    fn short_sequential_ids_spread_evenly() {
        for salt in ["", "engine", "checkout"] {
            let buckets: Vec<u32> = (0..100_000_u32).map(|id| bucket_of(salt, id.to_string().as_bytes())).collect();
            for percent in [1_u32, 5, 10, 50] {
                let below = buckets.iter().filter(|&&bucket| bucket < percent * 10_000).count() as f64;
                let share = f64::from(percent) / 100.0;
                let deviation = (100_000.0 * share * (1.0 - share)).sqrt();
                assert!((below - 100_000.0 * share).abs() < 4.0 * deviation, "{salt}: {below} below {percent} %");
            }
        }
    }

    #[test]
    fn the_pieces_in_which_a_hash_is_fed_do_not_matter() {
        let text = b"a salt:and a unit";
        for cut in 0..=text.len() {
            let mut murmur = Murmur { hash: 0, word: 0, len: 0 };
            murmur.write(&text[..cut]);
            murmur.write(&text[cut..]);
            assert_eq!(murmur.finish(), hash(text), "cut at {cut}");
        }
    }

    #[test]
    fn a_client_is_its_ipv4_address_or_its_ipv6_network() {
        assert_eq!(unit("192.0.2.7"), "192.0.2.7");
        assert_eq!(unit("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(unit("2001:db8:0:1:2:3:4:5"), "2001:db8:0:1::/64");
        assert_eq!(unit("2001:db8:0:1:ffff:ffff:ffff:ffff"), "2001:db8:0:1::/64");
        assert_eq!(unit("::1"), "::/64");
        assert_eq!(unit("ffff:ffff:ffff:ffff::"), "ffff:ffff:ffff:ffff::/64");
    }
}
