//! Parses a request head in place over the read buffer, into the one canonical form.
//!
//! Strict where RFC 9112 leaves a choice: bare LF, bare CR, folded lines, leading empty lines, blanks around names,
//! repeated `Host` or `Content-Length`, any transfer coding but `chunked`, and `Content-Length` beside
//! `Transfer-Encoding` are refused, because the next hop may read them differently (`Refused`, always followed by a
//! close). It does not route, and it reads no body.

use crate::model::{Field, FieldId, Head, Limits, Span};

use super::syntax;

/// How the body of a message is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

/// What the parser found beside the [`Head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes of the head in the buffer, its empty line included.
    pub head_bytes: usize,
    /// The body.
    pub framing: Framing,
    /// Whether the client may send another request on this connection.
    pub keep_alive: bool,
    /// Whether it is HTTP/1.0, which knows no chunks and no 100.
    pub http10: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether it asks to become a WebSocket, in every point as RFC 6455 §4.1 demands.
    pub upgrade: bool,
}

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Anything that two readers may read two ways, or that nobody may send.
    #[error("{0}")]
    Malformed(&'static str),
    /// An HTTP version other than 1.0 and 1.1.
    #[error("this HTTP version is not supported")]
    Version,
    /// TRACE, and CONNECT where no route allows one.
    #[error("this method is not allowed")]
    Method,
    /// An extended CONNECT to another protocol than `websocket`.
    #[error("this protocol is not supported")]
    Protocol,
    /// An expectation other than 100-continue.
    #[error("this expectation cannot be met")]
    Expectation,
    /// A target over the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// A head over the limit, in bytes or fields.
    #[error("the request head is too large")]
    HeadTooLarge,
}

/// Facts gathered over the fields, judged when all are read.
#[derive(Default)]
struct Gathered {
    /// No line holds a control character.
    clean: bool,
    host: Option<Span>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_named: bool,
    websocket: bool,
    expects_continue: bool,
    nominated: bool,
}

/// Parses the head at the start of `head.bytes`. `Ok(None)`: it is not complete yet; `scanned` keeps how far the
/// search for its end has come, so that a head that drips in is not searched again from the start.
pub fn parse(head: &mut Head, scanned: &mut usize, limits: &Limits) -> Result<Option<Parsed>, Refused> {
    let Some(end) = find_end(&head.bytes, scanned, limits)? else { return Ok(None) };
    head.fields.clear();
    let line_end = memchr::memchr(b'\r', &head.bytes).unwrap_or(0);
    let http10 = request_line(head, line_end, limits)?;
    let mut gathered = Gathered { clean: syntax::is_text(&head.bytes[line_end..end]), ..Gathered::default() };
    let mut at = line_end + 2;
    while at + 2 < end {
        // `find_end` has seen every line end as CRLF and no CR elsewhere.
        let line = at + memchr::memchr(b'\r', &head.bytes[at..end]).unwrap_or(0);
        if head.fields.len() >= limits.fields_max {
            return Err(Refused::HeadTooLarge);
        }
        field(head, at, line, &mut gathered)?;
        at = line + 2;
    }
    if gathered.nominated {
        nominate(head)?;
    }
    judge(head, end, http10, &gathered).map(Some)
}

/// Finds the empty line, refusing on the way what can never become a head.
fn find_end(bytes: &[u8], scanned: &mut usize, limits: &Limits) -> Result<Option<usize>, Refused> {
    if *scanned == 0 && bytes.first().is_some_and(|b| !b.is_ascii_uppercase()) {
        return Err(Refused::Malformed(no_request(bytes)));
    }
    let mut at = *scanned;
    while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &bytes[at..]) {
        let here = at + found;
        match (bytes[here], bytes.get(here + 1)) {
            (b'\r', None) => break,
            (b'\r', Some(b'\n')) if here >= 2 && &bytes[here - 2..here] == b"\r\n" => {
                *scanned = 0;
                let end = here + 2;
                return if end > limits.head_bytes_max { Err(Refused::HeadTooLarge) } else { Ok(Some(end)) };
            }
            (b'\r', Some(b'\n')) => at = here + 2,
            (b'\r', _) => return Err(Refused::Malformed("a carriage return stands alone")),
            (b'\n', _) => return Err(Refused::Malformed("a line ends without a carriage return")),
            _ => return Err(Refused::Malformed("a NUL byte stands in the head")),
        }
    }
    // Everything before a possible trailing CR has been seen.
    let seen = bytes.len() - usize::from(bytes.last() == Some(&b'\r'));
    *scanned = at.max(seen);
    if bytes.len() >= limits.head_bytes_max {
        let one_line = memchr::memchr(b'\r', bytes).is_none();
        return Err(if one_line { Refused::TargetTooLong } else { Refused::HeadTooLarge });
    }
    Ok(None)
}

/// What begins like no request, but perhaps like what belongs on another kind of listener.
fn no_request(bytes: &[u8]) -> &'static str {
    match bytes {
        // A record of TLS: a handshake, of any version 3.x (RFC 8446 §5.1).
        [0x16, 0x03, ..] => "this is TLS, and this listener speaks plain HTTP: it has no tls table",
        // The signature of version 2 of the PROXY protocol begins with an empty line, as no request does.
        [b'\r', b'\n', b'\r', ..] => PROXY_HEADER,
        _ => "a request begins with a method in upper case",
    }
}

/// Whether a line is a header of version 1 of the PROXY protocol.
fn is_proxy_header(line: &[u8]) -> bool {
    line.starts_with(b"PROXY TCP") || line.starts_with(b"PROXY UNKNOWN")
}

const PROXY_HEADER: &str = "this is a header of the PROXY protocol, and this listener has no proxy_protocol table";

/// Reads `METHOD SP target SP HTTP/1.x`; true for 1.0.
fn request_line(head: &mut Head, line_end: usize, limits: &Limits) -> Result<bool, Refused> {
    let line = &head.bytes[..line_end];
    let malformed = |why| Err(Refused::Malformed(why));
    let Some(space) = memchr::memchr(b' ', &line[..line.len().min(syntax::METHOD_BYTES_MAX + 1)]) else {
        return malformed("the method is missing or too long");
    };
    let method = &line[..space];
    if !syntax::is_method(method) {
        return malformed("the method is not in upper case letters");
    }
    let Some(last) = memchr::memrchr(b' ', line).filter(|&last| last > space) else {
        return malformed(if is_proxy_header(line) { PROXY_HEADER } else { "the target or the version is missing" });
    };
    let http10 = match &line[last + 1..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refused::Version);
        }
        _ if is_proxy_header(line) => return malformed(PROXY_HEADER),
        _ => return malformed("the HTTP version is malformed"),
    };
    let connect = match method {
        b"CONNECT" => true,
        b"TRACE" => return Err(Refused::Method),
        _ => false,
    };
    if last - space - 1 > limits.target_bytes_max {
        return Err(Refused::TargetTooLong);
    }
    head.method = span(0, space);
    match connect {
        true => authority_form(head, space + 1, last)?,
        false => target(head, space + 1, last)?,
    }
    Ok(http10)
}

/// Reads the target: origin form, absolute form, or `*` with OPTIONS (RFC 9112 §3.2).
fn target(head: &mut Head, start: usize, end: usize) -> Result<(), Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let bytes = &head.bytes[start..end];
    let (authority, path_start) = match bytes.first() {
        Some(b'/') => (None, start),
        Some(b'*') if bytes.len() == 1 && head.slice(head.method) == b"OPTIONS" => (None, start),
        _ => {
            let scheme = b"http://".len();
            if bytes.len() <= scheme || !bytes[..scheme].eq_ignore_ascii_case(b"http://") {
                return malformed("the target is neither a path nor an http URL");
            }
            let rest = &bytes[scheme..];
            let Some(slash) = rest.iter().position(|&b| matches!(b, b'/' | b'?')) else {
                return malformed("the URL of the target has no path");
            };
            if rest[slash] == b'?' || !syntax::is_authority(&rest[..slash]) {
                return malformed("the authority of the target is malformed");
            }
            (Some(span(start + scheme, start + scheme + slash)), start + scheme + slash)
        }
    };
    let target = &head.bytes[path_start..end];
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    if !syntax::is_path(&target[..path_len]) || !syntax::is_query(&target[path_len..]) {
        return malformed("the target holds a byte that no URL may hold");
    }
    head.target = span(path_start, end);
    head.path_len = path_len as u32;
    head.authority = authority.unwrap_or_default();
    Ok(())
}

/// Reads the target of a CONNECT: host and port, and both have to be there (RFC 9112 §3.2.3).
#[cold]
fn authority_form(head: &mut Head, start: usize, end: usize) -> Result<(), Refused> {
    if !syntax::is_target_authority(&head.bytes[start..end]) {
        return Err(Refused::Malformed("the target of a CONNECT is not a host and a port"));
    }
    (head.target, head.path_len, head.authority) = (Span::default(), 0, span(start, end));
    Ok(())
}

/// Reads one field line.
fn field(head: &mut Head, start: usize, end: usize, gathered: &mut Gathered) -> Result<(), Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let colon = start + syntax::lower_token(&mut head.bytes[start..end]);
    if colon == start || head.bytes[colon] != b':' {
        return malformed("a header line has no colon, or its name is empty, folded or holds a byte that no name may");
    }
    let (from, to) = syntax::trim(&head.bytes[colon + 1..end]);
    let value = span(colon + 1 + from, colon + 1 + to);
    if !gathered.clean && !syntax::is_value(&head.bytes[value.range()]) {
        return malformed("a header value holds a control character");
    }
    let name = span(start, colon);
    let id = FieldId::of_bytes(head.slice(name));
    gather(head, name, value, id, gathered)?;
    head.fields.push(Field { name, value, id });
    Ok(())
}

/// Takes note of the fields that decide framing and connection.
fn gather(head: &Head, name: Span, value: Span, id: FieldId, gathered: &mut Gathered) -> Result<(), Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let bytes = head.slice(value);
    match id {
        FieldId::Host => match gathered.host.replace(value) {
            Some(_) => return malformed("there is more than one Host"),
            None if !syntax::is_authority(bytes) => return malformed("the Host is malformed"),
            None => {}
        },
        FieldId::Framing if head.slice(name) == b"content-length" => {
            let Some(length) = syntax::content_length(bytes) else {
                return malformed("the Content-Length is not a number");
            };
            if gathered.length.replace(length).is_some() {
                return malformed("there is more than one Content-Length");
            }
        }
        FieldId::Framing => {
            if gathered.chunked || !bytes.eq_ignore_ascii_case(b"chunked") {
                return malformed("the Transfer-Encoding is not exactly chunked");
            }
            gathered.chunked = true;
        }
        FieldId::Expect => {
            if gathered.expects_continue || !bytes.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refused::Expectation);
            }
            gathered.expects_continue = true;
        }
        FieldId::HopByHop if head.slice(name) == b"connection" => {
            for token in syntax::list(bytes) {
                match token {
                    t if t.eq_ignore_ascii_case(b"close") => gathered.close = true,
                    t if t.eq_ignore_ascii_case(b"keep-alive") => gathered.keep_alive = true,
                    t if t.eq_ignore_ascii_case(b"upgrade") => gathered.upgrade_named = true,
                    _ => gathered.nominated = true,
                }
            }
        }
        FieldId::HopByHop if head.slice(name) == b"upgrade" => {
            gathered.websocket = bytes.eq_ignore_ascii_case(b"websocket");
        }
        _ => {}
    }
    Ok(())
}

/// Marks the fields that `Connection` names. A client may not name away what routing or the next hop relies on
/// (CVE-2024-45410 was that).
fn nominate(head: &mut Head) -> Result<(), Refused> {
    let mut fields = std::mem::take(&mut head.fields);
    let connection = |f: &&Field| head.slice(f.name) == b"connection";
    let lists: Vec<Span> = fields.iter().filter(connection).map(|f| f.value).collect();
    for token in lists.iter().flat_map(|value| syntax::list(head.slice(*value))) {
        let token = token.to_ascii_lowercase();
        let ours = match FieldId::of_bytes(&token) {
            FieldId::HopByHop => continue,
            FieldId::Other => token.starts_with(b"x-weir-") || matches!(&token[..], b"authorization" | b"accept"),
            _ => true,
        };
        if ours {
            return Err(Refused::Malformed("Connection names a header that is not the client's to remove"));
        }
        for field in fields.iter_mut().filter(|f| head.slice(f.name) == &token[..]) {
            field.id = FieldId::Nominated;
        }
    }
    head.fields = fields;
    Ok(())
}

/// Judges the whole: one authority, one framing.
fn judge(head: &mut Head, end: usize, http10: bool, gathered: &Gathered) -> Result<Parsed, Refused> {
    if head.is_connect() {
        return judge_connect(head, end, http10, gathered);
    }
    let malformed = |why| Err(Refused::Malformed(why));
    let absolute = !head.authority.is_empty();
    match gathered.host {
        None if !http10 => return malformed("the Host is missing"),
        None => {}
        Some(host) if absolute && !head.slice(host).eq_ignore_ascii_case(head.slice(head.authority)) => {
            return malformed("the target and the Host name different authorities");
        }
        Some(host) => head.authority = host,
    }
    let authority = head.authority.range();
    head.bytes[authority].make_ascii_lowercase();
    let framing = match (gathered.chunked, gathered.length) {
        (true, Some(_)) => return malformed("Content-Length and Transfer-Encoding stand side by side"),
        (true, None) if http10 => return malformed("HTTP/1.0 has no Transfer-Encoding"),
        (true, None) => Framing::Chunked,
        (false, None | Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    if http10 && gathered.expects_continue {
        // RFC 9110 §10.1.1: of such a client it is ignored, so nobody behind us hears of it.
        head.fields.iter_mut().filter(|field| field.id == FieldId::Expect).for_each(|it| it.id = FieldId::Nominated);
    }
    let upgrade = gathered.upgrade_named
        && gathered.websocket
        && !http10
        && framing == Framing::None
        && head.slice(head.method) == b"GET"
        && head.value("sec-websocket-version") == Some(b"13");
    Ok(Parsed {
        head_bytes: end,
        framing,
        keep_alive: !gathered.close && (!http10 || gathered.keep_alive),
        http10,
        expects_continue: gathered.expects_continue && !http10 && framing != Framing::None,
        upgrade,
    })
}

/// The same of a CONNECT. What stands behind its head goes through the tunnel or nowhere, so that it is the last one of
/// its connection, granted or not: what a client sends ahead is never read as a request.
#[cold]
fn judge_connect(head: &mut Head, end: usize, http10: bool, gathered: &Gathered) -> Result<Parsed, Refused> {
    let malformed = |why| Err(Refused::Malformed(why));
    let authority = head.authority.range();
    head.bytes[authority].make_ascii_lowercase();
    match gathered.host {
        None if !http10 => return malformed("the Host is missing"),
        // Some clients leave the port away there (Java's, where it is the scheme's own).
        Some(host) => {
            let host = head.slice(host);
            if ![head.authority(), head.host()].iter().any(|own| host.eq_ignore_ascii_case(own.as_bytes())) {
                return malformed("the target and the Host name different authorities");
            }
        }
        None => {}
    }
    if gathered.chunked || gathered.length.is_some_and(|length| length > 0) {
        return malformed("a CONNECT has no body");
    }
    let (framing, keep_alive, expects_continue, upgrade) = (Framing::None, false, false, false);
    Ok(Parsed { head_bytes: end, framing, keep_alive, http10, expects_continue, upgrade })
}

fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(Parsed, Head)>, Refused> {
        let mut head = Head { bytes: text.as_bytes().to_vec(), ..Head::default() };
        let parsed = parse(&mut head, &mut 0, &Limits::default())?;
        Ok(parsed.map(|parsed| (parsed, head)))
    }

    #[test]
    fn a_plain_request_is_read_into_canonical_form() {
        let (parsed, head) =
            read("GET /a?b=c HTTP/1.1\r\nHost: EXAMPLE.org:80\r\nX-A:  v \t\r\n\r\nrest").unwrap().unwrap();
        assert_eq!((head.method(), head.target(), head.path(), head.query()), ("GET", "/a?b=c", "/a", Some("b=c")));
        assert_eq!((head.authority(), head.host()), ("example.org:80", "example.org"));
        assert_eq!(head.value("x-a"), Some(&b"v"[..]));
        assert_eq!((parsed.framing, parsed.keep_alive), (Framing::None, true));
        assert_eq!(&head.bytes[parsed.head_bytes..], b"rest");
    }

    #[test]
    fn what_belongs_on_another_kind_of_listener_is_named() {
        for (text, named) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY protocol"),
            ("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY protocol"),
            ("\r\n\r\n\0\r\nQUIT\n\x21\x11", "PROXY protocol"),
            ("\x16\x03\x01\x02\0\x01", "this is TLS"),
            ("get / HTTP/1.1\r\n\r\n", "upper case"),
        ] {
            match read(text) {
                Err(Refused::Malformed(why)) => assert!(why.contains(named), "{text:?}: {why}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_head_that_drips_in_reads_the_same_as_one_at_once() {
        let text = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        let mut head = Head::default();
        let mut scanned = 0;
        for (i, byte) in text.iter().enumerate() {
            head.bytes.push(*byte);
            let parsed = parse(&mut head, &mut scanned, &Limits::default()).unwrap();
            assert_eq!(parsed.is_some(), i + 1 == text.len(), "after {} bytes", i + 1);
        }
    }

    #[test]
    fn what_can_be_read_two_ways_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n",
        ] {
            let refused = matches!(read(bad), Err(Refused::Malformed(_)));
            assert!(refused, "{bad:?}");
        }
        assert_eq!(read("GET / HTTP/1.2\r\nHost: a\r\n\r\n").unwrap_err(), Refused::Version);
        assert_eq!(read("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err(), Refused::Method);
    }

    #[test]
    fn a_connect_has_an_authority_for_its_target_and_is_the_last_of_its_connection() {
        let (parsed, head) =
            read("CONNECT DB.test:5432 HTTP/1.1\r\nHost: db.TEST\r\nA: b\r\n\r\nearly").unwrap().unwrap();
        assert!(head.is_connect() && !parsed.keep_alive && !parsed.upgrade && parsed.framing == Framing::None);
        assert_eq!((head.authority(), head.host(), head.target(), head.path()), ("db.test:5432", "db.test", "", ""));
        assert_eq!((head.query(), &head.bytes[parsed.head_bytes..]), (None, &b"early"[..]));
        let (parsed, _) = read("CONNECT [::1]:1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().unwrap();
        assert!(!parsed.keep_alive && parsed.http10);
        for bad in ["CONNECT a HTTP/1.1\r\nHost: a", "CONNECT a:1 HTTP/1.1\r\nHost: a:2", "CONNECT a:1 HTTP/1.1"] {
            assert!(matches!(read(&format!("{bad}\r\n\r\n")), Err(Refused::Malformed(_))), "{bad}");
        }
        let (_, get) = read("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
        assert!(!get.is_connect());
    }

    #[test]
    fn nominated_fields_are_dropped_and_shadows_never_count() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-b, close\r\nX-B: 1\r\nContent_Length: 5\r\n\r\n";
        let (parsed, head) = read(text).unwrap().unwrap();
        assert!(!parsed.keep_alive);
        assert_eq!(parsed.framing, Framing::None);
        assert_eq!((head.value("x-b"), head.value("content_length")), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_parser(bytes: Vec<u8>) {
            let mut head = Head { bytes, ..Head::default() };
            let _ = parse(&mut head, &mut 0, &Limits::default());
        }

        #[test]
        fn no_mutation_of_a_request_panics_the_parser(at in 0_usize..80, byte: u8) {
            let mut bytes = b"POST http://h:1/p?q HTTP/1.1\r\nHost: h:1\r\n\
                Connection: a, b\r\nA: 1\r\nContent-Length: 3\r\n\r\n".to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            let mut head = Head { bytes, ..Head::default() };
            let _ = parse(&mut head, &mut 0, &Limits::default());
        }
    }
}
