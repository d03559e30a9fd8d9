//! Trailer fields: which of them may pass on, and the form in which they cross from one connection to another.
//!
//! RFC 9110 §6.5.1 forbids trailers that frame a message, route it, authenticate it, change how it is processed or
//! control its answer, since somebody may have acted without them, or may merge them into the head. Those are dropped
//! and all others pass. What the fields mean is not known here.

use super::syntax;
use crate::model::FieldId;

/// Names that no trailer may have, beside those that weir acts on or writes itself ([`FieldId`]).
const FORBIDDEN: &[&[u8]] = &[
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-location",
    b"content-range",
    b"content-type",
    b"date",
    b"expires",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"location",
    b"max-forwards",
    b"pragma",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"vary",
    b"www-authenticate",
];

/// Whether a trailer of this name, in lower case, may pass on.
pub(crate) fn passes(name: &[u8]) -> bool {
    FieldId::of_bytes(name) == FieldId::Other && !name.starts_with(b"x-weir-") && !FORBIDDEN.contains(&name)
}

/// Appends a trailer as a line when it may pass; blanks around the value go.
pub(crate) fn push(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let start = lines.len();
    lines.extend(name.iter().map(u8::to_ascii_lowercase));
    if !passes(&lines[start..]) {
        return lines.truncate(start);
    }
    let (from, to) = syntax::trim(value);
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(&value[from..to]);
    lines.extend_from_slice(b"\r\n");
}

/// Name and value of each of the lines that [`push`] has written.
pub(crate) fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let ends = memchr::memchr_iter(b'\r', lines);
    let mut start = 0;
    ends.filter_map(move |end| {
        let line = &lines[start..end];
        start = end + 2;
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], &line[colon + 2..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_routes_authenticates_or_controls_is_no_trailer() {
        let mut lines = Vec::new();
        for name in [
            "Content-Length",
            "transfer-encoding",
            "HOST",
            "Cookie",
            "Set-Cookie",
            "Authorization",
            "Content-Type",
            "X-Forwarded-For",
            "Forwarded",
            "Via",
            "TE",
            "Trailer",
            "Connection",
            "content_length",
            "X-Weir-Pool",
            "Cache-Control",
            "Expect",
        ] {
            push(&mut lines, name.as_bytes(), b"1");
        }
        assert_eq!(String::from_utf8_lossy(&lines), "");
        push(&mut lines, b"Grpc-Status", b" 14\t");
        push(&mut lines, b"x-empty", b"");
        let read: Vec<_> = fields(&lines).collect();
        assert_eq!(read, [(&b"grpc-status"[..], &b"14"[..]), (&b"x-empty"[..], &b""[..])]);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(pairs in proptest::collection::vec(("[a-z-]{1,12}", "[!-~]{0,12}"), 0..8)) {
            let mut lines = Vec::new();
            for (name, value) in &pairs {
                push(&mut lines, name.as_bytes(), value.as_bytes());
            }
            let kept = pairs.iter().filter(|(name, _)| passes(name.as_bytes()));
            let kept: Vec<_> = kept.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            proptest::prop_assert_eq!(fields(&lines).collect::<Vec<_>>(), kept);
        }
    }
}
