//! A path that is not ambiguous names the same thing to every server, a prefix comes off and back on, and what was
//! mapped back is not mapped twice. An input is one path, target, `Location` or `Set-Cookie`.

use weir::routing::path::{escapes_prefix, has_dot_segments, is_ambiguous, map_back, map_cookie_path, replace, strip};

/// What a client and an endpoint call themselves.
const OWN: [&str; 2] = ["www.example", "127.0.0.1:9001"];

/// Reads an input as each of the four.
pub(crate) fn check(bytes: &[u8]) {
    for prefix in ["/canary", "/a/b", "/"] {
        if let Some(mapped) = map_cookie_path(bytes, prefix) {
            assert_eq!(map_cookie_path(&mapped, prefix), None, "{}", mapped.escape_ascii());
        }
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        safety(text.split('?').next().unwrap_or_default(), prefix);
        prefixes(text, prefix);
        locations(text, prefix);
    }
}

fn safety(path: &str, prefix: &str) {
    if !path.starts_with('/') {
        return;
    }
    let lenient = resolved(path);
    assert!(lenient.is_some() || is_ambiguous(path), "{path:?} climbs above the root");
    let bare = prefix.trim_end_matches('/');
    let under = path == bare || path.starts_with(&format!("{bare}/"));
    if under && !is_ambiguous(path) && !escapes_prefix(path, prefix) {
        assert!(resolved(&path[bare.len()..]).is_some(), "{path:?} leaves {prefix}");
        let stripped = strip(path, prefix).expect("it is under the prefix");
        assert!(!is_ambiguous(&stripped), "{path:?} becomes {stripped:?}");
    }
    if !is_ambiguous(path) && !has_dot_segments(path) {
        let plain: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
        assert_eq!(lenient.map(|segments| segments.len()), Some(plain.len()), "{path:?}");
    }
}

/// The segments that the most lenient server would see; none: they climb above the root.
fn resolved(path: &str) -> Option<Vec<String>> {
    let mut decoded = path.replace('\\', "/");
    for (escape, plain) in [("2e", "."), ("2f", "/"), ("5c", "/"), ("3b", ";")] {
        let upper = escape.to_ascii_uppercase();
        let mixed = [format!("{}{}", &upper[..1], &escape[1..]), format!("{}{}", &escape[..1], &upper[1..])];
        for digits in [escape.to_owned(), upper].into_iter().chain(mixed) {
            // Escapes are marked first, so that none is made by decoding another.
            decoded = decoded.replace(&format!("%{digits}"), &format!("\u{0}{plain}"));
        }
    }
    let decoded = decoded.replace('\u{0}', "");
    let mut segments: Vec<String> = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            ".." => drop(segments.pop()?),
            "." => {}
            _ if segment.is_empty() => {}
            name => segments.push(name.to_owned()),
        }
    }
    Some(segments)
}

fn prefixes(target: &str, prefix: &str) {
    let query = |target: &str| target.split_once('?').map(|(_, query)| query.to_owned());
    let stripped = strip(target, prefix);
    assert_eq!(stripped.is_some(), replace(target, prefix, "/n").is_some());
    let Some(stripped) = stripped else { return };
    assert!(stripped.starts_with('/') && query(&stripped) == query(target));
    let bare = prefix.trim_end_matches('/');
    let rest = &target[bare.len()..];
    let slash = if rest.starts_with('/') { "" } else { "/" };
    assert_eq!(replace(&stripped, "/", prefix), Some(format!("{bare}{slash}{rest}")));
}

fn locations(location: &str, prefix: &str) {
    let Some(mapped) = map_back(location, &OWN, prefix) else { return };
    assert_eq!(map_back(&mapped, &OWN, prefix), None, "{location:?} became {mapped:?}");
    // It names the client's own authority or none; a path that begins with two slashes would name another.
    let rest = mapped.split_once("//").filter(|(before, _)| !before.starts_with('/'));
    let authority = rest.map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let own = |authority: &str| {
        let bare = authority.trim_end_matches(":80").trim_end_matches(":443");
        bare.eq_ignore_ascii_case(OWN[0])
    };
    assert!(authority.is_none_or(own), "{location:?} became {mapped:?}");
}
