//! Heads: of requests and answers as they come, and the writer of those that go.

use std::cell::RefCell;

use super::check::{Pseudo, value_at};
use crate::proxy::hpack::encoder::{Encoder, Index};
use crate::proxy::hpack::fields::Fields;

/// Targets up to here that hold neither digits nor a query are remembered: names of methods of gRPC and of pages, which
/// come again. What differs from request to request would push the rest out of the table.
const PATH_BYTES_MAX: usize = 64;

/// Cookies below this many bytes could be guessed from the size of what is sent (RFC 7541 §7.1.3 leaves it to judgment;
/// nghttp2 and h2 take 20).
const COOKIE_BYTES_MIN: usize = 20;

/// Fields that are kept for the next head, and their bytes at most.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    /// Fields of heads that have been dealt with, whose room the next heads take.
    static SPARE: RefCell<Vec<Fields>> = const { RefCell::new(Vec::new()) };
}

/// Fields to be filled; empty.
pub(super) fn spare_fields() -> Fields {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps the room of fields that are no longer needed.
pub(crate) fn put_fields(mut fields: Fields) {
    if fields.is_empty() || fields.list_size() > SPARE_BYTES_MAX {
        return;
    }
    fields.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(fields);
        }
    });
}

/// Writes a head straight into the connection's output. Nothing of the connection may be touched while it is at hand.
#[derive(Debug)]
pub(crate) struct HeadWriter<'a> {
    pub(super) encoder: &'a mut Encoder,
    pub(super) out: &'a mut Vec<u8>,
    /// Whether it is the head of a HEAD request, whose answer has a length and no body.
    pub(super) to_head: bool,
}

// === impl HeadWriter ===

impl HeadWriter<'_> {
    /// `:status`; first, and once.
    #[inline]
    pub(crate) fn status(&mut self, status: u16) {
        self.encoder.status(status, self.out);
    }

    /// The pseudo-fields of a request; first, and once. `authority`: none when it is empty.
    pub(crate) fn request(&mut self, method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8]) {
        self.to_head = method == b"HEAD";
        self.field_as(b":method", method, Index::Yes);
        self.field_as(b":scheme", scheme, Index::Yes);
        if !authority.is_empty() {
            self.field_as(b":authority", authority, Index::Yes);
        }
        let varies = |byte: &u8| byte.is_ascii_digit() || *byte == b'?';
        let comes_again = path.len() <= PATH_BYTES_MAX && !path.iter().any(varies);
        self.field_as(b":path", path, if comes_again { Index::Yes } else { Index::No });
    }

    /// `:protocol` of an extended CONNECT (RFC 8441 §4); behind [`HeadWriter::request`].
    pub(crate) fn protocol(&mut self, protocol: &[u8]) {
        self.field_as(b":protocol", protocol, Index::Yes);
    }

    /// A field, its name in lower case. Whether it is remembered for the next head goes by its name.
    #[inline]
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.field_as(name, value, index_of(name, value));
    }

    /// A field, and whether it is remembered.
    #[inline]
    pub(crate) fn field_as(&mut self, name: &[u8], value: &[u8], index: Index) {
        self.encoder.field(name, value, index, self.out);
    }
}

/// Whether a field is remembered: not, when its value differs from head to head; and nowhere, when it is secret or of
/// one request (RFC 7541 §7.1.3).
fn index_of(name: &[u8], value: &[u8]) -> Index {
    match name {
        b"authorization" | b"proxy-authorization" => Index::Never,
        b"x-request-id" | b"traceparent" | b"tracestate" | b"x-forwarded-for" | b"forwarded" => Index::Never,
        b"cookie" if value.len() < COOKIE_BYTES_MIN => Index::Never,
        b"date" | b"content-length" | b"etag" | b"last-modified" | b"set-cookie" | b"location" | b"age" => Index::No,
        b"if-modified-since" | b"if-none-match" | b"content-range" | b"range" | b"expires" => Index::No,
        b"server-timing" | b"grpc-timeout" | b"grpc-message" | b"referer" | b"retry-after" => Index::No,
        _ => Index::Yes,
    }
}

/// The head of a request. Its pseudo-fields are those of requests, once each, and before the others.
#[derive(Debug)]
pub(crate) struct Request {
    /// With its pseudo-fields, which come first.
    pub(super) all: Fields,
    /// Where these are.
    pub(super) pseudo: Pseudo,
    /// Bytes of its path before a `#`.
    pub(super) path_bytes: usize,
}

// === impl Request ===

impl Request {
    /// The fields in order, without pseudo-fields.
    #[inline]
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.all.iter().skip(usize::from(self.pseudo.count))
    }

    /// How many fields there are, without pseudo-fields.
    pub(crate) fn count(&self) -> usize {
        self.all.len() - usize::from(self.pseudo.count)
    }

    /// The first field of that name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.all.get(name)
    }

    /// `:method`: a token.
    #[inline]
    pub(crate) fn method(&self) -> &[u8] {
        value_at(&self.all, self.pseudo.method).unwrap_or_default()
    }

    /// `:authority`: not empty, and of the bytes of authorities; none when there is none.
    #[inline]
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        value_at(&self.all, self.pseudo.authority)
    }

    /// `:path`, without what follows a `#`: `*`, or begins with a slash; none of a plain CONNECT.
    #[inline]
    pub(crate) fn path(&self) -> Option<&[u8]> {
        value_at(&self.all, self.pseudo.path).map(|path| &path[..self.path_bytes])
    }

    /// `:protocol` of an extended CONNECT (RFC 8441).
    #[inline]
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        value_at(&self.all, self.pseudo.protocol)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        put_fields(std::mem::take(&mut self.all));
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    /// 100 to 999.
    pub(crate) status: u16,
    /// With its pseudo-fields, which come first.
    pub(super) all: Fields,
    /// How many these are.
    pub(super) pseudo: u8,
}

// === impl Head ===

impl Head {
    /// What it counts (RFC 9113 §6.5.2).
    pub(super) fn list_size(&self) -> usize {
        self.all.list_size()
    }

    /// The fields in order, without pseudo-fields.
    #[inline]
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.all.iter().skip(usize::from(self.pseudo))
    }

    /// The first field of that name.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.all.get(name)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        put_fields(std::mem::take(&mut self.all));
    }
}
