//! Whether a head is one that RFC 9113 §8 allows, and what the engine has to know of it. Pure.
//!
//! What is checked here is form: which pseudo-fields there are, and which bytes names and values hold. What a target or
//! an authority means is for who serves the request.

use super::super::hpack::fields::Fields;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its pseudo-fields, which come first.
    pub(super) pseudo: usize,
    /// Content-Length.
    pub(super) length: Option<u64>,
    /// `:status`; 0 in a request.
    pub(super) status: u16,
}

/// The pseudo-fields of requests, answers and RFC 8441.
#[derive(Debug, Default, Clone, Copy)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
}

/// The head of a request (§8.3.1). `connects`: whether extended CONNECT is offered (RFC 8441 §4).
pub(super) fn request(all: &Fields, connects: bool) -> Result<Facts, Bad> {
    let (pseudo, facts) = scan(all)?;
    let method = pseudo.method.ok_or(Bad::Malformed)?;
    let plain_connect = method == b"CONNECT" && pseudo.protocol.is_none();
    let sound = pseudo.status.is_none()
        && (pseudo.protocol.is_none() || (connects && method == b"CONNECT"))
        && pseudo.authority.is_none_or(is_authority)
        && match (pseudo.scheme, pseudo.path) {
            (None, None) => plain_connect,
            (Some(scheme), Some(path)) => !plain_connect && is_scheme(scheme) && is_path(path),
            _ => false,
        };
    if sound { Ok(facts) } else { Err(Bad::Malformed) }
}

/// The head of an answer (§8.3.2). Pseudo-fields of requests in it are passed over.
pub(super) fn answer(all: &Fields) -> Result<Facts, Bad> {
    let (pseudo, facts) = scan(all)?;
    let Some([a, b, c]) = pseudo.status else { return Err(Bad::Malformed) };
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok(Facts { status: digit(a) * 100 + digit(b) * 10 + digit(c), ..facts })
}

/// Trailers (§8.1). Pseudo-fields in them are passed over.
pub(super) fn trailers(all: &Fields) -> Result<Facts, Bad> {
    scan(all).map(|(_, facts)| facts)
}

fn scan(all: &Fields) -> Result<(Pseudo<'_>, Facts), Bad> {
    let (mut pseudo, mut facts) = (Pseudo::default(), Facts { pseudo: 0, length: None, status: 0 });
    let (mut malformed, mut count) = (false, 0);
    for (name, value) in all.iter() {
        if name.first() == Some(&b':') {
            malformed |= count > facts.pseudo || pseudo.take(name, value)?.is_some();
            facts.pseudo += 1;
        } else {
            if !is_name(name) || !is_value(value) {
                return Err(Bad::Unreadable);
            }
            malformed |= !take(name, value, &mut facts);
        }
        count += 1;
    }
    if malformed { Err(Bad::Malformed) } else { Ok((pseudo, facts)) }
}

// === impl Pseudo ===

impl<'a> Pseudo<'a> {
    /// Takes one in, and returns the one of that name before it.
    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<Option<&'a [u8]>, Bad> {
        let (place, readable) = match name {
            b":method" => (&mut self.method, !value.is_empty() && value.iter().all(|&byte| is_token(byte))),
            b":scheme" => (&mut self.scheme, true),
            b":authority" => (&mut self.authority, true),
            b":path" => (&mut self.path, true),
            b":protocol" => (&mut self.protocol, is_value(value)),
            b":status" => (&mut self.status, is_status(value)),
            _ => return Err(Bad::Unreadable),
        };
        if readable { Ok(place.replace(value)) } else { Err(Bad::Unreadable) }
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

/// Looks at all bytes, eight at once; what `found` finds in any of them. Words may overlap, and fewer than four bytes are
/// looked at one by one.
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
        request(&fields(&[&GET[..], lines].concat()), false)
    }

    #[test]
    fn requests_are_of_their_pseudo_fields_and_of_fields_that_can_be_read() {
        let length = asked(&[("a", b"b"), ("content-length", b"7"), ("content-length", b"7"), ("te", b"trailers")]);
        assert_eq!(length, Ok(Facts { pseudo: 4, length: Some(7), status: 0 }));
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
            request(&fields(&lines), true).map(drop)
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
        assert_eq!(request(&fields(&connect), false).map(drop), Ok(()));
        let extended: Vec<(&str, &[u8])> =
            [&connect[..], &GET[1..2], &GET[3..], &[(":protocol", b"websocket")]].concat();
        assert_eq!(request(&fields(&extended), true).map(drop), Ok(()));
        assert_eq!(request(&fields(&extended), false), Err(Bad::Malformed));
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
            assert_eq!(answer(&fields(&[(":status", status.as_bytes())])).map(|facts| facts.status), is);
        }
        for status in ["", "20", "2000", "2x0", "099"] {
            assert_eq!(answer(&fields(&[(":status", status.as_bytes())])), Err(Bad::Unreadable));
        }
        assert_eq!(answer(&fields(&[("a", b"b")])), Err(Bad::Malformed));
        assert_eq!(answer(&fields(&[("a", b"b"), (":status", b"200")])), Err(Bad::Malformed));
    }
}
