//! A list of fields, names and values one after the other in one buffer that is used again and again. It does not ask
//! what the fields mean, and finds one by looking through them.

use super::FIELD_COSTS;

/// Names and values of one block, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fields {
    pub(super) bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Where a field stands: the value follows the name.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    name_len: u32,
    value_len: u32,
    origin: Origin,
}

/// What of a field was written in its own block. What was not came in one before, and has been seen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// All of it.
    Written,
    /// Its value; its name is that of a table's entry.
    Named,
    /// Nothing: it is a table's entry, and has a value if it is the static one's.
    Table,
}

// === impl Fields ===

impl Fields {
    /// Takes all fields out and keeps the room.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Adds a field at the end. Lists are far below 4 GiB.
    #[inline]
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.keep(start, name.len(), Origin::Written);
    }

    /// Makes a field of the bytes from `start` on, of which the first `name_len` are its name.
    #[inline]
    pub(super) fn keep(&mut self, start: usize, name_len: usize, origin: Origin) {
        let value_len = self.bytes.len() - start - name_len;
        self.spans.push(Span { start: start as u32, name_len: name_len as u32, value_len: value_len as u32, origin });
    }

    /// How many fields.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Name and value of each field, in order.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.spans.iter().map(|span| self.field(span))
    }

    /// The same, and where each was taken from.
    #[inline]
    pub(crate) fn marked(&self) -> impl Iterator<Item = (&[u8], &[u8], Origin)> + Clone {
        self.spans.iter().map(|span| {
            let (name, value) = self.field(span);
            (name, value, span.origin)
        })
    }

    /// Name and value of the field that has so many before it.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        self.spans.get(index).map(|span| self.field(span))
    }

    #[inline]
    fn field(&self, span: &Span) -> (&[u8], &[u8]) {
        let (start, name_len, value_len) = (span.start as usize, span.name_len as usize, span.value_len as usize);
        self.bytes[start..start + name_len + value_len].split_at(name_len)
    }

    /// The value of the first field of this name, which is in lower case.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Bytes of all names and values.
    #[inline]
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// What SETTINGS_MAX_HEADER_LIST_SIZE counts: bytes of names and values, and 32 for each field (RFC 9113 §6.5.2).
    #[inline]
    pub(crate) fn list_size(&self) -> usize {
        self.bytes.len() + self.spans.len() * FIELD_COSTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_out_as_they_went_in() {
        let mut fields = Fields::default();
        assert!(fields.is_empty());
        for (name, value) in [("a", "1"), ("b", ""), ("a", "22"), ("", "")] {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let found: Vec<(&[u8], &[u8])> = fields.iter().collect();
        assert_eq!(found, [(&b"a"[..], &b"1"[..]), (b"b", b""), (b"a", b"22"), (b"", b"")]);
        assert_eq!((fields.get(b"a"), fields.get(b"b"), fields.get(b"c")), (Some(&b"1"[..]), Some(&b""[..]), None));
        assert_eq!((fields.at(2), fields.at(4)), (Some((&b"a"[..], &b"22"[..])), None));
        assert!(fields.marked().all(|(.., origin)| origin == Origin::Written));
        assert_eq!((fields.len(), fields.list_size()), (4, 6 + 4 * 32));
        fields.clear();
        assert_eq!((fields.len(), fields.list_size()), (0, 0));
    }
}
