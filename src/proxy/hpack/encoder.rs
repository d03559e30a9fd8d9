//! The end that writes blocks (RFC 7541 §6): a field that was written before is one octet. It does not know which
//! fields repeat and which are secret; whoever writes them says so by [`Index`].

use super::lookup::{Lookup, hash, hash_field};
use super::table::Table;
use super::{FIELD_COSTS, TABLE_BYTES, huffman, integers, statics};

/// Writes the blocks of one connection, in order.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: Table,
    lookup: Lookup,
    /// The smallest size that the table was to have since the last block, and the last.
    resize: Option<(usize, usize)>,
}

/// What becomes of a field that no table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    /// It goes into the table: the next one like it is one octet.
    Yes,
    /// It does not: it differs most times, and would put out what repeats.
    No,
    /// It does not at any hop: it is secret (RFC 7541 §7.1.3), or differs every time. No table is asked for its value.
    Never,
}

/// A field that counts more than three quarters of the table is not put in, since it would put out nearly all others
/// (nghttp2 does the same).
const ENTRY_SHARE: (usize, usize) = (3, 4);

/// The representation that a field is written out in (RFC 7541 §6.2).
#[derive(Clone, Copy)]
struct Literal {
    /// The bits above the name's index.
    pattern: u8,
    /// How many bits the index has.
    prefix: u32,
    /// Whether strings are in the Huffman code where it is shorter.
    coded: bool,
}

/// Once in the code and many times in one octet.
const WITH_INDEXING: Literal = Literal { pattern: 0x40, prefix: 6, coded: true };

/// What is written anew each time is written as it is, as HAProxy does: with a request id of 32 digits the code saves
/// twelve bytes and costs 860 instructions here, and more work at the other end.
const WITHOUT_INDEXING: Literal = Literal { pattern: 0x00, prefix: 4, coded: false };
const NEVER_INDEXED: Literal = Literal { pattern: 0x10, prefix: 4, coded: false };

// === impl Encoder ===

impl Encoder {
    /// For a connection whose peer has not said how large a table it holds: 4096 bytes.
    pub(crate) fn new() -> Self {
        Self { table: Table::new(), lookup: Lookup::new(), resize: None }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE: the table is never larger, nor larger than 4096 bytes. Tells it in the
    /// next block (RFC 7541 §4.2).
    pub(crate) fn set_table_max(&mut self, bytes: usize) {
        let max = bytes.min(TABLE_BYTES);
        let (smallest, _) = self.resize.unwrap_or((self.table.max(), 0));
        self.resize = Some((smallest.min(max), max));
    }

    /// Begins a block. Must come before its fields.
    #[inline]
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.resize.take() {
            self.tell_size(smallest, last, out);
        }
    }

    /// Writes the `:status` of an answer, from 100 to 999.
    #[inline]
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => statics::STATUS,
            204 => statics::STATUS + 1,
            206 => statics::STATUS + 2,
            304 => statics::STATUS + 3,
            400 => statics::STATUS + 4,
            404 => statics::STATUS + 5,
            500 => statics::STATUS + 6,
            _ => {
                let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
                return self.field(b":status", &digits, Index::Yes, out);
            }
        };
        integers::write(index, 7, 0x80, out);
    }

    /// Writes a field; its name is in lower case.
    #[inline]
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], index: Index, out: &mut Vec<u8>) {
        // Here, since it is worked out beforehand where the name is known when weir is compiled.
        let name_hash = hash(name);
        match index {
            Index::Yes => self.repeated(name, name_hash, value, out),
            Index::No => {
                let first = statics::find(name, name_hash);
                match first.and_then(|first| statics::find_value(first, value)) {
                    Some(index) => integers::write(index, 7, 0x80, out),
                    None => literal(WITHOUT_INDEXING, self.name(name, name_hash, first), name, value, out),
                }
            }
            Index::Never => {
                let first = statics::find(name, name_hash);
                literal(NEVER_INDEXED, self.name(name, name_hash, first), name, value, out);
            }
        }
    }

    /// Writes a field that is likely to come again.
    fn repeated(&mut self, name: &[u8], name_hash: u64, value: &[u8], out: &mut Vec<u8>) {
        // Values that the static table has are mostly those of pseudo fields, which are looked for there first; others
        // are when the dynamic table has none.
        let is_pseudo = name.first() == Some(&b':');
        let mut first = None;
        if is_pseudo {
            first = statics::find(name, name_hash);
            if let Some(index) = first.and_then(|first| statics::find_value(first, value)) {
                return integers::write(index, 7, 0x80, out);
            }
        }
        let field_hash = hash_field(name_hash, value);
        if let Some(index) = self.lookup.find(&self.table, name, value, field_hash) {
            return integers::write(statics::LEN + 1 + index, 7, 0x80, out);
        }
        if !is_pseudo {
            first = statics::find(name, name_hash);
            if let Some(index) = first.and_then(|first| statics::find_value(first, value)) {
                return integers::write(index, 7, 0x80, out);
            }
        }
        let index = self.name(name, name_hash, first);
        let (part, whole) = ENTRY_SHARE;
        if (name.len() + value.len() + FIELD_COSTS) * whole > self.table.max() * part {
            return literal(WITHOUT_INDEXING, index, name, value, out);
        }
        literal(WITH_INDEXING, index, name, value, out);
        let gone = self.table.insert(name, value);
        self.lookup.remove(gone);
        self.lookup.insert(field_hash, name_hash);
    }

    /// The index of a name, of which `first` is the one in the static table; 0: none.
    #[inline]
    fn name(&self, name: &[u8], hash: u64, first: Option<usize>) -> usize {
        let dynamic = || self.lookup.find_name(&self.table, name, hash).map(|index| statics::LEN + 1 + index);
        first.or_else(dynamic).unwrap_or(0)
    }

    #[cold]
    fn tell_size(&mut self, smallest: usize, last: usize, out: &mut Vec<u8>) {
        for max in [smallest, last] {
            if max != self.table.max() {
                integers::write(max, 5, 0x20, out);
                let gone = self.table.set_max(max);
                self.lookup.remove(gone);
            }
        }
    }
}

/// Writes a field out, its name too where `index` is 0.
fn literal(kind: Literal, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    integers::write(index, kind.prefix, kind.pattern, out);
    if index == 0 {
        string(name, kind.coded, out);
    }
    string(value, kind.coded, out);
}

/// Writes a string (RFC 7541 §5.2), if it may be coded then in the code if that is shorter.
fn string(bytes: &[u8], may_code: bool, out: &mut Vec<u8>) {
    let coded = if may_code { huffman::coded_len(bytes) } else { bytes.len() };
    if coded < bytes.len() {
        integers::write(coded, 7, 0x80, out);
        huffman::encode(bytes, coded, out);
    } else {
        integers::write(bytes.len(), 7, 0, out);
        out.extend_from_slice(bytes);
    }
}
