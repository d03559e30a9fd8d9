//! The request head as HTTP/2: what [`Outgoing`] says of a request, in pseudo-headers and fields, straight into the
//! connection's output. A head that stands as text already, as copies do, is read from there.

use std::borrow::Cow;
use std::ops::Range;

use crate::proxy::heads::outgoing::Outgoing;
use crate::proxy::heads::sink::{Fixed, Sink};
use crate::proxy::hpack::encoder::Index;
use crate::proxy::http2::head::HeadWriter;
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::socket::KEY;

/// A head for an endpoint, ready to be said as often as it has to be.
pub(crate) struct Ask<'a> {
    method: &'a [u8],
    target: Cow<'a, [u8]>,
    authority: &'a [u8],
    fields: Fields<'a>,
}

enum Fields<'a> {
    Outgoing(&'a Outgoing<'a>),
    /// As lines of HTTP/1.1, to the empty one.
    Lines(&'a [u8]),
}

/// What a request is over HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// What it is over HTTP/1.
    Plain,
    /// A GET that asks for a WebSocket, as an extended CONNECT (RFC 8441 §5.1: the key has no use there).
    WebSocket,
}

// === impl Ask ===

impl<'a> Ask<'a> {
    /// The head for an endpoint whose own authority is `authority`.
    pub(crate) fn new(outgoing: &'a Outgoing<'a>, authority: &'a str) -> Result<Self, Refusal> {
        let target = outgoing.target()?;
        if outgoing.is_loop() {
            return Err(Refusal::Loop);
        }
        let (head, authority) = (outgoing.head, outgoing.authority(authority));
        Ok(Self { method: head.slice(head.method), target, authority, fields: Fields::Outgoing(outgoing) })
    }

    /// Reads a head as [`Outgoing`] writes it for HTTP/1.1. None: it is none.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        let (line, lines) = text.split_at(memchr::memchr(b'\r', text)?);
        let method_end = memchr::memchr(b' ', line)?;
        let target_end = memchr::memrchr(b' ', line).filter(|&end| end > method_end)?;
        let target = Cow::Borrowed(&line[method_end + 1..target_end]);
        let fields = lines.get(2..)?;
        let host = each(fields).find(|(name, _)| *name == b"host");
        let authority = host.map_or(&b""[..], |(_, value)| value);
        Some(Self { method: &line[..method_end], target, authority, fields: Fields::Lines(fields) })
    }

    /// Says it. `spare` is for what is put together on the way.
    pub(super) fn say(&self, scheme: &'static [u8], form: Form, spare: &mut Vec<u8>, out: &mut HeadWriter<'_>) {
        match form {
            Form::Plain => out.request(self.method, scheme, self.authority, &self.target),
            Form::WebSocket => {
                out.request(b"CONNECT", scheme, self.authority, &self.target);
                out.protocol(b"websocket");
            }
        }
        match &self.fields {
            Fields::Outgoing(outgoing) => {
                spare.clear();
                let said = outgoing.write_fields(&mut Said { form, name: b"", spare, out });
                debug_assert!(said.is_ok(), "a loop was looked for before");
            }
            Fields::Lines(lines) => {
                let concerns_http1 =
                    |name: &[u8]| matches!(name, b"host" | b"transfer-encoding" | b"connection" | b"upgrade");
                let key = |name: &[u8]| form == Form::WebSocket && name == KEY;
                for (name, value) in each(lines).filter(|(name, _)| !concerns_http1(name) && !key(name)) {
                    out.field(name, value);
                }
            }
        }
    }
}

/// The names and values of lines.
fn each(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = lines.get(at..)?;
        let line = &rest[..memchr::memchr(b'\r', rest).filter(|&length| length > 0)?];
        at += line.len() + 2;
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line.get(colon + 2..)?))
    })
}

/// The fields of a request as HTTP/2.
struct Said<'a, 'w> {
    form: Form,
    /// Of the field that is put together.
    name: &'static [u8],
    spare: &'a mut Vec<u8>,
    out: &'a mut HeadWriter<'w>,
}

impl Sink for Said<'_, '_> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.form == Form::Plain || name != KEY {
            self.out.field(name, value);
        }
    }

    fn copied(&mut self, bytes: &[u8], name: Range<usize>, value: Range<usize>) {
        self.field(&bytes[name], &bytes[value]);
    }

    fn begin(&mut self, begins: &'static Fixed) -> &mut Vec<u8> {
        self.name = begins.name;
        self.spare.clear();
        self.spare.extend_from_slice(begins.value);
        self.spare
    }

    fn end(&mut self) {
        self.out.field(self.name, self.spare);
    }

    fn end_with(&mut self, fixed: &'static Fixed) {
        self.end();
        self.fixed(fixed);
    }

    fn fixed(&mut self, fixed: &'static Fixed) {
        self.out.field_as(fixed.name, fixed.value, Index::Yes);
    }

    /// What frames a message and what belongs to a connection of HTTP/1 (RFC 9113 §8.2.2).
    fn of_http1(&mut self, _: &'static [u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let text =
            b"POST /a?b=c HTTP/1.1\r\nhost: shop.example:80\r\nx-a: 1\r\nx-a: \r\ntransfer-encoding: chunked\r\n\
            te: trailers\r\nconnection: te\r\nvia: 1.1 weir\r\n\r\nbody: no field\r\n";
        let ask = Ask::read(text).expect("it can be said");
        assert_eq!((ask.method, &*ask.target, ask.authority), (&b"POST"[..], &b"/a?b=c"[..], &b"shop.example:80"[..]));
        let Fields::Lines(lines) = ask.fields else { panic!("it was read from text") };
        let fields: Vec<_> = each(lines).collect();
        let expected = [
            (&b"host"[..], &b"shop.example:80"[..]),
            (b"x-a", b"1"),
            (b"x-a", b""),
            (b"transfer-encoding", b"chunked"),
            (b"te", b"trailers"),
            (b"connection", b"te"),
            (b"via", b"1.1 weir"),
        ];
        assert_eq!(fields, expected);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            if let Some(Ask { fields: Fields::Lines(lines), .. }) = Ask::read(&bytes) {
                each(lines).for_each(drop);
            }
        }
    }
}
