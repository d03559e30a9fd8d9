//! What the heads that a connection brings come to, unpacked: how many of them are handled in one turn, and how many
//! bytes are packed in a way that nobody needs. What they are on the wire says little of either: a head of 30 kB may be
//! 120 bytes there. Pure.
//!
//! When the next turn is, is for [`drive`](super::drive); what bytes in excess cost, for
//! [`frames`](crate::proxy::frames).

use crate::proxy::hpack::fields::Fields;

/// What the heads of one turn may count together, by RFC 9113 §6.5.2 and with [`HEAD_COSTS`] for each. The 32 requests
/// that a client of gRPC has under way at once count some 35 KiB; browsers send fewer, with heads of 1 to 2 KiB.
const TURN_MAX: usize = 48 * 1024;

/// What a head counts beside its list: what is done for any request is about what is done for so many bytes of fields.
const HEAD_COSTS: usize = 512;

/// A head from here on is a turn of its own: read, looked at, copied and written it takes as long as ten others. It is
/// what the heads of a connection's streams may hold on average ([`held`](crate::proxy::frames::held)).
const HEAVY_BYTES: usize = 8 * 1024;

/// What the fields of a head come to, written out, when it names each entry of the tables once: those of the peer's own
/// (RFC 9113 §6.5.2: 4096 bytes) and the static ones (RFC 7541, appendix A: 900).
const TABLES_BYTES: usize = 5 * 1024;

/// Bytes in excess with which a request is refused as too large: nobody means that, and it is the endpoint that would
/// have the most work with it. Together with [`TABLES_BYTES`] it bounds what few bytes become.
pub(super) const EXCESS_MAX: usize = 2 * 1024;

/// What the heads of a turn come to.
#[derive(Debug, Default)]
pub(super) struct Effort {
    spent: usize,
}

// === impl Effort ===

impl Effort {
    /// Takes in a head.
    #[inline]
    pub(super) fn add(&mut self, fields: &Fields) {
        let list = fields.list_size();
        self.spent += if list < HEAVY_BYTES { list + HEAD_COSTS } else { TURN_MAX };
    }

    /// Whether it is enough for a turn.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.spent >= TURN_MAX
    }

    /// The next turn begins.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.spent = 0;
    }
}

/// Bytes of a head that no encoder packs who means well: what is more than its block written out (the shortest code of
/// Huffman's has five bits, RFC 7541 appendix B) and the tables can hold must be the same entries, named again and
/// again.
#[inline]
pub(super) fn excess(block: &[u8], fields: &Fields) -> usize {
    fields.bytes_len().saturating_sub(block.len() * 8 / 5 + TABLES_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::hpack::decoder::Decoder;
    use crate::proxy::hpack::encoder::{Encoder, Index};

    fn head(fields: usize, value_bytes: usize) -> Fields {
        let mut head = Fields::default();
        (0..fields).for_each(|n| head.push(format!("x-{n:02}").as_bytes(), &vec![b'v'; value_bytes]));
        head
    }

    #[test]
    fn dozens_of_ordinary_heads_are_one_turn_and_a_heavy_one_is_one_of_its_own() {
        for (head, turn) in
            [(head(5, 20), 40..80), (head(10, 21), 32..50), (head(20, 50), 16..32), (head(90, 300), 1..2)]
        {
            let mut effort = Effort::default();
            let count = (1..).find(|_| {
                effort.add(&head);
                effort.is_spent()
            });
            assert!(turn.contains(&count.unwrap()), "{count:?} of {}", head.list_size());
            effort.rest();
            assert!(!effort.is_spent());
        }
    }

    #[test]
    fn only_entries_that_are_named_again_and_again_are_in_excess() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        // As much as the table holds, and much that it does not: the densest text first, then what is in the table.
        for sent in [head(40, 50), head(40, 50), head(90, 250), head(1, 20_000)] {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            sent.iter().for_each(|(name, value)| encoder.field(name, value, Index::Yes, &mut block));
            let mut fields = Fields::default();
            decoder.decode(&block, 32 * 1024, &mut fields).unwrap();
            assert_eq!(excess(&block, &fields), 0);
        }
        let mut fields = Fields::default();
        let block = [vec![0x82; 90], vec![0x80 | 62; 90]].concat();
        let large = [&[0x40, 1, b'x', 127, 0x80 | (273_u16 - 256) as u8, 1][..], &[b'v'; 272]].concat();
        decoder.decode(&large, 32 * 1024, &mut fields).unwrap();
        fields.clear();
        decoder.decode(&block, 32 * 1024, &mut fields).unwrap();
        assert!(excess(&block, &fields) > 18 * 1024, "{} {}", fields.list_size(), excess(&block, &fields));
    }
}
