//! An endpoint's head as a client of HTTP/2 gets it, straight into the connection's output. Which fields that are is
//! for [`super::answer`].

use super::answer::Back;
use super::digits::decimal;
use crate::proxy::h1::response::Response;
use crate::proxy::http2::head::HeadWriter;

/// An endpoint's head, ready to be written for a client of HTTP/2.
pub(crate) struct Told<'a> {
    pub(crate) back: Back<'a>,
    pub(crate) response: &'a Response,
    /// What the spans of `response` point into.
    pub(crate) bytes: &'a [u8],
}

// === impl Told ===

impl Told<'_> {
    /// Writes it.
    pub(crate) fn write(&self, out: &mut HeadWriter<'_>) {
        out.status(self.response.status);
        match self.response.lower {
            true => self.back.fields(self.response, self.bytes, |name, value| out.field(name, value)),
            false => {
                self.back.fields(self.response, self.bytes, |name, value| lower(name, |name| out.field(name, value)))
            }
        }
        if let Some(length) = self.response.length.filter(|_| self.response.status != 204) {
            out.field(b"content-length", decimal(length, &mut [0; 20]));
        }
    }

    /// Writes that of a granted upgrade as that of a granted extended CONNECT.
    pub(crate) fn grant(&self, out: &mut HeadWriter<'_>) {
        out.status(200);
        self.back.fields(self.response, self.bytes, |name, value| {
            if !name.eq_ignore_ascii_case(b"sec-websocket-accept") {
                lower(name, |name| out.field(name, value));
            }
        });
    }
}

/// Hands on the name of a field in lower case, as HTTP/2 has it.
#[inline]
fn lower(name: &[u8], field: impl FnOnce(&[u8])) {
    match name.iter().any(u8::is_ascii_uppercase) {
        false => field(name),
        true => field(&name.to_ascii_lowercase()),
    }
}
