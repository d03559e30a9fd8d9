//! HPACK, the compression of HTTP/2's field lists (RFC 7541): a block of bytes becomes [`Fields`](fields::Fields) and
//! the other way round. Pure: no I/O, no clock.
//!
//! [`decoder`] and [`encoder`] are the two ends of a direction; both stand on the static table ([`statics`]), a
//! dynamic one ([`table`]), [`integers`] and strings ([`huffman`], by [`codes`]). What a field may hold is not asked
//! here: names in upper case or values with a NUL pass, and whoever reads the list refuses them (RFC 9113 §8.2.1).

pub(crate) mod fields;

pub(crate) mod decoder;
pub(crate) mod encoder;

mod lookup;
mod statics;
mod table;

mod codes;
mod huffman;
mod integers;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod properties;

use thiserror::Error;

/// Bytes of the dynamic table until a size update says otherwise (RFC 9113 §6.5.2, SETTINGS_HEADER_TABLE_SIZE).
const TABLE_BYTES: usize = 4096;

/// What an entry of the dynamic table, or a field of a list, counts beside its name and value (RFC 7541 §4.1,
/// RFC 9113 §6.5.2).
const FIELD_COSTS: usize = 32;

/// Why a block cannot be decoded. The table is shared, so the connection ends with COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    /// It ends within a field.
    #[error("the block ends within a field")]
    Truncated,
    /// An integer has more octets than any that is of use (RFC 7541 §5.1).
    #[error("an integer is too long")]
    Integer,
    /// No table has an entry of this number, 0 included (RFC 7541 §2.3.3, §6.1).
    #[error("there is no entry {0}")]
    Entry(usize),
    /// The table would be larger than was announced (RFC 7541 §6.3).
    #[error("a table of {0} bytes is larger than may be")]
    TableSize(usize),
    /// A size update behind a field (RFC 7541 §4.2).
    #[error("the table's size changes within a block")]
    LateTableSize,
    /// A string of Huffman codes with EOS in it (RFC 7541 §5.2).
    #[error("a string holds EOS")]
    Eos,
    /// A string of Huffman codes that ends in anything but up to seven ones (RFC 7541 §5.2).
    #[error("a string ends in what is no padding")]
    Padding,
}
