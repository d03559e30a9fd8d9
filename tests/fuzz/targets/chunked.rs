//! A chunked body decodes to what a second decoder makes of it, in any pieces.

use weir::proxy::h1::chunked::{BadChunk, Decoder, Piece};

use super::http::{cuts, is_token, is_value};

/// What a decoder makes of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is refused.
    Refused,
    /// More is needed after these bytes of the body.
    Partial(Vec<u8>),
    /// The body, and how long it was on the wire.
    Whole(Vec<u8>, usize),
}

/// Decodes at once, in steps, and in two pieces.
pub(crate) fn check(bytes: &[u8]) {
    let whole = streamed(&[bytes]);
    match (reference(bytes).unwrap_or(Outcome::Refused), &whole) {
        // What can never become a body may be refused before its line is complete.
        (Outcome::Partial(_), Outcome::Refused) => {}
        (expected, found) => assert_eq!(expected, *found),
    }
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(streamed(&bytes.chunks(step).collect::<Vec<_>>()), whole, "in steps of {step}");
    }
    for cut in cuts(bytes.len(), 64) {
        assert_eq!(streamed(&[&bytes[..cut], &bytes[cut..]]), whole, "in two pieces at {cut}");
    }
}

fn streamed(parts: &[&[u8]]) -> Outcome {
    let run = || -> Result<Outcome, BadChunk> {
        let (mut decoder, mut pending, mut body, mut used) = (Decoder::default(), Vec::new(), Vec::new(), 0);
        for part in parts {
            pending.extend_from_slice(part);
            loop {
                let (n, piece) = decoder.decode(&pending)?;
                if let Piece::Data(range) = &piece {
                    assert!(range.end <= n && !range.is_empty());
                    body.extend_from_slice(&pending[range.clone()]);
                }
                pending.drain(..n);
                used += n;
                match piece {
                    Piece::Data(_) => {}
                    Piece::More => break,
                    Piece::End => {
                        assert!(decoder.is_done());
                        return Ok(Outcome::Whole(body, used));
                    }
                }
            }
        }
        assert!(!decoder.is_done());
        Ok(Outcome::Partial(body))
    };
    run().unwrap_or(Outcome::Refused)
}

/// Decodes by RFC 9112 section 7.1 alone, over the whole input; none: refused.
fn reference(wire: &[u8]) -> Option<Outcome> {
    let (mut at, mut body, mut extension_bytes) = (0, Vec::new(), 0);
    loop {
        let Some(line) = line(&wire[at..], 1024)? else { return Some(Outcome::Partial(body)) };
        at += line.len() + 2;
        let semicolon = line.iter().position(|&b| b == b';').unwrap_or(line.len());
        let digits = std::str::from_utf8(&line[..semicolon]).ok()?;
        let hexadecimal = !digits.is_empty() && digits.len() < 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)? as usize;
        extension_bytes += line.len() - semicolon;
        if !are_extensions(&line[semicolon..]) || extension_bytes > 16 * 1024 {
            return None;
        }
        if size == 0 {
            break;
        }
        let left = &wire[at..];
        body.extend_from_slice(&left[..size.min(left.len())]);
        match left.get(size..).unwrap_or_default() {
            [] | [b'\r'] => return Some(Outcome::Partial(body)),
            [b'\r', b'\n', ..] => at += size + 2,
            _ => return None,
        }
    }
    let first = at;
    loop {
        let Some(line) = line(&wire[at..], 16 * 1024)? else { return Some(Outcome::Partial(body)) };
        at += line.len() + 2;
        if at - first > 16 * 1024 {
            return None;
        }
        if line.is_empty() {
            return Some(Outcome::Whole(body, at));
        }
        let colon = line.iter().position(|&b| b == b':')?;
        if !is_token(&line[..colon]) || !is_value(&line[colon + 1..]) {
            return None;
        }
    }
}

/// The first line without its CRLF; inner none: it is not complete; outer none: it never will be one.
fn line(wire: &[u8], bytes_max: usize) -> Option<Option<&[u8]>> {
    let end = wire.iter().position(|b| matches!(b, b'\r' | b'\n'));
    match end.map(|end| (&wire[..end], &wire[end..])) {
        None if wire.len() > bytes_max => None,
        None => Some(None),
        Some((line, _)) if line.len() > bytes_max => None,
        Some((line, [b'\r', b'\n', ..])) => Some(Some(line)),
        Some((_, [b'\r'])) => Some(None),
        Some(_) => None,
    }
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, one byte at a time.
fn are_extensions(text: &[u8]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Start,
        Name(usize),
        Value(usize),
        Quoted,
        Escaped,
        Closed,
    }
    let token = |b: u8| is_token(&[b]);
    let mut at = At::Start;
    for &b in text {
        at = match (at, b) {
            (At::Start | At::Closed, b';') => At::Name(0),
            (At::Name(n) | At::Value(n), b';') if n > 0 => At::Name(0),
            (At::Name(n), b'=') if n > 0 => At::Value(0),
            (At::Name(n), b) if token(b) => At::Name(n + 1),
            (At::Value(0), b'"') => At::Quoted,
            (At::Value(n), b) if token(b) => At::Value(n + 1),
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, b) if is_value(&[b]) => At::Quoted,
            _ => return false,
        };
    }
    !matches!(at, At::Name(0) | At::Value(0) | At::Quoted | At::Escaped)
}
