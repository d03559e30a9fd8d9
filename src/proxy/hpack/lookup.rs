//! Which entry of the dynamic table holds a field or a name, for the encoder. Hashes only say where to look: the bytes
//! are always compared, so what peers choose can make this slower by one pass over the table, and never wrong.

use super::table::Table;
use super::{FIELD_COSTS, TABLE_BYTES};

/// Entries of a table at most, since each counts 32 at least.
const ENTRIES_MAX: usize = TABLE_BYTES / FIELD_COSTS;

/// Places for fields: twice the entries, so that runs stay short.
const FIELDS: usize = 2 * ENTRIES_MAX;

/// Places for names. Two that share one are written out in turn, which costs bytes and nothing else; connections have
/// a dozen names that are not in the static table.
const NAMES: usize = 64;

/// What no entry is numbered.
const NONE: u8 = u8::MAX;

/// Odd constants of a multiplication that mixes: digits of π, as good as any.
const KEYS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345];

/// The places. Entries are numbered as they come, modulo [`ENTRIES_MAX`], so that each live one has its own number.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Numbers of entries, each at the hash of its field or behind it.
    fields: [u8; FIELDS],
    /// Number of the entry that was the last of its name.
    names: [u8; NAMES],
    /// Hash of the field, by number.
    hashes: [u32; ENTRIES_MAX],
    oldest: u8,
    /// Number of the next entry.
    next: u8,
}

// === impl Lookup ===

impl Lookup {
    pub(super) fn new() -> Self {
        Self { fields: [NONE; FIELDS], names: [NONE; NAMES], hashes: [0; ENTRIES_MAX], oldest: 0, next: 0 }
    }

    /// The entry that holds a field; 0 is the newest. `hash` is its [`hash_field`].
    #[inline]
    pub(super) fn find(&self, table: &Table, name: &[u8], value: &[u8], hash: u32) -> Option<usize> {
        let mut place = hash as usize % FIELDS;
        while self.fields[place] != NONE {
            let number = self.fields[place];
            if self.hashes[usize::from(number) % ENTRIES_MAX] == hash {
                let index = self.index(number);
                let (field, name_len) = table.entry(index)?;
                if name_len == name.len() && field[name_len..] == *value && field[..name_len] == *name {
                    return Some(index);
                }
            }
            place = (place + 1) % FIELDS;
        }
        None
    }

    /// An entry of this name; 0 is the newest. `hash` is its [`hash`].
    #[inline]
    pub(super) fn find_name(&self, table: &Table, name: &[u8], hash: u64) -> Option<usize> {
        let number = self.names[hash as usize % NAMES];
        if number == NONE {
            return None;
        }
        // By now the number may be that of no entry, or of another one.
        let index = self.index(number);
        let (field, name_len) = table.entry(index)?;
        (field[..name_len] == *name).then_some(index)
    }

    /// Notes the entry that was put in last, which no other is equal to, by the hashes of its field and its name.
    pub(super) fn insert(&mut self, hash: u32, name_hash: u64) {
        let mut place = hash as usize % FIELDS;
        while self.fields[place] != NONE {
            place = (place + 1) % FIELDS;
        }
        self.fields[place] = self.next;
        self.names[name_hash as usize % NAMES] = self.next;
        self.hashes[usize::from(self.next)] = hash;
        self.next = (self.next + 1) % ENTRIES_MAX as u8;
    }

    /// Forgets as many of the oldest entries.
    pub(super) fn remove(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.oldest;
            self.oldest = (number + 1) % ENTRIES_MAX as u8;
            let mut hole = self.hashes[usize::from(number)] as usize % FIELDS;
            while self.fields[hole] != number {
                hole = (hole + 1) % FIELDS;
            }
            // Those behind it move up, unless they would come to stand before their hash.
            let mut place = (hole + 1) % FIELDS;
            while self.fields[place] != NONE {
                let home = self.hashes[usize::from(self.fields[place])] as usize;
                if place.wrapping_sub(home) % FIELDS >= place.wrapping_sub(hole) % FIELDS {
                    self.fields[hole] = self.fields[place];
                    hole = place;
                }
                place = (place + 1) % FIELDS;
            }
            self.fields[hole] = NONE;
        }
    }

    /// How many entries are newer than the one of this number.
    #[inline]
    fn index(&self, number: u8) -> usize {
        usize::from(self.next.wrapping_sub(number).wrapping_sub(1)) % ENTRIES_MAX
    }
}

/// Mixes two words (a multiplication folded, as in wyhash).
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ KEYS[0]) as u128 * (b ^ KEYS[1]) as u128;
    product as u64 ^ (product >> 64) as u64
}

/// A hash of the length and of the first and last eight bytes: all of most names.
#[inline]
pub(super) const fn hash(bytes: &[u8]) -> u64 {
    let (a, b) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(a), Some(b)) => (u64::from_le_bytes(*a), u64::from_le_bytes(*b)),
        _ => match (bytes.first_chunk(), bytes.last_chunk(), bytes) {
            (Some(a), Some(b), _) => (u32::from_le_bytes(*a) as u64, u32::from_le_bytes(*b) as u64),
            (_, _, [a, .., b]) => (*a as u64 | (bytes[bytes.len() / 2] as u64) << 8, *b as u64),
            (_, _, [a]) => (*a as u64, 0),
            _ => (0, 0),
        },
    };
    mix(a ^ bytes.len() as u64, b)
}

/// A hash of a field: of its name's [`hash`], and of its value's with eight bytes from the middle.
#[inline]
pub(super) fn hash_field(name_hash: u64, value: &[u8]) -> u32 {
    let middle = value.len() / 2;
    let middle = value.get(middle.wrapping_sub(4)..middle + 4).and_then(|middle| middle.first_chunk());
    let middle = middle.map_or(0, |middle| u64::from_le_bytes(*middle));
    mix(name_hash ^ middle, hash(value)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that places run into each other and around the end.
        #[test]
        fn every_entry_of_the_table_is_found_and_no_other(
            hashes in prop::collection::vec(prop::sample::select(vec![0_u32, 1, 2, 7, 250, 254, 255, 511]), 0..150),
            len in 0_usize..56,
        ) {
            let (mut table, mut lookup) = (Table::new(), Lookup::new());
            for (at, &hash) in hashes.iter().enumerate() {
                let value = at.to_le_bytes().repeat(8);
                let gone = table.insert(b"n", &value[..8 + len]);
                lookup.remove(gone);
                lookup.insert(hash, 3);
                for (back, &hash) in hashes[..=at].iter().rev().enumerate() {
                    let value = (at - back).to_le_bytes().repeat(8);
                    let expected = table.entry(back).map(|_| back);
                    prop_assert_eq!(lookup.find(&table, b"n", &value[..8 + len], hash), expected);
                }
                prop_assert_eq!(lookup.find_name(&table, b"n", 3), Some(0));
                prop_assert_eq!(lookup.find_name(&table, b"m", 3), None);
            }
            let gone = table.set_max(0);
            lookup.remove(gone);
            prop_assert!(lookup.fields.iter().all(|&number| number == NONE));
        }
    }
}
