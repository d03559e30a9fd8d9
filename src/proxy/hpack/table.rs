//! The dynamic table (RFC 7541 §2.3.2, §4): first in, first out, in one buffer. Both ends of a direction hold the same
//! one. It does not find entries by what is in them; for the encoder, [`lookup`](super::lookup) does.

use std::collections::VecDeque;

use super::{FIELD_COSTS, TABLE_BYTES};

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    /// Names and values of all entries, behind those of entries that are gone.
    bytes: Vec<u8>,
    /// Where `bytes` begins in all that was ever put into it, modulo 2^32.
    base: u32,
    entries: VecDeque<Entry>,
    /// What the entries count (RFC 7541 §4.1), at most `max`.
    size: usize,
    max: usize,
}

/// Where an entry stands: the value follows the name.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Counted as `base` is.
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl Entry {
    fn len(&self) -> usize {
        self.name_len as usize + self.value_len as usize
    }
}

// === impl Table ===

impl Table {
    /// An empty one of the size that each has at first.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), base: 0, entries: VecDeque::new(), size: 0, max: TABLE_BYTES }
    }

    /// How many entries.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    /// The most that entries may count.
    #[inline]
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Name and value of an entry in one, and the length of its name; 0 is the newest.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> Option<(&[u8], usize)> {
        let at = self.entries.len().checked_sub(index + 1)?;
        let entry = &self.entries[at];
        let start = entry.start.wrapping_sub(self.base) as usize;
        Some((&self.bytes[start..start + entry.len()], entry.name_len as usize))
    }

    /// Changes the most that entries may count. What no longer fits goes, oldest first; says how many.
    pub(super) fn set_max(&mut self, max: usize) -> usize {
        self.max = max;
        self.shrink(max)
    }

    /// Puts in a field and takes out what has to go for it; says how many. A field that is larger than the table
    /// empties it and is not kept (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) -> usize {
        let len = name.len() + value.len();
        let size = len + FIELD_COSTS;
        let gone = self.shrink(self.max.saturating_sub(size));
        if size > self.max {
            return gone;
        }
        if self.bytes.len() + len > self.bytes.capacity() {
            self.close_up();
        }
        let start = self.base.wrapping_add(self.bytes.len() as u32);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { start, name_len: name.len() as u32, value_len: value.len() as u32 });
        self.size += size;
        gone
    }

    fn shrink(&mut self, max: usize) -> usize {
        let mut gone = 0;
        while self.size > max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.len() + FIELD_COSTS;
            gone += 1;
        }
        gone
    }

    /// Drops the bytes of entries that are gone, if they are as many as those that stay: so each byte is moved once at
    /// most for one that was put in, and the buffer is never longer than twice the table.
    fn close_up(&mut self) {
        let start = self.entries.front().map(|oldest| oldest.start.wrapping_sub(self.base) as usize);
        let dead = start.unwrap_or(self.bytes.len());
        if dead >= self.bytes.len() - dead {
            self.bytes.drain(..dead);
            self.base = self.base.wrapping_add(dead as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new();
        assert_eq!(table.insert(b"name", b""), 0);
        assert_eq!(table.insert(b"name", &[0; TABLE_BYTES - 35]), 1);
        assert_eq!((table.len(), table.size), (0, 0));
        assert_eq!(table.insert(b"name", &[0; TABLE_BYTES - 36]), 0);
        assert_eq!((table.len(), table.entry(1)), (1, None));
    }

    proptest! {
        #[test]
        fn a_table_is_a_list_of_the_newest_that_fit(
            steps in prop::collection::vec((0_usize..5000, prop::sample::select(vec![10_usize, 90, 2000])), 0..400),
            base in 0_u32..5000,
        ) {
            let (mut table, mut model, mut max) = (Table::new(), Vec::<(Vec<u8>, usize)>::new(), TABLE_BYTES);
            table.base = base.wrapping_neg();
            for (draw, longest) in steps {
                let before = table.len();
                let (added, gone) = if draw % 50 == 0 {
                    max = draw.min(TABLE_BYTES);
                    (0, table.set_max(max))
                } else {
                    let field = vec![draw as u8; draw % longest];
                    let (name, value) = field.split_at(field.len() / 2);
                    model.insert(0, (field.clone(), name.len()));
                    (usize::from(field.len() + 32 <= max), table.insert(name, value))
                };
                while model.iter().map(|(field, _)| field.len() + 32).sum::<usize>() > max {
                    model.pop();
                }
                let found = (0..table.len()).map(|index| table.entry(index).expect("it is there"));
                prop_assert_eq!(found.map(|(field, len)| (field.to_vec(), len)).collect::<Vec<_>>(), &model[..]);
                prop_assert_eq!(before + added - gone, table.len());
                prop_assert!(table.bytes.capacity() <= 4 * TABLE_BYTES);
            }
        }
    }
}
