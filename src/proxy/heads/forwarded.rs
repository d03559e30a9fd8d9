//! `Forwarded` (RFC 7239): the element of this hop, and whether what a trusted proxy sent reads as the RFC says, so
//! that what is put behind it can be read too: a quoted string that is left open would swallow it. What the elements of
//! others say is not looked at.

use std::net::IpAddr;

use super::digits::push_ip;
use crate::proxy::h1::syntax::{is_token, token_len};

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

/// Appends what this hop knows of a request: who asked, for which host, and how (RFC 7239 §4).
pub(crate) fn push_element(out: &mut Vec<u8>, peer: IpAddr, host: &[u8], https: bool) {
    out.extend_from_slice(b"for=");
    match peer {
        IpAddr::V4(_) => push_ip(out, peer),
        // Brackets and colons are no token (§6.3).
        IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            push_ip(out, peer);
            out.extend_from_slice(b"]\"");
        }
    }
    // A Host that could not stand in a quoted string was refused with its request.
    if !host.is_empty() && !host.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
    out.extend_from_slice(if https { b";proto=https" } else { b";proto=http" });
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
