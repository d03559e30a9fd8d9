//! Paths that could be read two ways, and prefixes taken off on the way up and put back on the way down. Nothing is
//! normalised: what is forwarded is what was matched, byte for byte, and what cannot be forwarded safely is named so
//! that the caller can refuse it.
//!
//! A **prefix** is a path by whole segments, such as `/canary`; a slash at its end makes no difference.

use std::borrow::Cow;

use super::matcher::has_prefix;

// === safety ===

/// Whether servers differ over what this path names: an encoded slash, backslash or NUL, a raw backslash or control
/// byte, or dot segments that climb above the root. A path with none of these and [`escapes_prefix`] false names
/// something under its prefix whoever reads it.
pub fn is_ambiguous(path: &str) -> bool {
    // One pass settles almost every path: an escape, an odd byte or a segment that starts with a dot is rare.
    let (mut before, mut plain) = (b'/', true);
    for &byte in path.as_bytes() {
        plain &= !matches!((before, byte), (_, b'%' | b'\\' | 0x7f | 0..0x20) | (b'/', b'.'));
        before = byte;
    }
    !plain && is_ambiguous_in_full(path)
}

fn is_ambiguous_in_full(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().any(|byte| matches!(byte, b'\\' | 0x7f | 0..0x20))
        || bytes.windows(3).any(|window| [b"2f", b"5c", b"00"].iter().any(|digits| is_escape(window, digits)))
        || escapes_prefix(path, "/")
}

/// Whether `path` holds a `.` or `..` segment, plain or encoded: one server resolves it, the next takes it as a name.
pub fn has_dot_segments(path: &str) -> bool {
    path.bytes().any(|byte| matches!(byte, b'.' | b'%'))
        && Segments(path.as_bytes()).any(|segment| !matches!(dots(segment), Dots::None))
}

/// Whether dot segments in `path` climb out of `prefix` at any point, even if they return; false when `path` does not
/// lie under `prefix` at all. Read as the most lenient server would: `%2e` is a dot, `%2f`, `%5c` and `\` part
/// segments, `;…` belongs to none, and empty segments do not count as a level.
pub fn escapes_prefix(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    if !has_prefix(path, prefix) {
        return false;
    }
    let mut depth = 0_usize;
    for segment in Segments(&path.as_bytes()[prefix.len()..]) {
        match dots(segment) {
            Dots::Up if depth == 0 => return true,
            Dots::Up => depth -= 1,
            Dots::Here => {}
            Dots::None if segment.is_empty() => {}
            Dots::None => depth += 1,
        }
    }
    false
}

/// The segments of a path, parted wherever some server would part them.
struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let path = self.0;
        let parted = (0..path.len()).find_map(|at| match path[at] {
            b'/' | b'\\' => Some((at, at + 1)),
            b'%' if is_escape(&path[at..], b"2f") || is_escape(&path[at..], b"5c") => Some((at, at + 3)),
            _ => None,
        });
        let (end, next) = parted.unwrap_or((path.len(), path.len()));
        self.0 = &path[next..];
        Some(&path[..end])
    }
}

enum Dots {
    None,
    Here,
    Up,
}

/// What a segment is once `%2e` is a dot and parameters are cut off (`..;x` is `..` to servlet containers).
fn dots(segment: &[u8]) -> Dots {
    let (mut rest, mut count) = (segment, 0);
    loop {
        rest = match rest {
            [b'.', tail @ ..] => tail,
            [b'%', ..] if is_escape(rest, b"2e") => &rest[3..],
            [] | [b';', ..] => break,
            [b'%', ..] if is_escape(rest, b"3b") => break,
            _ => return Dots::None,
        };
        count += 1;
    }
    match count {
        1 => Dots::Here,
        2 => Dots::Up,
        _ => Dots::None,
    }
}

/// Whether `bytes` start with `%` and these two digits, in either case.
fn is_escape(bytes: &[u8], digits: &[u8; 2]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if [*high, *low].eq_ignore_ascii_case(digits))
}

// === requests ===

/// `target` without `prefix`, its query byte for byte: `/canary/x?y` becomes `/x?y`, `/canary` becomes `/`, `/canary?y`
/// becomes `/?y`. None when its path does not lie under the prefix. Allocates only for the last form.
pub fn strip<'t>(target: &'t str, prefix: &str) -> Option<Cow<'t, str>> {
    Some(match after(target, prefix)? {
        "" => Cow::Borrowed("/"),
        rest if rest.starts_with('/') => Cow::Borrowed(rest),
        query => Cow::Owned(format!("/{query}")),
    })
}

/// `target` with `with` in the place of `prefix`, its query byte for byte: with `/new` for `/old`, `/old/x?y` becomes
/// `/new/x?y` and `/old?y` becomes `/new?y`. None when its path does not lie under the prefix.
pub fn replace(target: &str, prefix: &str, with: &str) -> Option<String> {
    let rest = after(target, prefix)?;
    Some(match (with.trim_end_matches('/'), rest.starts_with('/')) {
        ("", false) => format!("/{rest}"),
        (head, true) => format!("{head}{rest}"),
        (_, false) => format!("{with}{rest}"),
    })
}

fn after<'t>(target: &'t str, prefix: &str) -> Option<&'t str> {
    let prefix = prefix.trim_end_matches('/');
    let rest = target.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

// === responses ===

/// A `Location` as the client must see it when `prefix` was stripped from its request; none: it can stay as it is.
///
/// A path (`/x`) gets the prefix. So does the path of an absolute reference to one of `own_authorities` (`host` or
/// `host:port`): the first of them is the one that the client used and is kept, with its scheme; the others are the
/// endpoint's own, which the client cannot reach, and are taken off. Another authority, a relative reference and a path
/// that is under the prefix already (a server that honours `X-Forwarded-Prefix`) stay.
pub fn map_back(location: &str, own_authorities: &[&str], prefix: &str) -> Option<String> {
    let prefix = prefix.trim_end_matches('/');
    let (scheme, rest) = match location.split_once("//") {
        Some((scheme, rest)) if scheme.is_empty() || is_http(scheme) => (scheme, rest),
        _ => return prefixed(location, prefix),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let own = own_authorities.iter().position(|own| same_authority(scheme, authority, own))?;
    let mapped = match path.starts_with('/') {
        true => prefixed(path, prefix),
        false => Some(format!("{prefix}/{path}")),
    };
    match own {
        0 => mapped.map(|path| format!("{scheme}//{authority}{path}")),
        // A path of two slashes would be another authority, once nothing stands before it.
        _ => mapped.or_else(|| (!matches!(path.as_bytes(), [b'/', b'/' | b'\\', ..])).then(|| path.to_owned())),
    }
}

/// `Set-Cookie` with the prefix put before every `Path` that starts with a slash; none: it can stay as it is, which is
/// so for a path that is under the prefix already, for no path (the browser takes the request's own) and for `__Host-`
/// cookies, whose path must be `/` (RFC 6265bis section 4.1.3.2).
pub fn map_cookie_path(set_cookie: &[u8], prefix: &str) -> Option<Vec<u8>> {
    const HOST: &[u8] = b"__host-";
    let prefix = prefix.trim_end_matches('/');
    let mut mapped = Vec::with_capacity(set_cookie.len() + prefix.len());
    let mut changed = false;
    for (index, part) in set_cookie.split(|&byte| byte == b';').enumerate() {
        let name = part.trim_ascii_start();
        match index {
            0 if name.len() >= HOST.len() && name[..HOST.len()].eq_ignore_ascii_case(HOST) => return None,
            0 => mapped.extend_from_slice(part),
            _ => {
                mapped.push(b';');
                match path_attribute(part, prefix) {
                    Some(at) => {
                        mapped.extend_from_slice(&part[..at]);
                        mapped.extend_from_slice(prefix.as_bytes());
                        // `Path=/` becomes `/canary`, which RFC 6265 section 5.1.4 matches with `/canary` and below.
                        let path = &part[at..];
                        mapped.extend_from_slice(if path.trim_ascii_end() == b"/" { b"" } else { path });
                        changed = true;
                    }
                    None => mapped.extend_from_slice(part),
                }
            }
        }
    }
    changed.then_some(mapped)
}

/// Where the value of a `Path` attribute starts, if this is one and needs the prefix.
fn path_attribute(part: &[u8], prefix: &str) -> Option<usize> {
    let equals = part.iter().position(|&byte| byte == b'=')?;
    if !part[..equals].trim_ascii().eq_ignore_ascii_case(b"path") {
        return None;
    }
    let value = part[equals + 1..].trim_ascii_start();
    let under =
        value.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest.trim_ascii_end(), [] | [b'/', ..]));
    (value.starts_with(b"/") && !under).then_some(part.len() - value.len())
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http:") || scheme.eq_ignore_ascii_case("https:")
}

/// The reference with the prefix before its path; none: it is relative, or under the prefix already.
fn prefixed(reference: &str, prefix: &str) -> Option<String> {
    let path = &reference[..reference.find(['?', '#']).unwrap_or(reference.len())];
    (path.starts_with('/') && !has_prefix(path, prefix)).then(|| format!("{prefix}{reference}"))
}

/// Whether two authorities are the same but for case and the scheme's default port.
fn same_authority(scheme: &str, found: &str, own: &str) -> bool {
    let port = if scheme.eq_ignore_ascii_case("https:") { ":443" } else { ":80" };
    let bare = |authority: &'_ str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    bare(found) == bare(own)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_servers_read_differently_are_ambiguous() {
        for path in [
            "/a/..%2fadmin",
            "/a/..%2Fadmin",
            "/a%5cadmin",
            "/a%5Cadmin",
            "/admin%00",
            "/a\\admin",
            "/../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a/../../x",
            "/a/..;/../x",
            "/..",
            "/a\u{1}",
            "/a\u{7f}",
            "/a//../../x",
        ] {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/a/b",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/a.b/..c",
            "/a;x/admin",
            "/admin%20",
            "/%61dmin",
            "/%252e",
            "/...",
            "/a%2",
            "/%",
            "/a/..%252fadmin",
            "/.well-known/x",
            "/a/%2e%2e/admin",
        ] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn dot_segments_that_leave_the_prefix_are_seen_in_every_spelling() {
        for path in [
            "/a/../admin",
            "/a/..",
            "/a/%2e%2e/admin",
            "/a/.%2e/admin",
            "/a/%2E./admin",
            "/a/..%2fadmin",
            "/a/..%5cadmin",
            "/a/..\\admin",
            "/a/x/../../admin",
            "/a/../a/x",
            "/a/..;/admin",
            "/a/..;v=1/admin",
            "/a/..%3b/admin",
            "/a//../admin",
            "/a/./../admin",
            "/a%2f..",
            "/a%2f../x",
        ] {
            let expected = !path.starts_with("/a%2f");
            assert_eq!(escapes_prefix(path, "/a"), expected, "{path}");
            assert_eq!(escapes_prefix(path, "/a/"), expected, "{path}");
        }
        for path in
            ["/a", "/a/", "/a/x/../y", "/a/./x", "/a/...", "/a/..x", "/a/x;/y", "/a../x", "/b/../x", "/a/%252e%252e/x"]
        {
            assert!(!escapes_prefix(path, "/a"), "{path}");
        }
        assert!(escapes_prefix("/../x", "/") && escapes_prefix("/a/../..", "/") && !escapes_prefix("/a/..", "/"));
    }

    #[test]
    fn dot_segments_are_seen_wherever_some_server_would_resolve_them() {
        for path in ["/a/../b", "/.", "/a/..", "/%2e/b", "/a/.%2E/b", "/a/..;x/b", "/a%2f../b", "/a\\.\\b", "..", "/./"]
        {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in ["/", "", "*", "/a.b", "/.well-known/x", "/...", "/a/..b", "/%2e%2ex", "/a//b", "/a?..", "/%252e"] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off_by_whole_segments_and_the_query_stays() {
        for (target, expected) in [
            ("/canary", Some("/")),
            ("/canary/", Some("/")),
            ("/canary/x", Some("/x")),
            ("/canary?x", Some("/?x")),
            ("/canary?", Some("/?")),
            ("/canary/x?a=%2F&b=/canary", Some("/x?a=%2F&b=/canary")),
            ("/canary//x", Some("//x")),
            ("/canaryfoo", None),
            ("/canary../x", None),
            ("/Canary/x", None),
            ("/", None),
            ("/x?/canary", None),
            ("*", None),
        ] {
            assert_eq!(strip(target, "/canary").as_deref(), expected, "{target}");
            assert_eq!(strip(target, "/canary/").as_deref(), expected, "{target}");
        }
        assert_eq!(strip("/x?y", "/").as_deref(), Some("/x?y"));
    }

    #[test]
    fn a_prefix_is_replaced_by_whole_segments_and_the_query_stays() {
        for (target, with, expected) in [
            ("/old/x?y", "/new", Some("/new/x?y")),
            ("/old", "/new", Some("/new")),
            ("/old?y", "/new", Some("/new?y")),
            ("/old/", "/new", Some("/new/")),
            ("/old/x", "/new/", Some("/new/x")),
            ("/old", "/new/", Some("/new/")),
            ("/old/x", "/", Some("/x")),
            ("/old", "/", Some("/")),
            ("/old?y", "/", Some("/?y")),
            ("/older", "/new", None),
        ] {
            assert_eq!(replace(target, "/old", with).as_deref(), expected, "{target} with {with}");
        }
        assert_eq!(replace("/x?y", "/", "/new").as_deref(), Some("/new/x?y"));
    }

    #[test]
    fn locations_are_mapped_back_under_a_direct_path() {
        let own = ["www.example.com", "engine-canary:8080"];
        for (location, expected) in [
            ("/login?next=/x#top", Some("/canary/login?next=/x#top")),
            ("/", Some("/canary/")),
            ("/canary", None),
            ("/canary/x", None),
            ("/canaryfoo", Some("/canary/canaryfoo")),
            ("x", None),
            ("../x", None),
            ("?y", None),
            ("", None),
            ("http://www.example.com/x", Some("http://www.example.com/canary/x")),
            ("https://WWW.example.com:443/x?y", Some("https://WWW.example.com:443/canary/x?y")),
            ("https://www.example.com", Some("https://www.example.com/canary/")),
            ("https://www.example.com?y", Some("https://www.example.com/canary/?y")),
            ("http://www.example.com/canary/x", None),
            ("//www.example.com/x", Some("//www.example.com/canary/x")),
            ("http://engine-canary:8080/x", Some("/canary/x")),
            ("http://engine-canary:8080/canary/x", Some("/canary/x")),
            ("http://other.example.com/x", None),
            ("http://www.example.com:81/x", None),
            ("mailto:a@b", None),
            ("http://www.example.com@evil.example/x", None),
            ("//evil.example/x", None),
            ("/a//b", Some("/canary/a//b")),
        ] {
            assert_eq!(map_back(location, &own, "/canary").as_deref(), expected, "{location}");
        }
        let elsewhere = "http://engine-canary:8080//evil.example/x";
        assert_eq!(map_back(elsewhere, &own, "/"), None, "a path never becomes an authority");
    }

    #[test]
    fn cookie_paths_are_mapped_back_under_a_direct_path() {
        for (cookie, expected) in [
            ("a=b; Path=/", Some("a=b; Path=/canary")),
            ("a=b;path=/x; Secure", Some("a=b;path=/canary/x; Secure")),
            ("a=b; PATH = /x ;HttpOnly", Some("a=b; PATH = /canary/x ;HttpOnly")),
            ("a=b; Path=/canary/x", None),
            ("a=b; Path=/canary", None),
            ("a=b; Path=/canaryfoo", Some("a=b; Path=/canary/canaryfoo")),
            ("a=b", None),
            ("a=b; Path=", None),
            ("a=b; Path", None),
            ("Path=/", None),
            ("__Host-a=b; Secure; Path=/", None),
            ("a=b; Pathological=/x", None),
            ("a=b; Path=/x; Path=/", Some("a=b; Path=/canary/x; Path=/canary")),
            ("", None),
        ] {
            let mapped = map_cookie_path(cookie.as_bytes(), "/canary");
            assert_eq!(mapped.as_deref(), expected.map(str::as_bytes), "{cookie}");
        }
    }

    proptest! {
        #[test]
        fn what_is_stripped_is_mapped_back(rest in "(/[a-z/.%]{0,20})?(\\?[a-z=/&]{0,10})?") {
            let target = format!("/canary{rest}");
            let stripped = strip(&target, "/canary").expect("it is under the prefix");
            prop_assert!(stripped.starts_with('/'));
            prop_assert_eq!(replace(&stripped, "/", "/canary").map(|t| t.replacen("/canary/?", "/canary?", 1)).map(|t| {
                if t == "/canary/" && rest.is_empty() { "/canary".to_owned() } else { t }
            }), Some(target.replacen("/canary/?", "/canary?", 1)));
        }

        #[test]
        fn no_text_can_panic(
            text in "\\PC{0,60}",
            prefix in "/?[a-z/%]{0,6}",
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = (is_ambiguous(&text), escapes_prefix(&text, &prefix));
            let _ = (strip(&text, &prefix), replace(&text, &prefix, "/n"));
            let _ = (map_back(&text, &["a", &text], &prefix), map_cookie_path(&bytes, &prefix));
            let under = format!("{prefix}/{text}");
            let _ = (is_ambiguous(&under), escapes_prefix(&under, &prefix), map_back(&under, &[], &prefix));
        }

        #[test]
        fn a_path_that_escapes_in_its_plain_reading_is_seen(
            segments in prop::collection::vec("\\.\\.|\\.|[ab]|%2e%2e|%2E\\.", 0..8),
        ) {
            let mut depth = 0_i32;
            let escapes = segments.iter().any(|segment| {
                depth += match segment.replace("%2e", ".").replace("%2E", ".").as_str() {
                    ".." => -1,
                    "." => 0,
                    _ => 1,
                };
                depth < 0
            });
            prop_assert_eq!(escapes_prefix(&format!("/p/{}", segments.join("/")), "/p"), escapes);
        }
    }
}
