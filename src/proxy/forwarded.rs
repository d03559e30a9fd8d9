//! Whether a `Forwarded` that a trusted proxy sent reads as RFC 7239 says, so that what is put behind it can be read
//! too: a quoted string that is left open would swallow it. What its elements say is not looked at.

use super::h1::syntax::{is_token, token_len};

/// Whether a field's value is a list of elements (section 4). Empty ones and blanks around pairs are let pass (RFC 9110
/// §5.6.1.2).
pub(crate) fn is_list(mut value: &[u8]) -> bool {
    loop {
        value = match value.trim_ascii_start() {
            [] => return true,
            [b',' | b';', rest @ ..] => rest,
            begins => match pair(begins).map(<[u8]>::trim_ascii_start) {
                Some(rest @ ([] | [b',' | b';', ..])) => rest,
                _ => return false,
            },
        };
    }
}

/// What stands behind `token "=" ( token / quoted-string )`.
fn pair(bytes: &[u8]) -> Option<&[u8]> {
    let (name, rest) = bytes.split_at(token_len(bytes));
    let value = rest.strip_prefix(b"=").filter(|_| is_token(name))?;
    match value.strip_prefix(b"\"") {
        Some(quoted) => behind_quote(quoted),
        None => Some(token_len(value)).filter(|&n| n > 0).map(|n| &value[n..]),
    }
}

/// What stands behind the quote that ends a string.
fn behind_quote(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] => rest,
            [_, rest @ ..] => rest,
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_quotes_closed_and_nothing_but_pairs() {
        for good in [
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            "For=\"[2001:db8:cafe::17]:4711\"",
            "for=a, for=\"b, c;d\" ; host=x",
            "for=\"a\\\"\\\\\"",
            "for=\"\"",
            ", ,;for=a;,",
            "",
        ] {
            assert!(is_list(good.as_bytes()), "{good}");
        }
        for bad in
            ["for=\"a", "for=\"a\\\"", "for=\"a\\", "for", "for=", "=a", "for=a b", "for=\"a\"b", "for =a", "for=[::1]"]
        {
            assert!(!is_list(bad.as_bytes()), "{bad}");
        }
    }
}
