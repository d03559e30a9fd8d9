//! Byte classes and small values that requests and responses share.

/// What each byte may be part of.
const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const PATH: u8 = 4;
const QUERY: u8 = 8;
const HOST: u8 = 16;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0_u8; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class |= TOKEN;
        }
        // RFC 9110 §5.5: visible, blank, tab and obs-text; no other control.
        if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
            class |= VALUE;
        }
        // Visible ASCII; '#' never reaches a server. Browsers send '\' raw in a query but turn it into '/' in a path,
        // where two servers would read it differently.
        if byte > 0x20 && byte < 0x7f && byte != b'#' {
            class |= QUERY;
            if byte != b'\\' && byte != b'?' {
                class |= PATH;
            }
        }
        // The name or IPv4 address of an authority (RFC 3986 §3.2.2), without what separates lists and fields.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$') {
            class |= HOST;
        }
        table[b] = class;
        b += 1;
    }
    table
}

/// Whether `bytes` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| CLASS[b as usize] & TOKEN != 0)
}

/// Longest method; the longest registered one has 17 bytes.
pub(crate) const METHOD_BYTES_MAX: usize = 32;

/// Whether `bytes` may be a method here: upper case, as routes and endpoints compare it.
pub(crate) fn is_method(bytes: &[u8]) -> bool {
    let legal = |b: &u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_') || b.is_ascii_digit();
    (1..=METHOD_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(legal)
}

/// Length of the token that `bytes` begins with. Not inlined: the loop is tight only with the registers for itself.
#[inline(never)]
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| CLASS[b as usize] & TOKEN == 0).unwrap_or(bytes.len())
}

/// Turns the token that `bytes` begins with into lower case in place; its length.
pub(crate) fn lower_token(bytes: &mut [u8]) -> usize {
    for (at, b) in bytes.iter_mut().enumerate() {
        if CLASS[*b as usize] & TOKEN == 0 {
            return at;
        }
        *b = b.to_ascii_lowercase();
    }
    bytes.len()
}

/// Whether `text` is the word `known`, of lower case letters and hyphens, in any case of letters. All bytes are
/// compared at once: a comparison byte by byte cost 200 instructions a request.
#[inline(always)]
pub(crate) fn is_word<const N: usize>(text: &[u8], known: &[u8; N]) -> bool {
    let Ok(text) = <&[u8; N]>::try_from(text) else { return false };
    // The bit that tells the cases of a letter apart; of other bytes only CR becomes one of those (a hyphen), and that
    // stands at the end of lines.
    let differ = |at: usize| (text[at] | 0x20) ^ known[at];
    (0..N).fold(0, |all, at| all | differ(at)) == 0
}

/// Whether the lines hold no control characters but tabs and line ends; many bytes at once, so that the values of an
/// ordinary head need not be looked at one by one.
pub(crate) fn is_text(lines: &[u8]) -> bool {
    let control = |b: u8| (b < 0x20) & (b != b'\t') & (b != b'\r') & (b != b'\n') | (b == 0x7f);
    !lines.iter().fold(false, |any, &b| any | control(b))
}

/// A field value without the blanks around it: where it starts and ends within `bytes`.
pub(crate) fn trim(bytes: &[u8]) -> (usize, usize) {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let lead = bytes.iter().take_while(|b| blank(b)).count();
    let tail = bytes[lead..].iter().rev().take_while(|b| blank(b)).count();
    (lead, bytes.len() - tail)
}

/// Whether every byte may stand in a field value.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().fold(VALUE, |all, &b| all & CLASS[b as usize]) != 0
}

/// Whether `bytes` may stand in the path of a target.
pub(crate) fn is_path(bytes: &[u8]) -> bool {
    bytes.iter().fold(PATH, |all, &b| all & CLASS[b as usize]) != 0
}

/// Whether `bytes` may stand in the query of a target.
pub(crate) fn is_query(bytes: &[u8]) -> bool {
    bytes.iter().fold(QUERY, |all, &b| all & CLASS[b as usize]) != 0
}

/// A `Content-Length`: digits only, no list, no sign; at most 18 digits, so that it always fits.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

/// Whether a host and optional port may stand as an authority: no userinfo, no list, no path, a real port.
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    // A DNS name is at most 253 bytes (RFC 1035 §2.3.4); brackets and port add nine.
    if bytes.is_empty() || bytes.len() > 262 {
        return false;
    }
    let (host, port) = if bytes[0] == b'[' {
        let Some(close) = bytes.iter().position(|&b| b == b']') else { return false };
        let inner = std::str::from_utf8(&bytes[1..close]).unwrap_or_default();
        if inner.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (&bytes[..=close], &bytes[close + 1..])
    } else {
        bytes.split_at(bytes.iter().position(|&b| CLASS[b as usize] & HOST == 0).unwrap_or(bytes.len()))
    };
    !host.is_empty() && is_port(port)
}

/// The same with a port that has to be there, as a CONNECT names what it asks for (RFC 9112 §3.2.3).
pub(crate) fn is_target_authority(bytes: &[u8]) -> bool {
    is_authority(bytes) && bytes.iter().rposition(|&b| b == b':').is_some_and(|at| bytes[at..].last() != Some(&b']'))
}

/// Nothing, or a colon and a port from 1 to 65535.
fn is_port(bytes: &[u8]) -> bool {
    let [b':', digits @ ..] = bytes else { return bytes.is_empty() };
    digits.len() <= 5 && content_length(digits).is_some_and(|port| (1..=65_535).contains(&port))
}

/// The parts of a comma-separated list, without blanks.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(|part| part.trim_ascii()).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_real_port() {
        for good in ["a", "a:1", "a_b.example", "127.0.0.1:65535", "[::1]", "[::1]:80", "xn--p1ai."] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in ["", "a:", "a:0", "a:65536", "u@h", "h/p", "a,b", "[::1", "[x]", "a b", "a:8080, b", ":80", "é"] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_method_is_upper_case_and_short() {
        for good in ["GET", "M-SEARCH", "X_1"] {
            assert!(is_method(good.as_bytes()), "{good}");
        }
        for bad in ["", "get", "GET ", "G=", &"A".repeat(33)] {
            assert!(!is_method(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_content_length_is_digits_and_nothing_else() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"005"), Some(5));
        for bad in ["", "+5", "-0", "0x5", "5, 5", "1_0", "1 0", "9999999999999999999", "1e1"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad}");
        }
    }
}
