//! Where a stream is kept, by its number. Pure.

use super::streams::Key;

/// 2^32 by the golden ratio (Knuth, volume 3, 6.4).
const SPREAD: u32 = 0x9e37_79b9;

/// Numbers of streams and where they are kept: a table with open addresses. Numbers follow each other; they are spread,
/// so that there are gaps between them and what is taken out moves few others.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Number and key; 0 is no stream's number. Its length is a power of two.
    cells: Vec<(u32, Key)>,
    len: usize,
}

// === impl Ids ===

impl Ids {
    #[inline]
    fn home(&self, id: u32) -> usize {
        (id.wrapping_mul(SPREAD) >> 16) as usize & (self.cells.len() - 1)
    }

    /// Numbers in it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<Key> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(id);
        loop {
            match self.cells[at] {
                (it, key) if it == id => return Some(key),
                (0, _) => return None,
                _ => at = (at + 1) & (self.cells.len() - 1),
            }
        }
    }

    pub(super) fn insert(&mut self, id: u32, key: Key) {
        if (self.len + 1) * 2 > self.cells.len() {
            let larger = vec![(0, 0); (self.cells.len() * 2).max(16)];
            let old = std::mem::replace(&mut self.cells, larger);
            self.len = 0;
            old.into_iter().filter(|(id, _)| *id != 0).for_each(|(id, key)| self.insert(id, key));
        }
        let mut at = self.home(id);
        while self.cells[at].0 != 0 {
            at = (at + 1) & (self.cells.len() - 1);
        }
        self.cells[at] = (id, key);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: u32) {
        if self.len == 0 {
            return;
        }
        let mask = self.cells.len() - 1;
        let mut at = self.home(id);
        while self.cells[at].0 != id {
            if self.cells[at].0 == 0 {
                return;
            }
            at = (at + 1) & mask;
        }
        // What follows without a gap moves up, where it is still found.
        let mut next = (at + 1) & mask;
        while self.cells[next].0 != 0 {
            let home = self.home(self.cells[next].0);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.cells[at] = self.cells[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.cells[at] = (0, 0);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn streams_are_found_by_their_numbers(steps in prop::collection::vec((0_u32..80, any::<bool>()), 0..400)) {
            let (mut ids, mut model) = (Ids::default(), BTreeMap::new());
            for (n, (id, insert)) in steps.into_iter().enumerate() {
                // Some of the same home, some not.
                let id = if id % 3 == 0 { id * 64 + 1 } else { id * 2 + 1 };
                if insert && !model.contains_key(&id) {
                    ids.insert(id, n as Key);
                    model.insert(id, n as Key);
                } else {
                    ids.remove(id);
                    model.remove(&id);
                }
                prop_assert_eq!(ids.len, model.len());
                for id in 1..300 {
                    prop_assert_eq!(ids.find(id), model.get(&id).copied());
                }
            }
        }
    }
}
