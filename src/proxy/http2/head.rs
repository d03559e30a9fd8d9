//! Heads: of requests and answers as they come, checked as RFC 9113 §8 demands, and the writer of those that go.

use super::super::hpack::{Encoder, Fields, Index};

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
    pub(crate) fn status(&mut self, status: u16) {
        let _ = status;
        unimplemented!()
    }

    /// The pseudo-fields of a request; first, and once. `authority`: none when it is empty.
    pub(crate) fn request(&mut self, method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8]) {
        let _ = (method, scheme, authority, path);
        unimplemented!()
    }

    /// `:protocol` of an extended CONNECT (RFC 8441 §4); behind [`HeadWriter::request`].
    pub(crate) fn protocol(&mut self, protocol: &[u8]) {
        let _ = protocol;
        unimplemented!()
    }

    /// A field, its name in lower case. Whether it is remembered for the next head goes by its name.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
        unimplemented!()
    }

    /// A field, and whether it is remembered.
    pub(crate) fn field_as(&mut self, name: &[u8], value: &[u8], index: Index) {
        let _ = (name, value, index);
        unimplemented!()
    }
}

/// The head of a request. Its pseudo-fields are those of requests, once each, and before the others.
#[derive(Debug)]
pub(crate) struct Request {
    /// With its pseudo-fields, which come first.
    pub(super) all: Fields,
}

// === impl Request ===

impl Request {
    /// The fields in order, without pseudo-fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.all.iter()
    }

    /// How many fields there are, without pseudo-fields.
    pub(crate) fn count(&self) -> usize {
        unimplemented!()
    }

    /// The first field of that name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.all.get(name)
    }

    /// `:method`: a token.
    pub(crate) fn method(&self) -> &[u8] {
        unimplemented!()
    }

    /// `:scheme`; none of a plain CONNECT.
    pub(crate) fn scheme(&self) -> Option<&[u8]> {
        unimplemented!()
    }

    /// `:authority`: not empty, and of the bytes of authorities; none when there is none.
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        unimplemented!()
    }

    /// `:path`, without what follows a `#`: `*`, or begins with a slash; none of a plain CONNECT.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        unimplemented!()
    }

    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        unimplemented!()
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    /// 100 to 999.
    pub(crate) status: u16,
    /// With its pseudo-fields, which come first.
    pub(super) all: Fields,
}

// === impl Head ===

impl Head {
    /// The fields in order, without pseudo-fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.all.iter()
    }

    /// The first field of that name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.all.get(name)
    }
}
