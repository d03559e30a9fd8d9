//! The static table of RFC 7541 Appendix A, and where a field stands in it.

use super::lookup::hash;

/// The entries; the first has index 1.
static ENTRIES: [(&str, &str); LEN] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// How many entries: the dynamic table begins behind them.
pub(super) const LEN: usize = 61;

/// The index of `:status`, with the value 200.
pub(super) const STATUS: usize = 8;

/// Places for names by their hash. With 52 names in 256 places most are found where they are looked for first.
const PLACES: usize = 256;

/// Index of the first entry of each name, at its hash or behind it; 0: none.
static NAMES: [u8; PLACES] = {
    let (mut names, mut index) = ([0; PLACES], 1);
    while index <= LEN {
        if index == 1 || !is_same(ENTRIES[index - 1].0, ENTRIES[index - 2].0) {
            let mut place = place(hash(ENTRIES[index - 1].0.as_bytes()));
            while names[place] != 0 {
                place = (place + 1) % PLACES;
            }
            names[place] = index as u8;
        }
        index += 1;
    }
    names
};

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

const fn place(hash: u64) -> usize {
    (hash >> 32) as usize % PLACES
}

/// Name and value of an entry, by index.
#[inline]
pub(super) fn entry(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = ENTRIES.get(index.wrapping_sub(1))?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// Index of the first entry of a name, whose [`hash`] is given.
#[inline]
pub(super) fn find(name: &[u8], hash: u64) -> Option<usize> {
    let mut place = place(hash);
    loop {
        match usize::from(NAMES[place]) {
            0 => return None,
            index if ENTRIES[index - 1].0.as_bytes() == name => return Some(index),
            _ => place = (place + 1) % PLACES,
        }
    }
}

/// Index of the entry with the name of the one at `first`, the first of its name, and this value.
#[inline]
pub(super) fn find_value(first: usize, value: &[u8]) -> Option<usize> {
    let (name, found) = ENTRIES[first - 1];
    if found.as_bytes() == value {
        return Some(first);
    }
    // One entry only has a name that occurs once; in the others every value says something.
    if found.is_empty() {
        return None;
    }
    let mut same = (first + 1..=LEN).take_while(|&index| ENTRIES[index - 1].0 == name);
    same.find(|&index| ENTRIES[index - 1].1.as_bytes() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_its_name_and_value() {
        for (index, (name, value)) in (1..).zip(ENTRIES) {
            let first = find(name.as_bytes(), hash(name.as_bytes())).expect("it is there");
            assert!(first <= index && ENTRIES[first - 1].0 == name && (first == 1 || ENTRIES[first - 2].0 != name));
            assert_eq!(find_value(first, value.as_bytes()), Some(index));
            assert_eq!(find_value(first, b"another"), None);
            assert_eq!(entry(index), Some((name.as_bytes(), value.as_bytes())));
        }
        assert_eq!((entry(0), entry(62)), (None, None));
    }

    #[test]
    fn what_is_not_in_it_is_not_found() {
        for name in ["", "a", "x-request-id", ":protocol", "user-agen", "User-Agent"] {
            assert_eq!(find(name.as_bytes(), hash(name.as_bytes())), None);
        }
    }

    #[test]
    fn names_are_mostly_found_at_once() {
        let found = |name: &str| usize::from(NAMES[place(hash(name.as_bytes()))]);
        let at_once = ENTRIES.iter().filter(|(name, _)| found(name) > 0 && ENTRIES[found(name) - 1].0 == *name).count();
        assert!(at_once > 50, "{at_once}");
    }
}
