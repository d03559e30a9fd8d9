//! What an answer says of the caches that it came through: whether one of them had it, or the application was asked.
//! Reads three fields and nothing else; looked at only where the service counts (`count_cache`).
//!
//! An answer is a **hit** when any cache on its way says so: the outer one that has it keeps what inner ones said when
//! it was stored, and where an inner one had it the application was spared as well. It is a **miss** when none does and
//! one says that it had to ask. The first field that says either decides:
//!
//! 1. `Cache-Status` (RFC 9211): a member with `hit`, or with `fwd`. `fwd=method` and `fwd=request` are the client's
//!    doing and say nothing of the cache.
//! 2. `X-Cache`, as nginx, Varnish, Squid and the networks write it: `HIT`, `MISS`, `HIT from cache-1`, `TCP_MEM_HIT`,
//!    `RefreshHit from cloudfront`, `EXPIRED`.
//! 3. `Age` (RFC 9111 section 5.1): above 0 it was stored; 0 is what a cache such as Varnish says of what it has just
//!    fetched.

use crate::model::ServiceSpec;
use crate::proxy::h1::response::Response;
use crate::proxy::h1::syntax::{is_word, list};
use crate::telemetry::lane::CacheAnswer;

/// Words of `X-Cache` that mean it came out of the cache, perhaps after a look whether it may.
const HITS: [&str; 5] = ["hit", "refreshhit", "stale", "updating", "revalidated"];

/// Words of `X-Cache` that mean the application was asked.
const MISSES: [&str; 4] = ["miss", "refreshmiss", "expired", "bypass"];

/// What the answer says of it, where the service counts; `bytes` is what the spans of the head point into. What failed
/// (500 and above) is counted as that and nothing else, and no cache answers with a switch of protocols.
#[inline]
pub(crate) fn look(spec: &ServiceSpec, response: &Response, bytes: &[u8]) -> Option<CacheAnswer> {
    if spec.count_cache { in_head(response, bytes) } else { None }
}

/// Not inlined, so that whoever counts nothing does not carry it along.
#[inline(never)]
fn in_head(response: &Response, bytes: &[u8]) -> Option<CacheAnswer> {
    let fields = response.lines.iter().map(|line| (&bytes[line.name.range()], &bytes[line.value.range()]));
    if (200..500).contains(&response.status) { said(fields) } else { None }
}

/// What fields (name, value) say of it; none when they say nothing.
pub fn said<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<CacheAnswer> {
    let (mut status, mut x_cache, mut age) = (None, None, None);
    for (name, value) in fields {
        match name.len() {
            12 if is_word(name, b"cache-status") => status = either(status, cache_status(value)),
            7 if is_word(name, b"x-cache") => x_cache = either(x_cache, all(list(value).map(word))),
            3 if is_word(name, b"age") => age = age.or(Some(stored(value))),
            _ => {}
        }
    }
    status.or(x_cache).or(age.flatten())
}

/// A hit where one of them is, else a miss where one of them is.
fn either(one: Option<CacheAnswer>, other: Option<CacheAnswer>) -> Option<CacheAnswer> {
    match (one, other) {
        (Some(CacheAnswer::Hit), _) | (_, Some(CacheAnswer::Hit)) => Some(CacheAnswer::Hit),
        (one, other) => one.or(other),
    }
}

fn all(members: impl Iterator<Item = Option<CacheAnswer>>) -> Option<CacheAnswer> {
    members.fold(None, either)
}

/// One field of `Cache-Status`, a list of structured fields (RFC 9651); one with an open string is not read at all.
fn cache_status(value: &[u8]) -> Option<CacheAnswer> {
    if is_open(value) { None } else { all(parts(value, b',').map(member)) }
}

/// `NAME; hit; ttl=30` or `NAME; fwd=uri-miss; stored`.
fn member(text: &[u8]) -> Option<CacheAnswer> {
    let (mut hit, mut forwarded) = (false, false);
    for parameter in parts(text, b';').skip(1) {
        let equals = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
        let (key, value) = (&parameter[..equals], parameter.get(equals + 1..));
        // Keys are lower case (RFC 9651 section 3.1.2), and the last of several of one name holds.
        match (key, value) {
            (b"hit", value) => hit = matches!(value, None | Some(b"?1")),
            (b"fwd", value) => forwarded = !matches!(value, None | Some(b"" | b"method" | b"request")),
            _ => {}
        }
    }
    match (hit, forwarded) {
        (true, _) => Some(CacheAnswer::Hit),
        (false, true) => Some(CacheAnswer::Miss),
        (false, false) => None,
    }
}

/// The parts between separators that stand in no quoted string, without blanks around them.
fn parts(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.iter().position(|&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ => return byte == separator && !quoted,
            }
            false
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim_ascii())
    })
}

/// Whether a string in it has no end.
fn is_open(text: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

/// One member of `X-Cache`: its first word, as a whole or in the parts that `_` and `-` make of it.
fn word(member: &[u8]) -> Option<CacheAnswer> {
    let word = member.split(|&byte| matches!(byte, b' ' | b'\t' | b';' | b'(')).next().unwrap_or_default();
    all(word.split(|&byte| matches!(byte, b'_' | b'-')).map(|part| {
        let is = |known: &&str| part.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if HITS.iter().any(is) => Some(CacheAnswer::Hit),
            () if MISSES.iter().any(is) => Some(CacheAnswer::Miss),
            () => None,
        }
    }))
}

/// `Age`: of a list the first member, as RFC 9111 section 5.1 advises.
fn stored(value: &[u8]) -> Option<CacheAnswer> {
    let first = list(value).next().filter(|first| !first.is_empty() && first.iter().all(u8::is_ascii_digit))?;
    Some(if first.iter().any(|&digit| digit != b'0') { CacheAnswer::Hit } else { CacheAnswer::Miss })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIT: Option<CacheAnswer> = Some(CacheAnswer::Hit);
    const MISS: Option<CacheAnswer> = Some(CacheAnswer::Miss);

    fn of(fields: &[(&str, &str)]) -> Option<CacheAnswer> {
        said(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    #[test]
    fn cache_status_is_read_as_rfc_9211_writes_it() {
        for (value, expected) in [
            ("ExampleCache; hit", HIT),
            ("\"Example, \\\"Cache\\\"; fwd=miss\"; hit; ttl=376", HIT),
            ("ExampleCache; fwd=uri-miss; stored", MISS),
            ("ExampleCache; fwd=stale; fwd-status=304", MISS),
            ("ExampleCache; fwd=bypass", MISS),
            ("ExampleCache; fwd=method", None),
            ("ExampleCache; fwd=request", None),
            ("OriginCache; hit; ttl=1100, \"CDN Company Here\"; fwd=uri-miss", HIT),
            ("OriginCache; fwd=miss, Edge; hit; ttl=-4", HIT),
            ("a; fwd=miss, b; fwd=method", MISS),
            ("a; hit=?0; fwd=miss", MISS),
            ("a; hit=?0", None),
            ("a; detail=hit", None),
            ("a; Hit", None),
            ("hit", None),
            ("a; hit; detail=\"", None),
            ("", None),
        ] {
            assert_eq!(of(&[("Cache-Status", value)]), expected, "{value}");
        }
        assert_eq!(of(&[("cache-status", "a; fwd=miss"), ("cache-status", "b; hit")]), HIT);
    }

    #[test]
    fn x_cache_is_read_in_the_words_of_those_who_write_it() {
        for (value, expected) in [
            ("HIT", HIT),
            ("miss", MISS),
            ("HIT from cache-1.example", HIT),
            ("MISS from hit.example", MISS),
            ("TCP_MEM_HIT", HIT),
            ("TCP_REFRESH_MISS from a.example (Squid/6)", MISS),
            ("RefreshHit from cloudfront", HIT),
            ("Error from cloudfront", None),
            ("MISS, HIT", HIT),
            ("MISS, MISS", MISS),
            ("EXPIRED", MISS),
            ("BYPASS", MISS),
            ("STALE", HIT),
            ("HIT-STALE", HIT),
            ("DYNAMIC", None),
            ("whit", None),
        ] {
            assert_eq!(of(&[("X-Cache", value)]), expected, "{value}");
        }
    }

    #[test]
    fn what_says_more_is_asked_first_and_age_last() {
        assert_eq!(of(&[("Age", "7")]), HIT);
        assert_eq!(of(&[("Age", "0")]), MISS);
        assert_eq!(of(&[("Age", "0, 7"), ("Age", "9")]), MISS);
        assert_eq!(of(&[("Age", "99999999999999999999999999")]), HIT);
        for nothing in ["", "-1", "1.5", "seven"] {
            assert_eq!(of(&[("Age", nothing)]), None, "{nothing}");
        }
        assert_eq!(of(&[("Age", "7"), ("X-Cache", "MISS")]), MISS);
        assert_eq!(of(&[("X-Cache", "HIT"), ("Cache-Status", "a; fwd=miss")]), MISS);
        assert_eq!(of(&[("X-Cache", "HIT"), ("Cache-Status", "a; fwd=method")]), HIT);
        assert_eq!(of(&[("Content-Type", "text/html")]), None);
    }

    proptest::proptest! {
        #[test]
        fn another_hit_makes_a_hit_and_another_miss_never_unmakes_one(value in "[ -~]{0,40}") {
            let before = of(&[("cache-status", &value)]);
            proptest::prop_assert_eq!(of(&[("cache-status", &value), ("cache-status", "x; hit")]), HIT);
            let with_miss = of(&[("cache-status", "x; fwd=miss"), ("cache-status", &value)]);
            proptest::prop_assert_eq!(with_miss, before.or(MISS));
            // Members of one field are members of a list, whatever strings they hold.
            if !is_open(value.as_bytes()) && before.is_some() {
                proptest::prop_assert_eq!(of(&[("cache-status", &format!("x; fwd=miss, {value}"))]), before);
            }
        }

        #[test]
        fn no_bytes_panic(value: Vec<u8>) {
            for name in ["cache-status", "x-cache", "age"] {
                let _ = said(std::iter::once((name.as_bytes(), &value[..])));
            }
        }
    }
}
