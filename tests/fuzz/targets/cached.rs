//! Whatever an answer says of caches, a `Cache-Status` that is a list by RFC 9651 is read as RFC 9211 means it, and
//! what is none changes nothing about another field that says something. An input is fields, `NAME: VALUE`, a line
//! each.

use weir::proxy::heads::cached::said;
use weir::telemetry::lane::CacheAnswer::{self, Hit, Miss};

use super::http::is_token;

type Field<'a> = (&'a [u8], &'a [u8]);

/// Takes the input for the fields of an answer.
pub(crate) fn check(bytes: &[u8]) {
    let fields: Vec<Field<'_>> = bytes.split(|&b| b == b'\n').filter_map(field).collect();
    let found = said(fields.iter().copied());
    let status = |name: &[u8]| name.eq_ignore_ascii_case(b"cache-status");
    let lists: Vec<&[u8]> = fields.iter().filter(|(name, _)| status(name)).map(|(_, value)| *value).collect();
    let read: Option<Vec<Option<CacheAnswer>>> = lists.iter().map(|list| meant(list)).collect();
    if let Some(read) = read.map(|read| read.into_iter().flatten().collect::<Vec<_>>()).filter(|read| !read.is_empty())
    {
        assert_eq!(found, Some(if read.contains(&Hit) { Hit } else { Miss }));
    }
    let hit: Field<'_> = (b"cache-status", b"a; hit");
    assert_eq!(said(fields.iter().copied().chain([hit])), Some(Hit), "one that has it is enough");
    let told = |names: &[&[u8]]| fields.iter().any(|(name, _)| names.iter().any(|it| name.eq_ignore_ascii_case(it)));
    assert!(found.is_none() || told(&[b"cache-status", b"x-cache", b"age"]), "nobody said so");
    if !told(&[b"cache-status", b"x-cache"]) {
        let age = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"age"));
        let plain = age.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        let digits = age.is_some_and(|(_, value)| value.iter().all(u8::is_ascii_digit));
        if let Some(seconds) = plain.filter(|_| digits) {
            assert_eq!(found, Some(if seconds > 0 { Hit } else { Miss }));
        }
    }
}

fn field(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|&b| b == b':')?;
    // The parser of heads has refused any other name.
    is_token(&line[..colon]).then(|| (&line[..colon], line[colon + 1..].trim_ascii()))
}

/// What a list of caches says, none when it is no list; strictly, from left to right.
fn meant(list: &[u8]) -> Option<Option<CacheAnswer>> {
    let mut rest = Text(list);
    let mut all = None;
    loop {
        if rest.0.first() == Some(&b'"') { rest.string() } else { rest.token() }?;
        let (mut hit, mut forwarded) = (false, false);
        while rest.take(b';') {
            rest.blanks(b" ");
            let key = rest.key()?;
            let value = if rest.take(b'=') { Some(rest.bare()?) } else { None };
            match (key, value) {
                (b"hit", value) => hit = value.is_none_or(|value| value == b"?1"),
                (b"fwd", value) => forwarded = value.is_some_and(|value| value != b"method" && value != b"request"),
                _ => {}
            }
        }
        all = match (all, hit, forwarded) {
            (Some(Hit), ..) | (_, true, _) => Some(Hit),
            (_, false, true) => Some(Miss),
            (all, false, false) => all,
        };
        rest.blanks(b" \t");
        if rest.0.is_empty() {
            return Some(all);
        }
        if !rest.take(b',') {
            return None;
        }
        rest.blanks(b" \t");
    }
}

/// What is left of a structured field (RFC 9651 section 4.2).
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn take(&mut self, byte: u8) -> bool {
        let there = self.0.first() == Some(&byte);
        self.0 = &self.0[usize::from(there)..];
        there
    }

    fn blanks(&mut self, of: &[u8]) {
        self.cut(|byte| of.contains(&byte));
    }

    fn cut(&mut self, which: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !which(byte)).unwrap_or(self.0.len());
        let (cut, rest) = self.0.split_at(end);
        self.0 = rest;
        cut
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        let of = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
        (first.is_ascii_alphabetic() || first == b'*').then(|| self.cut(of))
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        let of = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
        (first.is_ascii_lowercase() || first == b'*').then(|| self.cut(of))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let (all, mut at) = (self.0, 1);
        loop {
            match *all.get(at)? {
                b'"' => break,
                b'\\' if matches!(all.get(at + 1), Some(b'"' | b'\\')) => at += 2,
                b'\\' => return None,
                byte if (0x20..0x7f).contains(&byte) => at += 1,
                _ => return None,
            }
        }
        self.0 = &all[at + 1..];
        Some(&all[..=at])
    }

    /// A string, a boolean, a number or a token; what else there is no cache says.
    fn bare(&mut self) -> Option<&'a [u8]> {
        match *self.0.first()? {
            b'"' => self.string(),
            b'?' if matches!(self.0.get(1), Some(b'0' | b'1')) => {
                let (cut, rest) = self.0.split_at(2);
                self.0 = rest;
                Some(cut)
            }
            b'-' | b'0'..=b'9' => {
                let cut = self.cut(|byte| byte.is_ascii_digit() || byte == b'-');
                (cut.len() > usize::from(cut[0] == b'-') && !cut[1..].contains(&b'-')).then_some(cut)
            }
            _ => self.token(),
        }
    }
}
