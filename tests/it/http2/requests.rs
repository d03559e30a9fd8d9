//! Requests as HTTP/2 carries them: RFC 9113 §8.

use super::{Answer, Connection, Dropped, Explained, House, PROTOCOL_ERROR, Row, Stream, Stricter, row};
use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, literal};

/// A request without a body, of these fields.
fn of(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

/// A GET with these fields.
fn with(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let more: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[block("GET", "/"), more].concat())
}

/// A GET with other pseudo-fields: method, scheme, authority, path.
fn pseudo(method: &str, scheme: &str, authority: &[u8], path: &[u8]) -> Vec<u8> {
    of(&[(":method", method.as_bytes()), (":scheme", scheme.as_bytes()), (":authority", authority), (":path", path)])
}

/// A POST with this Content-Length and this body.
fn sized(length: &str, body: &[u8]) -> Vec<u8> {
    let fields = [block("POST", "/"), literal("content-length", length)].concat();
    [frame(HEADERS, END_HEADERS, 1, &fields), frame(DATA, END_STREAM, 1, body)].concat()
}

/// A POST with a body and these trailers.
fn trailed(flags: u8, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let block_: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    [
        frame(HEADERS, END_HEADERS, 1, &block("POST", "/")),
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS | flags, 1, &block_),
    ]
    .concat()
}

/// The same where bytes are found that no field may hold: it ends the connection.
fn unreadable(section: &'static str, what: &'static str, send: Vec<u8>) -> Row {
    malformed(section, what, send).but(Stricter(Connection(PROTOCOL_ERROR)))
}

/// The same where weir says in an answer what is wrong.
fn explained(section: &'static str, what: &'static str, send: Vec<u8>) -> Row {
    malformed(section, what, send).but(Explained(400))
}

fn malformed(section: &'static str, what: &'static str, send: Vec<u8>) -> Row {
    row(section, what, send, Stream(PROTOCOL_ERROR))
}

#[test]
fn fields_are_well_formed() {
    House::new().run(&[
        unreadable("§8.2.1", "a name in upper case", with(&[("X-Up", b"v")])),
        unreadable("§8.2.1", "a name with a space", with(&[("x y", b"v")])),
        unreadable("§8.2.1", "a name with a colon", with(&[("x:y", b"v")])),
        unreadable("§8.2.1", "a name with CR LF", with(&[("x\r\ny", b"v")])),
        unreadable("§8.2.1", "a name with NUL", with(&[("x\0y", b"v")])),
        unreadable("§8.2.1", "a name that is not ASCII", with(&[("x\u{e9}", b"v")])),
        unreadable("§8.2.1", "an empty name", with(&[("", b"v")])),
        unreadable("§8.2.1", "a value with CR LF", with(&[("x", b"a\r\nsmuggled: 1")])),
        unreadable("§8.2.1", "a value with LF", with(&[("x", b"a\nb")])),
        unreadable("§8.2.1", "a value with CR", with(&[("x", b"a\rb")])),
        unreadable("§8.2.1", "a value with NUL", with(&[("x", b"a\0b")])),
        row("§8.2.1", "a value with blanks around it", with(&[("x", b" v\t")]), Answer(200)),
        malformed("§8.2.2", "Connection", with(&[("connection", b"close")])),
        malformed("§8.2.2", "Keep-Alive", with(&[("keep-alive", b"timeout=5")])),
        malformed("§8.2.2", "Proxy-Connection", with(&[("proxy-connection", b"close")])),
        malformed("§8.2.2", "Transfer-Encoding", with(&[("transfer-encoding", b"chunked")])),
        malformed("§8.2.2", "Upgrade", with(&[("upgrade", b"websocket")])),
        malformed("§8.2.2", "TE but trailers", with(&[("te", b"gzip")])),
        row("§8.2.2", "TE: trailers", with(&[("te", b"trailers")]), Answer(200)),
        row("§8.2.3", "a cookie in crumbs", with(&[("cookie", b"a=1"), ("cookie", b"b=2")]), Answer(200)),
    ]);
}

#[test]
fn pseudo_fields_are_those_of_requests_once_and_first() {
    let get: [(&str, &[u8]); 4] = [(":method", b"GET"), (":scheme", b"http"), (":authority", b"test"), (":path", b"/")];
    let but = |name: &str| -> Vec<(&str, &[u8])> { get.into_iter().filter(|(it, _)| *it != name).collect() };
    let and = |name: &'static str, value: &'static [u8]| -> Vec<u8> { of(&[&get[..], &[(name, value)]].concat()) };
    House::new().run(&[
        malformed("§8.3", "one behind a field", of(&[&get[..3], &[("x", b"v"), get[3]]].concat())),
        unreadable("§8.3", "an unknown one", and(":other", b"v")),
        malformed("§8.3", "one of answers", and(":status", b"200")),
        malformed("§8.3", ":path twice", and(":path", b"/other")),
        malformed("§8.3", ":method twice", and(":method", b"POST")),
        malformed("§8.3", ":authority twice", and(":authority", b"other")),
        malformed("§8.3.1", "no :method", of(&but(":method"))),
        malformed("§8.3.1", "no :scheme", of(&but(":scheme"))),
        malformed("§8.3.1", "no :path", of(&but(":path"))),
        malformed("§8.3.1", "an empty :path", pseudo("GET", "http", b"test", b"")),
        malformed("§8.3.1", "a :path without a slash", pseudo("GET", "http", b"test", b"x")),
        explained("§8.3.1", "a :path of * for GET", pseudo("GET", "http", b"test", b"*")),
        row("§8.3.1", "a :path of * for OPTIONS", pseudo("OPTIONS", "http", b"test", b"*"), Answer(200)),
        malformed("§8.3.1", "an absolute :path", pseudo("GET", "http", b"test", b"http://evil/")),
        malformed("§8.3.1", "a :path with CR LF", pseudo("GET", "http", b"test", b"/\r\nx: y")),
        malformed("§8.3.1", "a :path with a space", pseudo("GET", "http", b"test", b"/ HTTP/1.1")),
        malformed("§8.3.1", "a :path with a fragment", pseudo("GET", "http", b"test", b"/#x")).but(Dropped(200)),
        row("§8.3.1", "a :path of two slashes", pseudo("GET", "http", b"test", b"//evil/x"), Answer(200)),
        unreadable("§8.3.1", "a :method with a space", pseudo("GET /x", "http", b"test", b"/")),
        unreadable("§8.3.1", "an empty :method", pseudo("", "http", b"test", b"/")),
        malformed("§8.3.1", "an authority with CR LF", pseudo("GET", "http", b"te\r\nst", b"/")),
        explained("§8.3.1", "an authority with userinfo", pseudo("GET", "http", b"u@test", b"/")),
        malformed("§8.3.1", "an authority with a path", pseudo("GET", "http", b"test/x", b"/")),
        malformed("§8.3.1", "an empty authority", pseudo("GET", "http", b"", b"/")),
        explained("§8.3.1", "an authority with a comma", pseudo("GET", "http", b"a,b", b"/")),
        malformed("§8.3.1", "a scheme with more behind it", pseudo("GET", "http://evil/?", b"test", b"/")),
        explained("§8.3.1", "a Host unlike the authority", and("host", b"evil")),
        explained("§8.3.1", "two Hosts", of(&[&get[..], &[("host", b"test"), ("host", b"test")]].concat())),
        explained("§8.3.1", "no authority and no Host", of(&but(":authority"))),
        row("§8.3.1", "a Host in its place", of(&[&but(":authority")[..], &[("host", b"test")]].concat()), Answer(200)),
        malformed("§8.5", "CONNECT with scheme and path", pseudo("CONNECT", "http", b"test", b"/")),
        row("§8.5", "CONNECT", of(&[(":method", b"CONNECT"), (":authority", b"test:80")]), Answer(405)),
        row("§8.5", "CONNECT without a port", of(&[(":method", b"CONNECT"), (":authority", b"test")]), Answer(400)),
        row("§8.5", "CONNECT without an authority", of(&[(":method", b"CONNECT")]), Answer(400)),
        malformed("RFC 8441 §4", "extended CONNECT that was not offered", and(":protocol", b"websocket")),
    ]);
}

#[test]
fn bodies_are_as_long_as_they_say() {
    House::new().run(&[
        malformed("§8.1.1", "a body longer than its length", sized("3", b"hello")),
        malformed("§8.1.1", "a body shorter than its length", sized("9", b"hello")),
        malformed("§8.1.1", "a length with a sign", sized("+5", b"hello")),
        malformed("§8.1.1", "a length with another", sized("5, 5", b"hello")),
        malformed("§8.1.1", "a length that is none", sized("", b"hello")),
        malformed("§8.1.1", "a length beyond 64 bits", sized("18446744073709551621", b"hello")),
        row("§8.1.1", "a body as long as it says", sized("5", b"hello"), Answer(200)),
        malformed("§8.1.1", "a length without a body", with(&[("content-length", b"5")])),
        row("§8.1", "trailers", trailed(END_STREAM, &[("x-trailer", b"v")]), Answer(200)),
        malformed("§8.1", "trailers that do not end the stream", trailed(0, &[("x-trailer", b"v")])),
        malformed("§8.1", "a pseudo-field in trailers", trailed(END_STREAM, &[(":path", b"/other")])).but(Dropped(200)),
        malformed("§8.2.2", "Connection in trailers", trailed(END_STREAM, &[("connection", b"close")])),
    ]);
}
