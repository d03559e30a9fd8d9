//! A block of fields is the same to a decoder that keeps all of them and to one that keeps a list of some size, whose
//! bound holds; and the fields, written again in any way, are read as they were. An input is the size of a list in
//! eights (one byte), and then blocks, each behind its length (one byte).

use weir::proxy::seam::Hpack;

/// More than any input can say: 255 octets that each name the largest entry of a table of 4096 bytes.
const ALL: usize = 255 * (4096 + 32);

/// Decodes block by block, up to the first that is refused.
pub(crate) fn check(input: &[u8]) {
    let Some((&eights, mut rest)) = input.split_first() else { return };
    let list_max = usize::from(eights) * 8;
    let (mut whole, mut part) = (Hpack::new(4096), Hpack::new(4096));
    let (mut writer, mut reader) = (Hpack::new(4096), Hpack::new(4096));
    while let Some((&len, bytes)) = rest.split_first() {
        let (block, behind) = bytes.split_at(bytes.len().min(len.into()));
        rest = behind;
        let decoded = whole.decode(block, ALL);
        let bounded = part.decode(block, list_max);
        if bounded.as_ref().is_err_and(|error| error == "far too large") {
            assert!(decoded.is_err() || whole.list_size() / 4 > list_max, "{} is not far", whole.list_size());
            return;
        }
        if decoded.is_err() {
            assert_eq!(decoded, bounded, "refused by one");
            return;
        }
        assert_eq!(decoded, Ok(true), "{} is more than {ALL}", whole.list_size());
        assert_eq!(bounded, Ok(whole.list_size() <= list_max));
        assert_eq!(part.list_size(), kept(&whole, list_max), "the fields up to the first that is too much");
        assert!(part.fields().eq(whole.fields().take(part.len())));
        assert!(whole.fields().all(|(name, _)| whole.value(name) == whole.fields().find(|f| f.0 == name).map(|f| f.1)));
        rewritten(&whole, len, &mut writer, &mut reader);
    }
}

/// What the fields of a list count up to the first with which they are more than `list_max`.
fn kept(list: &Hpack, list_max: usize) -> usize {
    let mut kept = 0;
    for size in list.fields().map(|(name, value)| name.len() + value.len() + 32) {
        if kept + size > list_max {
            break;
        }
        kept += size;
    }
    kept
}

/// Writes the fields twice, with tables of different sizes and some of them not indexed, and reads them.
fn rewritten(list: &Hpack, seed: u8, writer: &mut Hpack, reader: &mut Hpack) {
    for round in 0..2_u8 {
        if seed % 8 == round {
            writer.set_table_max(usize::from(seed) * 4);
            writer.set_table_max(4096);
        }
        let mut out = Vec::new();
        writer.begin(&mut out);
        for (at, (name, value)) in list.fields().enumerate() {
            let indexed = [Some(true), Some(true), Some(false), None][(at + usize::from(seed)) % 4];
            writer.field(name, value, indexed, &mut out);
        }
        assert_eq!(reader.decode(&out, ALL), Ok(true));
        assert!(reader.fields().eq(list.fields()), "{:02x?}", out);
        assert_eq!(reader.is_empty(), list.is_empty());
    }
}
