//! Paths that could be read two ways, and prefixes taken off on the way up and put back on the way down. Nothing is
//! normalised: what is forwarded is what was matched, byte for byte, and what cannot be forwarded safely is named so that
//! the caller can refuse it.
//!
//! A **prefix** is a path by whole segments, such as `/canary`; a slash at its end makes no difference.

use std::borrow::Cow;

use super::matcher::has_prefix;

// === safety ===

/// Whether servers differ over what this path names: an encoded slash, backslash or NUL, a raw backslash or control
/// byte, or dot segments that climb above the root. A path with none of these and [`escapes_prefix`] false names
/// something under its prefix whoever reads it.
pub fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    if !bytes.iter().any(|&byte| matches!(byte, b'%' | b'\\' | b'.' | 0x7f) || byte < 0x20) {
        return false;
    }
    bytes.iter().any(|&byte| byte == b'\\' || byte == 0x7f || byte < 0x20)
        || bytes
            .windows(3)
            .any(|window| is_escape(window, b"2f") || is_escape(window, b"5c") || is_escape(window, b"00"))
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
        _ => mapped.or_else(|| Some(path.to_owned())),
    }
}

/// `Set-Cookie` with the prefix put before every `Path` that starts with a slash; none: it can stay as it is, which is so
/// for a path that is under the prefix already, for no path (the browser takes the request's own) and for `__Host-`
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
