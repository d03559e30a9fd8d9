//! Whether a head is one that RFC 9113 §8 allows, and what the engine has to know of it. Pure.
//!
//! What is checked here is form: which pseudo-fields there are, and which bytes names and values hold. What a target or
//! an authority means is for who serves the request.

use crate::proxy::hpack::fields::{Fields, Origin};

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// A name, a method or a status that is none (§8.2.1, §8.3). An error of the stream there, which may be taken for
    /// one of the connection (§5.4.1): who writes such heads does not speak HTTP/2.
    Unreadable,
    /// It is malformed (§8.1.1): an error of its stream.
    Malformed,
}

/// What there is in a head that is well-formed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its pseudo-fields, which come first.
    pub(super) pseudo: Pseudo,
    /// Content-Length.
    pub(super) length: Option<u64>,
    /// `:status`; 0 in a request.
    pub(super) status: u16,
}

/// Where the pseudo-fields of requests, answers and RFC 8441 stand in a head.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pseudo {
    /// How many there are.
    pub(super) count: u8,
    pub(super) method: Place,
    pub(super) scheme: Place,
    pub(super) authority: Place,
    pub(super) path: Place,
    pub(super) protocol: Place,
    status: Place,
}

/// Where one stands, counted from 1; 0: nowhere.
pub(super) type Place = u8;

/// The value of the field at a place.
#[inline]
pub(super) fn value_at(all: &Fields, place: Place) -> Option<&[u8]> {
    all.at(usize::from(place).wrapping_sub(1)).map(|(_, value)| value)
}

/// How much of a head has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// All of it.
    Whole,
    /// What it does not take from a table, since all heads before it were well-formed.
    New,
}

/// A head that is looked through.
struct Scan<'a> {
    all: &'a Fields,
    facts: Facts,
    /// Pseudo-fields, by place, that have been looked at in a head before.
    seen: u8,
    malformed: bool,
}

/// The head of a request (§8.3.1). `connects`: whether extended CONNECT is offered (RFC 8441 §4).
pub(super) fn request(all: &Fields, connects: bool, look: Look) -> Result<Facts, Bad> {
    let scan = scan(all, look)?;
    let pseudo = scan.facts.pseudo;
    let method = value_at(all, pseudo.method).ok_or(Bad::Malformed)?;
    let plain_connect = method == b"CONNECT" && pseudo.protocol == 0;
    let sound = pseudo.status == 0
        && (pseudo.protocol == 0 || (connects && method == b"CONNECT"))
        && (pseudo.authority == 0 || scan.is(pseudo.authority, is_authority))
        && match (pseudo.scheme, pseudo.path) {
            (0, 0) => plain_connect,
            (0, _) | (_, 0) => false,
            (scheme, path) => !plain_connect && scan.is(scheme, is_scheme) && scan.is(path, is_path),
        };
    if sound { Ok(scan.facts) } else { Err(Bad::Malformed) }
}

/// The head of an answer (§8.3.2). Pseudo-fields of requests in it are passed over.
pub(super) fn answer(all: &Fields, look: Look) -> Result<Facts, Bad> {
    let facts = scan(all, look)?.facts;
    let Some([a, b, c]) = value_at(all, facts.pseudo.status) else { return Err(Bad::Malformed) };
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok(Facts { status: digit(a) * 100 + digit(b) * 10 + digit(c), ..facts })
}

/// Trailers (§8.1). Pseudo-fields in them are passed over.
pub(super) fn trailers(all: &Fields, look: Look) -> Result<Facts, Bad> {
    scan(all, look).map(|scan| scan.facts)
}

fn scan(all: &Fields, look: Look) -> Result<Scan<'_>, Bad> {
    let mut scan = Scan { all, facts: Facts::default(), seen: 0, malformed: false };
    let mut fields = all.marked();
    let mut next = fields.next();
    // No head has as many as a place can say.
    while let Some((name, value, origin)) = next
        && name.first() == Some(&b':')
        && scan.facts.pseudo.count < PSEUDO_MAX
    {
        scan.pseudo(name, value, origin == Origin::Table && look == Look::New)?;
        next = fields.next();
    }
    for (name, value, origin) in next.into_iter().chain(fields) {
        let (old_name, old) = match look {
            Look::New => (origin != Origin::Written, origin == Origin::Table),
            Look::Whole => (false, false),
        };
        if !(old_name || is_name(name)) || !(old || is_value(value)) {
            // One that stands behind others, or once too often, can be read.
            match is_pseudo(name, value) {
                true => scan.malformed = true,
                false => return Err(Bad::Unreadable),
            }
        }
        scan.malformed |= !take(name, value, &mut scan.facts) || name.first() == Some(&b':');
    }
    if scan.malformed { Err(Bad::Malformed) } else { Ok(scan) }
}

/// Pseudo-fields that a head has at most: each kind once.
const PSEUDO_MAX: u8 = 6;

/// Whether a field that stands where none may is a pseudo-field that there is, and can be read.
#[cold]
fn is_pseudo(name: &[u8], value: &[u8]) -> bool {
    Pseudo::default().place(name, value, false).is_ok()
}

// === impl Scan ===

impl Scan<'_> {
    /// Takes a pseudo-field in. `old`: it has been looked at in a head before.
    fn pseudo(&mut self, name: &[u8], value: &[u8], old: bool) -> Result<(), Bad> {
        let pseudo = &mut self.facts.pseudo;
        pseudo.count += 1;
        let count = pseudo.count;
        let place = pseudo.place(name, value, old)?;
        self.malformed |= std::mem::replace(place, count) != 0;
        self.seen |= u8::from(old) << count;
        Ok(())
    }

    /// Whether the pseudo-field at a place passes a test, or has passed it before.
    fn is(&self, place: Place, test: impl FnOnce(&[u8]) -> bool) -> bool {
        self.seen >> place & 1 == 1 || value_at(self.all, place).is_some_and(test)
    }
}

// === impl Pseudo ===

impl Pseudo {
    /// Where the place of one is kept. An error: there is none of that name, or it cannot be read.
    #[inline]
    fn place(&mut self, name: &[u8], value: &[u8], old: bool) -> Result<&mut Place, Bad> {
        let (place, readable) = match name {
            b":method" => (&mut self.method, old || (!value.is_empty() && value.iter().all(|&byte| is_token(byte)))),
            b":scheme" => (&mut self.scheme, true),
            b":authority" => (&mut self.authority, true),
            b":path" => (&mut self.path, true),
            b":protocol" => (&mut self.protocol, old || is_value(value)),
            b":status" => (&mut self.status, is_status(value)),
            _ => return Err(Bad::Unreadable),
        };
        if readable { Ok(place) } else { Err(Bad::Unreadable) }
    }
}

/// Looks at a field that means something here; false when it may not be.
#[inline]
fn take(name: &[u8], value: &[u8], facts: &mut Facts) -> bool {
    match name {
        // §8.2.2
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => false,
        b"te" => value == b"trailers",
        b"content-length" => match (length(value), facts.length) {
            (Some(length), None) => {
                facts.length = Some(length);
                true
            }
            (length, before) => length.is_some() && length == before,
        },
        _ => true,
    }
}

/// A Content-Length: 1 to 19 digits (RFC 9110 §8.6).
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0, |sum: u64, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// Whether a byte may be in a token (RFC 9110 §5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Bytes of names: those of tokens, but for upper case (§8.2.1).
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token(byte as u8) && !(byte as u8).is_ascii_uppercase();
        byte += 1;
    }
    table
};

/// The same bits in each of eight bytes.
const EACH: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = EACH * 0x80;

/// Looks at all bytes, eight at once; what `found` finds in any of them. Words may overlap, and fewer than four bytes
/// are looked at one by one.
#[inline]
fn find(bytes: &[u8], found: impl Fn(u64) -> u64) -> u64 {
    let four = |four: &[u8; 4]| u64::from(u32::from_ne_bytes(*four));
    match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(last), ..) => {
            let (eights, _) = bytes.as_chunks::<8>();
            let last = found(u64::from_ne_bytes(*last));
            eights.iter().fold(last, |all, eight| all | found(u64::from_ne_bytes(*eight)))
        }
        (None, Some(first), Some(last)) => found(four(first) | (four(last) << 32)),
        _ => bytes.iter().fold(0, |all, &byte| all | found(EACH * u64::from(byte))),
    }
}

/// Whether a name is one. Most are of small letters, digits and dashes, which is seen eight bytes at a time.
#[inline]
fn is_name(name: &[u8]) -> bool {
    let other = |word: u64| {
        let from = |least: u8| word.wrapping_add(EACH * u64::from(0x80 - least));
        let letter = from(b'a') & !from(b'z' + 1);
        let digit = from(b'0') & !from(b'9' + 1);
        let dash = !((word ^ (EACH * u64::from(b'-'))).wrapping_add(EACH * 0x7f));
        (!(letter | digit | dash) | word) & TOPS
    };
    !name.is_empty() && (find(name, other) == 0 || name.iter().all(|&byte| NAME[usize::from(byte)]))
}

/// Whether a value holds no control but tabs (§8.2.1, RFC 9110 §5.5).
#[inline]
fn is_value(value: &[u8]) -> bool {
    // Finds bytes below a blank, and DEL; what it finds behind such a byte may be neither.
    let other = |word: u64| {
        let control = word.wrapping_sub(EACH * 0x20) & !word;
        let delete = word ^ (EACH * 0x7f);
        (control | (delete.wrapping_sub(EACH) & !delete)) & TOPS
    };
    find(value, other) == 0 || value.iter().all(|&byte| (byte >= b' ' && byte != 0x7f) || byte == b'\t')
}

fn is_status(value: &[u8]) -> bool {
    matches!(value, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}

/// A scheme (RFC 3986 §3.1).
fn is_scheme(scheme: &[u8]) -> bool {
    matches!(scheme, b"http" | b"https")
        || scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// `*`, or what begins with a slash and holds neither blanks nor controls (§8.3.1).
fn is_path(path: &[u8]) -> bool {
    match path.first() {
        Some(b'/') => !path.iter().fold(false, |bad, &byte| bad | (byte <= b' ') | (byte == 0x7f)),
        Some(b'*') => path.len() == 1,
        _ => false,
    }
}

/// Not empty, and of the bytes of RFC 3986 §3.2.
fn is_authority(authority: &[u8]) -> bool {
    let sound = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
                    | b'['
                    | b']'
                    | b'%'
            )
    };
    !authority.is_empty() && authority.iter().all(|&byte| sound(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &[u8])]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value));
        fields
    }

    const GET: [(&str, &[u8]); 4] =
        [(":method", b"GET"), (":scheme", b"http"), (":authority", b"test"), (":path", b"/")];

    fn asked(lines: &[(&str, &[u8])]) -> Result<Facts, Bad> {
        request(&fields(&[&GET[..], lines].concat()), false, Look::Whole)
    }

    #[test]
    fn requests_are_of_their_pseudo_fields_and_of_fields_that_can_be_read() {
        let length = asked(&[("a", b"b"), ("content-length", b"7"), ("content-length", b"7"), ("te", b"trailers")]);
        assert_eq!(length.map(|facts| (facts.pseudo.count, facts.length, facts.status)), Ok((4, Some(7), 0)));
        let unreadable: [&[(&str, &[u8])]; 9] = [
            &[("X", b"v")],
            &[("", b"v")],
            &[("x y", b"v")],
            &[("x:", b"v")],
            &[("x", b"a\nb")],
            &[("x", b"\0")],
            &[("x", b"\x7f")],
            &[(":other", b"v")],
            &[("connection", b"close"), ("X", b"v")],
        ];
        for lines in unreadable {
            assert_eq!(asked(lines), Err(Bad::Unreadable), "{lines:?}");
        }
        let malformed: [&[(&str, &[u8])]; 12] = [
            &[("connection", b"close")],
            &[("upgrade", b"x")],
            &[("transfer-encoding", b"chunked")],
            &[("te", b"gzip")],
            &[("content-length", b"")],
            &[("content-length", b"+1")],
            &[("content-length", b"18446744073709551621")],
            &[("content-length", b"1"), ("content-length", b"2")],
            &[(":path", b"/x")],
            &[(":status", b"200")],
            &[("a", b"b"), (":protocol", b"websocket")],
            &[(":protocol", b"websocket")],
        ];
        for lines in malformed {
            assert_eq!(asked(lines), Err(Bad::Malformed), "{lines:?}");
        }
    }

    #[test]
    fn pseudo_fields_hold_what_they_may() {
        let of = |method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8]| {
            let lines = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)];
            request(&fields(&lines), true, Look::Whole).map(drop)
        };
        assert_eq!(of(b"OPTIONS", b"https", b"[::1]:80", b"*"), Ok(()));
        for method in [&b""[..], b"GET /"] {
            assert_eq!(of(method, b"http", b"test", b"/"), Err(Bad::Unreadable));
        }
        for path in [&b""[..], b"x", b"**", b"http://evil/", b"/ HTTP/1.1", b"/\r\n", b"/\x7f"] {
            assert_eq!(of(b"GET", b"http", b"test", path), Err(Bad::Malformed), "{path:?}");
        }
        for authority in [&b""[..], b"test/x", b"te st", b"te\r\nst", b"a#b", b"a?b"] {
            assert_eq!(of(b"GET", b"http", authority, b"/"), Err(Bad::Malformed), "{authority:?}");
        }
        for scheme in [&b""[..], b"http://evil/?", b"1x"] {
            assert_eq!(of(b"GET", scheme, b"test", b"/"), Err(Bad::Malformed), "{scheme:?}");
        }
        assert_eq!(of(b"CONNECT", b"http", b"test", b"/"), Err(Bad::Malformed));
        let connect = [(":method", &b"CONNECT"[..]), (":authority", b"test:80")];
        assert_eq!(request(&fields(&connect), false, Look::Whole).map(drop), Ok(()));
        let extended: Vec<(&str, &[u8])> =
            [&connect[..], &GET[1..2], &GET[3..], &[(":protocol", b"websocket")]].concat();
        assert_eq!(request(&fields(&extended), true, Look::Whole).map(drop), Ok(()));
        assert_eq!(request(&fields(&extended), false, Look::Whole), Err(Bad::Malformed));
    }

    proptest::proptest! {
        #[test]
        fn names_and_values_are_of_the_bytes_that_they_may_be_of(bytes: Vec<u8>, at: usize, byte: u8) {
            let is = |bytes: &[u8]| {
                let name = |byte: &u8| is_token(*byte) && !byte.is_ascii_uppercase();
                let value = |byte: &u8| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f);
                assert_eq!(is_name(bytes), !bytes.is_empty() && bytes.iter().all(name), "{bytes:?}");
                assert_eq!(is_value(bytes), bytes.iter().all(value), "{bytes:?}");
            };
            is(&bytes);
            // All but one are good.
            let mut good: Vec<u8> = bytes.iter().map(|byte| b'a' + byte % 26).collect();
            is(&good);
            if !good.is_empty() {
                let at = at % good.len();
                good[at] = byte;
                is(&good);
            }
        }
    }

    #[test]
    fn answers_have_a_status_of_three_digits() {
        for (status, is) in [("200", Ok(200)), ("999", Ok(999)), ("100", Ok(100))] {
            assert_eq!(answer(&fields(&[(":status", status.as_bytes())]), Look::Whole).map(|facts| facts.status), is);
        }
        for status in ["", "20", "2000", "2x0", "099"] {
            assert_eq!(answer(&fields(&[(":status", status.as_bytes())]), Look::Whole), Err(Bad::Unreadable));
        }
        assert_eq!(answer(&fields(&[("a", b"b")]), Look::Whole), Err(Bad::Malformed));
        assert_eq!(answer(&fields(&[("a", b"b"), (":status", b"200")]), Look::Whole), Err(Bad::Malformed));
    }
}
