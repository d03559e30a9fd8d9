//! The end that reads blocks (RFC 7541 §6). It keeps no field beyond the size of list that is asked for, and does for a
//! block no more than its length and that size say; what a list means is for others.

use super::fields::{Fields, Origin};
use super::table::Table;
use super::{FIELD_COSTS, Malformed, huffman, integers, statics};

/// Reads the blocks of one connection, in order.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// The largest table that a size update may ask for.
    table_max: usize,
}

/// What became of a block that is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// All of its fields are there.
    Whole,
    /// The list is larger than was asked for; those fields that came before it was are there.
    TooLarge,
    /// It is more than [`FAR_TIMES`] as large. Nobody means that, so it was not read to its end: after it the table is
    /// of no use, and the connection over.
    FarTooLarge,
}

/// How many times as large as was asked for a list is that nobody means: a block of references to one large entry.
const FAR_TIMES: usize = 4;

/// Where the fields of a block go.
struct List<'a> {
    fields: &'a mut Fields,
    /// What it may count, and what it does.
    max: usize,
    counts: usize,
}

// === impl Decoder ===

impl Decoder {
    /// For a connection whose peer is told a SETTINGS_HEADER_TABLE_SIZE of `table_max` bytes. The table has the 4096
    /// bytes of every connection until the peer says otherwise, as it must before it uses a smaller one.
    pub(crate) fn new(table_max: usize) -> Self {
        Self { table: Table::new(), table_max }
    }

    /// Decodes a whole block (HEADERS and CONTINUATION joined) and puts its fields behind those in `into`.
    ///
    /// `list_max` is how much the list of this block may count (RFC 9113 §6.5.2). Above it no field is kept, but the
    /// block is decoded to its end, since the blocks after it need the table, unless it is far above. After an error
    /// the connection is over.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        list_max: usize,
        into: &mut Fields,
    ) -> Result<Decoded, Malformed> {
        let mut list = List { fields: into, max: list_max, counts: 0 };
        let mut may_resize = true;
        while let Some(&first) = block.first() {
            match first {
                0x80.. => self.indexed(integers::read(&mut block, 7)?, &mut list)?,
                0x40.. => self.literal(integers::read(&mut block, 6)?, &mut block, &mut list, true)?,
                0x20.. if !may_resize => return Err(Malformed::LateTableSize),
                0x20.. => {
                    let size = integers::read(&mut block, 5)?;
                    if size > self.table_max {
                        return Err(Malformed::TableSize(size));
                    }
                    self.table.set_max(size);
                    continue;
                }
                // Without indexing, and never indexed.
                _ => self.literal(integers::read(&mut block, 4)?, &mut block, &mut list, false)?,
            }
            may_resize = false;
            if list.counts / FAR_TIMES > list.max {
                return Ok(Decoded::FarTooLarge);
            }
        }
        Ok(if list.counts > list.max { Decoded::TooLarge } else { Decoded::Whole })
    }

    /// A field of a table (RFC 7541 §6.1).
    #[inline]
    fn indexed(&self, index: usize, list: &mut List<'_>) -> Result<(), Malformed> {
        if let Some((name, value)) = statics::entry(index) {
            if list.takes(name.len() + value.len()) {
                let start = list.fields.bytes.len();
                list.fields.bytes.extend_from_slice(name);
                list.fields.bytes.extend_from_slice(value);
                // Most entries of the static table have no value, which is not always one that a field may have.
                let origin = if value.is_empty() { Origin::Named } else { Origin::Table };
                list.fields.keep(start, name.len(), origin);
            }
            return Ok(());
        }
        let (field, name_len) = self.dynamic(index)?;
        if list.takes(field.len()) {
            let start = list.fields.bytes.len();
            list.fields.bytes.extend_from_slice(field);
            list.fields.keep(start, name_len, Origin::Table);
        }
        Ok(())
    }

    /// A field that is written out, at least its value (RFC 7541 §6.2).
    fn literal(
        &mut self,
        index: usize,
        block: &mut &[u8],
        list: &mut List<'_>,
        is_indexed: bool,
    ) -> Result<(), Malformed> {
        let bytes = &mut list.fields.bytes;
        let start = bytes.len();
        if index == 0 {
            string(block, bytes)?;
        } else if let Some((name, _)) = statics::entry(index) {
            bytes.extend_from_slice(name);
        } else {
            let (field, name_len) = self.dynamic(index)?;
            bytes.extend_from_slice(&field[..name_len]);
        }
        let name_len = bytes.len() - start;
        string(block, bytes)?;
        if is_indexed {
            let (name, value) = bytes[start..].split_at(name_len);
            self.table.insert(name, value);
        }
        let len = bytes.len() - start;
        if list.takes(len) {
            list.fields.keep(start, name_len, if index == 0 { Origin::Written } else { Origin::Named });
        } else {
            list.fields.bytes.truncate(start);
        }
        Ok(())
    }

    #[inline]
    fn dynamic(&self, index: usize) -> Result<(&[u8], usize), Malformed> {
        let entry = index.checked_sub(statics::LEN + 1).and_then(|index| self.table.entry(index));
        entry.ok_or(Malformed::Entry(index))
    }
}

// === impl List ===

impl List<'_> {
    /// Whether a field with so many bytes of name and value is kept.
    #[inline]
    fn takes(&mut self, len: usize) -> bool {
        self.counts = self.counts.saturating_add(len + FIELD_COSTS);
        self.counts <= self.max
    }
}

/// Appends a string (RFC 7541 §5.2).
#[inline]
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let len = integers::read(block, 7)?;
    let from = *block;
    let (string, rest) = from.split_at_checked(len).ok_or(Malformed::Truncated)?;
    *block = rest;
    if is_huffman {
        return huffman::decode(from, len, out);
    }
    out.extend_from_slice(string);
    Ok(())
}
