//! Parses an endpoint's response head strictly; an answer that can be read two ways is an error of the endpoint.
//!
//! Fields keep their place and case, because they are copied line by line; only what concerns the connection to the
//! endpoint is marked to be left out.

use crate::model::Span;

use super::syntax;

/// Largest response head, bytes: twice what clients may send, since answers carry long policies and cookies.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most fields in a response head.
pub const FIELDS_MAX: usize = 256;

/// How the body of a response is delimited on the wire from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseFraming {
    /// No body follows, by status or method.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// Until the endpoint closes.
    Close,
}

/// One field line.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The name, in the case that it came in.
    pub name: Span,
    /// The value, without surrounding blanks.
    pub value: Span,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is copied.
    Copy,
    /// It belongs to the connection with the endpoint.
    Drop,
    /// `content-length`: copied by whoever writes the framing.
    Length,
    /// `location` or `content-location`: copied, mapped back under a direct path.
    Location,
    /// `set-cookie`: copied, its path mapped back under a direct path.
    SetCookie,
}

/// A response head, parsed over the read buffer of the endpoint's connection.
#[derive(Debug, Default)]
pub struct Response {
    /// Status, 100 to 599.
    pub status: u16,
    /// From the status code to the end of the reason.
    pub status_line: Span,
    /// The fields.
    pub lines: Vec<Line>,
    /// Whether it came as HTTP/2, where names are in lower case.
    pub lower: bool,
    /// Bytes of the head, its empty line included.
    pub head_bytes: usize,
    /// The body.
    pub framing: ResponseFraming,
    /// `Content-Length` as it stands in the head, also where no body follows.
    pub length: Option<u64>,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=`, in seconds, when the endpoint says one.
    pub keep_alive_s: Option<u64>,
    /// Whether it says `Connection: upgrade` and `Upgrade: websocket`: the only protocol that is ever asked for.
    pub upgrade: bool,
}

/// Why an answer is refused: it becomes a 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is malformed: {0}")]
pub struct BadResponse(pub &'static str);

#[derive(Default)]
struct Gathered {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    websocket: bool,
    keep_alive_s: Option<u64>,
    nominated: bool,
}

/// Parses the head at the start of `bytes`; `Ok(None)` when it is not complete. `to_head`: the request was HEAD.
/// `lines` is a spare vector to fill.
pub fn parse(bytes: &[u8], to_head: bool, mut lines: Vec<Line>) -> Result<Result<Response, Vec<Line>>, BadResponse> {
    let Some((line_end, end)) = find_lines(bytes, &mut lines)? else { return Ok(Err(lines)) };
    let clean = syntax::is_text(&bytes[line_end..end]);
    let (status, http10) = status_line(&bytes[..line_end])?;
    let mut gathered = Gathered::default();
    for line in &mut lines {
        *line = field(bytes, line.value, clean, &mut gathered)?;
    }
    if gathered.nominated {
        nominate(bytes, &mut lines);
    }
    let framing = framing(status, to_head, http10, &gathered)?;
    Ok(Ok(Response {
        status,
        status_line: span(9, line_end),
        lines,
        lower: false,
        head_bytes: end,
        framing,
        length: gathered.length,
        keep_alive: !gathered.close && (!http10 || gathered.keep_alive) && framing != ResponseFraming::Close,
        keep_alive_s: gathered.keep_alive_s,
        upgrade: gathered.upgrade && gathered.websocket,
    }))
}

/// When the body of a head that is [described](describe) ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// With the head.
    AtOnce,
    /// The request was HEAD: with the head, whatever the head says.
    ByMethod,
    /// Somewhere behind it.
    Later,
}

/// Writes a head that came as HTTP/2 into `bytes` and describes it as if it had been parsed there. `lines` is a spare
/// vector to fill.
pub(crate) fn describe<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ends: Ends,
    bytes: &mut Vec<u8>,
    mut lines: Vec<Line>,
) -> Result<Response, BadResponse> {
    let known = http::StatusCode::from_u16(status).map_err(|_| BadResponse("the status is malformed"))?;
    bytes.extend_from_slice(known.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(known.canonical_reason().unwrap_or_default().as_bytes());
    let status_line = span(0, bytes.len());
    let mut gathered = Gathered::default();
    for (name, value) in fields {
        if lines.len() >= FIELDS_MAX {
            return Err(BadResponse("too many header fields"));
        }
        let value = value.trim_ascii();
        let fate = fate(name, value, &mut gathered)?;
        let start = bytes.len();
        bytes.extend_from_slice(name);
        let name = span(start, bytes.len());
        bytes.extend_from_slice(value);
        lines.push(Line { name, value: span(name.end as usize, bytes.len()), fate });
    }
    let framing = match gathered.length {
        _ if ends != Ends::Later || status < 200 || matches!(status, 204 | 304) => ResponseFraming::None,
        Some(length) => ResponseFraming::Length(length),
        None => ResponseFraming::Chunked,
    };
    let head_bytes = bytes.len();
    let length = gathered.length;
    Ok(Response {
        status,
        status_line,
        lines,
        lower: true,
        head_bytes,
        framing,
        length,
        keep_alive: true,
        keep_alive_s: None,
        upgrade: false,
    })
}

/// Finds the end of the status line and that of the head, and puts every line between them into `lines`, as a value
/// with no name yet.
fn find_lines(bytes: &[u8], lines: &mut Vec<Line>) -> Result<Option<(usize, usize)>, BadResponse> {
    const START: &[u8] = b"HTTP/1.";
    let shown = bytes.len().min(START.len());
    if bytes[..shown] != START[..shown] {
        return Err(BadResponse("it does not begin with HTTP/1."));
    }
    lines.clear();
    let (mut at, mut status_line) = (0, None);
    while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &bytes[at..]) {
        let here = at + found;
        match (bytes[here], bytes.get(here + 1)) {
            (b'\r', None) => break,
            (b'\r', Some(b'\n')) => {
                match status_line {
                    None => status_line = Some(here),
                    Some(status_line) if at == here => return Ok(Some((status_line, here + 2))),
                    Some(_) if lines.len() >= FIELDS_MAX => return Err(BadResponse("too many header fields")),
                    Some(_) => lines.push(Line { name: Span::default(), value: span(at, here), fate: Fate::Copy }),
                }
                at = here + 2;
            }
            (b'\r', _) => return Err(BadResponse("a carriage return stands alone")),
            (b'\n', _) => return Err(BadResponse("a line ends without a carriage return")),
            _ => return Err(BadResponse("a NUL byte stands in the head")),
        }
    }
    if bytes.len() >= HEAD_BYTES_MAX { Err(BadResponse("the head is too large")) } else { Ok(None) }
}

/// Reads `HTTP/1.x NNN reason`; the status and whether it is HTTP/1.0.
fn status_line(line: &[u8]) -> Result<(u16, bool), BadResponse> {
    let bad = BadResponse("the status line is malformed");
    let (version, rest) = line.split_at_checked(9).ok_or(bad)?;
    let http10 = match version {
        b"HTTP/1.1 " => false,
        b"HTTP/1.0 " => true,
        _ => return Err(bad),
    };
    let (digits, reason) = rest.split_at_checked(3).ok_or(bad)?;
    let status = syntax::content_length(digits).ok_or(bad)? as u16;
    let reason_legal = matches!(reason.first(), None | Some(b' ')) && syntax::is_value(reason);
    if !(100..=599).contains(&status) || !reason_legal {
        return Err(bad);
    }
    Ok((status, http10))
}

/// Reads the field of one line; `clean`: no line holds a control character.
fn field(bytes: &[u8], line: Span, clean: bool, gathered: &mut Gathered) -> Result<Line, BadResponse> {
    let (start, text) = (line.start as usize, &bytes[line.range()]);
    let colon = syntax::token_len(text);
    if colon == 0 || text.get(colon) != Some(&b':') {
        return Err(BadResponse("a header line has no colon, or its name is empty, folded or malformed"));
    }
    let (name, raw) = (&text[..colon], &text[colon + 1..]);
    let (from, to) = syntax::trim(raw);
    let value = &raw[from..to];
    if !clean && !syntax::is_value(value) {
        return Err(BadResponse("a header value holds a control character"));
    }
    let fate = fate(name, value, gathered)?;
    let value = span(start + colon + 1 + from, start + colon + 1 + to);
    Ok(Line { name: span(start, start + colon), value, fate })
}

/// Decides by name; the length settles most names at once. Inlined, because it is called for every field: as a call of
/// its own it cost 60 instructions a request.
#[inline(always)]
fn fate(name: &[u8], value: &[u8], gathered: &mut Gathered) -> Result<Fate, BadResponse> {
    Ok(match name.len() {
        14 if syntax::is_word(name, b"content-length") => {
            let length = syntax::content_length(value).ok_or(BadResponse("the Content-Length is not a number"))?;
            if gathered.length.replace(length).is_some() {
                return Err(BadResponse("there is more than one Content-Length"));
            }
            Fate::Length
        }
        17 if syntax::is_word(name, b"transfer-encoding") => {
            if gathered.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(BadResponse("the Transfer-Encoding is not exactly chunked"));
            }
            gathered.chunked = true;
            Fate::Drop
        }
        10 if syntax::is_word(name, b"connection") => {
            for token in syntax::list(value) {
                match token {
                    t if syntax::is_word(t, b"close") => gathered.close = true,
                    t if syntax::is_word(t, b"keep-alive") => gathered.keep_alive = true,
                    t if syntax::is_word(t, b"upgrade") => gathered.upgrade = true,
                    _ => gathered.nominated = true,
                }
            }
            Fate::Drop
        }
        10 if syntax::is_word(name, b"keep-alive") => {
            let timeout = syntax::list(value).find_map(|part| part.strip_prefix(b"timeout="));
            gathered.keep_alive_s = timeout.and_then(syntax::content_length);
            Fate::Drop
        }
        10 if syntax::is_word(name, b"set-cookie") => Fate::SetCookie,
        8 if syntax::is_word(name, b"location") => Fate::Location,
        16 if syntax::is_word(name, b"content-location") => Fate::Location,
        2 if syntax::is_word(name, b"te") => Fate::Drop,
        7 if syntax::is_word(name, b"upgrade") => {
            gathered.websocket = value.eq_ignore_ascii_case(b"websocket");
            Fate::Drop
        }
        7 if syntax::is_word(name, b"trailer") => Fate::Drop,
        16 if syntax::is_word(name, b"proxy-connection") => Fate::Drop,
        18 if syntax::is_word(name, b"proxy-authenticate") => Fate::Drop,
        _ => Fate::Copy,
    })
}

/// Marks what the endpoint's `Connection` names; framing fields are never in its gift.
fn nominate(bytes: &[u8], lines: &mut [Line]) {
    let lists: Vec<Span> = lines
        .iter()
        .filter(|line| bytes[line.name.range()].eq_ignore_ascii_case(b"connection"))
        .map(|line| line.value)
        .collect();
    for token in lists.iter().flat_map(|value| syntax::list(&bytes[value.range()])) {
        for line in lines.iter_mut().filter(|line| bytes[line.name.range()].eq_ignore_ascii_case(token)) {
            if line.fate != Fate::Length {
                line.fate = Fate::Drop;
            }
        }
    }
}

/// The body by RFC 9112 §6.3, refusing what it calls an error or an attack.
fn framing(status: u16, to_head: bool, http10: bool, gathered: &Gathered) -> Result<ResponseFraming, BadResponse> {
    match (gathered.chunked, gathered.length) {
        (true, Some(_)) => Err(BadResponse("Content-Length and Transfer-Encoding stand side by side")),
        (true, None) if http10 => Err(BadResponse("HTTP/1.0 has no Transfer-Encoding")),
        _ if to_head || status < 200 || matches!(status, 204 | 304) => Ok(ResponseFraming::None),
        (true, None) => Ok(ResponseFraming::Chunked),
        (false, Some(0)) => Ok(ResponseFraming::None),
        (false, Some(length)) => Ok(ResponseFraming::Length(length)),
        (false, None) => Ok(ResponseFraming::Close),
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response, BadResponse> {
        parse(text.as_bytes(), false, Vec::new()).map(|parsed| parsed.expect("the head is complete"))
    }

    #[test]
    fn a_plain_answer_is_read() {
        let response =
            read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\n\r\nhi").unwrap();
        assert_eq!((response.status, response.framing), (200, ResponseFraming::Length(2)));
        assert!(response.keep_alive);
        let fates: Vec<Fate> = response.lines.iter().map(|line| line.fate).collect();
        assert_eq!(fates, [Fate::Length, Fate::Drop, Fate::Drop, Fate::Copy]);
    }

    #[test]
    fn an_answer_that_can_be_read_two_ways_is_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nX: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 1000 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "hello\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes(), false, Vec::new()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_body_ends_where_status_method_and_framing_say() {
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n").unwrap().framing, ResponseFraming::Close);
        assert_eq!(read("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n").unwrap().framing, ResponseFraming::None);
        assert_eq!(read("HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n").unwrap().framing, ResponseFraming::None);
        assert_eq!(
            read("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap().framing,
            ResponseFraming::Chunked
        );
        let to_head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, Vec::new()).unwrap().unwrap();
        assert_eq!((to_head.framing, to_head.length), (ResponseFraming::None, Some(3)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_parser(rest: Vec<u8>) {
            let mut bytes = b"HTTP/1.1 200".to_vec();
            bytes.extend(rest);
            let _ = parse(&bytes, false, Vec::new());
        }
    }
}
